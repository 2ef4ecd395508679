"""What every engine does: shards in order, the same bytes, each committed once it is written."""

import pytest
from fakes import HashSpec
from jobs import StopAfter

from nuner_embed.documents import Document
from nuner_embed.encoders.tokens import tokenize
from nuner_embed.errors import OutOfMemory
from nuner_embed.jobs.engines import ENGINES, engine_of
from nuner_embed.jobs.engines.base import ShardTask
from nuner_embed.jobs.options import JobOptions
from nuner_embed.jobs.reporter import Reporter
from nuner_embed.store.shard import SUFFIXES

TEXTS = [["the ferry left", "at seven"], ["Zürich"], ["", "seven"], ["the word ferry"], ["left at the ferry"]]


class Counting(Reporter):
    def __init__(self):
        self.count = 0

    def tokens(self, count):
        self.count += count


def tables(encoder):
    for number, texts in enumerate(TEXTS):
        yield tokenize([Document(f"{number}.{i}", text) for i, text in enumerate(texts)], encoder.tokenizer, "word")


def run(name, directory, reporter=None, spec=None, first=0):
    """What an engine commits."""
    directory.mkdir(exist_ok=True)
    spec = spec or HashSpec(threads=1)
    encoder = spec.load()
    task = ShardTask(directory, JobOptions(spec, workers=2), first)
    committed = []
    ENGINES[name](encoder, reporter or Reporter()).run(task, tables(encoder), committed.append)
    return committed


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


def test_shards_come_in_order_and_are_written(engine, tmp_path):
    reporter = Counting()
    shards = run(engine, tmp_path, reporter, first=3)
    assert [shard.entry.name for shard in shards] == [f"shard-{i:05d}" for i in range(3, 8)]
    assert [shard.entry.documents for shard in shards] == [len(texts) for texts in TEXTS]
    assert reporter.count == sum(shard.entry.tokens for shard in shards) > 0
    for shard in shards:
        assert set(shard.paths) == set(SUFFIXES)
        assert {suffix: path.stat().st_size for suffix, path in shard.paths.items()} == shard.entry.bytes


def test_all_engines_write_the_same_bytes(engine, tmp_path):
    mine = [shard.entry for shard in run(engine, tmp_path / "mine")]
    assert mine == [shard.entry for shard in run("local", tmp_path / "local")]


def test_what_goes_wrong_reaches_the_job(engine, tmp_path):
    with pytest.raises(OutOfMemory, match="one window of . tokens does not fit"):
        run(engine, tmp_path, spec=HashSpec(threads=1, memory=2))
    assert not list(tmp_path.glob("*.npy"))


def test_what_a_commit_raises_ends_the_run(engine, tmp_path):
    encoder = HashSpec(threads=1).load()
    task = ShardTask(tmp_path, JobOptions(HashSpec(threads=1), workers=2), 0)
    seen = []

    def commit(shard):
        seen.append(shard.entry.name)
        if len(seen) == 2:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        ENGINES[engine](encoder, Reporter()).run(task, tables(encoder), commit)
    assert seen == ["shard-00000", "shard-00001"]


def test_an_interrupted_run_stops(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run("local", tmp_path, StopAfter(2))


def test_the_number_of_workers_says_which(tmp_path):
    encoder = HashSpec().load()
    chosen = [engine_of(JobOptions(HashSpec(), workers=workers), encoder, Reporter()) for workers in (1, 2)]
    assert [type(engine).__name__ for engine in chosen] == ["LocalEngine", "ProcessEngine"]
