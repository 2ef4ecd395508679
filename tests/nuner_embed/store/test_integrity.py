"""What `Store.verify` sees, and what it says of stores that earlier versions wrote."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jobs import StopAfter, job, made_up_corpus

from nuner_embed import Store
from nuner_embed.errors import StoreError
from nuner_embed.files import hash_of, json_bytes, sha256_of


@pytest.fixture
def store(tmp_path):
    """A store of several shards with windowed documents and rejects."""
    corpus = made_up_corpus(tmp_path / "corpus.jsonl")
    with corpus.open("a") as stream:
        stream.write('{"text": 5}\n{"text": 6}\n')
    job(corpus, tmp_path / "s", on_error="skip", shard_rows=1500)
    return tmp_path / "s"


def changed(store, change):
    """Changes the manifest, which then has the right hash all the same."""
    path = store / "manifest.json"
    values = json.loads(path.read_text())
    del values["manifest_sha256"]
    change(values)
    path.write_bytes(json_bytes({**values, "manifest_sha256": hash_of(values)}))


def without_checksums(store):
    """What an earlier version of the same schema wrote."""
    path = store / "manifest.json"
    values = json.loads(path.read_text())
    path.write_bytes(json_bytes({k: v for k, v in values.items() if k not in ("manifest_sha256", "rejects_sha256")}))
    path = store / "journal.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [{k: v for k, v in line.items() if k not in ("entry_sha256", "coverage_sha256")} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))


def test_a_whole_store_has_no_problem_and_misses_no_checksum(store):
    assert Store.open(store).verify() == []
    assert Store.open(store).unchecked() == []


def test_the_journal_is_compared_with_the_manifest(store):
    journal = (store / "journal.jsonl").read_text()
    opened = Store.open(store)
    (store / "journal.jsonl").write_text("".join(journal.splitlines(keepends=True)[:-1]))
    assert "manifest.json and journal.jsonl name different shards" in opened.verify()
    (store / "journal.jsonl").write_text("{\n" + journal)
    assert any("journal.jsonl:1: not a journal entry" in problem for problem in opened.verify())
    (store / "journal.jsonl").write_text(journal + "{")
    assert opened.verify() == ["journal.jsonl has 1 bytes behind its last line"]
    (store / "journal.jsonl").write_text(journal.replace('"padding": ', '"padding": 1', 1))
    assert opened.verify() == ["journal.jsonl:1 was changed: it is not what was written for shard-00000"]
    (store / "journal.jsonl").write_text(journal.replace(": ", ":  ", 1))
    assert opened.verify() == ["journal.jsonl:1 was changed: it is not what was written for shard-00000"]


def test_coverage_without_a_line_is_there_nevertheless(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"text": "one"}\n{"text": "two"}\n')
    job(corpus, tmp_path / "s")
    opened = Store.open(tmp_path / "s")
    assert (tmp_path / "s" / "coverage.jsonl").read_bytes() == b""
    assert opened.verify() == []
    (tmp_path / "s" / "coverage.jsonl").unlink()
    assert opened.verify() == ["coverage.jsonl is missing"]


@pytest.mark.parametrize("name", ["coverage.jsonl", "rejects.jsonl"])
def test_lists_are_compared_with_their_checksums(store, name):
    path, opened = store / name, Store.open(store)
    data = path.read_bytes()
    for changes, said in (
        (data.replace(b"1", b"2", 1), "is not what was written"),
        (data + b"{}\n", "has|cannot be read"),
        (data[:-3], "has|cannot be read"),
        (b"\xff" + data[1:], "is none|cannot be read"),
        (data.replace(b"\n", b" ", 1), "is none|cannot be read"),
    ):
        path.write_bytes(changes)
        problems = opened.verify()
        assert problems, changes[:99]
        assert all(problem.startswith(name) for problem in problems)
        assert any(part in problem for part in said.split("|") for problem in problems), problems
    path.unlink()
    assert opened.verify() == [f"{name} is missing"]
    path.mkdir()
    assert opened.verify() == [f"{name} cannot be read: it is not a regular file"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda values: values["recipe"].update(pooling="last"), "its model and recipe do not have its semantic hash"),
        (lambda values: values.update(weights_sha256="1" * 64), "its model and recipe do not have its semantic hash"),
        (lambda values: values.update(semantic_hash="1" * 64), "its model and recipe do not have its semantic hash"),
        (lambda values: values["numerics"].update(threads=8), "its numerics do not have its numeric hash"),
        (lambda values: values.update(numeric_hash="1" * 64), "its numerics do not have its numeric hash"),
        (lambda values: values["shards"][0].update(rows=0) or values.update(rows=0), None),
        (lambda values: values.update(rejects=1), "rejects.jsonl has 2 lines, manifest.json says 1"),
        (lambda values: values.update(rejects=0, rejects_sha256=None), "rejects.jsonl has 2 lines"),
        (lambda values: values.update(reduced_shards=[{"name": "shard-00000", "batch_tokens": 8}]), "reduced shards"),
        (lambda values: values["shards"][0]["sha256"].update(npy="1" * 64), "name different shards"),
    ],
)
def test_a_manifest_with_another_hash_is_compared_with_what_it_is_of(store, change, problem):
    changed(store, change)
    if problem is None:
        with pytest.raises(StoreError, match="rows is 0, its shards have"):
            Store.open(store)
    else:
        assert problem in "; ".join(Store.open(store).verify())


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.update(dim=9),
        lambda values: values.update(dim=2**60),
        lambda values: values.update(dtype="float32"),
        lambda values: values.update(dtype="float64"),
        lambda values: values.update(granularity="sentence"),
        lambda values: values.update(documents=199),
        lambda values: values.update(corpus_documents=199),
        lambda values: values["shards"].reverse(),
        lambda values: values["shards"].pop(),
        lambda values: values["shards"].append(values["shards"][0]),
        lambda values: values["shards"][0].update(name="../shard-00000"),
        lambda values: values["shards"][0].update(rows=-1),
        lambda values: values["shards"][0].update(rows=True),
        lambda values: values["shards"][0]["sha256"].pop("npy"),
        lambda values: values["shards"][0]["bytes"].update(exe=1),
        lambda values: values["shards"][0]["bytes"].update(npy=2**62),
        lambda values: values.update(shards={}),
        lambda values: values["numerics"].pop("threads"),
        lambda values: values["numerics"].update(threads="many"),
        lambda values: values["recipe"].update(layers=[0.5]),
        lambda values: values["recipe"].update(pooling=["first"]),
        lambda values: values.update(recipe=None),
        lambda values: values.update(complete="yes"),
        lambda values: values.pop("resumable"),
    ],
)
def test_numbers_that_cannot_be_are_refused_in_one_line(store, change):
    changed(store, change)
    for check_files in (True, False):
        with pytest.raises(StoreError) as caught:
            Store.open(store, check_files=check_files)
        assert "\n" not in str(caught.value)


def rewritten(store, suffix, table):
    """Puts another table in the place of a shard's, with the right hashes everywhere."""
    path = store / f"shard-00000.{suffix}"
    pq.write_table(table, path)
    facts = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    changed(store, lambda values: [values["shards"][0][key].update({suffix: fact}) for key, fact in facts.items()])
    without_checksums(store)
    lines = [json.loads(line) for line in (store / "journal.jsonl").read_text().splitlines()]
    for key, fact in facts.items():
        lines[0][key][suffix] = fact
    (store / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("suffix", "change", "problem"),
    [
        ("parquet", lambda table: table.slice(1), "rows of document_id"),
        ("parquet", lambda table: table.drop_columns("label"), "rows of document_id, start, end, text, score"),
        ("parquet", lambda table: table.set_column(1, "start", pa.array([-1] * len(table))), "outside their documents"),
        ("parquet", lambda table: table.set_column(2, "end", pa.array([9999] * len(table))), "outside their documents"),
        (
            "parquet",
            lambda table: table.set_column(0, "document_id", pa.array(["x"] * len(table))),
            "rows of documents",
        ),
        ("documents.parquet", lambda table: table.slice(1), "rows of document_id, text, expected"),
        (
            "documents.parquet",
            lambda table: table.set_column(1, "text", pa.array([""] * len(table))),
            "outside their documents",
        ),
    ],
)
def test_tables_that_do_not_belong_to_the_vectors(store, suffix, change, problem):
    assert Store.open(store).verify() == []
    rewritten(store, suffix, change(pq.read_table(store / f"shard-00000.{suffix}")))
    (found,) = Store.open(store).verify()
    assert problem in found


def test_a_matrix_of_another_order_or_type(store):
    path = store / "shard-00000.npy"
    matrix = np.load(path)
    for other in (np.asfortranarray(matrix), matrix.T.copy(), matrix.view(np.int16), matrix[None]):
        np.save(path, other)
        with pytest.raises(StoreError, match=r"shard-00000.npy has .* expected float16 of shape|cannot be read"):
            _ = Store.open(store).shards[0].vectors


def test_a_store_of_an_earlier_version_opens_and_says_what_it_cannot_check(tmp_path, store):
    without_checksums(store)
    opened = Store.open(store)
    assert opened.verify() == []
    assert opened.unchecked() == [
        "manifest.json has no checksum of its own",
        "rejects.jsonl has no checksum",
        "journal.jsonl has entries without a checksum",
        "coverage.jsonl has lines without a checksum",
    ]


def test_an_unfinished_store_is_verified_as_far_as_it_goes(tmp_path):
    corpus = made_up_corpus(tmp_path / "corpus.jsonl")
    with pytest.raises(KeyboardInterrupt):
        job(corpus, tmp_path / "s", StopAfter(17))
    opened = Store.open(tmp_path / "s", allow_incomplete=True)
    with (tmp_path / "s" / "journal.jsonl").open("a") as stream:
        stream.write('{"name": "half')
    assert opened.verify() == []
    whole = (tmp_path / "s" / "journal.jsonl").read_bytes()
    (tmp_path / "s" / "journal.jsonl").write_bytes(b"another file")
    assert opened.verify()[0] == "journal.jsonl ends in 12 bytes that are not the beginning of a line"
    (tmp_path / "s" / "journal.jsonl").write_bytes(whole)
    coverage = tmp_path / "s" / "coverage.jsonl"
    coverage.write_bytes(coverage.read_bytes().replace(b"tokens", b"TOKENS", 1))
    assert "coverage.jsonl is not what was written for shard-0000" in "; ".join(opened.verify())
