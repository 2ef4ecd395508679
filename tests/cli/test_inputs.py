"""What a command reads is never what it writes, by whatever name."""

import os

import pytest
from command import run

TEXT = '{"text": "a ferry", "spans": [{"start": 2, "end": 7, "label": "boat"}]}\n'

# command, with IN for what is read and OUT for what is written
FILES = {
    "tag": ("in.jsonl", "tag IN --types boat -o OUT"),
    "tag a model's folder": ("dir", "tag in.jsonl --types boat --model IN -o OUT/in.jsonl"),
    "tag names of tags": ("names.jsonl", "tag in.jsonl --types boat --tag-names IN -o OUT"),
    "probe predict": ("in.jsonl", "probe predict nowhere IN -o OUT"),
    "probe predict a probe": ("dir", "probe predict IN in.jsonl -o OUT/in.jsonl"),
    "search queries": ("in.jsonl", "search nowhere --queries IN -o OUT"),
    "search examples": ("in.jsonl", "search nowhere --like IN -o OUT"),
    "search an index": ("dir", "search IN ferry -o OUT/index.parquet"),
    "annotate": ("in.jsonl", "annotate IN -o OUT"),
    "annotate a folder": ("dir", "annotate IN -o OUT/out.jsonl"),
    "annotate an instruction": ("in.jsonl", "annotate dir --llm x --instruction IN -o OUT"),
    "annotate into its replies": ("x.replies.jsonl", "annotate IN --llm x -o x.jsonl"),
    "annotate into its report": ("x.report.json", "annotate IN -o x.jsonl"),
    "encode": ("in.parquet", "encode IN -o OUT"),
    "encode a folder": ("dir", "encode IN -o OUT/out.parquet"),
    "concepts map": ("in.html", "concepts map nuner-mini IN -o OUT"),
    "concepts map into its picture": ("x.png", "concepts map nuner-mini IN -o x.html"),
}
FOLDERS = {
    "encode": ("dir", "encode IN -o OUT"),
    "probe train": ("dir", "probe train IN -o OUT"),
    "probe train from within": ("dir/a.jsonl", "probe train IN -o dir"),
    "probe train a background": ("dir", "probe train in.jsonl --background IN -o OUT"),
    "probe train a model": ("dir", "probe train in.jsonl --model IN -o OUT"),
    "pretrain": ("dir", "pretrain IN -o OUT"),
    "pretrain a base": ("dir", "pretrain in.jsonl --base IN -o OUT --force"),
    "pretrain a configuration": ("dir/a.jsonl", "pretrain in.jsonl --config IN -o dir"),
    "finetune": ("dir", "finetune IN -o OUT"),
    "finetune a base": ("dir", "finetune in.jsonl --base IN -o OUT --force"),
    "export": ("dir", "export IN -o OUT --force"),
    "models save": ("dir", "models save IN -o OUT --force"),
    "index build": ("dir", "index build IN -o OUT --force"),
    "index build from within": ("dir/store", "index build IN -o dir --force"),
    "evaluate": ("dir", "evaluate fewshot --model nuner-mini --set a IN in.jsonl -o OUT"),
    "evaluate a model": ("dir", "evaluate fewshot --model x=IN --set a in.jsonl in.jsonl -o OUT"),
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "dir" / "store").mkdir(parents=True)
    for name in ("in.jsonl", "dir/a.jsonl", "x.replies.jsonl", "x.report.json", "in.parquet", "in.html", "x.png"):
        (tmp_path / name).write_text(TEXT)
    (tmp_path / "names.jsonl").write_text("O\nB-boat\n")
    return tmp_path


def contents(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def refused(folder, command, given, output):
    before = contents(folder)
    arguments = [part.replace("IN", given).replace("OUT", output) for part in command.split()]
    done = run(*arguments, cwd=folder, check=1)
    assert done.stderr.startswith("Error: "), done.stderr
    assert "name another output" in done.stderr or "name an output outside" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1
    assert contents(folder) == before


@pytest.mark.parametrize("command", FILES)
def test_files(folder, command):
    name, line = FILES[command]
    refused(folder, line, name, name)
    if "OUT" not in line:
        return
    refused(folder, line, name, str(folder / name))
    refused(folder, line, f"dir/../{name}", name)
    (folder / f"link-{name}").symlink_to(name)
    refused(folder, line, name, f"link-{name}")
    refused(folder, line, f"link-{name}", name)
    if (folder / name).is_file():
        (folder / f"hard-{name}").hardlink_to(folder / name)
        refused(folder, line, name, f"hard-{name}")


@pytest.mark.parametrize("command", FOLDERS)
def test_folders(folder, command):
    name, line = FOLDERS[command]
    refused(folder, line, name, name)
    (folder / "link").symlink_to("dir")
    refused(folder, line.replace("-o dir", "-o link"), name, "link")
    refused(folder, line, f"./dir/../{name}", str(folder / name))


def test_standard_input_from_the_output(folder):
    before = os.dup(0)
    try:
        with (folder / "in.jsonl").open() as stream:
            os.dup2(stream.fileno(), 0)
            refused(folder, "tag - --format jsonl --types boat -o OUT", "", "in.jsonl")
    finally:
        os.dup2(before, 0)
        os.close(before)
