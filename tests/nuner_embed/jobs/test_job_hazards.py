"""What befalls a job beyond being killed: rivals, changed minds, changed corpora, strangers' files, full disks."""

import errno
import json
import multiprocessing
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fakes import HashSpec, hash_encoder

from nuner_embed import Store
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.errors import StoreError, StoreLocked, StoreMismatch
from nuner_embed.jobs.encoding import run_job
from nuner_embed.jobs.options import JobOptions
from nuner_embed.jobs.plan import estimate
from nuner_embed.jobs.reporter import Reporter
from nuner_embed.store.ownership import writer_lock


class Stop(Reporter):
    """Interrupts the job after so many shards."""

    def __init__(self, shards):
        self.left = shards

    def shard(self, name, documents, rows):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.fixture
def corpus_file(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("".join(f"the ferry {'left ' * (i % 9)}at seven\n" for i in range(300)))
    return path


def job(corpus, store, reporter=None, spec=None, on_error="fail", **options):
    with Corpus([corpus], on_error=on_error) as source:
        return run_job(source, Path(store), JobOptions(spec or HashSpec(), **{"shard_rows": 200, **options}), reporter)


def files(store):
    return {path.name: path.read_bytes() for path in Path(store).iterdir() if path.is_file() and path.name != ".lock"}


def test_two_jobs_on_a_store_that_neither_saw(corpus_file, tmp_path):
    """The rival begins and ends, or is still at work, while this job loads its model."""

    class Slow(HashSpec):
        def load(self, workers=1):
            job(corpus_file, tmp_path / "s")
            return super().load(workers)

    with pytest.raises(StoreLocked, match="begun by another process just now; run the command again"):
        job(corpus_file, tmp_path / "s", spec=Slow(), dtype="float32")
    assert Store.open(tmp_path / "s").dtype == "float16"

    held = writer_lock(tmp_path / "t")

    class Slower(HashSpec):
        def load(self, workers=1):
            held.__enter__()
            return super().load(workers)

    with pytest.raises(StoreLocked, match="being written by process"):
        job(corpus_file, tmp_path / "t", spec=Slower())
    held.__exit__(None, None, None)


def test_a_corpus_that_changed_and_changed_back(corpus_file, tmp_path):
    """The first shards hold what the corpus was for a moment, which its hash no longer shows."""
    text = corpus_file.read_text()

    class Meddling(Reporter):
        def started(self, plan):
            corpus_file.write_text(text.replace("ferry", "seven"))

    with pytest.raises(StoreError, match="changed while it was being read"):
        job(corpus_file, tmp_path / "s", Meddling())
    corpus_file.write_text(text)
    with pytest.raises(StoreMismatch, match="written from other documents in shard-00000"):
        job(corpus_file, tmp_path / "s")
    job(corpus_file, tmp_path / "s", force=True)
    assert Store.open(tmp_path / "s").table().column("text").to_pylist()[:2] == ["the", "ferry"]


@pytest.mark.parametrize(
    ("before", "after"),
    [(1, 2), pytest.param(4, 2, marks=pytest.mark.slow), pytest.param(2, 1, marks=pytest.mark.slow)],
)
def test_more_or_fewer_workers_go_on(corpus_file, tmp_path, before, after):
    with pytest.raises(KeyboardInterrupt):
        job(corpus_file, tmp_path / "s", Stop(2), workers=before)
    job(corpus_file, tmp_path / "s", workers=after)
    job(corpus_file, tmp_path / "whole", workers=before)
    assert files(tmp_path / "s") == files(tmp_path / "whole")


@pytest.mark.parametrize("force", [False, True])
def test_somebody_elses_manifest_is_no_store(corpus_file, tmp_path, force):
    directory = tmp_path / "extension"
    directory.mkdir()
    (directory / "manifest.json").write_text('{"name": "my web extension"}')
    (directory / "journal.jsonl").write_text("mine")
    with pytest.raises(StoreError, match="not the manifest of a store; name another directory"):
        job(corpus_file, directory, force=force)
    assert (directory / "journal.jsonl").read_text() == "mine"


def test_a_complete_manifest_without_its_journal(corpus_file, tmp_path):
    job(corpus_file, tmp_path / "s")
    (tmp_path / "s" / "journal.jsonl").unlink()
    with pytest.raises(StoreError, match="manifest and journal name different shards; --force starts over"):
        job(corpus_file, tmp_path / "s")


def test_a_disk_too_small_for_another_store_keeps_the_old_one(corpus_file, tmp_path, monkeypatch):
    job(corpus_file, tmp_path / "s")
    before = files(tmp_path / "s")
    monkeypatch.setattr("nuner_embed.jobs.encoding.shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(StoreError, match="the store will take about"):
        job(corpus_file, tmp_path / "s", force=True)
    assert files(tmp_path / "s") == before


def test_a_disk_that_is_still_full(corpus_file, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        job(corpus_file, tmp_path / "s", Stop(1))

    def full(path, value):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("nuner_embed.store.ownership.write_json", full)
        with pytest.raises(StoreError, match="cannot be written: No space left on device"):
            job(corpus_file, tmp_path / "s")
    job(corpus_file, tmp_path / "s")


def test_a_manifest_that_lacks_something(corpus_file, tmp_path):
    job(corpus_file, tmp_path / "s")
    path = tmp_path / "s" / "manifest.json"
    values = json.loads(path.read_text())
    del values["recipe"], values["resumable"]
    path.write_text(json.dumps(values))
    for act in (lambda: job(corpus_file, tmp_path / "s"), lambda: Store.open(tmp_path / "s")):
        with pytest.raises(StoreError, match="manifest.json is damaged .*missing required field recipe"):
            act()


def test_coverage_that_was_cut_is_not_filled_up(corpus_file, tmp_path):
    corpus_file.write_text("the ferry left at seven " * 40 + "\n" + corpus_file.read_text())
    with pytest.raises(KeyboardInterrupt):
        job(corpus_file, tmp_path / "s", Stop(2))
    (tmp_path / "s" / "coverage.jsonl").write_text("")
    with pytest.raises(StoreError, match="coverage.jsonl is missing or shorter"):
        job(corpus_file, tmp_path / "s")


def test_a_complete_store_keeps_its_own_count_of_rejects(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "the ferry"}\n')
    job(path, tmp_path / "s", on_error="skip")
    path.write_text('{"text": "the ferry"}\n{"text": 5}\n')
    assert job(path, tmp_path / "s", on_error="skip").rejects == 0


def test_mentions_that_a_truncated_text_cuts_are_on_record(tmp_path):
    text = "the ferry left at seven " * 8
    spans = [{"start": 0, "end": len(text) - 1}, {"start": 0, "end": 9}]
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": text, "spans": spans}))
    job(tmp_path / "c.jsonl", tmp_path / "s", granularity="mention", overflow="truncate")
    (entry,) = map(json.loads, (tmp_path / "s" / "coverage.jsonl").read_text().splitlines())
    assert (entry["cut_mentions"], entry["dropped_rows"]) == (1, 0)


@pytest.mark.parametrize("overflow", ["window", "truncate"])
@pytest.mark.parametrize("rows", ["word", "token", "mention"])
def test_the_estimate_is_what_runs(tmp_path, rows, overflow):
    path = tmp_path / "c.jsonl"
    with path.open("w") as stream:
        for i in range(60):
            text = "the ferry left at seven " * (1 + i % 20)
            stream.write(json.dumps({"text": text, "spans": [{"start": 0, "end": 9}]}) + "\n")
    options = JobOptions(HashSpec(), granularity=rows, overflow=overflow)
    guess = estimate(Corpus([path]).survey(), hash_encoder(), options)
    summary = job(path, tmp_path / "s", granularity=rows, overflow=overflow)
    assert guess.rows == pytest.approx(summary.rows, rel=0.01)
    if rows != "mention":  # of these, windows without a mention are not run
        assert guess.tokens == summary.tokens


def test_labels_of_words_are_those_of_the_first_span_that_they_share_characters_with(tmp_path):
    chance = np.random.default_rng(7)
    text = " ".join(["the", "ferry", "left", "at", "seven"] * 40)
    cuts = chance.integers(0, len(text), (300, 2))
    spans = [{"start": int(min(c)), "end": int(max(c)) + 1, "label": f"l{i}"} for i, c in enumerate(cuts)]
    spans = [span for span in spans if span["end"] - span["start"] < 30]
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": text, "spans": spans}))
    job(tmp_path / "c.jsonl", tmp_path / "s")
    for row in Store.open(tmp_path / "s").table().to_pylist():
        shared = [s["label"] for s in spans if s["start"] < row["end"] and s["end"] > row["start"]]
        assert row["label"] == (shared[0] if shared else None)


def test_row_numbers_are_no_mask(corpus_file, tmp_path):
    job(corpus_file, tmp_path / "s")
    store = Store.open(tmp_path / "s")
    for wrong in (np.arange(len(store)) == 3, [1.9], 3, [[1]]):
        with pytest.raises(TypeError, match="a list of row numbers"):
            store.vectors(wrong)


@pytest.mark.parametrize("after", [0, 2])
def test_a_worker_that_is_killed_ends_the_job_and_not_the_store(corpus_file, tmp_path, after):
    class Killing(Reporter):
        def __init__(self):
            self.shards = 0

        def started(self, plan):
            threading.Thread(target=self.kill, daemon=True).start()

        def shard(self, name, documents, rows):
            self.shards += 1

        def kill(self):
            while len(multiprocessing.active_children()) < 2 or self.shards < after:
                time.sleep(0.01)
            time.sleep(0.1)  # CPython's own pool is not ready for a death while it is still starting workers
            multiprocessing.active_children()[0].kill()

    with pytest.raises(StoreError, match="a worker process was killed, most likely because memory ran out"):
        job(corpus_file, tmp_path / "s", Killing(), HashSpec(seconds=0.1), workers=2, shard_rows=100)
    job(corpus_file, tmp_path / "s", workers=1, shard_rows=100)
    Store.open(tmp_path / "s")
