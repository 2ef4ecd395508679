"""BRAT's standoff: a mention is read from the `.ann` file, its text from the `.txt` file of the same name."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuner_embed import Corpus, Document, Span
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.corpora.records import Reject
from nuner_embed.errors import CorpusError

TEXT = "Mara sailed to Port\nEllery, 😀 and on to Oslo.\n"
ANN = """T1\tperson 0 4\tMara
T2\tharbour 15 26\tPort Ellery
R1\tvisits Arg1:T1 Arg2:T2
E1\tsailing:T4
A1\tNegation E1
#1\tAnnotatorNotes T1\tthe captain
*\tEquiv T1 T2
T3\tcity 40 44\tOslo
"""
SPANS = (Span(0, 4, "person"), Span(15, 26, "harbour"), Span(40, 44, "city"))


def put(folder, name, text=TEXT, ann=ANN):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_bytes(text.encode())
    (folder / f"{name}.ann").write_bytes(ann.encode())
    return folder


def test_a_directory(tmp_path):
    put(tmp_path, "a")
    put(tmp_path / "below", "b", "Kiel", "")
    (tmp_path / "annotation.conf").write_text("[entities]\n")
    wanted = [Document("a", TEXT, spans=SPANS), Document("below/b", "Kiel")]
    assert list(Corpus(tmp_path)) == wanted
    assert list(Corpus(tmp_path, format="brat")) == wanted
    assert read_annotated(tmp_path)[0] == tuple(wanted)
    assert [document.text for document in Corpus(tmp_path, format="txt")][:2] != [TEXT, "Kiel"]  # a line each


def test_other_texts_of_the_directory_are_read_as_ever(tmp_path):
    put(tmp_path, "a")
    (tmp_path / "notes.txt").write_text("one\ntwo\n")
    assert [document.id for document in Corpus(tmp_path)] == ["a", "notes.txt:1", "notes.txt:2"]
    (tmp_path / "a.ann").unlink()
    assert next(document.id for document in Corpus(tmp_path)) == "a.txt:1"


def test_files_by_name_and_compressed(tmp_path):
    put(tmp_path, "a.b")
    assert list(Corpus(tmp_path / "a.b.ann")) == [Document("a.b", TEXT, spans=SPANS)]
    for suffix in ("txt", "ann"):
        plain = tmp_path / f"a.b.{suffix}"
        (tmp_path / f"a.b.{suffix}.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    assert list(Corpus(tmp_path)) == [Document("a.b", TEXT, spans=SPANS)]


def test_mentions_in_pieces_and_line_ends(tmp_path, caplog):
    put(tmp_path, "a", "left and\r\nright side", "T1\tside 0 4;15 19\tleft side\nT2\tside 10 20\tright side\n")
    with pytest.raises(CorpusError, match=r"a\.ann:1: 'left side' does not stand at 0 4;15 19 of the text, but 'left "):
        list(Corpus(tmp_path))
    put(tmp_path, "a", "left and\r\nright side", "T1\tside 0 4;16 20\tleft side\nT2\tside 10 20\tright side\n")
    (document,) = Corpus(tmp_path)
    assert document.spans == (Span(0, 20, "side"), Span(10, 20, "side"))
    assert "mentions in several pieces are read as one" in caplog.text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("T1 city 0 4 Mara", "a mention of BRAT is a line such as 'T1<tab>Label 0 4<tab>Oslo', not 'T1 city 0 4 Mara'"),
        ("T1\tcity 0 x\tMara", "a mention of BRAT is a line"),
        ("T1\tcity 4 4\t", "the offsets 4 4 must lie in the text's 46 characters, and not be empty"),
        ("T1\tcity 0 999\tMara", "the offsets 0 999 must lie"),
        ("T1\tcity 0 4\tMora", "'Mora' does not stand at 0 4 of the text, but 'Mara'"),
        ("T1\tcity 0 4\tM\ud800", "not valid UTF-8"),
    ],
)
def test_bad_lines(tmp_path, line, said):
    put(tmp_path, "a", ann="")
    (tmp_path / "a.ann").write_bytes(f"R1\tx\n{line}\n".encode("utf-8", "surrogatepass"))
    put(tmp_path, "b", "Kiel", "T1\tcity 0 4\tKiel\n")
    with pytest.raises(CorpusError) as caught:
        list(Corpus(tmp_path))
    assert str(caught.value).startswith(f"a.ann:2: {said}")
    bad, good = Corpus(tmp_path, on_error="skip")
    assert (type(bad), bad.line, good.id) == (Reject, 2, "b")


def test_the_text_is_missing_or_no_text(tmp_path):
    put(tmp_path, "a")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CorpusError, match=r"^a\.txt: not valid UTF-8 at byte 1; convert"):
        list(Corpus(tmp_path))
    (tmp_path / "a.txt").unlink()
    with pytest.raises(CorpusError, match=r"^a\.ann: the text of these mentions is missing: expected a\.txt beside it"):
        list(Corpus(tmp_path))
    put(tmp_path, "a", "x" * 1_100_000, "")
    with pytest.raises(CorpusError, match=r"^a\.txt:1: the text has more than 1 MiB; .*--max-line-mib"):
        list(Corpus(tmp_path, max_line_mib=1))


@settings(max_examples=40)
@given(ann=st.text(st.sampled_from("T1\t\n ;0549RaOslo😀"), max_size=40))
def test_any_file_is_read_or_refused(tmp_path_factory, ann):
    folder = put(tmp_path_factory.mktemp("brat"), "a", ann=ann)
    (item,) = Corpus(folder, on_error="skip")._read()
    assert isinstance(item, Document | Reject)
