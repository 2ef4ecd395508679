"""Worker processes of a job that somebody's script, thread or notebook runs."""

import asyncio
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fakes import HashSpec
from jobs import fingerprint, job, made_up_corpus

from nuner_embed.errors import RuntimeUnavailable, StoreError
from nuner_embed.jobs.engines.process_pool import WorkerContext

UNGUARDED = """
import sys
print("the script runs")
sys.path.insert(0, {tests!r})
from fakes import HashSpec
from jobs import job
{given}
job({corpus!r}, {store!r}, spec={spec}, workers=2, shard_rows=400)
"""
OWN = "class Spec(HashSpec):\n    pass\n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return made_up_corpus(tmp_path_factory.mktemp("corpus") / "corpus.jsonl")


@pytest.fixture(scope="module")
def expected(corpus, tmp_path_factory):
    store = tmp_path_factory.mktemp("whole") / "store"
    job(corpus, store, spec=HashSpec(threads=2), shard_rows=400)
    return fingerprint(store)


def run_script(corpus, folder, spec, given="", *, from_file=True):
    tests = str(Path(__file__).parents[3] / "support")
    script = UNGUARDED.format(tests=tests, given=given, corpus=str(corpus), store=str(folder / "store"), spec=spec)
    (folder / "script.py").write_text(script)
    command = [sys.executable, str(folder / "script.py")] if from_file else [sys.executable, "-"]
    return subprocess.run(command, input=script, capture_output=True, text=True)


@pytest.mark.parametrize("from_file", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_script_needs_no_guard_and_runs_once(corpus, expected, tmp_path, from_file):
    done = run_script(corpus, tmp_path, "HashSpec(threads=2)", from_file=from_file)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the script runs\n"
    assert fingerprint(tmp_path / "store") == expected


def test_what_only_the_script_defines_needs_the_guard_and_the_error_says_so(corpus, tmp_path):
    done = run_script(corpus, tmp_path, "Spec(threads=2)", OWN)
    assert done.returncode == 1
    assert 'protect the script\'s calls with if __name__ == "__main__":' in done.stderr.splitlines()[-1]


@dataclass(frozen=True)
class LoadsHereAlone(HashSpec):
    process: int = field(default_factory=os.getpid)

    def load(self, workers=1):
        if os.getpid() != self.process:
            raise RuntimeUnavailable("the graphics card is taken")
        return super().load(workers)


@dataclass(frozen=True)
class DiesThere(LoadsHereAlone):
    def load(self, workers=1):
        if os.getpid() != self.process:
            os._exit(7)
        return super().load(workers)


def test_a_worker_that_cannot_load_says_why(corpus, tmp_path):
    with pytest.raises(RuntimeUnavailable, match="the graphics card is taken"):
        job(corpus, tmp_path / "s", spec=LoadsHereAlone(), workers=2)


def test_a_worker_that_ends_by_itself_is_not_taken_for_want_of_memory(corpus, tmp_path):
    with pytest.raises(StoreError, match=r"a worker process ended \(exit code 7\)"):
        job(corpus, tmp_path / "s", spec=DiesThere(), workers=2)


def test_only_what_the_script_defines_makes_workers_run_it():
    own = type("Own", (), {"__module__": "__main__"})
    assert not WorkerContext((HashSpec(), "text"))._needs_main
    assert WorkerContext((own(),))._needs_main
    assert WorkerContext((HashSpec(layers=own()),))._needs_main


@pytest.mark.parametrize("workers", [1, 2])
def test_from_a_running_event_loop_in_a_thread(corpus, expected, tmp_path, workers):
    async def cell():
        assert threading.current_thread() is threading.main_thread()
        return await asyncio.to_thread(
            job, corpus, tmp_path / "store", spec=HashSpec(threads=2), workers=workers, shard_rows=400
        )

    assert asyncio.run(cell()).documents == 200
    assert fingerprint(tmp_path / "store") == expected


def test_from_within_a_running_event_loop(corpus, expected, tmp_path):
    async def cell():
        return job(corpus, tmp_path / "store", spec=HashSpec(threads=2), shard_rows=400)

    assert asyncio.run(cell()).documents == 200
    assert fingerprint(tmp_path / "store") == expected


def test_a_code_that_another_thread_is_about_to_note_is_waited_for():
    class Reaped:
        """A killed process for which the pool's own thread waited first."""

        reads = 0

        def join(self, seconds):
            pass

        @property
        def exitcode(self):
            self.reads += 1
            return -9 if self.reads > 3 else None

    context = WorkerContext(())
    context._started.append(Reaped())
    assert "was killed, most likely because memory ran out" in context.why_one_ended()
