"""A store as one Parquet file."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import run
from jobs import job, made_up_corpus

from nuner_embed import Store, encode, write_parquet
from nuner_embed.errors import StoreError, StoreLocked
from nuner_embed.store.parquet_file import store_beside


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_and_vectors_of_several_shards_stand_side_by_side(tmp_path, dtype):
    job(made_up_corpus(tmp_path / "c.jsonl"), tmp_path / "s", dtype=dtype)
    store = Store.open(tmp_path / "s")
    assert len(store.shards) > 2
    written = pq.read_table(write_parquet(store, tmp_path / "out.parquet"))
    number = pa.float16() if dtype == "float16" else pa.float32()
    assert written.schema.field("vector").type == pa.list_(number, 8)
    assert written.drop_columns("vector").replace_schema_metadata(None).equals(store.table())
    vectors = np.stack(written["vector"].to_numpy())
    assert vectors.dtype == dtype
    np.testing.assert_array_equal(vectors, store.vectors(np.arange(len(store))))
    assert json.loads(written.schema.metadata[b"nuner_embed"])["semantic_hash"] == store.semantic_hash


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path, monkeypatch):
    job(made_up_corpus(tmp_path / "c.jsonl"), tmp_path / "s")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        write_parquet(Store.open(tmp_path / "s"), tmp_path / "out.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.jsonl", "s"]


def test_a_store_is_not_named_as_a_file(tmp_path):
    with pytest.raises(StoreError, match="names a file, and a store is a directory"):
        encode(tmp_path / "c.txt", tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_must_hold_the_store_and_the_file(tmp_path, monkeypatch):
    corpus = made_up_corpus(tmp_path / "c.jsonl")
    weight = job(corpus, tmp_path / "measured").store_bytes
    usage = type("Usage", (), {"free": (64 << 20) + round(1.5 * weight)})  # 64 MiB stay free
    monkeypatch.setattr("nuner_embed.jobs.encoding.shutil.disk_usage", lambda path: usage)
    job(corpus, tmp_path / "store")
    with pytest.raises(StoreError, match="and the file beside the store as much again; .* are free on the disk"):
        job(corpus, tmp_path / "refused", also_file=True)


@pytest.fixture
def interrupted(small_model, tmp_path, monkeypatch):
    """Runs the command that makes out.parquet, and stops it after some shards."""
    (tmp_path / "c.txt").write_text("".join(f"The ferry {i} left Kiel at seven.\n" for i in range(24)))
    command = ("encode", "c.txt", "--model", small_model, "--shard-rows", 50, "--batch-tokens", 32, "-o")
    command += ("out.parquet", "--runtime", "onnx", "--precision", "f32")

    def stop(*options, after, place="nuner_embed.cli.progress.JobReporter.shard"):
        calls = []

        def count(*_):
            calls.append(1)
            if len(calls) > after:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(place, count)
            with pytest.raises(KeyboardInterrupt):
                run(*command, *options, cwd=tmp_path)

    return stop, lambda *options, check=0: run(*command, *options, cwd=tmp_path, check=check)


def left(folder):
    return [path for path in folder.iterdir() if path.name.endswith(".store")]


def test_killed_and_run_again_the_file_has_the_same_bytes(interrupted, tmp_path):
    stop, again = interrupted
    file = tmp_path / "out.parquet"
    again()
    whole = file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.txt", "out.parquet"]
    file.unlink()

    stop(after=1)
    assert not file.exists()
    (store,) = left(tmp_path)
    assert re.fullmatch(r"\.out\.parquet\.[0-9a-f]{16}\.store", store.name)
    assert "resuming after shard-0000" in again().stderr
    assert file.read_bytes() == whole

    stop("--force", after=0, place="nuner_embed.store.parquet_file.remove")  # the file has just been written
    assert left(tmp_path)
    assert "is complete already" in again().stderr
    assert file.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.txt", "out.parquet"]


def test_a_file_that_was_to_be_replaced_is_replaced_by_the_same_command_again(interrupted, tmp_path):
    stop, again = interrupted
    file = tmp_path / "out.parquet"
    pq.write_table(pa.table({"x": [1]}).replace_schema_metadata({"nuner_embed": "{}"}), file)
    old = file.read_bytes()
    assert "out.parquet exists already" in again(check=1).stderr
    stop("--force", after=1)
    assert file.read_bytes() == old
    assert "resuming after shard-0000" in again().stderr
    assert len(pq.read_table(file)) == 24 * 8
    assert "out.parquet exists already" in again(check=1).stderr


def test_a_store_that_an_earlier_version_left_is_gone_on_with(interrupted, tmp_path):
    stop, again = interrupted
    stop(after=1)
    (store,) = left(tmp_path)
    store.rename(tmp_path / ".out.parquet.store")
    assert "resuming after shard-0000" in again().stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.txt", "out.parquet"]


@pytest.mark.parametrize("content", [b"mine", b"PAR1mine"])
def test_a_file_that_is_not_ours_is_never_replaced(tmp_path, content):
    file = tmp_path / "out.parquet"
    (tmp_path / "c.txt").write_text("Kiel\n")
    file.write_bytes(content)
    for options in ([], ["--force"]):
        said = run("encode", "c.txt", "-o", "out.parquet", *options, cwd=tmp_path, check=1).stderr
        assert len(said.splitlines()) == 1
    assert "is not a Parquet file that nuner-embed encode wrote" in said
    pq.write_table(pa.table({"text": ["Kiel"]}), file)
    said = run("encode", "c.txt", "-o", "out.parquet", "--force", cwd=tmp_path, check=1).stderr
    assert "is not a Parquet file that nuner-embed encode wrote" in said
    (tmp_path / "other").symlink_to(tmp_path, target_is_directory=True)
    said = run("encode", "out.parquet", "-o", "other/out.parquet", "--force", cwd=tmp_path, check=1).stderr
    assert "other/out.parquet is also an input, as out.parquet" in said
    assert pq.read_table(file).to_pydict() == {"text": ["Kiel"]}


def test_folders_named_like_our_stores_are_left_alone(tmp_path):
    job(made_up_corpus(tmp_path / "c.jsonl"), tmp_path / "s")
    foreign = [tmp_path / name for name in (".out.parquet.store", ".out.parquet.0123456789abcdef.store")]
    for path in foreign:
        path.mkdir()
        (path / "shard-00000.npy").write_text("mine")
    (tmp_path / ".out.parquet.0123456789abcde0.store").symlink_to(tmp_path / "s")
    with store_beside(tmp_path / "out.parquet", force=False) as store:
        assert not store.exists()
        job(tmp_path / "c.jsonl", store)
    assert not store.exists()
    assert [(path / "shard-00000.npy").read_text() for path in foreign] == ["mine", "mine"]
    assert len(Store.open(tmp_path / "s")) > 0


def test_two_processes_do_not_make_one_file(tmp_path):
    file = tmp_path / "out.parquet"
    with (
        store_beside(file, force=False),
        pytest.raises(StoreLocked, match="another process is writing"),
        store_beside(file, force=False),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_that_name_is_no_file(tmp_path):
    (tmp_path / "c.txt").write_text("Kiel\n")
    (tmp_path / "out.parquet").mkdir()
    said = run("encode", "c.txt", "-o", "out.parquet", cwd=tmp_path, check=1).stderr
    assert said.splitlines() == ["Error: out.parquet is a directory; a name that ends in .parquet must be a file"]
