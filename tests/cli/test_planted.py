"""What files say can do nothing on a terminal, wherever it stands and whatever command shows it."""

import ast
import json
import shutil
from pathlib import Path

import pytest
from command import run

import nuner_embed.cli

EVIL = "\x1b[31m\u202e\u061c\x9b[bold]\nERROR of another"
UNSAFE = set(EVIL) - set("[31mbold]\nERROR of another")
QUICK = {
    "store": [
        "store info X",
        "store info X --json",
        "store verify X",
        "store verify X --json",
        "index build X -o made",
    ],
    "index": ["index info X", "index info X --json", "index verify X", "index verify X --json", "index compact X"],
    "p": ["probe evaluate X train.conll", "probe predict X notes.txt"],
}
SLOW = {
    "store": ["encode c.jsonl -o X --model m --rows mention", "index add index X"],
    "index": ["search X ferry", "search X ferry --json", "search X --concept city", "index remove X --document a"],
    "p": ["probe evaluate X train.conll --json", "probe predict X notes.txt --json",
          "encode notes.txt -o made --model m --rows mention --detector X"],
    "m": [
        "verify X", "encode notes.txt -o made --model X", "tag notes.txt --types city --model X",
        "search index ferry --model X", "models save X -o made",
    ],
}  # fmt: skip


def require_harmless(done):
    for said in (done.stdout, done.stderr):
        assert not UNSAFE & set(said)
        assert not [line for line in said.splitlines() if line.lstrip().startswith("ERROR")]  # no line of its own
        assert "Traceback" not in said
        flat = "".join(said.split())  # lines may be wrapped
        assert r"\x9b" not in flat or r"\x9b[bold]" in flat  # it is no markup


def run_in(folder, command, **names):
    words = [names.get(word, word) for word in command.split()]
    done = run(*words, cwd=folder)
    require_harmless(done)
    for made in (folder / "made", folder / "X.copy"):
        shutil.rmtree(made, ignore_errors=True)
    return done


def planted(value):
    """Every value that has the evil text in the place of one string or number, or as one more key."""
    if isinstance(value, dict):
        yield {**value, EVIL: 1}
        for key, below in value.items():
            for other in planted(below):
                yield {**value, key: other}
    elif isinstance(value, list):
        for i, below in enumerate(value[:2]):
            for other in planted(below):
                yield [*value[:i], other, *value[i + 1 :]]
    elif isinstance(value, str):
        yield EVIL
        yield value + EVIL
    else:
        yield EVIL


def plant(workshop, folder, name, commands, *, every):
    """Runs commands over an artefact in each of whose JSON files each field was changed, one at a time."""
    for given in ("train.conll", "notes.txt", "c.jsonl"):
        shutil.copy(workshop / given, folder)
    for given in {"m", "index", "store"} - {name}:
        (folder / given).symlink_to(workshop / given)
    shutil.copytree(workshop / name, folder / "X")
    count = 0
    for path in sorted((folder / "X").rglob("*.json")):
        if path.name in ("tokenizer.json",):
            continue
        original = path.read_bytes()
        for i, value in enumerate(planted(json.loads(original))):
            if i % every:
                continue
            path.write_text(json.dumps(value))
            for command in commands:
                run_in(folder, command)
                count += 1
        path.write_bytes(original)
    assert count >= 10


@pytest.mark.parametrize("name", QUICK)
def test_fields_of_artefacts(workshop, tmp_path, name):
    plant(workshop, tmp_path, name, QUICK[name], every=1 if name != "p" else 10)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_fields_of_artefacts_whatever_command_reads_them(workshop, tmp_path, name):
    plant(workshop, tmp_path, name, SLOW[name], every=1000 if name == "m" else 15)


def test_documents_ids_labels_and_names_of_files(workshop, tmp_path):
    named = f"{EVIL.replace('/', '')}.jsonl"
    records = [
        {"id": EVIL, "text": f"The ferry {EVIL} left Kiel.", "spans": [{"start": 4, "end": 9, "label": EVIL}]},
        {"id": "=1", "text": "Oslo", "spans": [{"start": 0, "end": 4, "label": "@city"}]},
    ]
    (tmp_path / named).write_text("".join(f"{json.dumps(one)}\n" for one in records))
    (tmp_path / f"{EVIL}.txt").write_text("".join(f"{one['text']}\n" for one in records))
    (tmp_path / "bad.jsonl").write_text(f"{json.dumps({'id': EVIL, 'text': 1})}\n")
    (tmp_path / "replies.jsonl").write_text(json.dumps({"text": "Kiel", "reply": f"Kiel <> {EVIL}"}) + "\n")
    (tmp_path / "m").symlink_to(workshop / "m")
    names = {"NAMED": named, "TEXT": f"{EVIL}.txt", "EVIL": EVIL, "STORE": f"{EVIL}.store", "INDEX": f"{EVIL}.index"}
    for command in (
        "encode NAMED -o STORE --model m --rows mention",
        "store info STORE",
        "store verify STORE --json",
        "index build STORE -o INDEX",
        "index info INDEX",
        "search INDEX ferry",
        "search INDEX ferry --json",
        "search INDEX EVIL",
        "search INDEX --like NAMED",
        "index remove INDEX --document EVIL",
        "index verify INDEX",
        "probe train NAMED -o EVIL --model m",
        "probe predict EVIL NAMED",
        "probe predict EVIL NAMED --json",
        "probe evaluate EVIL NAMED --confusion",
        "tag TEXT --types EVIL --model m",
        "annotate replies.jsonl -o a.jsonl",
    ):
        assert run_in(tmp_path, command, **names).returncode == 0, command
    (tmp_path / "missing").mkdir()
    for command in (
        "EVIL",
        "--EVIL",
        "annotate replies.jsonl -o EVIL --json",
        "concepts map m EVIL -o EVIL",
        "encode bad.jsonl -o bad --model m",
        "encode EVIL -o s --model m",
        "encode TEXT -o s --model EVIL",
        "encode TEXT -o s --pooling EVIL",
        "export EVIL -o EVIL",
        "index build STORE -o made --kind EVIL",
        "index remove INDEX --ids TEXT",
        "pretrain NAMED -o made --config TEXT",
        "search EVIL ferry",
        "search INDEX --filter EVIL ferry",
        "search INDEX ferry --EVIL",
        "store info missing/EVIL",
        "tag TEXT --types city --model m -o EVIL",
        "verify EVIL",
    ):
        assert run_in(tmp_path, command, **names).returncode in (1, 2), command


def test_one_place_prints():
    """Whatever else prints, or makes a table or a console of its own, prints what others say as it is."""
    folder = Path(nuner_embed.cli.__file__).parent
    for path in folder.glob("*.py"):
        if path.name in ("streams.py", "tables.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in ("print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"), path
            assert called != "Console" or path.name == "progress.py", path
            assert called not in ("json.dumps", "csv.writer") or path.name in ("hits.py", "tagged.py"), path
            assert not (isinstance(node, ast.ImportFrom) and node.module == "rich.table") or path.name == "progress.py"
