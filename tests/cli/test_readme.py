"""What the README tells people to type works, in the order in which it says so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


@pytest.mark.slow
def test_the_console_snippets(folder):
    """Every command works, and prints what stands below the command, but for numbers and the width of columns."""
    lines = [line for block in re.findall(r"```console\n(.*?)```", README, re.S) for line in block.splitlines()]
    commands = [line.startswith("$ ") for line in lines]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    assert commands[0]
    assert sum(commands) < len(commands)
    for line, is_command in zip(lines, commands, strict=True):
        if is_command:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", line[2:]],
                cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": path, "COLUMNS": "120"},
            )  # fmt: skip
            assert done.returncode == 0, (line, done.stderr)
            printed = {_without_numbers(one) for one in done.stdout.splitlines()}
        else:
            assert _without_numbers(line) in printed, (line, done.stdout)


def _without_numbers(line):
    """A line of output whose numbers may differ in their last digits on another processor."""
    return re.sub(r"\d+\.\d+", "0.0", " ".join(line.split()))


@pytest.mark.slow
def test_the_python_snippets(folder):
    test_the_console_snippets_ran = folder / "model" / "export.json"
    assert test_the_console_snippets_ran.exists()
    snippets = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(snippets) == 4
    done = subprocess.run([sys.executable, "-c", "\n".join(snippets)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(1, 384)" in done.stdout


def test_the_first_two_commands_are_make_demo_and_make_test():
    commands = re.findall(r"^    (\S.*?)(?:  |$)", README, re.M)
    assert commands[:2] == ["make demo", "make test"]


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.slow
def test_the_example_of_a_type_of_ones_own(default_model, tmp_path):
    (tmp_path / "model").symlink_to(default_model)
    script = ROOT / "examples" / "custom_type.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    found = [name for name in ("clarinet", "banjo", "accordion") if any(line.startswith(name) for line in lines)]
    assert len(found) >= 2
    assert (tmp_path / "instruments" / "probe.json").exists()


@pytest.mark.slow
def test_the_example(default_model, tmp_path):
    (tmp_path / "model").symlink_to(default_model)  # exporting it is tested elsewhere
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "entity_search.py", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    owl, coach, capitals, named = (b.splitlines() for b in re.split(r"^(?:like|a) .*:\n", done.stdout, flags=re.M)[1:])
    assert all((owl, coach, capitals, named))
    assert {line.split()[1] for line in named} <= {"tram", "Night", "ferry", "sleeper"}
    assert {line.split()[1] for line in owl} <= {"kestrel", "heron", "curlews", "vole", "trout"}
    assert {line.split()[1] for line in coach} <= {"tram", "Night", "ferry", "sleeper"}
    assert {line.split()[1] for line in capitals} <= {"Night", "Lisbon", "Ghent", "Osaka"}
