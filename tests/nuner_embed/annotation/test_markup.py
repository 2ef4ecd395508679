"""What LLMs write beside their annotations: reasoning, heads, tables, markup."""

import pytest

from nuner_embed.annotation.alignment import align
from nuner_embed.annotation.parser import bare, layers, parse_reply
from nuner_embed.annotation.replies import Reply, annotated
from nuner_embed.annotation.report import AnnotationReport
from nuner_embed.documents import Span

TEXT = "from Kiel to Oslo"
THOUGHT = "The text has Kiel.\nKiel <> harbour\nOslo <> concept\n"
ANSWER = "Kiel <> city\nOslo <> capital"


def entries(reply, **options):
    return [(entry.entity, entry.concept) for entry in parse_reply(reply, **options).entries]


@pytest.mark.parametrize(
    "reply",
    [
        f"<think>{THOUGHT}</think>\n\n{ANSWER}",
        f"<think>\n{THOUGHT}</think>{ANSWER}",
        f"{THOUGHT}</think>\n{ANSWER}",  # the beginning stood in the prompt
        f"<THINKING>{THOUGHT}</THINKING>\n{ANSWER}",
        f'<reasoning effort="low">{THOUGHT}</reasoning>\n{ANSWER}',
        f"<think>a</think>\n<think>{THOUGHT}</think>\n{ANSWER}",
        f"<think>{THOUGHT}<think>again</think>{THOUGHT}</think>\n{ANSWER}",
        f"[THINK]{THOUGHT}[/THINK]{ANSWER}",
        f"◁think▷{THOUGHT}◁/think▷{ANSWER}",
        f"<seed:think>{THOUGHT}</seed:think>{ANSWER}",
        f"<|START_THINKING|>{THOUGHT}<|END_THINKING|><|START_RESPONSE|>{ANSWER}<|END_RESPONSE|>",
        f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}<|return|>",
        f"<think>{THOUGHT}</think>\n<answer>{ANSWER}</answer>",
        f"<think></think>{ANSWER}<|im_end|>",
        f"<think>{THOUGHT}</think>\n{ANSWER}\n<think>{THOUGHT}",
        ["<think>", *THOUGHT.splitlines(), "</think>", *ANSWER.splitlines()],
    ],
)
def test_reasoning_is_no_annotation(reply):
    found = parse_reply(reply)
    assert [(entry.entity, entry.concept) for entry in found.entries] == [("Kiel", "city"), ("Oslo", "capital")]
    assert not found.drops


def test_a_reply_that_is_all_reasoning_leaves_the_sentence_out():
    report = AnnotationReport()
    replies = [
        Reply("a", TEXT, f"<think>{THOUGHT}", "length"),
        Reply("b", TEXT, f"<think>{THOUGHT}"),
        Reply("c", TEXT, f"<think>{THOUGHT}</think>"),
        Reply("d", TEXT, f"<think>{THOUGHT}</think>{ANSWER}"),
    ]
    assert [document.id for document in annotated(replies, report)] == ["d"]
    assert report.dropped_sentences == {"reply that ends within its reasoning": 2, "reply without an annotation": 1}
    assert report.concepts == {"city": 1, "capital": 1}


def test_texts_about_such_marks():
    assert entries("<think> <> html tag\n</think> <> end tag\nKiel <> city") == [
        ("<think>", "html tag"),
        ("</think>", "end tag"),
        ("Kiel", "city"),
    ]


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS", "content_filter", "SAFETY"])
def test_the_last_line_of_a_reply_that_was_cut(finish):
    report = AnnotationReport()
    (document,) = annotated([Reply("a", TEXT, "Kiel <> city\nOslo <> cap", finish)], report)
    assert document.spans == (Span(5, 9, "city"),)
    assert report.dropped_annotations == {"last line of a reply that was cut short": 1}


def test_reasoning_and_a_cut():
    assert entries(f"<think>{THOUGHT}</think>Kiel <> city\nOslo <> cap", cut=True) == [("Kiel", "city")]
    assert entries("Kiel <> city\n<think>Oslo <> cap", cut=True) == [("Kiel", "city")]


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("Here are the entities:", "line without <>"),
        ("**Entities:**", "line without <>"),
        ("### Annotations", "line without <>"),
        ("Entity <> Concept", "line that repeats the format"),
        ("**Entity** <> **Concept** <> **Description**", "line that repeats the format"),
        ("Entity <> Type <> Description", "line that repeats the format"),
        ("Mention <> Category", "line that repeats the format"),
        ("Here is the list (entity <> concept <> description):", "line that repeats the format"),
        ("Annotations, in the form entity <> concept:", "line that repeats the format"),
        ("1. Entity <> concept", "line that repeats the format"),
    ],
)
def test_heads(head, reason):
    found = parse_reply(f"{head}\n\n{ANSWER}")
    assert [(entry.entity, entry.concept) for entry in found.entries] == [("Kiel", "city"), ("Oslo", "capital")]
    assert found.drops == {reason: 1}


def test_what_is_a_head_at_the_top_is_none_below():
    assert entries("Kiel <> city\nname <> label\nlegal entity <> legal concept")[1:] == [
        ("name", "label"),
        ("legal entity", "legal concept"),
    ]


@pytest.mark.parametrize(
    "table",
    [
        "| Entity | Concept | Description |\n|---|---|---|\n| Kiel | city | by the sea |\n| Oslo | capital | |",
        "| # | Entity | Concept |\n|:-:|:--|--:|\n| 1 | **Kiel** | city |\n| 2 | **Oslo** | capital |",
        "Entity | Concept\n--- | ---\nKiel | city\nOslo | capital",
        "```markdown\n| Entity <> Concept |\n|---|\n| Kiel <> city |\n| Oslo <> capital |\n```",
        "```\n| Kiel | `city` |\n| Oslo | capital |\n```",
    ],
)
def test_tables(table):
    found = align(TEXT, parse_reply(table).entries)
    assert found.spans == (Span(5, 9, "city"), Span(13, 17, "capital"))
    assert not found.drops


def test_a_pipe_in_a_cell():
    assert entries("| a\\|b | operator |") == [("a|b", "operator")]


@pytest.mark.parametrize(
    "written",
    [
        "+ Kiel", "◦ Kiel", "▪ Kiel", "· Kiel", "• Kiel", "– Kiel", "a. Kiel", "a) Kiel", "(1) Kiel", "[4] Kiel",
        "4: Kiel", "iv. Kiel", "1.) Kiel", "**1.** Kiel", "1\\. Kiel", "- [ ] Kiel", "- 2. **Kiel**", "> Kiel",
        "Entity: Kiel", "3. **Entity:** Kiel", '"Kiel"', "“Kiel”", "„Kiel“", "«Kiel»", "'Kiel'", "‘Kiel’", "「Kiel」",
        "[Kiel]", "(Kiel)", "{Kiel}", "<Kiel>", "`Kiel`", "``Kiel``", "*Kiel*", "**Kiel**", "***Kiel***", "__Kiel__",
        "_Kiel_", "~~Kiel~~", "Kiel:", "Kiel,", "**Kiel:**", '**"Kiel"**:', "Kiel**", '"Kiel', '"Kiel”', '["Kiel"].',
    ],
)  # fmt: skip
def test_markup_around_an_entity(written):
    assert align(TEXT, parse_reply(f"{written} <> city").entries).spans == (Span(5, 9, "city"),)


@pytest.mark.parametrize(
    "written",
    ["city.", "city,", '"city"', "“city”", "`city`", "*city*", "**city**", "[city]", "(city)", "<city>", "city**",
     "**city**.", "Concept: city", "**Concept:** city", "'city'", "city;"],
)  # fmt: skip
def test_markup_around_a_concept(written):
    assert entries(f"Kiel <> {written} <> by the sea") == [("Kiel", "city")]


@pytest.mark.parametrize(
    "concept",
    ["person (fictional)", "city in the U.S.", "children's book", "C++", "c#", "(a) and (b)", '"a" and "b"', '6" pipe'],
)
def test_what_belongs_to_a_concept_stays(concept):
    assert entries(f"Kiel <> {concept}") == [("Kiel", concept)]


@pytest.mark.parametrize("concept", ["-", "...", "**", "[]", '""'])
def test_a_concept_without_a_letter_is_none(concept):
    assert parse_reply(f"Kiel <> {concept}").drops == {"line without an entity or a concept": 1}


@pytest.mark.parametrize(
    ("text", "written", "place"),
    [
        ("by A. Miller, 1903", "A. Miller", (3, 12)),
        ("by A.\u00a0Miller, 1903", "A. Miller", (3, 12)),
        ("by Miller, 1903", "A. Miller", (3, 9)),
        ("version [4] of it", "[4]", (8, 11)),
        ("in the U.S. Navy", "U.S.", (7, 11)),
        ("it calls snake_case so", "snake\\_case", (9, 19)),
        ("Yahoo! paid", "Yahoo!", (0, 6)),
        ("Ferries – Kiel", "- Kiel", (10, 14)),
    ],
)
def test_what_the_text_holds_is_no_markup(text, written, place):
    (span,) = align(text, parse_reply(f"{written} <> x").entries).spans
    assert (span.start, span.end) == place


def test_a_reply_that_went_astray_takes_no_time():
    for mark in ("*", "[", '"', "<think>", "</think>", "(a) ", "|", "\\"):
        parse_reply(mark * 20_000 + " <> " + mark * 20_000)
    assert len(list(layers("[" * 50 + "Kiel" + "]" * 50))) < 20
    assert bare("***") == "***"
