"""Which files some paths mean: links, pipes, folders, archives, files that were joined."""

import gzip
import json
import os
import sys

import pytest

from nuner_embed import Document
from nuner_embed.corpora.corpus import Corpus, read_annotated
from nuner_embed.corpora.records import Reject
from nuner_embed.errors import CorpusError

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")


def read(*paths, **options):
    with Corpus(list(paths), **options) as corpus:
        return list(corpus)


def ids(*paths, **options):
    return [document.id for document in read(*paths, **options)]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_links_to_folders_are_followed(tmp_path):
    write(tmp_path / "elsewhere" / "deep" / "b.txt", "harbour\n")
    write(tmp_path / "corpus" / "a.txt", "ferry\n")
    (tmp_path / "corpus" / "linked").symlink_to(tmp_path / "elsewhere")
    assert ids(tmp_path / "corpus") == ["a.txt:1", "linked/deep/b.txt:1"]


def test_links_that_go_round_in_a_circle_end(tmp_path):
    write(tmp_path / "outside.txt", "not of the corpus\n")
    write(tmp_path / "corpus" / "sub" / "a.txt", "ferry\n")
    for name, target in (("self", "."), ("sub/up", ".."), ("sub/above", "../.."), ("gone", "missing")):
        (tmp_path / "corpus" / name).symlink_to(target)
    assert ids(tmp_path / "corpus") == ["sub/a.txt:1"]


def test_what_several_names_lead_to_is_read_once_under_its_own(tmp_path):
    write(tmp_path / "z" / "x.txt", "ferry\n")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    (tmp_path / "b.txt").symlink_to(tmp_path / "z" / "x.txt")
    (tmp_path / "z" / "again.txt").symlink_to("x.txt")
    assert ids(tmp_path) == ["z/x.txt:1"]
    assert ids(tmp_path / "a") == ["x.txt:1"]  # a link that is named is a folder like any other


def test_a_link_to_no_file_is_named(tmp_path):
    write(tmp_path / "a.txt", "ferry\n")
    (tmp_path / "b.txt").symlink_to("missing.txt")
    with pytest.raises(CorpusError, match="b.txt: cannot be read: No such file"):
        read(tmp_path)


@needs_pipes
@pytest.mark.parametrize("format_", [None, "txt"])
def test_a_pipe_in_a_folder_is_left_out_and_named(tmp_path, caplog, format_):
    write(tmp_path / "a.txt", "ferry\n")
    os.mkfifo(tmp_path / "b.txt")
    assert ids(tmp_path, format=format_) == ["a.txt:1"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'b.txt'} is left out: not a regular file, and a corpus is read more than once"
    ]


def test_a_format_is_that_of_every_file(tmp_path):
    for name in ("a.json", "b", "c.txt", "sub/d.jsonl", ".hidden.jsonl"):
        write(tmp_path / name, json.dumps({"text": name}))
    write(tmp_path / "e.json.gz", gzip.compress(b'{"text": "e"}'))
    read_as = {"a.json:1": "a.json", "b:1": "b", "c.txt:1": "c.txt", "e.json.gz:1": "e", "sub/d.jsonl:1": "sub/d.jsonl"}
    assert {document.id: document.text for document in read(tmp_path, format="jsonl")} == read_as
    assert ids(tmp_path) == ["c.txt:1", "sub/d.jsonl:1"]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_an_archive_of_no_bytes_is_no_empty_text(tmp_path, suffix):
    write(tmp_path / "a.txt", "ferry\n")
    write(tmp_path / f"b.txt{suffix}", b"")
    reason = f"the file is empty: even an empty text has some bytes as {suffix}, get it again"
    with pytest.raises(CorpusError, match=rf"b.txt{suffix}: {reason}"):
        read(tmp_path)
    assert read(tmp_path, on_error="skip") == [Document("a.txt:1", "ferry"), Reject(f"b.txt{suffix}", None, reason)]


def test_zstd_with_a_window_larger_than_usual(tmp_path):
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 28})
    packed = compressor.compress(b"the ferry\n") + compressor.flush()  # in pieces: the window is what was asked for
    with pytest.raises(zstd.ZstdError, match="too much memory"):
        zstd.decompress(packed)
    assert read(write(tmp_path / "c.txt.zst", packed)) == [Document("c.txt.zst:1", "the ferry")]
    with pytest.raises(CorpusError, match="^d.txt.zst: not valid zstd data"):
        read(write(tmp_path / "d.txt.zst", b"no archive"))


@pytest.mark.parametrize("last", ["", "\n"])
def test_files_with_byte_order_marks_that_were_joined(tmp_path, last):
    mark = "\ufeff"
    parts = [f'{mark}{{"text": "ferry"}}\n', mark, f'{mark}{{"text": "harbour"}}{last}']
    assert [one.text for one in read(write(tmp_path / "c.jsonl", "".join(parts)))] == ["ferry", "harbour"]
    assert [one.text for one in read(write(tmp_path / "c.txt", f"{mark}a\n{mark}b\n{mark}\n{mark}c{last}"))] == [*"abc"]
    columns = f"{mark}a\tO\n{mark}\tO\n\n{mark}b\tB-x{last}"  # in the second line the mark is the word
    assert [one.text for one in read(write(tmp_path / "c.tsv", columns))] == [f"a {mark}", "b"]


def test_a_string_is_one_path(tmp_path, monkeypatch):
    path = write(tmp_path / "x.txt", "ferry\n")
    monkeypatch.chdir(tmp_path)
    for given in ("./x.txt", str(path), path, [path]):
        assert list(Corpus(given)) == [Document("x.txt:1", "ferry")]
    with pytest.raises(CorpusError, match="y.txt: no such file"):
        Corpus("./y.txt")
    annotated = write(tmp_path / "x.tsv", "ferry\tB-boat\n")
    assert [one.id for one in read_annotated(str(annotated))[0]] == ["x.tsv:1"]
