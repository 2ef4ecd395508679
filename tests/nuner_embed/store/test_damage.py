"""Stores with any damage: one line from whatever reads them, and nothing wrong passes `verify`."""

import random
import signal
from pathlib import Path

import pytest
from jobs import StopAfter, job, made_up_corpus
from mutating import copied, mutate

from nuner_embed import Store
from nuner_embed.errors import NunerEmbedError
from nuner_embed.store.journal import Journal


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A complete store, an unfinished one, and the corpus that both are of."""
    folder = tmp_path_factory.mktemp("stores")
    corpus = made_up_corpus(folder / "corpus.jsonl")
    with corpus.open("a") as stream:
        stream.write('{"text": 5}\n')
    job(corpus, folder / "complete", on_error="skip", shard_rows=1500)
    with pytest.raises(KeyboardInterrupt):
        job(corpus, folder / "unfinished", StopAfter(17), on_error="skip", shard_rows=1500)
    (folder / "unfinished" / ".lock").unlink()
    (folder / "complete" / ".lock").unlink()
    return folder


@pytest.fixture(autouse=True)
def in_time():
    """Whatever waits for a pipe, or reads /dev/zero, ends."""

    def late(number, frame):
        raise TimeoutError("it waits for something")

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def outcome(act):
    """What an action says: None, or its one line."""
    said = None
    signal.setitimer(signal.ITIMER_REAL, 20)
    try:
        act()
    except NunerEmbedError as error:
        said = str(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert not set("\n\x1b") & set(said or "")
    return said


def contents(directory):
    return {
        path.name: path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in Path(directory).iterdir()
        if path.name not in (".lock", ".writer.json")
    }


def read_all(directory):
    store = Store.open(directory, allow_incomplete=True)
    if store.shards:
        store.table()
        store.vectors([0] if len(store) else [])
    for _ in store.batches(700):
        pass
    for shard in store.shards:
        shard.texts()
    Journal.read(directory).require_files()


def verified(directory):
    try:
        return Store.open(directory, allow_incomplete=True, check_files=False).verify()
    except NunerEmbedError as error:
        return [str(error)]


def mutations(stores, target, first, count, unfinished):
    whole = stores / ("unfinished" if unfinished else "complete")
    written = contents(whole)
    for seed in range(first, first + count):
        store = copied(whole, target / "s")
        what = f"seed {seed}, {mutate(store, random.Random(seed))}"
        changed = contents(store)
        try:
            outcome(lambda store=store: read_all(store))
            problems = []
            outcome(lambda store=store, into=problems: into.extend(verified(store)))
            assert all("\n" not in problem and "\x1b" not in problem for problem in problems)
            if changed != written and not _is_torn(written, changed) and not _of_rejects(written, changed):
                assert problems, "verify saw nothing"
            outcome(lambda store=store: job(stores / "corpus.jsonl", store, on_error="skip", shard_rows=1500))
            outcome(lambda store=store: Store.open(store).verify())
        except BaseException as error:
            raise AssertionError(what) from error


def _is_torn(written, changed):
    """Whether the last line of the journal of an unfinished store is only cut, or something came behind the books."""
    lists = ("journal.jsonl", "coverage.jsonl")
    if {name for name in written if written[name] != changed.get(name)} - set(lists):
        return False
    if b'"complete": true' in written["manifest.json"]:
        return False
    cut, whole = changed.get("journal.jsonl"), written["journal.jsonl"]
    if cut is None:
        return "journal.jsonl" not in changed and changed.get("coverage.jsonl") is not None
    return (
        whole.startswith(cut)
        or (cut.startswith(whole) and cut != whole)
        or (cut == whole and (changed.get("coverage.jsonl") or b"").startswith(written["coverage.jsonl"]))
    )


def _of_rejects(written, changed):
    """An unfinished store's rejects are written anew."""
    differ = {name for name in {*written, *changed} if written.get(name) != changed.get(name)}
    return b'"complete": true' not in written["manifest.json"] and differ == {"rejects.jsonl"}


@pytest.mark.parametrize("unfinished", [False, True])
def test_any_damage_ends_in_one_line(stores, tmp_path, unfinished):
    mutations(stores, tmp_path, 0, 15, unfinished)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 2000, 100))
@pytest.mark.parametrize("unfinished", [False, True])
def test_any_damage_of_very_many_ends_in_one_line(stores, tmp_path, first, unfinished):
    mutations(stores, tmp_path, first, 100, unfinished)
