"""Mentions in double brackets, their labels behind a bar."""

import pytest

from nuner_embed.corpora.corpus import Corpus, read_annotated
from nuner_embed.errors import CorpusError


@pytest.mark.parametrize(
    ("line", "text", "mentions"),
    [
        ("A ferry to [[Oslo|city]].", "A ferry to Oslo.", [("Oslo", "city")]),
        ("[[Mara Quill|person]] saw [[Oslo | city ]]", "Mara Quill saw Oslo ",
         [("Mara Quill", "person"), ("Oslo", "city")]),
        ("a [[raft]] in [[Kiel|city]]", "a raft in Kiel", [("raft", None), ("Kiel", "city")]),
        ("[[a|b|c]] [d] 😀 [[é|f]]", "a|b [d] 😀 é", [("a|b", "c"), ("é", "f")]),
        ("no mention | at all", "no mention | at all", []),
    ],
)  # fmt: skip
def test_marks_become_spans(tmp_path, line, text, mentions):
    (tmp_path / "c.txt").write_text(f"[[Bergen|city]] first\n\n{line}\n", encoding="utf-8")
    _, document = read_annotated([tmp_path / "c.txt"])[0]
    assert (document.id, document.text) == ("c.txt:3", text)
    assert [(text[span.start : span.end], span.label) for span in document.spans] == mentions
    assert [one.text for one in Corpus([tmp_path / "c.txt"])] == ["[[Bergen|city]] first", line]


@pytest.mark.parametrize(
    "line", ["a [[Oslo|city] b", "a Oslo]] b", "[[|city]]", "[[Oslo|]]", "[[ ]]", "[[a [[b|c]] d]]", "[[a|b]] ]] c"]
)
def test_bad_marks_name_their_line(tmp_path, line):
    (tmp_path / "c.txt").write_text(f"[[Bergen|city]] first\n{line}\n")
    with pytest.raises(CorpusError, match=r"c\.txt:2: .* expected a text with its mentions marked as in 'A ferry to"):
        read_annotated([tmp_path / "c.txt"])


def test_a_text_without_marks_is_not_annotated(tmp_path):
    (tmp_path / "c.txt").write_text("A ferry to Oslo.\n")
    with pytest.raises(CorpusError, match=r"holds no annotated mention.*'A ferry to \[\[Oslo\|city\]\]'"):
        read_annotated([tmp_path / "c.txt"])
