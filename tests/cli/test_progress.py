"""What people see while a job runs, away from a terminal."""

import pytest

from nuner_embed.cli.progress import JobReporter, RowProgress
from nuner_embed.jobs.reporter import Plan


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("nuner_embed.cli.progress.time.monotonic", lambda: now[0])
    return now


def plan(**changes):
    values = {"documents": 300, "finished_documents": 0, "rejects": 1, "rows": 900, "store_bytes": 5000}
    return Plan(**{**values, "free_bytes": 10**10, "tokens": 3000, **changes})


def test_a_line_now_and_then_with_share_rate_time_left_and_shard(clock, capsys):
    with JobReporter() as reporter:
        reporter.started(plan())
        clock[0] += 11
        reporter.tokens(0)  # a shard without rows
        reporter.tokens(1100)
        reporter.shard("shard-00000", 120, 400)
        clock[0] += 5
        reporter.tokens(10)
        clock[0] += 6
        reporter.tokens(1090)
    first, *lines = capsys.readouterr().err.splitlines()
    assert first.startswith("corpus: 300 documents, 1 record rejected, about 900 rows; the store will weigh about 5.0")
    assert lines == [
        " 37%  100 tokens/s  about 0:00:19 left  ",
        " 73%  100 tokens/s  about 0:00:08 left  up to shard-00000: 120 documents",
    ]


def test_a_resumed_job_counts_what_is_left(clock, capsys):
    with JobReporter() as reporter:
        reporter.started(plan(finished_documents=150))
        clock[0] += 10
        reporter.tokens(750)
    assert " 50%  75 tokens/s  about 0:00:10 left" in capsys.readouterr().err


def test_rows_of_an_index_with_share_rate_and_time_left(clock, capsys):
    with RowProgress() as progress:
        progress("writing vectors", 50, 100)  # quick work says nothing
        clock[0] += 1
        progress("writing vectors", 100, 100)
        progress("adding rows", 100, 1000)
        clock[0] += 20
        progress("adding rows", 500, 1000)
        clock[0] += 5
        progress("adding rows", 900, 1000)
        clock[0] += 6
        progress("adding rows", 900, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "adding rows:  50%  20 rows/s  about 0:00:25 left",  # the first hundred took a time that nobody saw
        "adding rows:  90%  26 rows/s  about 0:00:04 left",
    ]


def test_a_terminal_shows_one_bar_at_a_time(monkeypatch):
    from rich.console import Console

    monkeypatch.setattr(Console, "is_terminal", property(lambda self: True))
    with RowProgress("") as progress:
        for _ in range(3):
            progress("training", 1, 2)
            progress("validating", 1, 2)
        assert [task.description for task in progress._bar.tasks] == ["validating"]


def test_work_that_takes_turns_does_not_count_what_was_done_before(clock, capsys):
    with RowProgress("") as progress:
        progress("validating", 5, 5)
        progress("training", 5000, 10_000)
        clock[0] += 20
        progress("training", 5100, 10_000)
    assert capsys.readouterr().err == "training:  51%  5/s  about 0:16:20 left\n"
