"""Results on a terminal, and from a terminal into a file: the very bytes of a run without one."""

import os
import pty
import re
import shutil
import subprocess
import sys

import pytest
from command import run
from terminal import run_on_terminal, screen

# A command, and what of its output differs from run to run. Those that are slow load a model, or torch.
COMMANDS = {
    "search index ferry --csv": "",
    "search index --queries q.txt": "",
    "tag notes.txt --types city --model m": "",
    "probe predict p notes.txt": "",
    "index info index": "",
    "index info index --json": "",
    "store info store": "",
    "store info store --json": "",
    "store verify store --json": "",
    "annotate replies.jsonl -o NEW.jsonl": "",
    "annotate replies.jsonl -o NEW.jsonl --json": "",
    "models list": "",
    "models list --json": "",
    "--help": "",
}
SLOW = {
    "search index ferry": "",
    "search index ferry --json": "",
    "search index --queries q.txt --json": "",
    "search index --queries q.txt --csv": "",
    "search index --concept city --json": "",
    "tag notes.txt --types city --model m -o NEW.csv": "",
    "probe predict p notes.txt --json": "",
    "probe evaluate p train.conll --confusion": "",
    "probe evaluate p train.conll --json": "",
    "probe train train.conll -o NEW --model m": "",
    "probe train train.conll -o NEW --model m --json": r"\d",
    "index verify index --json": "",
    "index build store -o NEW": "",
    "index build store -o NEW --json": r"\d",
    "encode notes.txt -o NEW --model m --json": r"\d",
    "evaluate fewshot --model m --set sea train.conll train.conll --k 1 --draws 1 -o results": "",
    "evaluate fewshot --model m --set sea train.conll train.conll --k 1 --draws 1 -o results --json": "",
    "concepts calibrate m train.conll --dry-run": "",
    "concepts calibrate m train.conll --dry-run --json": "",
    "doctor": "",
    "doctor --json": "",
    "verify m": r"[\d.,]+",
    "verify m --json": r"[\d.e+-]+",
    "export nuner-mini -o NEW --json": r"[\d.e+-]+",
}


def arguments_of(command, folder, number):
    """A command's arguments, with a name of its own where something is made."""
    for left in folder.glob("made-*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return command.replace("NEW", f"made-{number}").split()


@pytest.mark.parametrize("command", [*COMMANDS, *(pytest.param(one, marks=pytest.mark.slow) for one in SLOW)])
def test_the_bytes_are_those_of_a_run_without_a_terminal(workshop, command):
    varying = (COMMANDS | SLOW)[command]

    def same(text):
        text = re.sub(r"made-\d", "made", text)
        return re.sub(" +", " ", re.sub(varying, "", text)) if varying else text  # columns are as wide as their figures

    if command in SLOW and "NEW" not in command:
        run(*command.split(), cwd=workshop)  # what is measured once is measured
    usual = run(*arguments_of(command, workshop, 0), cwd=workshop)
    to = workshop / "out"
    code = run_on_terminal(*arguments_of(command, workshop, 1), cwd=workshop, to=to).returncode
    assert (code, same(to.read_text())) == (usual.returncode, same(usual.stdout))

    seen = run_on_terminal(*arguments_of(command, workshop, 2), cwd=workshop, check=usual.returncode)
    if "--json" in command or "--csv" in command or "tag" in command:
        assert same(usual.stdout) in same(seen.raw.replace("\r\n", "\n"))  # in one piece, with no bar in between
    shown = {" ".join(same(line).split()) for line in screen(seen.raw)}
    for line in [*usual.stdout.splitlines(), *usual.stderr.splitlines()]:
        if "[" not in line:  # which stands where there are no colours
            assert " ".join(same(line).split()) in shown


def test_a_table_of_a_terminal_has_colours_and_no_brackets(workshop):
    seen = run_on_terminal("search", "index", "the [[ferry]]", cwd=workshop, check=0)
    assert "\x1b[1;33mferry\x1b[0m" in seen.raw
    assert "The ferry left Zürich at seven." in "\n".join(screen(seen.raw))
    assert "[bold]Oslo[/bold]" in "\n".join(screen(seen.raw))  # no markup of ours


def test_hits_from_a_real_terminal_into_a_file(workshop):
    """As a shell does it: `nuner-embed search ... --csv > hits.csv`."""
    usual = run("search", "index", "ferry", "--csv", cwd=workshop, check=0).stdout
    ours, theirs = pty.openpty()
    with (workshop / "hits.csv").open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "nuner_embed.cli", "search", "index", "ferry", "--csv"],
            cwd=workshop, stdin=theirs, stderr=theirs, stdout=file, env={**os.environ, "TERM": "xterm-256color"},
        )  # fmt: skip
        assert process.wait(timeout=60) == 0
    os.close(theirs)
    assert (workshop / "hits.csv").read_text() == usual
    assert b"searching" in os.read(ours, 65536)  # so there was a bar
    os.close(ours)
