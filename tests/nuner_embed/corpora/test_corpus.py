import gzip
import io
import json
import sys
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import SHARED_DATA
from hypothesis import given
from hypothesis import strategies as st

from nuner_embed import Document, Span
from nuner_embed.corpora import corpus as corpus_module
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.corpora.records import Reject
from nuner_embed.errors import CorpusError

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"))


def read(*paths, **options):
    with Corpus(list(paths), **options) as corpus:
        return list(corpus)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@given(
    texts=st.lists(TEXT.filter(lambda t: t.strip() and not t.endswith("\r")), min_size=1, max_size=8),
    crlf=st.booleans(),
)
def test_text_lines_read_back_exactly(tmp_path_factory, texts, crlf):
    end = b"\r\n" if crlf else b"\n"
    path = write(tmp_path_factory.mktemp("t") / "c.txt", b"".join(text.encode() + end for text in texts))
    # a byte order mark at the start of a line is none of the text
    expected = [text.lstrip("\ufeff") for text in texts]
    if all(text.strip() and not text.startswith(" ") and not text.startswith("\t") for text in expected):
        assert [document.text for document in read(path)] == expected


@given(texts=st.lists(TEXT, min_size=1, max_size=8), ascii_only=st.booleans())
def test_jsonl_reads_back_exactly(tmp_path_factory, texts, ascii_only):
    lines = [json.dumps({"text": text}, ensure_ascii=ascii_only) for text in texts]
    path = write(tmp_path_factory.mktemp("t") / "c.jsonl", "\n".join(lines))
    assert [document.text for document in read(path)] == texts


def test_text_lines_keep_what_is_odd_and_number_what_is_blank(tmp_path):
    path = write(tmp_path / "c.txt", "\ufeffa\tb \r\n\n  \nx\x00y\u2028z\x85\rw\n")
    assert read(path) == [Document("c.txt:1", "a\tb "), Document("c.txt:4", "x\x00y\u2028z\x85\rw")]


def test_jsonl_records(tmp_path):
    lines = [
        '{"id": "a", "text": "the ferry", "spans": [{"start": 4, "end": 9, "label": "ship", "score": 0.5}], "x": 1}',
        "",
        '{"id": 7, "tokens": ["the", "ferry"], "spans": [{"start": 0, "end": 3}]}',
        '{"text": ""}',
    ]
    assert read(write(tmp_path / "c.jsonl", "\n".join(lines))) == [
        Document("a", "the ferry", None, (Span(4, 9, "ship", 0.5),)),
        Document("7", "the ferry", ((0, 3), (4, 9)), (Span(0, 3),)),
        Document("c.jsonl:4", ""),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a"', "broken JSON at character"),
        ("[1]", 'expected an object with "text", found [1]'),
        ('{"id": "x"}', 'expected "text" or "tokens", found'),
        ('{"text": 5}', '"text" must be a string, not 5'),
        ('{"text": null}', '"text" must be a string, not None'),
        ('{"id": true, "text": "a"}', '"id" must be a string or a whole number, not True'),
        ('{"tokens": ["a", ""]}', '"tokens" must be a list of words'),
        ('{"tokens": "ab"}', '"tokens" must be a list of words'),
        ('{"text": "abc", "spans": {"x": 1}}', '"spans" must be a list'),
        ('{"text": "abc", "spans": [0, 1]}', "a span must be an object"),
        ('{"text": "abc", "spans": [{"start": 0, "end": true}]}', "whole numbers"),
        ('{"text": "abc", "spans": [{"start": 0.0, "end": 1}]}', "whole numbers"),
        ('{"text": "abc", "spans": [{"start": 1, "end": 9}]}', "must lie in the text's 3 characters"),
        ('{"text": "abc", "spans": [{"start": 0, "end": 1, "label": 3}]}', '"spans" holds numbers such as 3'),
        ('{"text": "abc", "spans": [{"start": 0, "end": 1, "label": 0.5}]}', '"label" must be a string'),
        ('{"text": "abc", "spans": [{"start": 0, "end": 1, "score": "1"}]}', '"score" must be a number'),
        ('{"text": "\\ud800"}', "lone surrogate"),
        ("[" * 100_000, ""),
    ],
)
def test_a_bad_record_names_its_line_or_is_skipped(tmp_path, line, reason):
    path = write(tmp_path / "c.jsonl", '{"text": "fine"}\n' * 16 + line + '\n{"text": "also fine"}\n')
    with pytest.raises(CorpusError) as caught:
        read(path)
    assert (caught.value.source, caught.value.line) == ("c.jsonl", 17)
    assert reason in caught.value.reason
    assert "\n" not in str(caught.value)
    items = read(path, on_error="skip")
    assert len(items) == 18
    assert isinstance(items[16], Reject)
    assert items[16].where == "c.jsonl:17"
    assert items[16].record == line[:2000]


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".txt.zst", ".TXT.GZ"])
def test_bytes_that_are_no_utf8(tmp_path, suffix):
    path = tmp_path / f"c{suffix}"
    compress(path, b"fine\nbad \xff\xfe\nalso fine\n")
    with pytest.raises(CorpusError, match=r"c\.(txt|TXT).*:2: not valid UTF-8 at byte 5 of the line"):
        read(path)
    assert [type(item).__name__ for item in read(path, on_error="skip")] == ["Document", "Reject", "Document"]


def compress(path, data):
    if path.suffix.lower() == ".gz":
        path.write_bytes(gzip.compress(data))
    elif path.suffix.lower() == ".zst":
        path.write_bytes(pa.compress(data, codec="zstd", asbytes=True))
    else:
        path.write_bytes(data)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.99])
def test_truncated_compression_is_noticed(tmp_path, suffix, share):
    path = tmp_path / f"c.txt{suffix}"
    compress(path, "".join(f"line {i * 7919 % 1000} of many\n" for i in range(3000)).encode())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CorpusError, match="ends early|not valid"):
        read(path)
    write(tmp_path / "d.txt", "fine\n")
    items = read(path, tmp_path / "d.txt", on_error="skip")
    assert items[-1] == Document("d.txt:1", "fine")
    assert [item.line for item in items if isinstance(item, Reject)] == [None]


def test_what_is_not_compressed_at_all(tmp_path):
    for name in ("c.txt.gz", "c.txt.zst"):
        with pytest.raises(CorpusError, match="not valid"):
            read(write(tmp_path / name, "plain"))


CONLL = "-DOCSTART- O\n\nThe O\nPort B-harbour\nEllery I-harbour\n\nferry O\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.conll", CONLL),
        ("c.bio", CONLL.replace(" ", "\t")),
        ("c.tsv", "\n".join("\t".join(reversed(line.split(" "))) for line in CONLL.splitlines())),
        ("c.iob", CONLL.replace(" ", " X Y ")),
        ("c.conll", CONLL.replace("B-", "").replace("I-", "")),
        ("c.conll", "# id = 1 of many words\n" + CONLL),
    ],
)
def test_conll_columns_are_found_by_looking(tmp_path, name, content):
    first, second = read(write(tmp_path / name, content))
    assert first.text == "The Port Ellery"
    assert first.words == ((0, 3), (4, 8), (9, 15))
    assert first.spans == (Span(4, 15, "harbour"),)
    assert (second.text, second.spans) == ("ferry", ())
    assert first.id == f"{name}:{4 if content.startswith('#') else 3}"


def test_words_without_tags(tmp_path):
    assert read(write(tmp_path / "c.conll", "The\nferry\n\nleft\n")) == [
        Document("c.conll:1", "The ferry", ((0, 3), (4, 9))),
        Document("c.conll:4", "left", ((0, 4),)),
    ]


def test_a_conll_line_that_does_not_fit(tmp_path):
    path = write(tmp_path / "c.conll", "a\tO\nb\tO\n\nc\tO\nd\n\n\tO\n\ne\tO\n")
    items = read(path, on_error="skip")
    assert [item.where if isinstance(item, Reject) else item.text for item in items] == [
        "a b",
        "c.conll:5",
        "c.conll:7",
        "e",
    ]
    assert "expected 2 tab-separated fields with a word in field 1" in items[1].reason


def test_parquet(tmp_path):
    spans = [[{"start": 0, "end": 3, "label": "x"}], None]
    table = pa.table({"text": ["the ferry", "left"], "id": [1, 2], "spans": spans, "other": [1.0, 2.0]})
    pq.write_table(table, tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet") == [Document("1", "the ferry", None, (Span(0, 3, "x"),)), Document("2", "left")]
    (tmp_path / "c.parquet.gz").write_bytes(gzip.compress((tmp_path / "c.parquet").read_bytes()))
    assert read(tmp_path / "c.parquet.gz") == read(tmp_path / "c.parquet")
    pq.write_table(pa.table({"body": ["a", None, "c"], "key": ["x", "y", "z"]}), tmp_path / "d.parquet")
    with pytest.raises(CorpusError, match="d.parquet: no column 'text'; it has body, key; use --text-column"):
        read(tmp_path / "d.parquet")
    with pytest.raises(CorpusError, match="no column 'nr'"):
        read(tmp_path / "d.parquet", text_column="body", id_column="nr")
    with pytest.raises(CorpusError, match=r"d.parquet:2: row 2: \"text\" must be a string, not None"):
        read(tmp_path / "d.parquet", text_column="body")
    kept = read(tmp_path / "d.parquet", text_column="body", id_column="key", on_error="skip")
    assert [item.id for item in kept if isinstance(item, Document)] == ["x", "z"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 this is no Parquet file PAR1"])
def test_what_is_no_parquet(tmp_path, content):
    with pytest.raises(CorpusError, match="not a readable Parquet file"):
        read(write(tmp_path / "c.parquet", content))


def test_a_directory_means_every_corpus_in_it(tmp_path):
    for name in ("b/two.txt", "a.jsonl", "b/.hidden.txt", ".git/x.txt", "readme.md", "store/c.jsonl", "out/d.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"text": "x"}\n')
    for name in ("manifest.json", "journal.jsonl"):
        (tmp_path / "store" / name).write_text("{}")
    assert [item.id for item in read(tmp_path, exclude=[tmp_path / "out"])] == ["a.jsonl:1", "b/two.txt:1"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.txt", "no such file"),
        ("what.xyz", "unknown suffix; known are .txt"),
        ("folder", "no corpus in this directory"),
    ],
)
def test_paths_that_lead_nowhere(tmp_path, name, message):
    (tmp_path / "what.xyz").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CorpusError, match=message):
        Corpus([tmp_path / name])
    assert Corpus([tmp_path / "what.xyz"], format="txt").survey().documents == 1


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_corpus_without_documents(tmp_path, content):
    with pytest.raises(CorpusError, match=r"c.txt: the corpus holds no documents"):
        read(write(tmp_path / "c.txt", content))
    write(tmp_path / "c.jsonl", "5\n")
    with pytest.raises(CorpusError, match="no documents, only 1 records that were rejected"):
        read(tmp_path / "c.jsonl", on_error="skip")


def test_duplicate_ids(tmp_path):
    a = write(tmp_path / "a.jsonl", '{"id": "x", "text": "1"}\n{"id": "y", "text": "2"}\n')
    b = write(tmp_path / "b.jsonl", '{"id": "z", "text": "3"}\n{"id": "y", "text": "4"}\n')
    with pytest.raises(CorpusError, match=r"b.jsonl:2: duplicate id 'y', first used at a.jsonl:2"):
        read(a, b)
    with Corpus([a, b], on_error="skip") as corpus:
        survey = corpus.survey()
        assert (survey.documents, survey.rejects) == (3, 1)
        for _ in range(2):
            assert [i.text if isinstance(i, Document) else i.where for i in corpus] == ["1", "2", "3", "b.jsonl:2"]


def test_a_file_named_twice(tmp_path):
    path = write(tmp_path / "a.txt", "x\n")
    with pytest.raises(CorpusError, match=r"a.txt: the same file as a.txt, given before; name each file once"):
        read(path, path)
    with pytest.raises(CorpusError, match=r"a.txt: the same file as a.txt, given before; name each file once"):
        read(tmp_path, path)
    (tmp_path / "sub").mkdir()
    inner = write(tmp_path / "sub" / "b.txt", "x\n")
    with pytest.raises(CorpusError, match=r"b.txt: the same file as sub/b.txt, given before; name each file once"):
        read(tmp_path, inner)


def test_a_collision_of_hashes_is_no_duplicate(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "id_hash", lambda identity: 7)
    path = write(tmp_path / "a.txt", "x\ny\nz\n")
    assert [document.text for document in read(path)] == ["x", "y", "z"]
    with pytest.raises(CorpusError, match="duplicate"):
        read(path, write(tmp_path / "b.jsonl", '{"id": "a.txt:2", "text": "y"}'))


def test_the_survey(tmp_path):
    lines = (json.dumps({"text": "x" * (i % 5), "spans": []}) for i in range(5000))
    corpus = Corpus([write(tmp_path / "c.jsonl", "\n".join(lines))])
    survey = corpus.survey()
    assert (survey.documents, survey.characters, survey.spans, survey.rejects) == (5000, 10_000, 0, 0)
    lines = [int(document.id.split(":")[1]) for document in survey.sample]
    assert 256 <= len(lines) <= 512
    assert len({b - a for a, b in pairwise(lines)}) == 1
    assert corpus.survey() is survey
    assert list(corpus) == list(corpus)


def test_the_sample_of_long_documents_is_bounded_by_characters(tmp_path):
    path = write(tmp_path / "c.txt", ("y" * 100_000 + "\n") * 100)
    assert 1 <= len(Corpus([path]).survey().sample) <= 20


def test_the_content_hash_sees_everything(tmp_path):
    def sha256(line):
        return Corpus([write(tmp_path / "c.jsonl", line)]).survey().sha256

    lines = [
        '{"id": "a", "text": "bc"}', '{"id": "ab", "text": "c"}', '{"id": "a", "tokens": ["bc"]}',
        '{"id": "a", "text": "bc", "spans": [{"start": 0, "end": 1}]}',
        '{"id": "a", "text": "bc", "spans": [{"start": 0, "end": 1, "label": "x"}]}',
    ]  # fmt: skip
    assert len({sha256(line) for line in lines}) == len(lines)
    assert sha256(lines[0]) == sha256('{"text": "bc", "id": "a", "other": 1}')


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\n\ntwo\n")))
    with Corpus(["-"]) as corpus:
        assert corpus.from_stdin
        assert [document.id for document in corpus] == ["-:1", "-:3"]
        assert len(list(corpus)) == 2
        spool = corpus.files[0].path
        assert spool.exists()
    assert not spool.exists()
    with pytest.raises(CorpusError, match="cannot be combined with other files"):
        Corpus(["-", "x.txt"])


def test_arguments_that_make_no_sense():
    for options in ({"format": "csv"}, {"on_error": "ignore"}):
        with pytest.raises(ValueError, match="must be"):
            Corpus(["x"], **options)
    with pytest.raises(ValueError, match="at least one"):
        Corpus([])


@pytest.mark.skipif(not SHARED_DATA.exists(), reason=f"the data sets are not at {SHARED_DATA}")
@pytest.mark.parametrize(
    ("name", "sentences", "types"),
    [
        ("mit-movie/train.txt", 9775, 12),
        ("mit-movie/test.txt", 2443, 12),
        ("mit-restaurant/train.txt", 7660, 8),
        ("mit-restaurant/test.txt", 1521, 8),
        ("bionlp2004/train.tsv", 1739, 5),
        ("bionlp2004/test.tsv", 3856, 5),
        pytest.param("few-nerd-inter/dev.txt.gz", 18817, 13, marks=pytest.mark.slow),
        pytest.param("few-nerd-inter/test.txt.gz", 14007, 17, marks=pytest.mark.slow),
        ("crossner/ai/test.txt", 431, 14),
    ],
)
def test_real_sets_have_the_sentences_and_types_that_are_known_of_them(name, sentences, types):
    documents = read(SHARED_DATA / "typed" / name, format="conll")
    assert len(documents) == sentences
    assert len({span.label for document in documents for span in document.spans}) == types
