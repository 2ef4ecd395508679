"""Closed pipes, full disks and signals, as a shell's user meets them."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time

import click
import pytest
from command import run

from nuner_embed.cli import signals
from nuner_embed.cli.commands import cli

CLI = f"{sys.executable} -m nuner_embed.cli"
REPLY = '{"text": "Kiel", "reply": "Kiel <> city"}\n'
ANNOTATED = {"id": "replies.jsonl:1", "text": "Kiel", "spans": [{"start": 0, "end": 4, "label": "city"}]}


def shell(command, cwd):
    return subprocess.run(["bash", "-c", command], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("to", ["2>&1 >/dev/null | head -n 1", "2> >(true)", "2>/dev/full", "<&- >&- 2>&-"])
def test_progress_that_nobody_reads_ends_no_job(tmp_path, to):
    (tmp_path / "replies.jsonl").write_text(REPLY)
    done = shell(f"{CLI} annotate replies.jsonl -o a.jsonl {to}; echo ${{PIPESTATUS[0]}} > code", tmp_path)
    assert (tmp_path / "code").read_text() == "0\n", done.stderr
    assert json.loads((tmp_path / "a.jsonl").read_text()) == ANNOTATED  # nor has a message got into the file
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["models list", "models list --json", "--help"])
def test_results_that_nobody_reads_end_quietly(tmp_path, command):
    # the reader is gone before anything is written, whichever of both starts first
    done = shell(f"(sleep 1; {CLI} {command}; echo $? > code) | true", tmp_path)
    assert (tmp_path / "code").read_text() == "141\n"
    assert done.stderr == ""


def test_results_on_a_full_disk_are_an_error(tmp_path):
    done = shell(f"{CLI} models list > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "Error: standard output: No space left on device\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_modules_are_imported_is_one_line(tmp_path, number):
    """The handler waits for the import's end: an exception in its middle can leave the import lock held for ever."""
    (tmp_path / "slow.py").write_text("print('importing', flush=True)\nimport time\ntime.sleep(1)\nprint('imported')\n")
    code = """
import sys
sys.argv = ["nuner-embed", "models", "list"]
from nuner_embed.cli import __main__, commands
def run():
    import slow
    import time
    time.sleep(60)
commands.run = run
__main__.main()
"""
    heeding = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{code}"
    process = subprocess.Popen(
        [sys.executable, "-c", heeding], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    process.send_signal(number)  # as `timeout` does, to the process and to its group
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, "Interrupted.\n")
    assert out == "imported\n"


def test_a_second_signal_ends_the_process_at_once(monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    caught = signals.Signals()
    with pytest.raises(KeyboardInterrupt):
        caught._stop(signal.SIGINT, None)
    caught._stop(signal.SIGINT, None)  # one that was sent twice
    assert ended == []
    later = time.monotonic() + 5
    monkeypatch.setattr(signals.time, "monotonic", lambda: later)
    caught._stop(signal.SIGINT, None)
    assert ended == [130]


def test_a_signal_cancels_the_tasks_of_a_running_event_loop():
    """An exception that is raised in whichever task runs would come to light as one that nobody retrieved."""
    ended = []

    async def task():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("task")

    async def work():
        async with asyncio.TaskGroup() as group:
            group.create_task(task())
            await asyncio.sleep(0)
            signals.Signals()._stop(signal.SIGTERM, None)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(work())
    assert ended == ["task"]


def test_a_signal_that_is_to_be_ignored_stays_ignored(tmp_path):
    """As of what a script starts in the background."""
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signals.Signals().heed()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_quiet_before_and_after_the_command(tmp_path):
    (tmp_path / "replies.jsonl").write_text(REPLY)
    command = ("annotate", "replies.jsonl", "-o", "a.jsonl", "--json")
    usual = run(*command, cwd=tmp_path, check=0)
    assert "made: a.jsonl" in usual.stderr
    for arguments in (("-q", *command), (*command, "--quiet")):
        done = run(*arguments, cwd=tmp_path, check=0)
        assert done.stderr == ""
        assert json.loads(done.stdout) == json.loads(usual.stdout)
    assert "made: a.jsonl" in run(*command, cwd=tmp_path, check=0).stderr  # it is not kept for later
    assert run("-q", "annotate", "missing.jsonl", "-o", "m.jsonl", cwd=tmp_path, check=1).stderr.count("\n") == 1


def test_every_command_takes_both(monkeypatch):
    monkeypatch.setattr(logging.getLogger("nuner_embed"), "level", logging.INFO)
    context = click.Context(cli)
    commands = [cli, *(cli.get_command(context, name) for name in cli.list_commands(context))]
    commands += [below for one in commands[1:] if isinstance(one, click.Group) for below in one.commands.values()]
    assert len(commands) > 20
    for command in commands:
        assert [option.opts for option in command.params if option.name in ("quiet", "verbose")] == [
            ["-q", "--quiet"], ["-v", "--verbose"]
        ], command.name  # fmt: skip
        assert not [
            parameter for parameter in command.params
            if {"-q", "-v"} & set(parameter.opts) and parameter.name not in ("quiet", "verbose")
        ], command.name  # fmt: skip
    cli.main(["-v", "models", "list"], standalone_mode=False)
    assert logging.getLogger("nuner_embed").level == logging.DEBUG
