"""What `-o` names where a file is to be written."""

import pytest
from command import run

COMMANDS = {
    "annotate": ("replies.jsonl", "out.jsonl"),
    "tag": ("c.txt", "--types", "city", "out.csv"),
    "probe predict": ("p", "c.txt", "out.conll"),
    "search": ("index", "ferry", "out.parquet"),
    "concepts map": ("m", "c.jsonl", "out.html"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_or_a_name_in_a_folder_that_is_not_there(tmp_path, command):
    *arguments, file = COMMANDS[command]
    (tmp_path / file).mkdir()
    for output, said in (
        (".", "File '.' is a directory."),
        (file, f"File '{file}' is a directory."),
        (f"gone/{file}", f"there is no folder gone to write {file} into"),
        (f"{tmp_path}/gone/{file}", f"there is no folder {tmp_path}/gone to write {file} into"),
    ):
        done = run(*command.split(), *arguments, "-o", output, cwd=tmp_path, check=2)
        assert done.stderr.splitlines()[-1] == f"Error: Invalid value for '-o' / '--output': {said}"
    assert list(tmp_path.iterdir()) == [tmp_path / file]


def test_a_file_in_a_folder_that_cannot_be_written_into(tmp_path, monkeypatch):
    """Nobody knows the name that a file has until it is whole."""
    (tmp_path / "replies.jsonl").write_text('{"text": "Kiel", "reply": "Kiel <> city"}\n')
    opened = type(tmp_path).open

    def refuse(self, mode="r", *options, **more):
        if "x" in mode:
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, mode, *options, **more)

    monkeypatch.setattr(type(tmp_path), "open", refuse)
    done = run("annotate", "replies.jsonl", "-o", "out.jsonl", cwd=tmp_path, check=1)
    assert done.stderr == "Error: out.jsonl: Permission denied\n"
