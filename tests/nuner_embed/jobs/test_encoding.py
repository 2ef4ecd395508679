import errno
import json

import numpy as np
import pytest
from fakes import HashSpec
from jobs import Recording, StopAfter, fingerprint, job, made_up_corpus

from nuner_embed import Store
from nuner_embed.errors import CorpusError, StoreError, StoreLocked, StoreMismatch
from nuner_embed.jobs.reporter import Plan, Reporter
from nuner_embed.store.ownership import writer_lock


@pytest.fixture
def corpus_file(tmp_path):
    return made_up_corpus(tmp_path / "corpus.jsonl")


def test_rows_stand_in_corpus_order_with_their_texts(corpus_file, tmp_path):
    summary = job(corpus_file, tmp_path / "s")
    store = Store.open(tmp_path / "s")
    rows = store.table().to_pylist()
    expected = [
        (f"corpus.jsonl:{n}", word)
        for n, line in enumerate(corpus_file.read_text().splitlines(), start=1)
        for word in json.loads(line)["text"].split()
    ]
    assert [(row["document_id"], row["text"]) for row in rows] == expected
    assert (summary.rows, summary.documents, len(store)) == (len(expected), 200, len(expected))
    assert summary.shards == len(store.shards) > 3
    assert all(500 <= shard.rows < 560 for shard in store.shards[:-1])
    assert [row["label"] for row in rows if row["word"] == 0] == [f"l{i % 3}" for i in range(200)]
    assert {row["label"] for row in rows if row["word"] == 1} == {None}


@pytest.mark.parametrize("batches", [0, 1, 5, 17, 24])
def test_interrupted_and_resumed_equals_uninterrupted(corpus_file, tmp_path, batches):
    job(corpus_file, tmp_path / "whole", granularity="token")
    with pytest.raises(KeyboardInterrupt):
        job(corpus_file, tmp_path / "s", StopAfter(batches), granularity="token")
    with pytest.raises(StoreError, match="is unfinished .* the same nuner-embed encode command finishes"):
        Store.open(tmp_path / "s")
    done = len(Store.open(tmp_path / "s", allow_incomplete=True).shards)
    reporter = Recording()
    job(corpus_file, tmp_path / "s", reporter, granularity="token")
    assert len(reporter.shards) == len(Store.open(tmp_path / "s").shards) - done
    assert fingerprint(tmp_path / "s") == fingerprint(tmp_path / "whole")


def test_a_finished_job_again_does_nothing(corpus_file, tmp_path):
    job(corpus_file, tmp_path / "s")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("*")}
    reporter = Recording()
    summary = job(corpus_file, tmp_path / "s", reporter)
    assert reporter.count == 0
    assert "complete already" in reporter.notices[-1]
    assert summary.rows > 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("*")}


def test_several_workers_write_the_same_bytes(corpus_file, tmp_path):
    job(corpus_file, tmp_path / "one", spec=HashSpec(threads=1))
    job(corpus_file, tmp_path / "two", spec=HashSpec(threads=1), workers=2)
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two")


@pytest.mark.parametrize(
    ("options", "spec", "message"),
    [
        ({"granularity": "token"}, {}, "granularity was word and is now token"),
        ({"dtype": "float32"}, {}, "dtype was float16 and is now float32"),
        ({"shard_rows": 70}, {}, "shard_rows was 500 and is now 70"),
        ({"overflow": "truncate"}, {}, "overflow was window and is now truncate"),
        ({}, {"max_length": 30}, "max_length was 32 and is now 30"),
        ({}, {"batch_tokens": 64}, "runtime batch_tokens was 512 and is now 64"),
        ({}, {"threads": 3}, "runtime threads was 4 and is now 3"),
    ],
)
def test_a_store_begun_otherwise_is_refused(corpus_file, tmp_path, options, spec, message):
    with pytest.raises(KeyboardInterrupt):
        job(corpus_file, tmp_path / "s", StopAfter(9))
    before = fingerprint(tmp_path / "s")
    with pytest.raises(StoreMismatch, match=message):
        job(corpus_file, tmp_path / "s", spec=HashSpec(**spec), **options)
    assert fingerprint(tmp_path / "s") == before
    job(corpus_file, tmp_path / "s", spec=HashSpec(**spec), force=True, **options)
    Store.open(tmp_path / "s")


def test_what_was_left_open_is_taken_from_the_first_run(corpus_file, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        job(corpus_file, tmp_path / "s", StopAfter(9), spec=HashSpec(threads=3, batch_tokens=128))
    job(corpus_file, tmp_path / "s")
    job(corpus_file, tmp_path / "whole", spec=HashSpec(threads=3, batch_tokens=128))
    assert fingerprint(tmp_path / "s") == fingerprint(tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: ['{"text": "new"}', *lines[1:]], "in shard-00000, which begins with document corpus.jsonl:1"),
        (lambda lines: [*lines[:-1], '{"text": "new"}'], "200 documents then, 200 now, differing after the finished"),
        (lambda lines: lines[:-1], "200 documents then, 199 now"),
    ],
)
def test_another_corpus_is_refused(corpus_file, tmp_path, change, message):
    with pytest.raises(KeyboardInterrupt):
        job(corpus_file, tmp_path / "s", StopAfter(9))
    corpus_file.write_text("\n".join(change(corpus_file.read_text().splitlines())) + "\n")
    with pytest.raises(StoreMismatch, match=message):
        job(corpus_file, tmp_path / "s")


def test_another_schema_is_refused(corpus_file, tmp_path):
    job(corpus_file, tmp_path / "s")
    path = tmp_path / "s" / "manifest.json"
    path.write_text(path.read_text().replace('"schema_version": 4', '"schema_version": 99'))
    with pytest.raises(StoreMismatch, match="schema version 99, this program reads 4"):
        job(corpus_file, tmp_path / "s")


def test_two_jobs_on_one_store(corpus_file, tmp_path):
    (tmp_path / "s").mkdir()
    with writer_lock(tmp_path / "s"), pytest.raises(StoreLocked, match=r"being written by process \d+ on"):
        job(corpus_file, tmp_path / "s")
    job(corpus_file, tmp_path / "s")


def test_a_strangers_directory_is_left_alone(corpus_file, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(StoreError, match="holds chapter.txt and no manifest.json"):
            job(corpus_file, tmp_path / "thesis", force=force)
    with pytest.raises(StoreError, match="is a file; a store is a directory"):
        job(corpus_file, tmp_path / "thesis" / "chapter.txt")


def test_bad_input_leaves_nothing(tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"text": 5}\n')
    with pytest.raises(CorpusError, match=r"bad.jsonl:2"):
        job(tmp_path / "bad.jsonl", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_rejects_are_listed_once_however_often_it_is_interrupted(tmp_path):
    path = tmp_path / "c.jsonl"
    with path.open("w") as stream:
        for i in range(60):
            stream.write(json.dumps({"text": "the ferry left"}) + "\n" if i % 4 else f'{{"text": {i}}}\n')
    with pytest.raises(KeyboardInterrupt):
        job(path, tmp_path / "s", StopAfter(3), on_error="skip", shard_rows=20)
    summary = job(path, tmp_path / "s", on_error="skip", shard_rows=20)
    assert (summary.documents, summary.rejects) == (45, 15)
    rejects = [json.loads(line) for line in (tmp_path / "s" / "rejects.jsonl").read_text().splitlines()]
    assert [reject["line"] for reject in rejects] == list(range(1, 61, 4))
    assert rejects[1]["record"] == '{"text": 4}'
    assert json.loads((tmp_path / "s" / "manifest.json").read_text())["rejects"] == 15


def test_windowed_and_truncated_documents_are_in_the_ledger(corpus_file, tmp_path):
    whole = job(corpus_file, tmp_path / "w")
    cut = job(corpus_file, tmp_path / "t", overflow="truncate")
    ledger = [json.loads(line) for line in (tmp_path / "w" / "coverage.jsonl").read_text().splitlines()]
    assert len(ledger) == whole.covered > 20
    assert all(entry["windows"] > 1 and entry["dropped_rows"] == 0 for entry in ledger)
    truncated = [json.loads(line) for line in (tmp_path / "t" / "coverage.jsonl").read_text().splitlines()]
    assert [entry["document_id"] for entry in truncated] == [entry["document_id"] for entry in ledger]
    assert whole.rows - cut.rows == sum(entry["dropped_rows"] for entry in truncated) > 0
    with pytest.raises(StoreError, match=r"document corpus.jsonl:\d+ has \d+ tokens, a window holds 30; --overflow"):
        job(corpus_file, tmp_path / "e", overflow="error")
    job(corpus_file, tmp_path / "e", overflow="window")  # goes on: what was finished is what it would be
    job(corpus_file, tmp_path / "w", overflow="window")
    for path in (tmp_path / "w").glob("shard-*"):
        assert path.read_bytes() == (tmp_path / "e" / path.name).read_bytes()


def test_words_without_a_token_are_counted(tmp_path):
    (tmp_path / "c.txt").write_text("the \u200b ferry\n")
    summary = job(tmp_path / "c.txt", tmp_path / "s")
    assert summary.rows == 2
    (entry,) = [json.loads(line) for line in (tmp_path / "s" / "coverage.jsonl").read_text().splitlines()]
    assert entry["untokenized_rows"] == 1


def test_a_corpus_without_mentions_is_refused_where_mentions_are_the_rows(tmp_path):
    (tmp_path / "c.txt").write_text("the ferry\n")
    with pytest.raises(StoreError, match="the corpus has no spans, .* use --rows word"):
        job(tmp_path / "c.txt", tmp_path / "s", granularity="mention")
    assert not (tmp_path / "s").exists()


def test_shards_without_rows(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"text": ""}\n' * 5 + '{"text": "ferry"}\n' + '{"text": ""}\n' * 5)
    summary = job(tmp_path / "c.jsonl", tmp_path / "s", shard_rows=2)
    store = Store.open(tmp_path / "s")
    assert (summary.documents, summary.shards, len(store), store.table().num_rows) == (11, 6, 1, 1)
    assert store.vectors([]).shape == (0, 8)
    assert sum(len(vectors) for _, vectors in store.batches()) == 1


def test_memory_that_ran_out_is_on_record(corpus_file, tmp_path):
    summary = job(corpus_file, tmp_path / "s", spec=HashSpec(memory=200))
    plenty = job(corpus_file, tmp_path / "p")
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert [entry["name"] for entry in manifest["reduced_shards"]] == list(summary.reduced_shards)
    assert summary.reduced_shards
    assert all(entry["batch_tokens"] <= 200 for entry in manifest["reduced_shards"])
    assert summary.rows == plenty.rows
    a, b = (Store.open(tmp_path / name) for name in "sp")
    np.testing.assert_array_equal(a.vectors(range(len(a))), b.vectors(range(len(b))))


def test_numbers_that_a_dtype_cannot_hold(corpus_file, tmp_path, monkeypatch):
    from fakes import HashRuntime

    states = HashRuntime.states
    monkeypatch.setattr(HashRuntime, "states", lambda self, *batch: states(self, *batch) * 1e6)
    with pytest.raises(StoreError, match="shard-00000: a number is too large for float16; use --dtype float32"):
        job(corpus_file, tmp_path / "s")
    job(corpus_file, tmp_path / "l", dtype="float32")
    for broken in (np.nan, np.inf):
        monkeypatch.setattr(HashRuntime, "states", lambda self, *batch: np.abs(states(self, *batch)) + broken)  # noqa: B023
        for dtype in ("float16", "float32"):
            with pytest.raises(StoreError, match="shard-00000: the encoder gave a number that is not finite"):
                job(corpus_file, tmp_path / f"{broken}-{dtype}", dtype=dtype)


def test_a_disk_that_is_too_small_is_seen_before_anything_is_written(corpus_file, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("nuner_embed.jobs.encoding.shutil.disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match="the store will take about .* are free on the disk"):
        job(corpus_file, tmp_path / "s")
    assert not (tmp_path / "s" / "manifest.json").exists()


def test_the_plan_knows_what_is_coming(corpus_file, tmp_path):
    reporter = Recording()
    summary = job(corpus_file, tmp_path / "s", reporter)
    plan = reporter.plan
    assert isinstance(plan, Plan)
    assert plan.documents == 200
    assert plan.rows == summary.rows  # 200 documents are all in the sample
    assert 0.5 < plan.store_bytes / summary.store_bytes < 2


def test_debris_of_a_dead_writer_is_taken_away(corpus_file, tmp_path):
    job(corpus_file, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        job(corpus_file, tmp_path / "s", StopAfter(12))
    store = tmp_path / "s"
    with (store / "journal.jsonl").open("a") as stream:
        stream.write('{"name": "shard-000')
    with (store / "coverage.jsonl").open("a") as stream:
        stream.write('{"document_id": "torn')
    (store / "shard-00007.npy").write_bytes(b"never named")
    (store / ".shard-00003.npy.123.tmp").write_bytes(b"half")
    job(corpus_file, store)
    assert fingerprint(store) == fingerprint(tmp_path / "whole")


def test_a_corpus_that_changes_while_it_is_read(corpus_file, tmp_path):
    class Meddling(Reporter):
        def started(self, plan):
            corpus_file.write_text(corpus_file.read_text().replace("ferry", "FERRY"))

    with pytest.raises(StoreError, match="changed while it was being read"):
        job(corpus_file, tmp_path / "s", Meddling())


def test_a_full_disk_keeps_what_is_finished(corpus_file, tmp_path, monkeypatch):
    from nuner_embed.jobs.engines import base

    write = base.write_shard
    shards = []

    def write_until_full(*arguments):
        if len(shards) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        shards.append(1)
        return write(*arguments)

    monkeypatch.setattr(base, "write_shard", write_until_full)
    with pytest.raises(StoreError, match="No space left on device; what is finished is kept"):
        job(corpus_file, tmp_path / "s")
    monkeypatch.undo()
    job(corpus_file, tmp_path / "s")
    job(corpus_file, tmp_path / "whole")
    assert fingerprint(tmp_path / "s") == fingerprint(tmp_path / "whole")


def test_documents_without_a_mention_are_counted_where_mentions_are_the_rows(tmp_path):
    path = tmp_path / "c.jsonl"
    entities = ([[4, 9, "boat"]], [], [[0, 3, "word"], [4, 9, "boat"]])
    path.write_text("".join(json.dumps({"text": "the ferry", "entities": spans}) + "\n" for spans in entities))
    for rows, said in (("mention", True), ("word", False)):
        reporter = Recording()
        job(path, tmp_path / rows, reporter, granularity=rows)
        note = (
            "mentions: the spans of 2 of 3 documents; the others have none and make no rows (--mentions detect looks "
            "for mentions in all)"
        )
        assert (note in reporter.notices) is said
    assert Store.open(tmp_path / "mention").table(["label"])["label"].to_pylist() == ["boat", "word", "boat"]
