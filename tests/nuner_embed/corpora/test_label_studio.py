"""Exports of Label Studio: what people marked, what a model found, and what is no export."""

import json
import logging

import pytest

from nuner_embed import Corpus, Document, Span
from nuner_embed.corpora.base import FORMATS, WriteOptions
from nuner_embed.corpora.records import Reject
from nuner_embed.errors import CorpusError

TEXT = "🚢 Mara left Oslo"
MARA, OSLO = (2, 6, "Mara"), (12, 16, "Oslo")


def region(place, *labels, **more):
    start, end, text = place
    value = {"start": start, "end": end, "text": text, "labels": list(labels)}
    return {"id": "x7", "from_name": "label", "to_name": "text", "type": "labels", "value": value, **more}


def task(*annotations, text=TEXT, number=7, **more):
    return {"id": number, "data": {"text": text}, "annotations": list(annotations), **more}


def annotation(*results, **more):
    return {"id": 1, "completed_by": 1, "was_cancelled": False, "ground_truth": False, "result": list(results), **more}


def read(folder, tasks, **options):
    content = tasks if isinstance(tasks, bytes) else json.dumps(tasks, indent=1).encode()
    (folder / "c.json").write_bytes(content)
    with Corpus([folder / "c.json"], **options) as corpus:
        return list(corpus)


def found(document):
    return [(document.text[span.start : span.end], span.label) for span in document.spans]


def test_what_people_marked(tmp_path):
    choice = {"type": "choices", "value": {"choices": ["news"]}}
    per_region = {"id": "x7", "type": "choices", "value": {"start": 2, "end": 6, "choices": ["sure"]}}
    relation = {"type": "relation", "from_id": "x7", "to_id": "x8", "direction": "right"}
    made = annotation(region(OSLO, "city", "port"), choice, per_region, relation, region(MARA, "person"), region(MARA))
    assert read(tmp_path, [task(made), task(number=8)]) == [
        Document("7", TEXT, spans=(Span(12, 16, "city"), Span(12, 16, "port"), Span(2, 6, "person"), Span(2, 6))),
        Document("8", TEXT),
    ]


def test_what_a_model_found_counts_where_nobody_annotated(tmp_path, caplog):
    guess = {"model_version": "m", "score": 0.5, "result": [region(OSLO, "city", score=0.25)]}
    older = {"model_version": "a", "result": [region(MARA, "person")]}
    cancelled = annotation(region(MARA, "person"), was_cancelled=True)
    tasks = [
        task(cancelled, predictions=[guess, older]),
        task(annotation(), predictions=[guess], number=8),
        task(predictions=[5], number=9),
    ]
    first, second, third = read(tmp_path, tasks)
    assert first.spans == (Span(12, 16, "city", 0.25),)
    assert (second.spans, third.spans) == ((), ())
    assert [record.getMessage() for record in caplog.records] == [
        "tasks that nobody annotated are read with the model's predictions, beside tasks that people annotated "
        "(first at c.json:2)"
    ]


def test_one_of_several_annotations(tmp_path, caplog):
    both = [annotation(region(MARA, "person")), annotation(region(OSLO, "city"))]
    (document,) = read(tmp_path, [task(*both)])
    assert found(document) == [("Mara", "person")]
    assert "of several annotations of a task the one marked as ground truth is read" in caplog.text
    both[1]["ground_truth"] = True
    (document,) = read(tmp_path, [task(*both)])
    assert found(document) == [("Oslo", "city")]
    both[1]["was_cancelled"] = True
    (document,) = read(tmp_path, [task(*both)])
    assert found(document) == [("Mara", "person")]


@pytest.mark.parametrize("shift", [0, 1])
def test_both_ways_of_counting_characters(tmp_path, caplog, shift):
    """Code points, as the editor counts since 2022, and UTF-16 code units, of which an emoji has two."""
    places = [(start + shift, end + shift, text) for start, end, text in (MARA, OSLO)]
    (document,) = read(tmp_path, [task(annotation(*(region(place, "x") for place in places)))])
    assert found(document) == [("Mara", "x"), ("Oslo", "x")]
    assert not caplog.records


def test_a_region_on_an_emoji(tmp_path):
    for start, end in ((12, 13), (13, 15)):
        (document,) = read(tmp_path, [task(annotation(region((start, end, "🛳"), "ship")), text="🚢 Mara left 🛳 now")])
        assert found(document) == [("🛳", "ship")]


def test_regions_whose_texts_fit_no_way_of_counting_are_read_and_named(tmp_path, caplog):
    wrong = region((2, 6, "Ma"), "person")
    (document,) = read(tmp_path, [task(annotation(wrong))])
    assert found(document) == [("Mara", "person")]
    assert "the text that a region carries does not stand at its place (first at c.json:1)" in caplog.text
    caplog.clear()
    for text in ("Mara\nleft", "Mara\r\nleft", "Mara  left"):  # of the ends of lines editors make blanks, or "\n"
        for said in ("Mara left", "Mara\\nleft", "Maraleft"):
            tasks = [task(annotation(region((0, len(text), said), "x")), text=text)]
            assert found(read(tmp_path, tasks)[0]) == [(text, "x")]
    assert not caplog.records


def test_regions_of_html_are_named_as_unread(tmp_path, caplog):
    html = {
        "type": "hypertextlabels",
        "value": {"start": "/p[1]/text()[1]", "end": "/p[1]/text()[1]", "startOffset": 2},
    }
    (document,) = read(tmp_path, [task(annotation(html))])
    assert document.spans == ()
    assert "not read, although it looks like annotations: hypertextlabels (c.json:1)" in caplog.text


def test_texts_and_ids_under_other_keys(tmp_path):
    tasks = [{"id": 3, "data": {"review": TEXT, "stars": 4, "nr": f"r{i}"}} for i in range(2)]
    with pytest.raises(
        CorpusError, match=r"c.json:1: task 1: \"data\" must hold a string 'text', .*--text-column review"
    ):
        read(tmp_path, tasks)
    documents = read(tmp_path, tasks, text_column="review", id_column="nr")
    assert [(document.id, document.text) for document in documents] == [("r0", TEXT), ("r1", TEXT)]
    with pytest.raises(CorpusError, match=r"c.json:1: task 1: \"data\" must hold 'number'"):
        read(tmp_path, tasks, text_column="review", id_column="number")
    assert [one.id for one in read(tmp_path, [{"data": {"text": "a"}}, {"data": {"text": "b", "id": 5}}])] == [
        "c.json:1", "5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"text": "a", "label": []}]', r"c.json: expected an array of Label Studio's tasks.*found {'text': 'a'"),
        ("[1, 2]", "c.json: expected an array of Label Studio's tasks.*found 1"),
        ('{"data": {"text": "a"}}', "c.json: expected an array .*found '{\"data"),
        ("Oslo is a city", "c.json: expected an array .*found 'Oslo is a city'"),
        ('[{"data": {"text": "a"}},\n{"data": {"text": 1}]', "c.json:2: broken JSON in this line: Expecting ','"),
        ('[{"data": {"text": "a"}}\n{"data"', "c.json:2: broken JSON in this line: expected a comma or the end"),
        ('[{"data": {"text": "a"}},', "c.json:1: broken JSON in this line: Expecting value"),
        ('[{"data": {"text": "a"}}', "c.json:1: broken JSON in this line: expected a comma or the end"),
        ('[{"data": {"text": "a"}}]\n\n[]', "c.json:3: broken JSON in this line: expected nothing after the array"),
        ("[" * 100_000, "c.json:1: broken JSON in this line: nested too deeply"),
        (b'[{"data": {"text": "\xff"}}]', "c.json: not valid UTF-8"),
    ],
)  # fmt: skip
def test_what_is_no_export_ends_in_one_line(tmp_path, content, message):
    content = content if isinstance(content, bytes) else content.encode()
    with pytest.raises(CorpusError, match=message) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (5, 'task 2: expected an object with "data", found 5'),
        ({"data": {"text": None}}, "must hold a string 'text', found"),
        (task(annotation(region((0, 99, ""), "x"))), r"span \[0, 99\) must lie in the text"),
        (task(annotation(region((0.5, 2, ""), "x"))), 'a span needs whole numbers "start" and "end"'),
        (task(annotation(region(MARA, 7))), 'a span\'s "label" must be a string, not 7'),
        ({"data": {"text": "a"}, "annotations": 7}, '"annotations" must be a list, not 7'),
        ({"data": {"text": "a", "id": None}}, "the id must be a string or a whole number, not None"),
    ],
)
def test_a_bad_task_is_left_out(tmp_path, bad, message):
    tasks = [{"data": {"text": "one"}}, bad, {"data": {"text": "three"}}]
    first, reject, third = read(tmp_path, tasks, on_error="skip")
    assert (first.text, third.text) == ("one", "three")
    assert isinstance(reject, Reject)
    assert reject.where == "c.json:2"
    with pytest.raises(CorpusError, match=message):
        read(tmp_path, tasks)


@pytest.mark.parametrize("indent", [None, 2])
def test_a_large_export_is_read_a_task_at_a_time(tmp_path, indent, monkeypatch):
    from nuner_embed.corpora import label_studio

    tasks = [task(annotation(region(OSLO, "city")), number=i) for i in range(200)]
    for piece in (7, 100, 1 << 18):
        monkeypatch.setattr(label_studio, "_PIECE", piece)
        documents = read(tmp_path, b"\xef\xbb\xbf  " + json.dumps(tasks, indent=indent).encode())
        assert [document.id for document in documents] == [str(i) for i in range(200)]
        assert {document.spans for document in documents} == {(Span(12, 16, "city"),)}


def test_tasks_that_are_written_fit_the_editor(tmp_path):
    """A prediction for `<Labels name="label" toName="text">`, which people correct."""
    document = Document("d:1", TEXT, spans=(Span(2, 6, "person", 0.93216), Span(12, 16, "city", 0.5), Span(0, 1)))
    text = "".join(FORMATS["label-studio"].write([document, Document("d:2", "")], WriteOptions("nuner-embed p")))
    first, second = json.loads(text)
    assert first["data"] == {"text": TEXT, "id": "d:1"}
    (prediction,) = first["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("nuner-embed p", 0.7161)
    mara, oslo, ship = prediction["result"]
    assert mara == {
        "id": "m0", "from_name": "label", "to_name": "text", "type": "labels", "score": 0.9322,
        "value": {"start": 2, "end": 6, "text": "Mara", "labels": ["person"]},
    }  # fmt: skip
    assert oslo["value"]["text"] == "Oslo"
    assert ("score" in ship, ship["value"]["labels"]) == (False, [])
    assert second["predictions"] == [{"model_version": "nuner-embed p", "result": []}]


def test_a_folder_means_no_json(tmp_path, caplog):
    """A report lies beside many a corpus; the export of a folder is read where the format is named."""
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "report.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert [document.text for document in Corpus([tmp_path])] == ["one"]
    assert not caplog.records
