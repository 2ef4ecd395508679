"""Annotations under the names and in the forms that tools and data sets give them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nuner_embed import Document, Span
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.corpora.records import Reject
from nuner_embed.errors import CorpusError

TEXT = "Mara sails to Port Ellery"
WORDS = TEXT.split()
PLACES = ((0, 4), (5, 10), (11, 13), (14, 18), (19, 25))
SPANS = (Span(0, 4, "person"), Span(14, 25, "harbour"))
TAGS = ["B-person", "O", "O", "B-harbour", "I-harbour"]
NAMES = ["O", "B-person", "I-person", "B-harbour", "I-harbour"]
NUMBERS = [NAMES.index(tag) for tag in TAGS]
TRIPLES = [[0, 4, "person"], [14, 25, "harbour"]]
OBJECTS = [{"start": 0, "end": 4, "label": "person"}, {"start": 14, "end": 25, "label": "harbour"}]
LISTS = {"start": [0, 14], "end": [4, 25], "label": ["person", "harbour"]}


def read(tmp_path, *records, **options):
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with Corpus(path, **options) as corpus:
        return list(corpus)


def read_parquet(tmp_path, table, **options):
    pq.write_table(table, tmp_path / "c.parquet")
    with Corpus(tmp_path / "c.parquet", **options) as corpus:
        return list(corpus)


def unread(caplog):
    return [record.getMessage().split(";")[0] for record in caplog.records]


@pytest.mark.parametrize(
    "annotation",
    [
        {"spans": OBJECTS},
        {"spans": TRIPLES},
        {"spans": LISTS},
        {"entities": OBJECTS},  # spaCy's, and many data sets'
        {"entities": TRIPLES},
        {"entities": LISTS},
        {"entities": [{"id": 7, "label": x, "start_offset": a, "end_offset": b} for a, b, x in TRIPLES]},  # doccano
        {"ents": OBJECTS, "tokens": [{"id": 0, "start": 0, "end": 4}]},  # what spaCy's Doc.to_json gives
        {"label": TRIPLES},  # doccano
        {"labels": TRIPLES},
        {"label": [{"start": a, "end": b, "text": TEXT[a:b], "labels": [x]} for a, b, x in TRIPLES]},  # Label Studio
        {"entities": [{"start": a, "end": b, "type": x} for a, b, x in TRIPLES]},
        {"entities": [{"start": a, "end": b, "entity_group": x, "word": TEXT[a:b]} for a, b, x in TRIPLES]},
        {
            "tokens": [{"text": TEXT[a:b], "start": a, "end": b, "id": i} for i, (a, b) in enumerate(PLACES)],
            "spans": [
                {**OBJECTS[0], "token_start": 0, "token_end": 0},
                {**OBJECTS[1], "token_start": 3, "token_end": 4},
            ],
            "answer": "accept",
        },  # prodigy
        {"spans": [], "entities": TRIPLES},
    ],
)
def test_spans_of_a_text(tmp_path, caplog, annotation):
    assert read(tmp_path, {"text": TEXT, **annotation}) == [Document("c.jsonl:1", TEXT, None, SPANS)]
    assert unread(caplog) == []


@pytest.mark.parametrize(
    ("annotation", "spans"),
    [
        ({"entities": [[0, 4]]}, (Span(0, 4),)),
        (
            {"label": [{"start": 0, "end": 4, "labels": ["person", "skipper"]}]},
            (Span(0, 4, "person"), Span(0, 4, "skipper")),
        ),
        ({"spans": {"start": [0], "end": [4], "label": ["a"], "score": [0.5]}}, (Span(0, 4, "a", 0.5),)),
        ({"spans": {}}, ()),
        ({"entities": {"start": [], "end": [], "label": []}}, ()),
    ],
)
def test_other_spans(tmp_path, annotation, spans):
    assert read(tmp_path, {"text": TEXT, **annotation})[0].spans == spans


@pytest.mark.parametrize("tokens", ["tokens", "words", "tokenized_text"])
@pytest.mark.parametrize("key", ["ner_tags", "tags", "labels", "ner", "label"])
def test_tags_of_tokens(tmp_path, caplog, tokens, key):
    expected = [Document("c.jsonl:1", TEXT, PLACES, SPANS)]
    assert read(tmp_path, {tokens: WORDS, key: TAGS}) == expected
    assert read(tmp_path, {tokens: WORDS, key: NUMBERS}, tag_names=NAMES) == expected
    assert unread(caplog) == []


def test_tags_of_entities_go_before_other_labels(tmp_path, caplog):
    record = {"tokens": WORDS, "labels": ["A0", "V", "O", "A1", "A1"], "ner_tags": TAGS}
    assert read(tmp_path, record)[0].spans == SPANS
    assert unread(caplog) == ["not read, although it looks like annotations: labels (c.jsonl:1)"]


def test_words_that_gliner_annotates(tmp_path):
    record = {"tokenized_text": WORDS, "ner": [[0, 0, "person"], [3, 4, "harbour"]]}
    assert read(tmp_path, record) == [Document("c.jsonl:1", TEXT, PLACES, SPANS)]
    with pytest.raises(CorpusError, match=r'"ner" counts tokens, here from 0 to 4; \[3, 5\] is not among them'):
        read(tmp_path, {"tokens": WORDS, "ner": [[3, 5, "x"]]})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([[0, 0, ["person"]], [3, 4, ["harbour"]]], [[4, 4, ["harbour"]]]),
        ([{"type": "person", "start": 0, "end": 1}, {"type": "harbour", "start": 3, "end": 5}],
         [{"type": "harbour", "start": 4, "end": 5}]),
        ([[0, 4, "person"], [14, 25, "harbour"]], [[20, 25, "harbour"]]),  # characters: one within a word
    ],
)  # fmt: skip
def test_what_spans_of_tokens_count_is_seen_from_the_file(tmp_path, first, second):
    documents = read(tmp_path, {"tokens": WORDS, "ents": first}, {"tokens": WORDS, "ents": second})
    assert documents[0] == Document("c.jsonl:1", TEXT, PLACES, SPANS)
    assert documents[1].spans[0].end == 25
    documents = read(tmp_path, {"tokens": WORDS, "ents": first}, {"text": TEXT, "ents": [[0, 4, "person"]]})
    assert documents[1].spans == SPANS[:1]  # beside a text, spans count its characters
    with pytest.raises(CorpusError, match=r'c.jsonl: "ents" seems to count tokens, but the end of a span may be'):
        read(tmp_path, {"tokens": WORDS, "ents": [[3, 4, "harbour"]]})


def test_tags_where_the_text_is_there_too(tmp_path):
    text = "Mara sails,\tto Port  Ellery"
    (document,) = read(
        tmp_path, {"text": text, "tokens": ["Mara", "sails", ",", *WORDS[2:]], "ner_tags": [*TAGS[:2], "O", *TAGS[2:]]}
    )
    assert (document.text, [text[a:b] for a, b in document.words]) == (
        text,
        ["Mara", "sails", ",", "to", "Port", "Ellery"],
    )
    assert [(text[span.start : span.end], span.label) for span in document.spans] == [
        ("Mara", "person"), ("Port  Ellery", "harbour")
    ]  # fmt: skip
    with pytest.raises(CorpusError, match=r'the tokens must stand in "text", one after the other; \'Nara\' does not'):
        read(tmp_path, {"text": text, "tokens": ["Nara"], "ner_tags": ["O"]})


def test_the_scheme_of_tags_is_that_of_the_file(tmp_path):
    plain = [{"tokens": ["a", "b"], "ner_tags": tags} for tags in (["O", "O"], ["B-cell", "O"], ["O", "T-cell"])]
    documents = read(tmp_path, *plain)
    assert [span.label for document in documents for span in document.spans] == ["B-cell", "T-cell"]
    late = [{"tokens": ["a"], "ner_tags": ["O"]}] * 250 + [{"tokens": ["a", "b"], "ner_tags": ["B", "I"]}]
    assert read(tmp_path, *late)[-1].spans == (Span(0, 3, None),)
    with pytest.raises(CorpusError, match=r"c.jsonl: the tags 'S-x' may be types"):
        read(tmp_path, {"tokens": ["a"], "ner_tags": ["S-x"]})
    with pytest.raises(CorpusError, match=r'c.jsonl:2: "ner_tags": expected O or a tag such as B-x or I-x'):
        read(tmp_path, {"tokens": ["a", "b"], "ner_tags": ["B-x", "I-x"]}, {"tokens": ["a"], "ner_tags": ["person"]})


def test_numbers_need_names(tmp_path):
    record = {"tokens": WORDS, "ner_tags": NUMBERS}
    with pytest.raises(CorpusError, match=r'c.jsonl:1: "ner_tags" holds numbers such as 1, .* --tag-names O,B-person'):
        read(tmp_path, record)
    with pytest.raises(CorpusError, match=r'"ner_tags" holds the number 3; there are names for 0 to 2'):
        read(tmp_path, record, tag_names=NAMES[:3])
    with pytest.raises(CorpusError, match=r'"ner_tags" holds the number -100'):
        read(tmp_path, {"tokens": ["a"], "ner_tags": [-100]}, tag_names=NAMES)
    spans = [{"start": 0, "end": 4, "label": 1}]
    assert read(tmp_path, {"text": TEXT, "spans": spans}, tag_names=["harbour", "person"])[0].spans == SPANS[:1]
    with pytest.raises(CorpusError, match='"entities" holds numbers such as 1'):
        read(tmp_path, {"text": TEXT, "entities": spans})


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"tokens": WORDS, "ner_tags": ["O"]}, "1 tags for 5 words"),
        ({"tokens": WORDS, "ner_tags": "O O O O O"}, '"ner_tags" must be a list of tags'),
        ({"tokens": WORDS, "ner_tags": ["O", 1, "O", "O", "O"]}, '"ner_tags" must be a list of tags'),
        ({"text": TEXT, "ner_tags": TAGS}, '"tokens" must be a list of words'),
        ({"text": TEXT, "entities": [[0, "4", "person"]]}, "a span needs whole numbers"),
        ({"text": TEXT, "entities": [[0, 40, "person"]]}, "must lie in the text's 25 characters"),
        ({"text": TEXT, "entities": ["Mara"]}, "a span must be an object"),
        (
            {"text": TEXT, "entities": {"start": [0], "end": [4, 6]}},
            'the lists in "entities" must have the same length',
        ),
        ({"tokens": WORDS, "entities": [[3, 9, "harbour"]]}, "counts tokens, here from 0 to 4; [3, 9] is not among"),
    ],
)
def test_what_was_annotation_once_must_be_readable(tmp_path, record, reason):
    good = [{"tokens": WORDS, "ner_tags": TAGS}, {"text": TEXT, "entities": TRIPLES}]
    if "tokens" in record and "entities" in record:
        good[1] = {"tokens": WORDS, "entities": [[0, 0, "person"], [3, 4, "harbour"]]}
    with pytest.raises(CorpusError) as caught:
        read(tmp_path, *good, record, good[0])
    assert caught.value.line == 3
    assert reason in caught.value.reason
    items = read(tmp_path, *good, record, good[0], on_error="skip")
    assert [type(item) for item in items] == [Document, Document, Reject, Document]
    assert items[3].spans == SPANS


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({"text": TEXT, "mentions": TRIPLES}, "mentions (c.jsonl:2)"),
        ({"text": TEXT, "gold": OBJECTS}, "gold (c.jsonl:2)"),
        ({"text": TEXT, "gold": LISTS}, "gold (c.jsonl:2)"),
        ({"text": TEXT, "entities": ["Mara"]}, "entities (c.jsonl:2)"),
        ({"text": TEXT, "ner": [[0, 4, "person"]]}, "ner (c.jsonl:2)"),
        ({"text": TEXT, "ner_tags": TAGS}, "ner_tags (c.jsonl:2)"),
        ({"text": TEXT, "spans": OBJECTS, "entities": TRIPLES}, "entities (c.jsonl:2)"),
        ({"tokens": WORDS, "ner_tags": TAGS, "pos_tags": [1, 2, 3, 1, 1]}, "pos_tags (c.jsonl:2)"),
        ({"text": TEXT, "spans": [{"start": 0, "end": 4, "category": "person"}]}, "spans: category (c.jsonl:2)"),
    ],
)  # fmt: skip
def test_what_looks_like_annotation_and_is_not_read_is_named_once(tmp_path, caplog, record, named):
    documents = read(tmp_path, {"text": "calm"}, record, record)
    assert len(documents) == 3
    assert unread(caplog) == [f"not read, although it looks like annotations: {named}"]


def test_what_does_not_look_like_annotation(tmp_path, caplog):
    others = [
        {"label": "good", "tags": ["sea", "trade"], "labels": [0, 2], "box": [[0, 0, 5, 5]], "pairs": [[1, 2]]},
        {"label": 1, "tags": "sea", "lemmas": ["Mara"], "vector": [0.5], "sents": [{"start": 0, "end": 25}]},
    ]
    documents = read(tmp_path, *({"text": TEXT, **other} for other in others))
    assert [document.spans for document in documents] == [(), ()]
    assert unread(caplog) == []


CLASSES = {"_type": "ClassLabel", "names": NAMES}
NUMBER = {"dtype": "int32", "_type": "Value"}
KINDS = {"_type": "ClassLabel", "names": ["harbour", "person"]}


def table(columns, features):
    made = pa.table(columns)
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


@pytest.mark.parametrize(
    "feature", [{"feature": CLASSES, "_type": "Sequence"}, {"feature": CLASSES, "_type": "List"}, [CLASSES]]
)
def test_parquet_files_name_their_classes(tmp_path, feature):
    columns = {"id": ["7"], "tokens": [WORDS], "ner_tags": [NUMBERS], "pos_tags": [[0] * 5]}
    expected = [Document("7", TEXT, PLACES, SPANS)]
    assert read_parquet(tmp_path, table(columns, {"ner_tags": feature})) == expected
    assert read_parquet(tmp_path, pa.table(columns), tag_names=NAMES) == expected
    with pytest.raises(CorpusError, match=r'c.parquet:1: row 1: "ner_tags" holds numbers .* --tag-names'):
        read_parquet(tmp_path, pa.table(columns))


@pytest.mark.parametrize("metadata", [b"", b"no JSON", b"[]", b'{"info": {"features": {"ner_tags": []}}}'])
def test_parquet_metadata_that_names_nothing(tmp_path, metadata):
    made = pa.table({"tokens": [WORDS], "ner_tags": [NUMBERS]}).replace_schema_metadata({"huggingface": metadata})
    with pytest.raises(CorpusError, match='"ner_tags" holds numbers'):
        read_parquet(tmp_path, made)


@pytest.mark.parametrize(
    ("entities", "feature"),
    [
        ([{"start": a, "end": b, "label": int(x == "person")} for a, b, x in TRIPLES],
         [{"start": NUMBER, "end": NUMBER, "label": KINDS}]),
        ({"start": [0, 14], "end": [4, 25], "type": [1, 0]},
         {"feature": {"start": NUMBER, "end": NUMBER, "type": KINDS}, "_type": "Sequence"}),
        (OBJECTS, {}),
        (LISTS, {}),
    ],
)  # fmt: skip
def test_spans_in_parquet_files(tmp_path, entities, feature):
    made = table({"text": [TEXT], "entities": [entities]}, {"entities": feature})
    assert read_parquet(tmp_path, made) == [Document("c.parquet:1", TEXT, None, SPANS)]


def test_large_lists_of_large_strings_in_parquet_files(tmp_path, caplog):
    strings = pa.large_list(pa.large_string())
    columns = {
        "tokens": pa.array([WORDS], strings),
        "ner_tags": pa.array([TAGS], strings),
        "mentions": [OBJECTS],
        "x": [[1]],
    }
    assert read_parquet(tmp_path, pa.table(columns))[0].spans == SPANS
    assert unread(caplog) == ["not read, although it looks like annotations: mentions (c.parquet:1)"]


def test_the_survey_counts_annotated_documents(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(
        "".join(json.dumps({"text": TEXT, "entities": spans}) + "\n" for spans in ([], TRIPLES, TRIPLES[:1]))
    )
    survey = Corpus(path).survey()
    assert (survey.documents, survey.annotated, survey.spans) == (3, 2, 3)


def test_what_was_set_aside_in_prodigy_is_left_out(tmp_path, caplog):
    made = {"_input_hash": 1, "_task_hash": 2, "_session_id": None, "_view_id": "ner_manual"}
    answers = [("a", "accept"), ("b", "reject"), ("c", "ignore")]
    lines = [{"text": text, "spans": [], "answer": answer, **made} for text, answer in answers]
    lines.append({"text": "d", "answer": "reject"})  # not Prodigy's
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [document.text for document in Corpus(tmp_path / "c.jsonl")] == ["a", "d"]
    assert "left out (first at c.jsonl:2)" in caplog.text
