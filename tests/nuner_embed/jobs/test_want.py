"""Want of room on the disk, of descriptors and of memory: one line, nothing lost, and the same command goes on."""

import contextlib
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from jobs import fingerprint, job, made_up_corpus

from nuner_embed import Store
from nuner_embed.errors import StoreError
from nuner_embed.jobs.engines import base


def _corpus(folder):
    path = made_up_corpus(folder / "corpus.jsonl")
    with path.open("a") as stream:
        stream.write('{"text": 5}\n' * 30)
    return path


@pytest.fixture
def corpus_file(tmp_path):
    return _corpus(tmp_path)


@contextlib.contextmanager
def at_most(what, most):
    """Bounds what this process may have; a file that would be larger is an error, as on a full disk."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    job(_corpus(folder), folder / "store", on_error="skip", shard_rows=800)
    return fingerprint(folder / "store")


# from the note of the writer to the files of shards, the manifest with all shards, and the journal
@pytest.mark.parametrize("most", [1, 100, 2000, pytest.param(6000, marks=pytest.mark.slow), 14_000])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(corpus_file, expected, tmp_path, most):
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN
    with at_most(resource.RLIMIT_FSIZE, most), pytest.raises(StoreError) as caught:
        job(corpus_file, tmp_path / "s", on_error="skip", shard_rows=800)
    assert str(caught.value).startswith(f"{tmp_path / 's'} cannot be written: File too large")
    assert "\n" not in str(caught.value)
    job(corpus_file, tmp_path / "s", on_error="skip", shard_rows=800)
    assert fingerprint(tmp_path / "s") == expected


def test_a_store_of_more_shards_than_descriptors(corpus_file, tmp_path):
    used = max(int(path.name) for path in Path("/dev/fd").iterdir()) + 1
    with at_most(resource.RLIMIT_NOFILE, used + 20):
        job(corpus_file, tmp_path / "s", on_error="skip", shard_rows=90)
        store = Store.open(tmp_path / "s")
        assert len(store.shards) > 40
        assert store.verify() == []
        assert len(store.table()) == len(store) == sum(len(vectors) for _, vectors in store.batches())
        assert store.vectors(np.arange(len(store))).shape == (len(store), 8)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "memory ran out; what is finished is kept"),
        (RuntimeError("can't start new thread"), "refuses another thread or more memory; what is finished is kept"),
        (OSError(28, "No space left on device", "/elsewhere/x"), "/elsewhere/x cannot be used: No space left"),
    ],
)
def test_want_in_the_middle_of_a_job(corpus_file, tmp_path, monkeypatch, error, said):
    write, calls = base.write_shard, []

    def fails_once(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise error
        return write(*arguments)

    monkeypatch.setattr(base, "write_shard", fails_once)
    with pytest.raises(StoreError, match=said):
        job(corpus_file, tmp_path / "s", on_error="skip")
    job(corpus_file, tmp_path / "s", on_error="skip")
    job(corpus_file, tmp_path / "whole", on_error="skip")
    assert fingerprint(tmp_path / "s") == fingerprint(tmp_path / "whole")
