"""What is too large or too deep is one bad record, in little memory and time."""

import contextlib
import errno
import gzip
import io
import json
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nuner_embed import Corpus
from nuner_embed.corpora.fields import split_line
from nuner_embed.corpora.records import Reject, shown
from nuner_embed.corpora.span_lists import find_counting
from nuner_embed.corpora.streams import read_lines
from nuner_embed.corpora.txt import unmark
from nuner_embed.documents import Span
from nuner_embed.errors import CorpusError
from nuner_embed.limits import LINE_FIELDS, MIB
from nuner_embed.tags import spans_to_tags


@pytest.mark.parametrize("carriage_returns", [False, True])
@pytest.mark.parametrize("size", [1, 9, 65_536, 99_999, 100_000, 100_001, 400_000])
def test_a_line_that_is_too_long_is_named_and_the_next_is_read(size, carriage_returns):
    content = b"one\n" + b"x" * size + b"\ntwo\r\n\nthree"
    found = list(read_lines(io.BytesIO(content), "f", carriage_returns=carriage_returns, limit=100_000))
    texts = [line if isinstance(line, str) else line.reason[:13] for _, line in found]
    assert [number for number, _ in found] == [1, 2, 3, 4, 5]
    assert texts == ["one", "x" * size if size <= 100_000 else "the line has ", "two", "", "three"]


def test_a_last_line_that_is_too_long():
    found = list(read_lines(io.BytesIO(b"a\n" + b"x" * 300_000), "f", limit=100_000))
    assert [isinstance(line, str) for _, line in found] == [True, False]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.tsv", "a.txt.gz"])
def test_a_corpus_of_one_endless_line(tmp_path, name):
    content = b"[" * (2 * MIB)
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if name.endswith("gz") else content)
    message = rf"{name}:1: the line has more than 1 MiB; break it up, or read longer ones with --max-line-mib"
    with pytest.raises(CorpusError, match=message):
        Corpus([tmp_path / name], max_line_mib=1).survey()


def test_a_zstd_file_that_looks_far_back(tmp_path):
    zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 30})
    (tmp_path / "a.txt.zst").write_bytes(compressor.compress(b"the ferry\n") + compressor.flush())
    with pytest.raises(CorpusError, match=r"a\.txt\.zst: unpacking it takes more than 256 MiB of memory; unpack it"):
        Corpus([tmp_path / "a.txt.zst"]).survey()


@pytest.mark.parametrize("depth", [500, 100_000])
def test_json_that_is_deep(tmp_path, depth):
    deep = "[" * depth + "]" * depth
    (tmp_path / "a.jsonl").write_text(f'{{"text": "a"}}\n{{"text": {deep}}}\n{deep}\n{{"id": {deep}, "text": "b"}}\n')
    items = list(Corpus([tmp_path / "a.jsonl"], on_error="skip"))
    assert [isinstance(item, Reject) for item in items] == [False, True, True, True]


@pytest.mark.parametrize("name", ["a.conll", "a.jsonl"])
def test_a_number_of_too_many_digits(tmp_path, name):
    digits = "9" * 5000
    row = "\t".join([digits, "a", "a", "X", "_", "_", "0", "_", "_", "_"])
    content = f'{{"text": "a", "spans": [{digits}]}}\n' if name.endswith("jsonl") else f"{row}\n" * 3
    (tmp_path / name).write_text(content)
    with pytest.raises(CorpusError, match=rf"^{name}"):
        Corpus([tmp_path / name]).survey()


def test_a_block_without_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr("nuner_embed.corpora.sentences.SENTENCE_LINES", 6000)
    (tmp_path / "a.conll").write_text("a\tO\n" * 10 + "\n" + "a\tO\n" * 20_000 + "\nb\tO\n")
    found = list(Corpus([tmp_path / "a.conll"], on_error="skip"))
    assert [getattr(item, "text", None) and item.text[:3] for item in found if not isinstance(item, Reject)] == [
        "a a",
        "b",
    ]
    (reject,) = [item for item in found if isinstance(item, Reject)]
    assert (reject.line, reject.reason[:29]) == (12, "the block from this line on h")


def test_a_line_of_a_million_fields():
    assert len(split_line("\t" * 1_000_000, "\t")) == LINE_FIELDS + 1
    assert len(split_line("é " * 1_000_000, None)) == LINE_FIELDS + 1


def test_twenty_thousand_spans_of_twenty_thousand_words():
    words = [(2 * i, 2 * i + 1) for i in range(20_000)]
    text = len(words) * 2
    cases = [
        [Span(*word, "x") for word in words],
        [Span(0, text, "x")] * 20_000,
        [Span(text - 2, text - 1, "x"), *[Span(0, text, "x")] * 20_000],
        [Span(2 * i, text, "x") for i in reversed(range(20_000))],
    ]
    began = time.process_time()
    tags = [spans_to_tags(spans, words) for spans in cases]
    find_counting([(cases[0], words)], "spans")
    assert time.process_time() - began < 2
    assert [sum(tag != "O" for tag in found) for found in tags] == [20_000, 20_000, 1, 1]


@pytest.mark.parametrize("seed", range(20))
def test_spans_to_tags_is_what_it_was(seed):
    """Beside the plain way, which looks at every word for every span."""
    import random

    random.seed(seed)
    words = [(3 * i, 3 * i + random.randint(1, 3)) for i in range(12)]
    if seed % 4 == 0:
        random.shuffle(words)
    spans = [Span(start := random.randint(0, 34), start + random.randint(1, 9), random.choice("ab")) for _ in range(9)]
    expected = ["O"] * len(words)
    for span in spans:
        inside = [i for i, (start, end) in enumerate(words) if start < span.end and end > span.start]
        if inside and all(expected[i] == "O" for i in inside):
            for place, i in enumerate(inside):
                expected[i] = f"{'I' if place else 'B'}-{span.label}"
    assert spans_to_tags(spans, words) == expected


def test_a_block_of_twenty_thousand_words(tmp_path):
    (tmp_path / "a.conll").write_text("".join(f"w{i}\t{'OBI'[i % 3]}{'-x' if i % 3 else ''}\n" for i in range(20_000)))
    began = time.process_time()
    (document,) = Corpus([tmp_path / "a.conll"])
    assert (len(document.words), len(document.spans)) == (20_000, 6_667)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("text", ["[" * 100_000, "[[" * 50_000 + "]]", "[[a]]" * 20_000, "]]" * 50_000])
def test_brackets_without_number(text):
    began = time.process_time()
    with contextlib.suppress(ValueError):
        unmark(text, labelled=True)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "value",
    [
        "a'b", "x" * 100, 3, None, [], {}, (), (1,), [1, "a"], {"a": [1, {"b": None}]}, list(range(100)), b"\xff",
        {"k" * 70: 1}, ["\x1b\u202e"], [[["a"] * 30] * 30] * 30,
    ],
)  # fmt: skip
def test_shown_is_the_beginning_of_repr(value):
    whole = repr(value)
    assert shown(value) == (whole if len(whole) <= 60 else whole[:57] + "...")


def test_shown_of_what_is_large_and_deep():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert len(shown(deep)) <= 60
    assert len(shown([["x"] * 1_000_000] * 10)) == 60


def test_a_dictionary_that_stands_for_gigabytes(tmp_path, monkeypatch):
    """A kilobyte of a file: one value of 4 MiB, and 100,000 rows that have it."""
    monkeypatch.setattr("nuner_embed.corpora.parquet.PARQUET_BATCH_BYTES", 16 * MIB)
    value = "x" * (4 * MIB)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array([value]))
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": column}), path, compression="zstd", dictionary_pagesize_limit=1 << 30)
    assert path.stat().st_size < 10_000
    before = pa.total_allocated_bytes()
    documents = Corpus([path])._read()
    assert len(next(documents).text) == len(value)
    assert pa.total_allocated_bytes() - before < 40 * MIB
    documents.close()


def test_a_parquet_file_that_promises_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr("nuner_embed.corpora.parquet.PARQUET_VALUES", 100)
    pq.write_table(pa.table({"text": ["a"] * 101}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match="column 'text' has 101 values in one row group, at most 100 are read"):
        Corpus([tmp_path / "a.parquet"]).survey()


def test_a_packed_parquet_file_that_unpacks_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr("nuner_embed.corpora.parquet.UNPACKED_MIB", 1)
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(bytes(3 * MIB)))
    with pytest.raises(CorpusError, match=r"a\.parquet\.gz: unpacks to more than 1 MiB"):
        Corpus([tmp_path / "a.parquet.gz"]).survey()


def test_standard_input_has_no_name_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")))
    with Corpus(["-"]) as corpus:
        if Path("/proc/self/fd").is_dir():
            assert list(tmp_path.iterdir()) == []
        assert [[document.text for document in corpus] for _ in range(2)] == [["one", "two"]] * 2


def test_file_names_are_escaped(tmp_path):
    path = tmp_path / "a\x1b[31m\u202e.jsonl"
    path.write_text(json.dumps({"text": 3}))
    with pytest.raises(CorpusError) as error:
        Corpus([path]).survey()
    assert str(error.value).startswith(r"a\x1b[31m\u202e.jsonl:1: ")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_no_file_is_to_blame_for_is_no_bad_record(tmp_path, monkeypatch, name, number):
    """With on_error="skip" a file that could not be opened for want of descriptors would be left out."""
    (tmp_path / name).write_bytes(b"x")
    corpus = Corpus([tmp_path / name], on_error="skip")

    def fail(*arguments, **options):
        raise OSError(number, "too many", str(tmp_path / name))

    monkeypatch.setattr(pq, "ParquetFile", fail)
    monkeypatch.setattr(gzip, "open", fail)
    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError, match="too many") as raised:
        list(corpus)
    assert raised.value.errno == number
