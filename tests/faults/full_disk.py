"""Lets the disk fill up under commands: python tests/faults/full_disk.py --points 40 --seed 1.

Each point is a command in a file system of its own that is full after a share of what the command needs. What must
hold: one line of error that says so, nothing of the user's lost, and the same command goes on once there is room, to
the same bytes, with nothing left over. Where no file system can be mounted, files may not grow beyond a size instead.
"""

import argparse
import ctypes
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from forked import Outcome, in_child, noticed
from kills import JOBS, Job, Whole, differences, set_up, start, undisturbed
from mutations import Run, prepare, signature

_NEW_USER, _NEW_MOUNTS, _REMOUNT = 0x10000000, 0x00020000, 32
_ROOM = 2 << 30
_PAGE = 4096
_SHARES = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97)


@dataclass
class Point:
    """What a full disk did to a command.

    Attributes:
        job: the command's name.
        share: of the room that it needs.
        code: the command's exit code.
        faults: what went wrong.
        words: the command's last ones.
    """

    job: str
    share: float
    code: int = 0
    faults: list[str] = field(default_factory=list)
    words: str = ""


def can_mount() -> bool:
    """Whether this process may make a file system in a namespace of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return in_child(lambda: _mount(Path(folder), _ROOM), cwd=Path(folder), limited=False).code == 0


def _mount(folder: Path, size: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_USER | _NEW_MOUNTS) == 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    elif libc.unshare(_NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "no namespace")
    libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None)  # what is mounted here is seen here alone
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode()):
        raise OSError(ctypes.get_errno(), "no file system")


def _resize(folder: Path, size: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", _REMOUNT, f"size={size}".encode()):
        raise OSError(ctypes.get_errno(), "cannot be resized")


def _used(folder: Path) -> int:
    facts = os.statvfs(folder)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


def needs(run: Run, job: Job) -> int:
    """Bytes that a command adds at its height, cache and temporary files included."""

    def work(folder: Path) -> dict[str, int]:
        _prepare(run, job, folder)
        before, most = _used(folder), 0

        def watch(child: int) -> None:
            nonlocal most
            while not noticed(child):
                most = max(most, _used(folder))
                time.sleep(0.001)

        done = in_child(start(run, job, apart=job.apart), cwd=folder / "work", limited=False, meanwhile=watch)
        return {"code": done.code, "bytes": max(most, _used(folder)) - before}

    found = _in_file_system(work)
    return max(int(found["bytes"]), 16 * _PAGE)


def _prepare(run: Run, job: Job, folder: Path) -> None:
    for name in ("work", "tmp", "cache"):
        (folder / name).mkdir()
    os.environ["TMPDIR"], tempfile.tempdir = str(folder / "tmp"), None
    os.environ["NUNER_EMBED_CACHE"] = str(folder / "cache")
    set_up(run, job, folder / "work")


def _in_file_system(work: Callable[[Path], object]) -> dict:  # type: ignore[type-arg]
    """Does something in a child that has a file system of its own, and gives the JSON of what that returns."""
    with tempfile.TemporaryDirectory(prefix="nuner-embed-disk-") as folder:

        def inside() -> None:
            _mount(Path(folder), _ROOM)
            print(json.dumps(work(Path(folder))))

        done = in_child(inside, cwd=Path("/"), limited=False, seconds=300)
        if done.code != 0:
            raise SystemExit(f"the test itself failed: {done.last_words(12)}")
        return json.loads(done.out.decode().splitlines()[-1])  # type: ignore[no-any-return]


def one_point(run: Run, job: Job, share: float, needed: int, whole: Whole) -> Point:
    """Fills the disk under one command, then makes room and lets it go on."""

    def work(folder: Path) -> object:
        _prepare(run, job, folder)
        mine = _mine(job, folder / "work")
        size = _used(folder) + int(share * needed) // _PAGE * _PAGE
        _resize(folder, max(size, _PAGE))
        full = in_child(start(run, job, apart=job.apart), cwd=folder / "work", limited=False)
        _resize(folder, _ROOM)
        return asdict(_judged(run, job, share, folder / "work", full, mine, whole))

    return Point(**_in_file_system(work))


def one_point_by_size(run: Run, job: Job, share: float, whole: Whole) -> Point:
    """As `one_point`, where nothing can be mounted: no file may be longer than a share of the longest."""
    with tempfile.TemporaryDirectory(prefix="nuner-embed-disk-") as name:
        folder = Path(name)

        def limited() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * whole.longest),) * 2)
            start(run, job, apart=job.apart)()

        (folder / "work").mkdir()
        set_up(run, job, folder / "work")
        mine = _mine(job, folder / "work")
        full = in_child(limited, cwd=folder / "work", limited=False)
        return _judged(run, job, share, folder / "work", full, mine, whole)


def _mine(job: Job, work: Path) -> dict[str, str]:
    ours = {name for _, name in job.copies}
    return {key: value for key, value in signature(work).items() if key.split("/")[0] not in ours}


def _judged(run: Run, job: Job, share: float, work: Path, full: Outcome, mine: dict[str, str], whole: Whole) -> Point:
    """What is wrong with how a command took it, and with how it goes on."""
    point = Point(job.name, share, full.code, full.faults(), full.last_words())
    if full.code == 1 and not re.search("space|too large|quota|full|are free on the disk", full.err, re.IGNORECASE):
        point.faults.append("does not say that the disk is full")
    if full.code == 1 and any(str(run.base) in line for line in full.err.splitlines() if line.startswith("Error: ")):
        point.faults.append("names a file that was only read")
    now = signature(work)
    point.faults += [f"{key} was changed" for key in mine if now.get(key) != mine[key]]
    if job.whole and (done := in_child(start(run, Job("check", job.whole), apart=False), cwd=work, limited=False)).code:
        point.faults.append(f"not whole: {done.last_words(1)}")
    done = full if full.code == 0 else in_child(start(run, job, apart=job.apart), cwd=work, limited=False)
    if done.code != 0:
        point.faults.append(f"does not go on: {done.code}: {done.last_words(2)}")
    else:
        found = differences(whole, job.signature(work))
        point.faults += [one for one in found if "/fused/" not in one]  # a copy that is made again when it is missing
    return point


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="jobs, by the beginnings of their names, separated by commas")
    parser.add_argument("--base", type=Path, help="folder of artefacts, made once and used again")
    parser.add_argument(
        "--by-size", action="store_true", help="limit the size of files, even where file systems can be mounted"
    )
    given = parser.parse_args()
    jobs = [job for job in JOBS if not given.only or job.name.startswith(tuple(given.only.split(",")))]
    began, points = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="nuner-embed-disks-") as folder:
        run, failed = prepare(given.base or Path(folder) / "base")
        mounted = can_mount() and not given.by_size
        chance = random.Random(given.seed)
        turns = [jobs[i % len(jobs)] for i in range(given.points)]
        wholes, needed = {}, {}
        for job in turns:
            if job.name not in wholes:
                wholes[job.name] = undisturbed(run, job)
                needed[job.name] = needs(run, job) if mounted else wholes[job.name].longest
            share = chance.choice(_SHARES) + chance.uniform(0, 0.03)
            if mounted:
                points.append(one_point(run, job, share, needed[job.name], wholes[job.name]))
            else:
                points.append(one_point_by_size(run, job, share, wholes[job.name]))
    bad = [point for point in points if point.faults]
    for point in points:
        print(f"{point.job}, {point.share:.2f}: {point.code}: {point.words.splitlines()[-1:]}")
    for point in bad:
        where = f"{point.share:.2f} of {needed[point.job]:,} bytes"
        print(f"\n## {point.job} at {where}: {'; '.join(point.faults)}\n{point.words}")
    way = "a file system" if mounted else "a limit of files' size"
    print(f"{len(points)} points by {way}, {len(bad)} with faults, {time.monotonic() - began:.0f} s")
    sys.exit(bool(bad or failed))


if __name__ == "__main__":
    main()
