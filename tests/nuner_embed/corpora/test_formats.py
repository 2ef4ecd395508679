"""The contract of corpus formats: each of them is run through every test here."""

import gzip
import importlib
import io
import json
import re
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuner_embed import Corpus, Document, Span
from nuner_embed.corpora.base import FORMATS, SUFFIXES, WriteOptions
from nuner_embed.corpora.records import Reject
from nuner_embed.errors import CorpusError
from nuner_embed.tags import _SEVERAL

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

WORDS = [
    "Oslo", "ferry", "e\u0301te\u0301", "नमस्ते", "東京", "👩\u200d🚀", "🚢🚢", "#", "#1", "_", "-", "O", "B-x", "|", '"',
    "\\s", "\\", "1", "1-2", "it's", "a\u00a0b", "\u200d", "{}", "[", "]", ",", "\x1b", "a\u2028b", "x" * 300,
]  # fmt: skip
GAPS = ["", " ", " ", " ", "  ", "\n", "\t", "\r\n", "\u2003", "\u2028", " | ", "\\n"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCORES = st.none() | st.integers(0, 10_000).map(lambda score: score / 10_000)


@st.composite
def spans_anywhere(draw):
    """A text with spans at any characters: nested, overlapping, touching, with and without labels and scores."""
    text = "".join(draw(st.lists(st.sampled_from(WORDS + GAPS), max_size=8)))
    places = st.tuples(st.integers(0, max(len(text) - 1, 0)), st.integers(1, 9)).map(
        lambda place: (place[0], min(sum(place), len(text)))
    )
    spans = st.builds(lambda place, label, score: Span(*place, label, score), places, st.none() | TEXTS, SCORES)
    return Document(draw(TEXTS), text, spans=tuple(draw(st.lists(spans, max_size=4))) if text else ())


@st.composite
def tagged_words(draw, gaps, labels):
    """Words with gaps between and around them, runs of which are mentions, some touching."""
    text, words, spans = draw(gaps), [], []
    for length, label in draw(st.lists(st.tuples(st.integers(1, 3), st.none() | labels), min_size=1, max_size=5)):
        for _ in range(length):
            word = draw(st.sampled_from(WORDS))
            words.append((len(text), len(text) + len(word)))
            text += word + draw(gaps)
        if label is not None:
            spans.append(Span(words[-length][0], words[-1][1], label))
    return Document(draw(TEXTS), text, tuple(words), tuple(spans))


def by_word(document):
    """The words of a document, and its mentions by their first and last word."""
    starts = {start: i for i, (start, _) in enumerate(document.words)}
    ends = {end: i for i, (_, end) in enumerate(document.words)}
    words = [document.text[start:end] for start, end in document.words]
    return words, [(starts[span.start], ends[span.end], span.label) for span in document.spans]


TYPES = st.sampled_from(["city", "river port", "naïve/é", "B-cell", "x=y|z"])
ANY_TYPE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@dataclass(frozen=True)
class Case:
    """How a format is tried.

    Attributes:
        plain: makes a file of texts of one word.
        bad: makes of a plain file one whose second record is bad.
        number: of the bad record in messages.
        documents: that the format holds.
        held: of a document, what the format keeps.
    """

    plain: Callable[[list[str]], bytes]
    bad: Callable[[bytes], bytes]
    number: int = 2
    documents: st.SearchStrategy = None
    held: Callable = lambda document: document


def parquet_of(texts):
    file = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), file)
    return file.getvalue()


def lines(make):
    return lambda texts: "".join(make(text) for text in texts).encode()


CASES = {
    "txt": Case(lines("{}\n".format), lambda plain: plain.replace(b"Kiel", b"\xff")),
    "jsonl": Case(
        lines(lambda text: json.dumps({"text": text}) + "\n"), lambda plain: plain.replace(b'"Kiel"', b"7"),
        documents=spans_anywhere(),
    ),
    "conll": Case(
        lines("{}\tB-city\nit\tI-city\n\n".format), lambda plain: plain.replace(b"Kiel\t", b"Kiel"), number=4,
        documents=tagged_words(st.sampled_from([" ", "  ", "\n"]), TYPES), held=by_word,
    ),
    "conllu": Case(
        lines("# sent_id = 1\n1\t{}\t_\t_\t_\t_\t_\t_\t_\t_\n\n".format),
        lambda plain: plain.replace(b"Kiel\t", b"Kiel"), number=5,
        documents=tagged_words(st.sampled_from(GAPS), ANY_TYPE.filter(lambda one: not _SEVERAL.search(one))),
    ),
    "parquet": Case(parquet_of, lambda plain: parquet_of(["Oslo", None, "Bergen"])),
    "label-studio": Case(
        lambda texts: json.dumps([{"data": {"text": text}} for text in texts]).encode(),
        lambda plain: plain.replace(b'"Kiel"', b"7"), documents=spans_anywhere(),
    ),
}  # fmt: skip
WRITTEN = [name for name, one in FORMATS.items() if one.written]
PLACES = ["Oslo", "Kiel", "Bergen"]


# a file of such a format holds one document, whose text lies beside it: test_brat.py
@pytest.fixture(params=[name for name, one in FORMATS.items() if not one.beside])
def name(request):
    return request.param


def read(path, content, **options):
    path.write_bytes(content)
    with Corpus([path], **options) as corpus:
        return list(corpus)


def first_words(items):
    return [item.text.split()[0] for item in items]


def test_a_format_is_a_module_and_a_line_in_the_registry(name):
    one = FORMATS[name]
    module = importlib.import_module(f"nuner_embed.corpora.{name.replace('-', '_')}")
    assert name in CASES
    assert hasattr(module, "write") == bool(one.written) == (CASES[name].documents is not None)
    assert all(SUFFIXES[suffix] is one for suffix in one.suffixes)
    assert one.read is module.read


def test_every_suffix_plain_and_compressed(tmp_path, name):
    content = CASES[name].plain(PLACES)
    for suffix in FORMATS[name].suffixes:
        for ending, pack in {"": bytes, ".gz": gzip.compress, ".zst": zstd.compress, ".ZST": zstd.compress}.items():
            items = read(tmp_path / f"c{suffix.upper() if ending else suffix}{ending}", pack(content))
            assert first_words(items) == PLACES
    assert first_words(read(tmp_path / "c.xyz", content, format=name)) == PLACES


def test_the_files_of_a_directory(tmp_path, name):
    (tmp_path / f"c{FORMATS[name].suffixes[0]}").write_bytes(CASES[name].plain(PLACES))
    assert first_words(Corpus([tmp_path], format=name)) == PLACES
    if FORMATS[name].in_directories:
        assert first_words(Corpus([tmp_path])) == PLACES
    else:
        with pytest.raises(CorpusError, match=f"no corpus in this directory; .* with --format {name}"):
            Corpus([tmp_path])


def test_standard_input(monkeypatch, name):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(CASES[name].plain(PLACES))))
    with Corpus(["-"], format=name) as corpus:
        assert first_words(corpus) == PLACES
        assert next(item.id for item in corpus).startswith("-:")


def test_a_bad_record_names_file_and_line(tmp_path, name):
    case = CASES[name]
    path = tmp_path / f"c{FORMATS[name].suffixes[0]}"
    content = case.bad(case.plain(PLACES))
    with pytest.raises(CorpusError, match=rf"^{re.escape(path.name)}:{case.number}: ") as caught:
        read(path, content)
    assert "\n" not in str(caught.value)
    good, bad, last = read(path, content, on_error="skip")
    assert (bad.source, bad.line, type(bad)) == (path.name, case.number, Reject)
    assert bad.reason
    assert first_words([good, last]) == ["Oslo", "Bergen"]


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00", b"[", b"\x00" * 99])
@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_files_that_hold_nothing(tmp_path, name, content, on_error):
    path = tmp_path / f"c{FORMATS[name].suffixes[0]}"
    path.write_bytes(content)
    with Corpus([path], on_error=on_error) as corpus:
        if content.strip() and name in ("txt", "conll") and content[:1] != b"\xff":  # any letter is a text
            assert [item.text for item in corpus] == [content.decode()]
            return
        said = "not a readable Parquet file" if name == "parquet" and on_error == "fail" else "the corpus holds no docu"
        if content.strip() and on_error == "fail":
            said = ""
        with pytest.raises(CorpusError, match=rf"^c\.\w+:.*{said}") as caught:
            corpus.survey()
    assert "\n" not in str(caught.value)


def test_a_record_beyond_the_bound(tmp_path, name):
    long = "x" * 1_100_000
    content = CASES[name].plain(["Oslo", long])
    path = tmp_path / f"c{FORMATS[name].suffixes[0]}"
    assert first_words(read(path, content, max_line_mib=2)) == ["Oslo", long]
    if name == "parquet":  # whose bounds are its own
        return
    with pytest.raises(CorpusError, match=r"^c\.\w+:\d+: .*more than 1 MiB.*--max-line-mib"):
        read(path, content, max_line_mib=1)
    good, bad = read(path, content, max_line_mib=1, on_error="skip")
    assert (good.text.split()[0], type(bad)) == ("Oslo", Reject)


PINNED = Document("pinned", "New York sank", ((0, 3), (4, 8), (9, 13)), (Span(0, 8, "city"),))


@pytest.mark.parametrize("name", WRITTEN)
@settings(max_examples=40)
@given(data=st.data())
def test_what_is_written_reads_back(tmp_path_factory, name, data):
    case, one = CASES[name], FORMATS[name]
    drawn = data.draw(st.lists(case.documents, max_size=4, unique_by=lambda document: document.id))
    documents = [PINNED, *(document for document in drawn if document.id != PINNED.id)]
    if case.held(PINNED) == PINNED and name != "conllu":  # no place for words
        documents[0] = replace(PINNED, words=None)
    text = "".join(one.write(iter(documents), WriteOptions()))
    back = read(tmp_path_factory.mktemp("c") / f"c{one.suffixes[0]}", text.encode())
    assert [case.held(document) for document in back] == [case.held(document) for document in documents]


@pytest.mark.parametrize("name", WRITTEN)
@given(text=st.text(st.sampled_from("aé 😀👩\u200d🚀\u0301.-|\\\n\t"), max_size=12))
def test_texts_without_words_come_back_or_are_named(tmp_path_factory, name, text):
    one, left_out = FORMATS[name], []
    documents = [PINNED, Document("a", text)]
    written = "".join(one.write(documents, WriteOptions(left_out=left_out.append)))
    back = read(tmp_path_factory.mktemp("c") / f"c{one.suffixes[0]}", written.encode())
    assert len(back) + len(left_out) == 2
    assert left_out == [] or text.strip() == ""
    if not left_out:
        bare = lambda text: re.sub(r"\s", "", text)  # noqa: E731
        assert bare(back[1].text) == bare(text)
        assert name == "conll" or back[1].text == text


@pytest.mark.parametrize("name", WRITTEN)
def test_documents_are_written_as_they_come(name):
    """A writer holds no more than one document, so that any corpus can be written."""
    taken = []

    def documents():
        for i in range(5):
            taken.append(i)
            yield replace(PINNED, id=str(i))

    pieces = FORMATS[name].write(documents(), WriteOptions())
    assert next(piece for piece in pieces if "York" in piece)
    assert taken == [0]


def test_unicode_forms_are_left_alone(tmp_path):
    """The letters of the tests are decomposed, or these would show nothing."""
    assert unicodedata.normalize("NFC", WORDS[2]) != WORDS[2]
