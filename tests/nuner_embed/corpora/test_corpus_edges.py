"""What real files do to a reader: odd tags, odd names, pipes, broken bytes, interruptions."""

import gc
import gzip
import io
import json
import os
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nuner_embed import Document, Span
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.corpora.records import Reject
from nuner_embed.errors import CorpusError


def read(*paths, **options):
    with Corpus(list(paths), **options) as corpus:
        return list(corpus)


def labels(documents):
    return [span.label for document in documents for span in document.spans]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def zstd(data):
    return pa.compress(data, codec="zstd", asbytes=True)


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_compressed_data_cut_at_any_byte_is_noticed(tmp_path, kind):
    full = {"gz": gzip.compress, "zst": zstd}[kind](b"the ferry left at seven\n" * 3)
    path = tmp_path / f"c.txt.{kind}"
    assert len(read(write(path, full))) == 3
    for length in range(len(full)):
        with pytest.raises(CorpusError, match="the file is empty|ends early|not valid"):
            read(write(path, full[:length]))


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_several_compressed_parts_are_one_file(tmp_path, kind):
    compress = {"gz": gzip.compress, "zst": zstd}[kind]
    path = write(tmp_path / f"c.txt.{kind}", compress(b"one\ntw") + compress(b"o\n"))
    assert [document.text for document in read(path)] == ["one", "two"]
    with pytest.raises(CorpusError, match="not valid"):
        read(write(path, compress(b"one\n") + b"garbage"))


def test_plain_tags_that_come_late_keep_their_labels(tmp_path):
    path = write(tmp_path / "c.tsv", "a\tO\n\n" * 2100 + "b\tlocation-GPE\n\nc\tart\n")
    assert labels(read(path)) == ["location-GPE", "art"]


def test_prefixed_tags_that_come_late(tmp_path):
    path = write(tmp_path / "c.tsv", "a\tO\n\n" * 2100 + "b\tB-x\nc\tI-x\n")
    assert read(path)[-1].spans == (Span(0, 3, "x"),)


@pytest.mark.parametrize("tag", ["person", "X", "B-", ""])
@pytest.mark.parametrize("before", [1, 2500])
def test_an_odd_tag_is_an_error_and_no_other_scheme(tmp_path, tag, before):
    path = write(tmp_path / "c.tsv", "a\tB-x\n\n" * before + f"b\tO\nc\t{tag}\n\nd\tB-y\n")
    with pytest.raises(CorpusError, match=rf"c.tsv:{2 * before + 2}: expected O or a tag such as B-x .* '{tag}'"):
        read(path)
    items = read(path, on_error="skip")
    assert [type(item) for item in items[-3:]] == [Document, Reject, Document]
    assert labels([items[0], items[-1]]) == ["x", "y"]


def test_a_plain_tag_that_is_missing(tmp_path):
    path = write(tmp_path / "c.tsv", "a\tperson\nb\t\n\nc\tO\n")
    with pytest.raises(CorpusError, match="c.tsv:2: expected O or a type, found ''"):
        read(path)


def test_blanks_after_a_tag_are_none_of_it(tmp_path):
    assert read(write(tmp_path / "c.tsv", "a\tB-x \nb\tO \n")) == [
        Document("c.tsv:1", "a b", ((0, 1), (2, 3)), (Span(0, 1, "x"),))
    ]


def test_a_word_with_a_no_break_space_is_one_word(tmp_path):
    (document,) = read(write(tmp_path / "c.conll", "in O\n10\u00a0000 B-n\nyears O\n"))
    assert (document.text, labels([document])) == ("in 10\u00a0000 years", ["n"])


@pytest.mark.parametrize("start", ["-DOCSTART- O", "O -DOCSTART-", "-DOCSTART-\tO", "O\t-DOCSTART-"])
def test_document_starts_are_no_words(tmp_path, start):
    separator = "\t" if "\t" in start else " "
    lines = ("O{}a\nB-x{}b\n" if start.startswith("O") else "a{}O\nb{}B-x\n").format(separator, separator)
    (document,) = read(write(tmp_path / "c.conll", f"{start}\n\n{lines}"))
    assert document.text == "a b"


def test_a_label_or_score_that_no_store_can_hold(tmp_path):
    for key, value, reason in (("label", "\ud800", "lone surrogate"), ("score", 10**400, "64-bit float")):
        record = {"text": "a", "spans": [{"start": 0, "end": 1, key: value}]}
        with pytest.raises(CorpusError, match=rf"c.jsonl:1: a span's \"{key}\" .*{reason}"):
            read(write(tmp_path / "c.jsonl", json.dumps(record)))


def test_a_json_array_over_several_lines_says_what_is_wanted(tmp_path):
    with pytest.raises(CorpusError, match="c.jsonl:1: broken JSON at character .*each line must be one whole object"):
        read(write(tmp_path / "c.jsonl", '[\n{"text": "a"}\n]\n'))


def test_parquet_rows_that_are_no_utf8(tmp_path):
    pq.write_table(pa.table({"text": pa.array([b"a", b"\xff", b"c"]).view(pa.string())}), tmp_path / "c.parquet")
    with pytest.raises(CorpusError, match="c.parquet:2: row 2: not valid UTF-8"):
        read(tmp_path / "c.parquet")
    items = read(tmp_path / "c.parquet", on_error="skip")
    assert [item.where if isinstance(item, Reject) else item.text for item in items] == ["a", "c.parquet:2", "c"]


@pytest.mark.parametrize("column", ["id", "spans", "tokens"])
def test_a_parquet_text_column_may_have_another_keys_name(tmp_path, column):
    pq.write_table(pa.table({column: ["a", "b"]}), tmp_path / "c.parquet")
    documents = read(tmp_path / "c.parquet", text_column=column)
    assert documents == [Document("c.parquet:1", "a"), Document("c.parquet:2", "b")]


def test_one_parquet_column_as_text_and_id(tmp_path):
    pq.write_table(pa.table({"w": ["a", "b"]}), tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet", text_column="w", id_column="w") == [Document("a", "a"), Document("b", "b")]


def test_a_parquet_file_of_many_columns_does_not_flood_the_message(tmp_path):
    pq.write_table(pa.table({f"column{i}": [1] for i in range(500)}), tmp_path / "c.parquet")
    with pytest.raises(CorpusError, match="and 480 more; use --text-column"):
        read(tmp_path / "c.parquet")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_not_read_twice(tmp_path):
    os.mkfifo(tmp_path / "c.txt")
    with pytest.raises(CorpusError, match=r"c.txt: not a regular file, .* say - instead"):
        Corpus([tmp_path / "c.txt"])


def test_a_file_name_that_is_no_utf8(tmp_path):
    try:
        path = write(tmp_path / os.fsdecode(b"n\xff.txt"), "x\n")
    except OSError:
        pytest.skip("this file system takes no such names")
    for argument in (path, tmp_path):
        with pytest.raises(CorpusError, match=r"n\\xff.txt: the file's name is not valid UTF-8"):
            Corpus([argument])


@pytest.mark.parametrize("argument", ["", "word " * 2000, "~nobody-of-this-name/c.txt"])
def test_arguments_that_are_no_paths(argument):
    with pytest.raises(CorpusError, match="cannot be read|no such file"):
        Corpus([argument])


def test_a_file_whose_name_begins_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "~draft.txt", "x\n")
    assert read("~draft.txt") == [Document("~draft.txt:1", "x")]


def test_what_lies_below_an_excluded_directory(tmp_path):
    write(tmp_path / "out" / "sub" / "c.txt", "x\n")
    with pytest.raises(CorpusError, match="no corpus in this directory"):
        Corpus([tmp_path / "out" / "sub"], exclude=[tmp_path / "out"])


def test_a_store_says_that_it_is_none(tmp_path):
    for name in ("manifest.json", "journal.jsonl"):
        write(tmp_path / name, "{}")
    with pytest.raises(CorpusError, match="what lies in a store is left out"):
        Corpus([tmp_path])


def test_a_directory_that_cannot_be_listed_is_no_silent_loss(tmp_path, monkeypatch):
    write(tmp_path / "a.txt", "x\n")

    def walk(top, onerror):
        onerror(PermissionError(13, "Permission denied", f"{top}/locked"))
        return iter([(str(top), [], ["a.txt"])])

    monkeypatch.setattr(os, "walk", walk)
    with pytest.raises(CorpusError, match="locked: cannot be read: Permission denied"):
        Corpus([tmp_path])


def test_standard_input_leaves_nothing_behind(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\n")))
    corpus = Corpus(["-"])
    spool = corpus.files[0].path
    assert spool.exists()
    del corpus
    gc.collect()
    assert not spool.exists()


@pytest.mark.parametrize(
    ("error", "seen"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left on device"), CorpusError)]
)
def test_standard_input_that_breaks_off_leaves_nothing_behind(tmp_path, monkeypatch, error, seen):
    class Broken(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            raise error

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Broken())))
    with pytest.raises(seen):
        Corpus(["-"])
    assert list(Path(tmp_path).iterdir()) == []


def test_no_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CorpusError, match="there is no standard input"):
        Corpus(["-"])


@pytest.mark.parametrize("format_", ["jsonl", "conll"])
def test_standard_input_of_another_format(monkeypatch, format_):
    content = {"jsonl": b'{"text": "a b"}\n', "conll": b"a\tO\nb\tO\n"}[format_]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    (document,) = read("-", format=format_)
    assert (document.id, document.text) == ("-:1", "a b")


def test_the_survey_measures_annotated_texts(tmp_path):
    span = {"start": 0, "end": 1}
    records = [{"text": "ab", "spans": spans} for spans in ([], [span], [span, span])]
    survey = Corpus([write(tmp_path / "c.jsonl", "\n".join(map(json.dumps, records)))]).survey()
    assert (survey.characters, survey.spans, survey.annotated_characters) == (6, 3, 4)


def test_duplicates_within_one_file_and_in_the_survey(tmp_path):
    path = write(tmp_path / "c.jsonl", '{"id": 1, "text": "a"}\n\n{"id": "1", "text": "b"}\n')
    with pytest.raises(CorpusError, match=r"c.jsonl:3: duplicate id '1', first used at c.jsonl:1"):
        Corpus([path]).survey()
    with pytest.raises(CorpusError, match=r"c.jsonl:3"):
        read(path)
    survey = Corpus([path], on_error="skip").survey()
    assert (survey.documents, survey.rejects, survey.characters) == (1, 1, 1)
