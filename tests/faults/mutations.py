"""Damages artefacts and runs the commands that read them: python tests/faults/mutations.py --count 2000 --seed 1.

What must hold for each command, see `forked.Outcome.faults`: exit code 0, 1 or 2, one line of error, no traceback, less
than 20 s and 2 GB. Besides: `verify` accepts nothing that was changed; a command that goes on with what it finds ends
in the bytes that an undamaged artefact gives, or refuses; nothing outside the artefact changes, above all nothing that
a link leads to; and what a user put into the artefact stays.
"""

import argparse
import fnmatch
import hashlib
import json
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from artefacts import copy, make_all, split, start_server
from forked import Outcome, import_all, run_command
from mutating import Mutation, mutate
from targets import KEY_VARIABLE, TARGETS, Target

_REAL_EVERY = 40
# where such a change goes unnoticed, the result must be the same
_STRUCTURAL = frozenset({"truncate", "delete", "folder", "fifo", "link", "folder link", "huge"})
_REPORTED, _NAMED = 25, 4
_WEIGHT = 4  # of artefacts of many files against what somebody wrote in one
# the lock of a ledger of replies stays beside it: removing it would let two processes hold it
_LOCK = re.compile(r"work/\.[^/]+\.replies\.jsonl\.lock")


@dataclass
class Fault:
    """Something that must not be: what, after which mutation, in which command, and how to see it again."""

    number: int
    target: str
    owner: str
    mutation: str
    command: str
    faults: list[str]
    words: str
    seconds: float = 0.0


@dataclass
class Run:
    """A folder of artefacts as they were made, and what their commands give."""

    base: Path
    llm: str
    expected: dict[str, Any] = field(default_factory=dict)
    figures: dict[Path, bytes] = field(default_factory=dict)

    def keep_figures(self) -> None:
        """Keeps the figures by which the fastest runtime was chosen for what is expected."""
        self.figures = {path: path.read_bytes() for path in (self.base.parent / "cache" / "runtimes").glob("*.json")}

    def restore_figures(self) -> None:
        """Puts the kept figures back: `verify` measures anew, and another runtime may be the fastest then."""
        for path, figures in self.figures.items():
            path.write_bytes(figures)

    def arguments(self, command: str) -> list[str]:
        """A command's arguments; see `targets`."""
        return split(command, self.base, self.llm)


def signature(folder: Path) -> dict[str, str]:
    """What lies in a folder: every path with its kind and, for files, its content."""
    found = {}
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(parent) / name
            key = path.relative_to(folder).as_posix()
            if path.is_symlink():
                found[key] = f"link to {path.readlink()}"
            elif path.is_dir():
                found[key] = "folder"
            elif path.is_file() and path.stat().st_size < 1 << 28 and os.access(path, os.R_OK):
                found[key] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[key] = "other"
    return found


def result_of(run: Run, work: Path, target: Target, command: str, done: Outcome) -> dict[str, str]:
    """The hashes of what a command gave: its JSON, what it wrote, and the artefact where it changes that.

    Times and places differ from run to run, and are left out.
    """
    parts = {}
    if "--json" in command:
        parts["stdout"] = re.sub(
            r'"[^"]*(second|time|elapsed)[^"]*": *[\d.e+-]+', "", done.out.decode(errors="replace")
        )
    for key, value in signature(work).items():
        name = key.split("/")[0]
        if (name.startswith("out") or (target.resumes and name == target.name)) and not key.endswith((".lock", ".png")):
            if Path(key).suffix in (".json", ".csv", ".md") or "journal" in key:
                text = (work / key).read_text(errors="replace").replace(str(work), "")
                value = re.sub(r"[\d.:T+-]+", "0", text)[:200_000]
            parts[key] = value
    return {key: hashlib.sha256(value.encode()).hexdigest() for key, value in parts.items()}


def expect(run: Run, targets: Sequence[Target]) -> list[str]:
    """Runs every command on what is not damaged, and says which fail even so."""
    failed = []
    verifying = [(one, one.verify) for one in targets if one.verify]  # first: they measure anew
    for target, command in verifying + [(one, command) for one in targets for command in one.commands]:
        if command not in run.expected:
            done = _expect_one(run, target, command)
            if done.code != (command in target.refused) or done.faults():
                failed.append(f"{command}: {done.code} {done.faults()}: {done.last_words(3)}")
    return failed


def _expect_one(run: Run, target: Target, command: str) -> Outcome:
    """Runs a command twice: of what differs from run to run, as times do, the names alone are expected."""
    results = []
    for _ in range(2):
        with tempfile.TemporaryDirectory(dir=run.base.parent) as folder:
            work = Path(folder) / "work"
            work.mkdir()
            copy(run.base, target, work)
            done = run_command([*run.arguments(command), "-q"], cwd=work)
            results.append(result_of(run, work, target, command, done))
    one, other = results
    run.expected[command] = (done.code, {key: one[key] if one[key] == other.get(key) else None for key in one})
    return done


def _as_expected(result: dict[str, str], expected: dict[str, str | None]) -> bool:
    return result.keys() == expected.keys() and all(expected[key] in (None, result[key]) for key in result)


def one_case(run: Run, number: int, seed: int, targets: list[Target], *, keep: bool = False) -> list[Fault]:
    """Damages one artefact, reads it by one or two commands, and says what went wrong."""
    chance = random.Random(f"{seed}-{number}")
    target = chance.choices(targets, [1 if target.free else _WEIGHT for target in targets])[0]
    folder = Path(tempfile.mkdtemp(prefix="case-", dir=run.base.parent))
    found: list[Fault] = []
    try:
        work, sentinel = folder / "work", folder / "sentinel"
        for one in (work, sentinel, work / "project" / "training"):
            one.mkdir(parents=True)
        (work / "project" / "training" / "thesis.txt").write_text("mine\n")
        (work / "notes.txt").write_text("mine\n")
        copy(run.base, target, work)
        intact = signature(work)
        mutation = mutate(work / target.name, sentinel, chance, beside=target.beside)
        changed = signature(work) != intact
        mine = {
            key for key in signature(work) if Path(key).name in ("mine.txt", "thesis.txt", "chapter.txt", "mine.bin")
        }
        commands = [chance.choice(target.commands)]
        if target.verify:
            commands.insert(0, target.verify)
        for command in commands:
            outside = _outside(folder, target)
            real = number % _REAL_EVERY == 0
            done = run_command([*run.arguments(command), "-q"], cwd=work, real=real)
            faults = done.faults(silent=True, verifies=command == target.verify)
            unchecked = "not checked: " in done.err  # without a checksum it is as an earlier version wrote it
            if command == target.verify and done.code == 0 and changed and _claimed(target, mutation) and not unchecked:
                faults.append("verify accepts it")
            faults += _compared(run, work, target, command, mutation, done)
            if command == target.verify:
                run.restore_figures()
            faults += _outside_changes(outside, _outside(folder, target), target, done)
            lost = sorted(key for key in mine if not (work / key).exists())
            faults += [f"the user's {key} is gone" for key in lost]
            if faults:
                found.append(
                    Fault(
                        number,
                        target.name,
                        target.owner,
                        str(mutation),
                        command,
                        faults,
                        done.last_words(),
                        round(done.seconds, 2),
                    )
                )
            if lost:
                break
    finally:
        if keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            for path in folder.rglob("*"):
                if not path.is_symlink() and path.is_dir():
                    path.chmod(0o755)
            shutil.rmtree(folder, ignore_errors=True)
    return found


def _claimed(target: Target, mutation: Mutation) -> bool:
    """Whether `verify` must see a change: not where checksums or bytes agree, nor in files that it leaves alone."""
    if mutation.recomputed or mutation.kind in ("unreadable", "foreign", "planted") or mutation.same:
        return False
    return not _matches(mutation.file, target.unverified)


def _matches(file: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(file, pattern) for pattern in patterns)


def _compared(run: Run, work: Path, target: Target, command: str, mutation: Mutation, done: Outcome) -> list[str]:
    """Whether what was accepted gave what the undamaged artefact gives, where it must."""
    if done.code != 0 or target.free or mutation.recomputed or "--force" in command or command == target.verify:
        return []
    if not (mutation.kind in _STRUCTURAL or (target.resumes and mutation.kind not in ("json", "foreign", "planted"))):
        return []
    if _matches(mutation.file, target.chooses) or (command.startswith("encode ") and "--runtime" not in command):
        return []  # the fastest runtime is measured, and another one rounds otherwise
    if command not in run.expected:
        _expect_one(run, target, command)
    code, expected = run.expected[command]
    if code == 0 and not _as_expected(result_of(run, work, target, command, done), expected):
        if target.check and run_command(run.arguments(target.check), cwd=work).code == 1:
            return []  # what was finished before is not read again, but whoever asks is told
        return ["accepted with another result"]
    return []


def _outside(folder: Path, target: Target) -> dict[str, str]:
    """All but the artefact and what a command was asked to write."""
    ours = (target.name, *target.beside)
    stem = Path(target.name).stem
    return {
        key: value
        for key, value in signature(folder).items()
        if not any(key == f"work/{name}" or key.startswith(f"work/{name}/") for name in ours)
        and not key.startswith(("work/out", f"work/{stem}."))
    }


def _outside_changes(before: dict[str, str], after: dict[str, str], target: Target, done: Outcome) -> list[str]:
    found = [f"outside: {key} is gone" for key in before.keys() - after.keys()]
    found += [f"outside: {key} was changed" for key in before.keys() & after.keys() if before[key] != after[key]]
    for key in after.keys() - before.keys():
        if done.code >= 0 and not done.hung and not _LOCK.fullmatch(key):
            found.append(f"left over: {re.sub('[0-9a-f]{16}', 'HEX', key)}")
    return sorted(found)[:_NAMED]


# The command line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="mutations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--only", help="artefacts, or whose they are, separated by commas: index, store, flat, probe, ..."
    )
    parser.add_argument("--case", type=int, action="append", help="only this one; keeps its folder")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--base", type=Path, help="folder of artefacts, made once and used again")
    parser.add_argument("--quick", action="store_true", help="do not first run all commands on what is not damaged")
    parser.add_argument("--json", type=Path, help="write every fault as a JSON line")
    given = parser.parse_args()
    wanted = set(given.only.split(",")) if given.only else set()
    targets = [target for target in TARGETS if not wanted or {target.name, target.owner} & wanted]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nuner-embed-faults-") as folder:
        run, failed = prepare(given.base or Path(folder) / "base", [] if given.quick else targets)
        for line in failed:
            print(f"NOT AS IT SHOULD BE before any damage: {line}")
        print(f"prepared in {time.monotonic() - started:.0f} s", flush=True)
        if given.case:
            faults = [fault for number in given.case for fault in one_case(run, number, given.seed, targets, keep=True)]
        else:
            faults = many(run, given.count, given.seed, targets, given.jobs)
    if given.json:
        given.json.write_text("".join(json.dumps(asdict(fault)) + "\n" for fault in faults))
    report(faults, given.seed, given.only)
    print(
        f"{len(given.case or range(given.count))} mutations, {len(faults)} faults, {time.monotonic() - started:.0f} s"
    )
    print(f"{_processor_seconds():.0f} s of processor time")
    sys.exit(bool(faults or failed))


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def prepare(base: Path, targets: Sequence[Target] = ()) -> tuple[Run, list[str]]:
    """Makes all artefacts, unless they are there, and runs the commands of some of them once."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", KEY_VARIABLE: "sk-loopback", "COLUMNS": "120"}
    os.environ["NUNER_EMBED_CACHE"] = str(base.parent / "cache")
    address = base.parent / "address"
    llm = start_server(int(address.read_text()) if address.exists() else 0)
    address.parent.mkdir(parents=True, exist_ok=True)
    address.write_text(llm.split(":")[2].split("/")[0])
    import_all()
    failed = []
    if not base.exists():
        base.mkdir(parents=True)
        failed = make_all(base, llm)
    run, kept = Run(base, llm), base.parent / "expected.json"
    if kept.exists():
        run.expected = json.loads(kept.read_text())
    failed += expect(run, targets)
    run.keep_figures()
    kept.write_text(json.dumps(run.expected))
    return run, failed


def many(run: Run, count: int, seed: int, targets: list[Target], jobs: int) -> list[Fault]:
    """All cases, in so many processes."""
    parts = [run.base.parent / f"faults-{job}.jsonl" for job in range(jobs)]
    children = []
    for job, part in enumerate(parts):
        if jobs > 1 and (child := os.fork()):
            children.append(child)
            continue
        try:
            with part.open("w", buffering=1) as stream:
                for number in range(job, count, jobs):
                    if number % 100 == job % 100:
                        print(f"{number} of {count}", file=sys.stderr, flush=True)
                    for fault in one_case(run, number, seed, targets):
                        stream.write(json.dumps(asdict(fault)) + "\n")
        finally:
            if jobs > 1:
                os._exit(0)
    for child in children:
        os.waitpid(child, 0)
    return sorted((Fault(**json.loads(line)) for part in parts for line in part.open()), key=lambda fault: fault.number)


def report(faults: list[Fault], seed: int, only: str | None) -> None:
    """Prints the faults by kind, the most frequent first, each with one example and how to repeat it."""
    kinds: dict[tuple[str, ...], list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(kind_of(fault), []).append(fault)
    for kind, them in sorted(kinds.items(), key=lambda item: -len(item[1])):
        first = them[0]
        print(f"\n## {len(them)} x {' | '.join(kind)}")
        print(f"{first.mutation}\nnuner-embed {first.command}\n{first.words}")
        again = f"--seed {seed} --case {first.number}" + (f" --only {only}" if only else "")
        print(f"again: python tests/faults/mutations.py {again}; all: {[fault.number for fault in them[:_REPORTED]]}")
    print("\n" + ", ".join(f"{owner}: {count}" for owner, count in Counter(fault.owner for fault in faults).items()))


def kind_of(fault: Fault) -> tuple[str, ...]:
    """What makes two faults one kind."""
    command = " ".join(word for word in fault.command.split()[:2] if word in WORDS)
    last = fault.words.splitlines()[-1] if fault.words and "traceback" in fault.faults else ""
    file = re.sub(r"\d+", "N", re.sub(r" .*", "", fault.mutation.split(":")[0].split(" ", 1)[-1]))
    where = re.findall(r'File "[^"]*?/([^/"]+/[^/"]+)", line (\d+)', fault.words)
    place = ":".join(where[-1]) if where and "traceback" in fault.faults else file
    return (fault.owner, ", ".join(fault.faults)[:120], command, place, re.sub(r"[\d.]+", "N", last)[:80])


WORDS = {
    word for target in TARGETS for command in (*target.commands, target.verify or "") for word in command.split()[:2]
} - {target.name for target in TARGETS}

if __name__ == "__main__":
    main()
