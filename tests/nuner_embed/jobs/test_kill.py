"""Killed at any moment, by any signal, with one process or several: the same bytes in the end."""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import HashSpec

from nuner_embed.corpora.corpus import Corpus
from nuner_embed.jobs.encoding import run_job
from nuner_embed.jobs.options import JobOptions

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from fakes import HashSpec
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.jobs.encoding import run_job
from nuner_embed.jobs.options import JobOptions

if __name__ == "__main__":
    with Corpus([sys.argv[1]]) as corpus:
        options = JobOptions(HashSpec(seconds=0.002, threads=1), shard_rows=60, workers=int(sys.argv[3]))
        run_job(corpus, Path(sys.argv[2]), options)
"""


# A shell starts what stands before "&" with SIGINT ignored, the tests themselves and so their children.
HEEDING_SIGINT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    with path.open("w") as stream:
        for i in range(300):
            stream.write(json.dumps({"text": "the ferry left at seven " * (1 + i % 13)}) + "\n")
    return path


@pytest.fixture(scope="module")
def expected(corpus, tmp_path_factory):
    store = tmp_path_factory.mktemp("whole") / "store"
    with Corpus([corpus]) as source:
        run_job(source, store, JobOptions(HashSpec(threads=1), shard_rows=60))
    return fingerprint(store)


def fingerprint(store):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(store).iterdir()
        if path.name != ".lock"
    }


@pytest.mark.parametrize(
    ("workers", "seed", "kills"),
    [(1, 1, 5), pytest.param(1, 2, 12, marks=pytest.mark.slow), pytest.param(2, 3, 12, marks=pytest.mark.slow)],
)
def test_killed_at_many_random_moments(corpus, expected, tmp_path, workers, seed, kills):
    """SIGKILL many times, while it starts or a few shards later, then once to the end."""
    chance = random.Random(seed)
    script = tmp_path / "job.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parents[2] / "support")))
    store = tmp_path / "store"
    command = [sys.executable, str(script), str(corpus), str(store), str(workers)]
    progress = [0]
    for number in range(kills):
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        wait_until_writing(process, store)
        if number % 3:
            target = progress[-1] + chance.randint(1, 6)
            wait_for(process, lambda target=target: shards_of(store) >= target)
        time.sleep(chance.uniform(0, 0.03))
        process.kill()
        process.communicate()
        progress.append(shards_of(store))
    assert progress == sorted(progress)
    assert kills // 2 <= progress[-1] < len(expected) // 2
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert fingerprint(store) == expected


def shards_of(store):
    journal = store / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def wait_for(process, condition):
    """Until something is so, or the process has ended."""
    deadline = time.monotonic() + 60
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


def wait_until_writing(process, store):
    """Until the process holds the store, so that the kills fall into the job and not into Python's start."""

    def holds():
        try:
            return json.loads((store / ".writer.json").read_text())["process"] == process.pid
        except (OSError, ValueError):
            return False

    wait_for(process, holds)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_politely_the_command_line_says_how_to_go_on(small_model, tmp_path, number, workers):
    """The real command with the real model, interrupted once it encodes."""
    text = tmp_path / "corpus.txt"
    text.write_text("".join(f"Line {i}: the ferry to Port Ellery left at seven.\n" for i in range(3000)))
    store = tmp_path / "store"
    command = [
        sys.executable, "-c", HEEDING_SIGINT, "-m", "nuner_embed.cli", "encode", str(text), "-o", str(store),
        "--shard-rows", "2000", "--workers", str(workers), "--model", str(small_model),
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(process, (store / "journal.jsonl").exists)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "Interrupted." in err
    assert "The same command continues" in err
    assert "Traceback" not in err
    assert not list(store.glob(".writer.json"))


# What workers are handed takes them a minute to read, as a large model's modules may.
SLOW_TO_START = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from fakes import HashSpec
from jobs import job

class Spec(HashSpec):
    def __reduce__(self):
        return exec, ("import pathlib, time; pathlib.Path(%r).touch(); time.sleep(60)" % (sys.argv[2] + ".started"),)

if __name__ == "__main__":
    job(Path(sys.argv[1]), Path(sys.argv[2]), spec=Spec(threads=1), workers=2, shard_rows=60)
"""


def processes_of(session):
    """The numbers of the living processes of a session."""
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):
            facts = (path / "stat").read_text().rpartition(")")[2].split() if path.name.isdigit() else ["Z"]
            found += [int(path.name)] if facts[0] != "Z" and int(facts[3]) == session else []
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_no_worker_outlives_a_job_that_is_killed_while_they_start(corpus, tmp_path, number):
    script = tmp_path / "job.py"
    script.write_text(SLOW_TO_START.format(tests=str(Path(__file__).parents[2] / "support")))
    command = [sys.executable, str(script), str(corpus), str(tmp_path / "store")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for(process, (tmp_path / "store.started").exists)
    process.send_signal(number)
    process.wait()
    deadline = time.monotonic() + 20
    while processes_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_of(process.pid) == []
