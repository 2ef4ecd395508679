"""Replies to annotations, annotations to spans."""

import csv
import gzip
import json
import re

import pytest
from fakes import SHARED_DATA
from hypothesis import given
from hypothesis import strategies as st

from nuner_embed.annotation.alignment import align, find_words
from nuner_embed.annotation.instruction import Instruction
from nuner_embed.annotation.parser import Entry, parse_reply
from nuner_embed.annotation.replies import Reply, annotated, read_replies, write_annotated
from nuner_embed.annotation.report import AnnotationReport, frequency_figure, sample_mentions, write_review
from nuner_embed.documents import Document, Span
from nuner_embed.errors import AnnotationError, CorpusError
from nuner_embed.printable import cell

LLM_ANNOTATED = SHARED_DATA / "llm-annotated"


def parsed(reply, **options):
    return [(entry.entity, entry.concept, entry.description) for entry in parse_reply(reply, **options).entries]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Kiel <> city <> a town by the sea", ("Kiel", "city", "a town by the sea")),
        ("Kiel <> city", ("Kiel", "city", "")),
        ("Kiel<>city<>", ("Kiel", "city", "")),
        ("  Kiel  <>  baltic   city ", ("Kiel", "baltic city", "")),
        ("Kiel < city", ("Kiel", "city", "")),
        ("Kiel < city < a town", ("Kiel", "city", "a town")),
        ("Kiel < > city", ("Kiel", "city", "")),
        ("Kiel &lt;&gt; city", ("Kiel", "city", "")),
        ("Kiel \\<\\> city", ("Kiel", "city", "")),
        ("Kiel <> city <> here a <> b", ("Kiel", "city", "here a <> b")),
        ("Kiel <> city < a town", ("Kiel", "city", "a town")),
        ("p < 0.05 <> significance level", ("p < 0.05", "significance level", "")),
        ("p<0.05 <> significance level", ("p<0.05", "significance level", "")),
        ("| Kiel <> city |", ("Kiel", "city", "")),
    ],
)
def test_a_line(line, expected):
    assert parsed(line) == [expected]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Here are the annotations:", "line without <>"),
        ("<> city", "line without an entity or a concept"),
        ("Kiel <>", "line without an entity or a concept"),
        ("Kiel <>  <> a town", "line without an entity or a concept"),
        ("entity from the text <> entity concept <> description", "line that repeats the format"),
        ("Entity <> Concept <> Description", "line that repeats the format"),
    ],
)
def test_a_line_that_is_none(line, reason):
    found = parse_reply(f"Kiel <> city\n{line}\n\nOslo <> city")
    assert [entry.entity for entry in found.entries] == ["Kiel", "Oslo"]
    assert found.drops == {reason: 1}


def test_blank_lines_and_fences_are_nothing():
    found = parse_reply("```text\nKiel <> city\n\n   \n---\nOslo <> city\n```\n")
    assert [entry.entity for entry in found.entries] == ["Kiel", "Oslo"]
    assert not found.drops


@pytest.mark.parametrize(
    "written",
    ["1. Kiel", "12) Kiel", "- Kiel", "* Kiel", "• Kiel", "**Kiel**", '"Kiel"', "3. **Kiel**", "`Kiel`", "“Kiel”"],
)
def test_numbering_and_markup_are_forgiven(written):
    (entry,) = parse_reply(f"{written} <> city").entries
    assert align("from Kiel to Oslo", [entry]).spans == (Span(5, 9, "city"),)


def test_numbering_that_is_in_the_text_stays():
    (entry,) = parse_reply("1. FC Union <> football club").entries
    assert align("home of 1. FC Union", [entry]).spans == (Span(8, 19, "football club"),)


def test_a_runaway_line_takes_no_time():
    assert parsed("Kiel" + " " * 200_000 + "<> city") == [("Kiel", "city", "")]


@pytest.mark.parametrize("ended", [True, False])
def test_a_cut_reply(ended):
    found = parse_reply("Kiel <> city\nOslo <> ci" + "\n" * ended, cut=True)
    assert [entry.entity for entry in found.entries] == ["Kiel", "Oslo"][: 1 + ended]


@pytest.mark.parametrize(
    ("reply", "refused"),
    [
        ("I'm sorry, I can't do that.", True),
        ("As an AI, no.", True),
        ("", False),
        ("None.", False),
        ("I cannot <> x", False),
    ],
)
def test_refusals(reply, refused):
    assert parse_reply(reply).refused is refused


def test_every_whole_word_occurrence():
    text = "Rome, Romeo, ROME and Rome: Rome-born"
    entry = Entry("Rome", "city")
    assert [(s.start, s.end) for s in align(text, [entry]).spans] == [(0, 4), (22, 26), (28, 32)]
    assert [(s.start, s.end) for s in align(text, [entry], "first").spans] == [(0, 4)]


@pytest.mark.parametrize(
    ("text", "entity", "places"),
    [
        ("the C++ code", "C++", [(4, 7)]),
        ("in C++17", "C++", []),
        ("$5 or $50", "$5", [(0, 2)]),
        ("snake_case", "case", []),
        ("Go to Go-Go", "Go", [(0, 2), (6, 8), (9, 11)]),
        ("aaa aa", "aa", [(4, 6)]),
        ("नमस्ते", "नमस", []),  # a mark would be cut off
        ("東京に行く", "東京", [(0, 2)]),
        ("Sony製", "Sony", [(0, 4)]),
        ("製Sony", "Sony", [(1, 5)]),
        ("กรุงเทพ", "กร", []),
        ("เขาอยู่ที่กรุงเทพ", "กรุงเทพ", [(10, 17)]),
        ("दिल्ली", "ल्ली", []),
        ("é", "e", []),
        ("x", "", []),
        ("😀 smile 😀", "😀", [(0, 1), (8, 9)]),
    ],
)
def test_whole_words(text, entity, places):
    assert find_words(text, entity) == places


@given(st.text(alphabet="ab é-_.", max_size=30), st.text(alphabet="ab é-_.", min_size=1, max_size=4))
def test_what_is_found_is_there(text, entity):
    for start, end in find_words(text, entity):
        assert text[start:end] == entity


def test_overlaps_are_kept_duplicates_are_not_and_inventions_are_counted():
    entries = parse_reply("New York <> city\nYork <> town\nNew York <> city\nNew York <> place\nParis <> city").entries
    found = align("a New York minute", entries)
    assert found.spans == (Span(2, 10, "city"), Span(2, 10, "place"), Span(6, 10, "town"))
    assert found.drops == {"annotation given twice": 1, "entity that is not in the text": 1}


def convert(*replies, **options):
    report = AnnotationReport()
    records = [Reply(str(i), text, reply) for i, (text, reply) in enumerate(replies)]
    return list(annotated(records, report, **options)), report


def test_sentences_are_dropped_by_reason():
    documents, report = convert(
        ("Kiel", "Kiel <> city"),
        ("Kiel", "Kiel <> Concept\nKiel <> city"),
        ("Kiel", "nothing"),
        ("Kiel", "I am sorry"),
        ("Kiel", None),
        ("Kiel", "Oslo <> city"),
    )
    assert [document.id for document in documents] == ["0"]
    assert report.dropped_sentences == {
        'sentence with the concept "concept"': 1,
        "reply without an annotation": 1,
        "refusal": 1,
        "reply that cannot be read": 1,
        "sentence with none of its annotations in the text": 1,  # with no spans it would be learnt as all negative
    }
    assert (report.replies, report.sentences, report.mentions, report.lines) == (6, 1, 1, 1)


def test_the_report_counts_concepts():
    _, report = convert(("Kiel and Oslo", "Kiel <> city\nOslo <> city\nOslo <> capital"))
    facts = report.to_dict()
    assert facts["most_frequent"] == {"city": 2, "capital": 1}
    assert facts["some_of_the_rarest"] == ["capital"]
    assert (facts["unique_concepts"], facts["concepts_seen_once"]) == (2, 1)
    assert frequency_figure(report.concepts).startswith(b"\x89PNG")


def numind(path, rows):
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["input", "output"])
        writer.writerows(rows)
    return path


def test_rows_of_numind_nuner(tmp_path):
    rows = [
        ["Kiel, a\ncity", "['Kiel <> city', \"Kiel's <> x\"]"],
        ["Kiel", "['Kiel <> city <> by the sea']"],
        ["Kiel", "['Kiel < city']"],
        ["Kiel", "['Kiel <> city'"],
        ["Kiel", "[3]"],
        ["Kiel", "[{[]: 1}]"],
    ]
    report = AnnotationReport()
    documents = list(annotated(read_replies([numind(tmp_path / "entity.csv", rows)]), report))
    assert [len(document.spans) for document in documents] == [1, 1, 1]
    assert report.dropped_sentences == {"reply that cannot be read": 3}
    assert documents[0].id == "entity.csv:3"


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_replies_in_other_files(tmp_path, kind):
    records = [
        {"id": "a", "text": "Kiel", "reply": "Kiel <> city"},
        {"id": "b", "text": "Oslo", "reply": "Oslo <> city"},
    ]
    path = tmp_path / f"replies.{kind}"
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        path.write_bytes(gzip.compress(lines) if kind == "jsonl.gz" else lines)
    assert [(reply.id, reply.text, reply.reply) for reply in read_replies([path])] == [
        ("a", "Kiel", "Kiel <> city"),
        ("b", "Oslo", "Oslo <> city"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", '{"text": "a"}\n', r"x\.jsonl:1: expected a text .* found \[.text.\]"),
        ("x.jsonl", '{"text": "a", "reply": "b"}\n{"text"', r"x\.jsonl:2: broken JSON"),
        ("x.jsonl", "[1]\n", r"x\.jsonl:1: expected an object"),
        ("x.jsonl", '{"text": "\\ud800", "reply": "b"}\n', r"x\.jsonl:1: the text holds a lone surrogate"),
        ("x.txt", "a\n", r"x\.txt: holds no replies .* name it with --llm"),
        ("x.csv", "a,b\n1,2\n", r"x\.csv:2: expected a text"),
        ("x.parquet", "PAR", r"x\.parquet: not a readable Parquet"),
    ],
)
def test_what_holds_no_replies(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(CorpusError, match=message):
        list(read_replies([tmp_path / name]))


def test_a_reply_that_is_no_text_is_counted(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "a", "reply": "\\ud800 <> b"}\n{"text": "a", "reply": null}\n')
    assert [reply.reply for reply in read_replies([tmp_path / "x.jsonl"])] == [None, None]


def test_ids_stay_unique(tmp_path):
    write_annotated(tmp_path / "x.jsonl", [Document("a", "x"), Document("a", "y")])
    assert [json.loads(line)["id"] for line in (tmp_path / "x.jsonl").read_text().splitlines()] == ["a", "a#2"]


def test_an_instruction_needs_one_place_for_the_text(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("Label {text} please")
    assert Instruction.read(path).about("{text} x") == "Label {text} x please"
    path.write_text("Label it")
    with pytest.raises(AnnotationError, match=r"must hold \{text\} exactly once, .* found 0 times"):
        Instruction.read(path)
    with pytest.raises(AnnotationError, match="cannot be read: No such file"):
        Instruction.read(tmp_path / "none")


def test_the_sample_is_even_and_the_page_escapes(tmp_path):
    documents = [Document(str(i), f"w{i} <script>", spans=(Span(0, len(f"w{i}"), f"<b>{i}"),)) for i in range(40)]
    counts = [0] * 40
    for seed in range(400):
        sample = sample_mentions(documents, 10, seed)
        assert len({document.id for document, _ in sample}) == 10
        for document, _ in sample:
            counts[int(document.id)] += 1
    assert min(counts) > 60  # 100 expected, four standard deviations are 35
    assert max(counts) < 140
    write_review(tmp_path / "page.html", sample_mentions(documents, 3), "x<y")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<article") == 3
    assert "<b>1" not in page.replace("&lt;b&gt;", "")
    assert page.count("<script>") == 1


@pytest.mark.slow
@pytest.mark.skipif(not LLM_ANNOTATED.exists(), reason=f"{LLM_ANNOTATED} is not there")
def test_the_real_replies():
    """All of them, and what is beside them after somebody else's alignment, which was exact.

    Beyond it there are four spans, each of a mention that the text holds: three are found by folding (the LLM wrote a
    name in capitals, or with one, as it stands elsewhere in the text, glued to a word), one without the full stop after
    "Inc", to which the next word is glued.
    """
    report = AnnotationReport()
    found = list(annotated(read_replies([LLM_ANNOTATED / "replies.jsonl.gz"]), report))
    with gzip.open(LLM_ANNOTATED / "annotated.jsonl.gz", "rt") as stream:
        expected = [json.loads(line) for line in stream]
    assert [(d.id, d.text) for d in found] == [(record["id"], record["text"]) for record in expected]
    more = {}
    for document, record in zip(found, expected, strict=True):
        spans = [{"start": s.start, "end": s.end, "label": s.label} for s in document.spans]
        if spans != record["spans"]:
            (more[document.id],) = [span for span in spans if span not in record["spans"]]
            assert [span for span in spans if span in record["spans"]] == record["spans"]
    assert {name: (one["end"] - one["start"], one["label"]) for name, one in more.items()} == {
        "s03420": (19, "software category"),
        "t06089": (9, "forum username"),
        "u05235": (12, "game reward"),
        "u05922": (35, "appraisal company"),
    }
    assert report.folded == 3
    assert (report.mentions, len(report.concepts), report.once) == (114_002 + 4, 34_470 + 1, 22_122 + 1)


def test_the_csv_of_the_review_page_holds_no_formula(tmp_path):
    """The page guards the same cells as the command line; its expression means the same in Python."""
    write_review(tmp_path / "page.html", [], "x")
    (guard,) = re.findall(r"\(/(.*?)/\.test\(t\)\?\"'\":''\)", (tmp_path / "page.html").read_text())
    for text in ("=1+1", "  =1", "+1", "-1", "@x", "\t=1", "\r", "\n", "a=1", " a", "", "'=1", "1-2"):
        assert bool(re.match(guard, text)) == (cell(text) != text), text
