"""What the tests of several commands look at, and leave as it is."""

import json

import pytest
from command import run
from fakes import TRAIN

SPANS = [
    ("The ferry left Zürich at seven.", [(4, 9, "boat"), (15, 21, "city")]),
    ("A raft left [bold]Oslo[/bold] at nine.", [(2, 6, "boat"), (18, 22, "city")]),
]


@pytest.fixture(scope="session")
def workshop(small_model, tmp_path_factory):
    """A model, corpora, a store, an index and a probe: m, *.txt, *.jsonl, train.conll, store, index, p."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "m").symlink_to(small_model)
    (folder / "train.conll").write_text(TRAIN)
    (folder / "notes.txt").write_text("Mara left [red]Oslo[/red] by ferry.\nKiel\n")
    (folder / "q.txt").write_text("a [[ferry]]\nthe [[city]] of Kiel\n")
    (folder / "replies.jsonl").write_text('{"text": "Kiel", "reply": "Kiel <> city"}\n')
    with (folder / "c.jsonl").open("w") as lines:
        for text, spans in SPANS:
            spans = [{"start": start, "end": end, "label": label} for start, end, label in spans]
            lines.write(json.dumps({"text": text, "spans": spans}) + "\n")
    run("encode", "c.jsonl", "-o", "store", "--model", "m", "--rows", "mention", cwd=folder, check=0)
    run("index", "build", "store", "-o", "index", cwd=folder, check=0)
    run("probe", "train", "train.conll", "-o", "p", "--model", "m", cwd=folder, check=0)
    return folder
