"""Damaged corpora and replies of every format: one line that names the file, and never a traceback."""

import gzip
import json
import random
import sys
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nuner_embed import Corpus, Document, Span
from nuner_embed.annotation.ledger import KeptReply, open_ledger, read_ledger
from nuner_embed.annotation.replies import convert_replies
from nuner_embed.corpora.base import FORMATS, WriteOptions
from nuner_embed.errors import NunerEmbedError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LINES = [
    {"id": "a", "text": "The ferry left Kiel.", "spans": [{"start": 4, "end": 9, "label": "boat", "score": 0.5}]},
    {"tokens": ["The", "ferry"], "ner_tags": ["O", "B-boat"]},
    {"tokens": ["Kiel", "is", "old"], "ner": [[0, 0, "city"]]},
    {"text": "Oslo", "entities": {"start": [0], "end": [4], "label": ["city"]}},
]
JSONL = "".join(json.dumps(line) + "\n" for line in LINES).encode()
COLUMNS = b"-DOCSTART- O\n\nThe\tO\nferry\tB-boat\n\nOld\tB-city\nKiel\tI-city\n.\tO\n"
CONLLU = "".join(
    f"{i}\t{word}\t{word}\tX\tX\t_\t0\tdep\t_\tNER=B-x\n" for i, word in enumerate(["The", "ferry", "left"], 1)
).encode()
DOCUMENT = Document("a", "The  ferry left Kiel.", spans=(Span(5, 10, "boat", 0.5), Span(16, 20, "city")))
OWN_CONLLU, TASKS = (
    "".join(FORMATS[name].write([DOCUMENT, replace(DOCUMENT, id="b")], WriteOptions())).encode()
    for name in ("conllu", "label-studio")
)
REPLIES = b'{"id": 1, "text": "The ferry left Kiel.", "reply": "ferry <> boat <> x\\nKiel <> city"}\n' * 3
CSV = b"input,output\n\"The ferry left\",\"['ferry <> boat', 'left <> act']\"\nKiel,\"['Kiel <> city']\"\n"
LEDGER = "ledger"
FILES = {
    "a.jsonl": JSONL,
    "a.conll": COLUMNS,
    "b.conll": b"The|O ferry|B-boat\nKiel|B-city sleeps|O\n",
    "c.conll": b"The DT (NP* *\nferry NN *) (BOAT)\n\nKiel NNP (NP*) (CITY)\n",
    "a.conllu": CONLLU,
    "b.conllu": OWN_CONLLU,
    "a.json": TASKS,
    "a.json.zst": zstd.compress(TASKS),
    "a.txt": "The ferry left [[Kiel|city]].\nÆ\n".encode(),
    "a.jsonl.gz": gzip.compress(JSONL, mtime=0),
    "a.tsv.zst": zstd.compress(COLUMNS),
    "a.parquet": None,
    "a.parquet.gz": None,
    "replies.jsonl": REPLIES,
    "replies.csv": CSV,
    "replies.parquet": None,
    LEDGER: None,
}
PIECES = [
    b"\0", b"\xff", b"\n", b"\r", b"\t", b'"', b"[" * 2000, b"{" * 200, b"9" * 5000, b"1e999", b"NaN", b"-1", b"null",
    b"\\ud800", b"[[", b"]]", b"|", b"\xe2\x80\xa8", b"B-", b"true", b"18446744073709551616", b" " * 300,
]  # fmt: skip


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    pq.write_table(pa.Table.from_pylist([LINES[0], {"id": "b", "text": "b", "spans": []}] * 3), folder / "a.parquet")
    (folder / "a.parquet.gz").write_bytes(gzip.compress((folder / "a.parquet").read_bytes(), mtime=0))
    pq.write_table(pa.table({"input": ["Kiel"], "output": ["['Kiel <> city']"]}), folder / "replies.parquet")
    with open_ledger(folder / LEDGER) as ledger:
        for number in range(3):
            ledger.add(KeptReply(f"{number:032x}", "The ferry", "ferry <> boat", "stop", "m", "m", 1, 2))
    for name, content in FILES.items():
        if content is not None:
            (folder / name).write_bytes(content)
    return {name: (folder / name).read_bytes() for name in FILES}


def mutated(content, chance):
    data = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                data[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[place:]
            case 2:
                del data[place : place + chance.randint(1, 20)]
            case 3:
                data[place:place] = chance.choice(PIECES)
            case _:
                other = chance.randrange(len(data) + 1)
                data[place:place] = data[other : other + 30]
    return bytes(data)


def read(path, chance):
    """Reads a file as its name says; every error is one of ours, a line that names the file."""
    said = None
    try:
        if path.name == LEDGER:
            with read_ledger(path) as ledger:
                for key in ledger.keys():  # noqa: SIM118
                    ledger.reply(key, "")
        elif path.name.startswith("replies"):
            convert_replies([path], path.parent / "out.jsonl")
        else:
            on_error = chance.choice(["fail", "skip"])
            for _ in Corpus([path], on_error=on_error, marked=chance.random() < 0.5):
                pass
    except NunerEmbedError as error:
        said = str(error)
    assert said is None or (path.name in said and said.isprintable() and len(said) < 600), said


def fuzz(folder, originals, seed, rounds):
    chance = random.Random(seed)
    for name, content in originals.items():
        for number in range(rounds):
            (folder / name).write_bytes(mutated(content, chance))
            try:
                read(folder / name, chance)
            except Exception as error:
                raise AssertionError(
                    f"{name}, seed {seed}, round {number}: {(folder / name).read_bytes()!r}"
                ) from error


def test_a_few_damaged_files(tmp_path, originals):
    fuzz(tmp_path, originals, 0, 12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_many_damaged_files(tmp_path, originals, seed):
    fuzz(tmp_path, originals, seed, 100)


@pytest.mark.parametrize("name", [name for name in FILES if name != LEDGER])
@pytest.mark.parametrize("what", ["folder", "broken link", "empty"])
def test_what_stands_in_a_files_place(tmp_path, name, what):
    path = tmp_path / name
    {"folder": path.mkdir, "broken link": lambda: path.symlink_to("nowhere"), "empty": path.touch}[what]()
    read(path, random.Random(0))
