"""What the README tells people to type works, in the order in which it says so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the corpus that the first commands mean."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "corpus.jsonl").write_text(
        '{"text": "The ferry left Port Ellery.", "spans": [{"start": 15, "end": 26, "label": "harbour"}]}\n'
    )
    return folder


@pytest.mark.slow
def test_the_console_snippets(folder):
    scripts = f"PATH={Path(sys.executable).parent}:$PATH\nset -e\n"
    commands = [line[2:] for block in re.findall(r"```console\n(.*?)```", README, re.S) for line in block.splitlines()]
    assert any(command.startswith("nuner-embed encode") for command in commands)
    done = subprocess.run(["bash", "-c", scripts + "\n".join(commands)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_python_snippets(folder):
    test_the_console_snippets_ran = folder / "model" / "export.json"
    assert test_the_console_snippets_ran.exists()
    snippets = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(snippets) == 5
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
