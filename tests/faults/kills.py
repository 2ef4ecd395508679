"""Kills commands at random moments: python tests/faults/kills.py --count 200 --seed 1.

A round runs one command, kills it by SIGKILL, SIGTERM, SIGINT or SIGHUP, runs the same command again, kills that
perhaps too, and in the end lets it finish. What must hold: every polite signal ends the command with 128 + its number,
or with the signal, and without a traceback; no process stays behind; what lay beside is untouched; in the end there are
the bytes of a run that nobody disturbed, and nothing besides.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from artefacts import keep_every_state
from forked import Outcome, in_child, noticed
from mutations import Run, prepare, signature
from targets import ASK, ENCODE, FEWSHOT, FINETUNE, MODEL, PRETRAIN

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LEFT = re.compile(r"\.(tmp|new|old|ready|part)$|^tmp|\.[0-9a-f]{16}\.")


_PART = re.compile(r"/parts/[0-9a-f]{64}\.json$")


@dataclass(frozen=True)
class Job:
    """A command to kill.

    Attributes:
        name: in reports.
        command: see `targets`.
        copies: artefacts that are copied into its folder, by the name that they get there.
        weight: how often it is drawn.
        apart: always as a process of its own, since it starts others.
        done_already: the command may refuse once more, having come to its end in spite of the kill.
        whole: an artefact that must be complete after every kill, with the command that says so.
        counts: the artefact counts how often it was made: a signal may come once it has its place.
    """

    name: str
    command: str
    copies: tuple[tuple[str, str], ...] = ()
    weight: int = 2
    apart: bool = False
    done_already: bool = False
    whole: str | None = None
    counts: bool = False

    def signature(self, work: Path) -> dict[str, str]:
        """What a folder holds, as far as it does not depend on how often the command came to its end."""
        # the parts of an evaluation are named by what decides their bits, the measured runtime among it
        found = {_PART.sub("/parts/HASH.json", name): value for name, value in signature(work).items()}
        # replies are kept in the order in which they came, which differs with two requests at a time
        for name in found:
            if name.endswith(".replies.jsonl"):
                lines = sorted((work / name).read_bytes().splitlines())
                found[name] = hashlib.sha256(b"\n".join(lines)).hexdigest()
        if not self.counts:
            return found
        numbered = re.compile(r"(?<=/segments/)\d+")
        return {
            numbered.sub("N", name): "" if name.endswith("/manifest.json") else value for name, value in found.items()
        }


BUILD = "index build {base}/words -o index --kind flat --threads 1"
TRAIN = f"probe train {{base}}/typed.conll -o probe {MODEL}"
INDEX = (("flat", "index"),)
VERIFY = "index verify index"
JOBS = (
    Job("encode", f"encode {{base}}/long.jsonl -o store {ENCODE}", weight=6),
    Job("encode by workers", f"encode {{base}}/long.jsonl -o store {ENCODE} --workers 2", apart=True),
    Job("encode --force", f"encode {{base}}/long.jsonl -o store {ENCODE} --force", (("words2", "store"),)),
    Job("index build", BUILD, weight=4, done_already=True),
    Job("index build --force", f"{BUILD} --force", INDEX, weight=4, whole=VERIFY, counts=True),
    Job("index add", "index add index {base}/words3 --threads 1", INDEX, weight=4, done_already=True, whole=VERIFY),
    Job("index compact", "index compact index --threads 1", INDEX, weight=4, done_already=True, whole=VERIFY),
    Job("index remove", "index remove index --document d3", INDEX, weight=3, done_already=True, whole=VERIFY),
    Job("pretrain", f"pretrain {{base}}/annotated.jsonl -o model {PRETRAIN}", weight=4, done_already=True),
    Job("pretrain --force", f"pretrain {{base}}/annotated.jsonl -o model {PRETRAIN} --force", (("trained", "model"),)),
    Job("finetune", f"finetune {{base}}/typed.conll -o model {FINETUNE}", weight=3, done_already=True),
    Job("annotate", f"annotate {{base}}/texts.txt -o out.jsonl {ASK} --concurrency 2", weight=4),
    Job("evaluate", f"evaluate fewshot --model {{base}}/exported {FEWSHOT} -o evaluated", weight=3),
    Job("export", "export {base}/tiny -o exported", done_already=True),
    Job("export --force", "export {base}/tiny -o exported --force", (("exported", "exported"),)),
    Job("models save", "models save nuner-mini -o model", weight=1, done_already=True),
    Job("probe train", f"{TRAIN} --k 2", weight=3, done_already=True),
    Job("probe train --force", f"{TRAIN} --k 1 --force", (("probe", "probe"),)),
    Job("search -o", "search {base}/flat --like {base}/typed.conll -o hits.parquet --threads 1"),
    Job("probe predict -o", "probe predict {base}/probe {base}/typed.conll -o found.csv --threads 1"),
)


@dataclass
class Fault:
    """What went wrong in a round."""

    number: int
    job: str
    what: str
    history: list[str]


@dataclass
class Whole:
    """What a command gives that nobody disturbs.

    Attributes:
        files: signature of its folder.
        restless: files that differ from run to run, since they hold times.
        seconds: that it takes.
        longest: bytes of the longest file.
    """

    files: dict[str, str]
    restless: set[str]
    seconds: float
    longest: int


def set_up(run: Run, job: Job, work: Path) -> None:
    """What lies there before: what the command changes, and what it has no business with."""
    for source, name in job.copies:
        shutil.copytree(run.base / source, work / name)
    (work / "project" / "training").mkdir(parents=True)
    (work / "project" / "training" / "thesis.txt").write_text("mine\n")
    for name in ("notes.txt", ".notes.tmp", "store.tmp", "index.new", ".index.old", "probe.bak"):
        (work / name).write_text("mine\n")


def start(run: Run, job: Job, *, apart: bool) -> Callable[[], None]:
    """What a child does: the command, as a new process or in this one."""
    arguments = run.arguments(job.command)
    if apart:
        return lambda: os.execv(sys.executable, [sys.executable, "-m", "nuner_embed.cli", *arguments])

    def work() -> None:
        if job.name.startswith(("pretrain", "finetune")):
            keep_every_state()
        from nuner_embed.cli.__main__ import main

        sys.argv = ["nuner-embed", *arguments]
        main()

    return work


def undisturbed(run: Run, job: Job) -> Whole:
    """Runs a command twice from the same beginning, to learn what it gives and which of that is the same each time."""
    found, seconds, longest = [], 0.0, 0
    for _ in range(2):
        with tempfile.TemporaryDirectory(dir=run.base.parent) as folder:
            work = Path(folder) / "work"
            work.mkdir()
            set_up(run, job, work)
            began = time.monotonic()
            done = in_child(start(run, job, apart=job.apart), cwd=work, limited=False)
            seconds = time.monotonic() - began
            if done.code != 0:
                raise SystemExit(f"{job.name} does not work: {done.last_words()}")
            found.append(job.signature(work))
            longest = max(path.stat().st_size for path in work.rglob("*") if path.is_file())
    one, other = found
    if one.keys() != other.keys():
        raise SystemExit(f"{job.name} does not give the same files twice: {sorted(one.keys() ^ other.keys())}")
    return Whole(one, {name for name in one if one[name] != other[name]}, seconds, longest)


def one_round(run: Run, number: int, seed: int, jobs: list[Job], wholes: dict[str, Whole]) -> tuple[int, list[Fault]]:
    """Kills one command once or several times, then lets it finish; gives the kills and what went wrong."""
    chance = random.Random(f"{seed}-{number}")
    job = chance.choices(jobs, [job.weight for job in jobs])[0]
    if job.name not in wholes:
        wholes[job.name] = undisturbed(run, job)
    whole, history, faults = wholes[job.name], [], []
    folder = Path(tempfile.mkdtemp(prefix="round-", dir=run.base.parent))
    work = folder / "work"
    work.mkdir()
    set_up(run, job, work)
    mine = {
        key: value for key, value in signature(work).items() if not any(key.split("/")[0] == n for _, n in job.copies)
    }
    kills = chance.choice([1, 2, 2, 3, 4])
    try:
        for _ in range(kills):
            apart = job.apart or chance.random() < 0.05
            after = chance.uniform(0, 1.1) * whole.seconds + (chance.uniform(0, 1.5) if apart and not job.apart else 0)
            sent = chance.choice(SIGNALS)
            done = kill_after(start(run, job, apart=apart), work, after, sent, twice=chance.random() < 0.15)
            history.append(f"{sent.name} after {after:.3f} s{' (apart)' if apart else ''}: {done.code}")
            faults += [
                Fault(number, job.name, what, [*history, done.last_words()]) for what in wrong_end(done, sent, job)
            ]
            if job.whole and (checked := in_child(_command(run, job.whole), cwd=work)).code != 0:
                faults.append(Fault(number, job.name, "not whole after a kill", [*history, checked.last_words()]))
            now = signature(work)
            faults += [
                Fault(number, job.name, f"{key} was changed", list(history))
                for key in mine
                if now.get(key) != mine[key]
            ]
            if done.code == 0:  # it was at its end before the signal came
                break
        else:
            done = in_child(start(run, job, apart=job.apart), cwd=work, limited=False)
        history.append(f"to the end: {done.code} {done.last_words(1)}")
        if done.code != 0 and not (done.code == 1 and job.done_already and not done.faults()):
            faults.append(Fault(number, job.name, f"does not go on: {done.code}", [*history, done.last_words()]))
        else:
            found = differences(whole, job.signature(work))
            faults += [Fault(number, job.name, "; ".join(found[:4]), list(history))] if found else []
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return kills, faults


def _command(run: Run, command: str) -> Callable[[], None]:
    return start(run, Job("check", command), apart=False)


def kill_after(work: Callable[[], None], cwd: Path, seconds: float, number: signal.Signals, *, twice: bool) -> Outcome:
    """Runs something in a child, and sends a signal after so many seconds; waits for its end and its children's."""

    def disturb(child: int) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not noticed(child):
            time.sleep(0.001)
        for _ in range(2 if twice else 1):
            try:
                os.kill(child, number)
            except ProcessLookupError:
                return
            time.sleep(0.02 if twice else 0)

    def begin() -> None:
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, signal.SIG_DFL)
        work()

    return in_child(begin, cwd=cwd, limited=False, meanwhile=disturb)


def wrong_end(done: Outcome, sent: signal.Signals, job: Job) -> list[str]:
    """What is wrong with how a killed command ended, and with what it left running."""
    found = []
    allowed = {0, -sent, 128 + sent} | ({1} if job.done_already else set())
    if done.hung:
        found.append(f"hangs after {sent.name}")
    elif done.code not in allowed:
        found.append(f"exit code {done.code} after {sent.name}")
    if "Traceback" in done.err and "nuner_embed" in done.err:  # Python's own start cannot be helped
        found.append(f"traceback after {sent.name}")
    if done.left:
        found.append(f"{len(done.left)} orphans after {sent.name}: {done.left[0][:120]}")
    return found


def differences(whole: Whole, now: dict[str, str]) -> list[str]:
    """What is not as after an undisturbed run."""
    found = [f"missing: {key}" for key in whole.files.keys() - now.keys()]
    for key in sorted(now.keys() - whole.files.keys()):
        if not key.endswith(".lock"):
            found.append(f"left over: {re.sub('[0-9a-f]{16}', 'HEX', key)}")
    return found + [
        f"differs: {key}"
        for key in sorted(whole.files.keys() & now.keys())
        if whole.files[key] != now[key] and key not in whole.restless
    ]


def left_in_cache(run: Run) -> list[str]:
    """Temporary names in the cache of the toolkit."""
    cache = Path(os.environ["NUNER_EMBED_CACHE"])
    return sorted(key for key in signature(cache) if _LEFT.search(Path(key).name)) if cache.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="jobs, by the beginnings of their names, separated by commas")
    parser.add_argument("--round", type=int, action="append", help="only this one")
    parser.add_argument("--base", type=Path, help="folder of artefacts, made once and used again")
    given = parser.parse_args()
    jobs = [job for job in JOBS if not given.only or job.name.startswith(tuple(given.only.split(",")))]
    began, killed, rounds, faults = time.monotonic(), 0, 0, []
    with tempfile.TemporaryDirectory(prefix="nuner-embed-kills-") as folder:
        run, failed = prepare(given.base or Path(folder) / "base")
        for line in failed:
            print(f"NOT AS IT SHOULD BE before any kill: {line}")
        wholes: dict[str, Whole] = {}
        numbers = iter(given.round or range(10**9))
        while killed < given.count and (number := next(numbers, None)) is not None:
            kills, found = one_round(run, number, given.seed, jobs, wholes)
            killed, rounds, faults = killed + kills, rounds + 1, faults + found
        faults += [Fault(-1, "cache", f"left over: {name}", []) for name in left_in_cache(run)]
    for fault in faults:
        print(f"\n## round {fault.number}, {fault.job}: {fault.what}\n" + "\n".join(fault.history))
        print(
            f"again: python tests/faults/kills.py --seed {given.seed} --round {fault.number}"
            + (f" --only '{given.only}'" if given.only else "")
        )
    for name, whole in sorted(wholes.items()):
        print(f"{name}: {whole.seconds:.2f} s; differ from run to run: {sorted(whole.restless) or 'none'}")
    print(json.dumps(Counter(f"{fault.job}: {re.sub('[0-9]+', 'N', fault.what)}" for fault in faults), indent=1))
    print(f"{killed} kills in {rounds} rounds, {len(faults)} faults, {time.monotonic() - began:.0f} s")
    sys.exit(bool(faults or failed))


if __name__ == "__main__":
    main()
