"""The parts of the demo's report."""

import re

import numpy as np
import pytest
from stores import make_store

from nuner_embed.cli.demo_page import PROBABLE, MentionMap, write_page
from nuner_embed.cli.demo_samples import SEARCHES, TYPES, Learnt
from nuner_embed.documents import Document, Span
from nuner_embed.evaluation.concept_map import ConceptMap
from nuner_embed.evaluation.metrics import Counts, Scores

HIT = {"score": 0.5, "document_id": "far-away-001", "start": 19, "end": 23, "context": " left [<i>] at"}
HIT["context_start"] = 12


def scores(right):
    """Of sentences with four mentions of each type, of which so many are found, and nothing else."""
    found, annotated = np.array([0, right, 0, 0]), np.array([0, 4, 4, 4])
    return Scores(TYPES, np.diag([8, right, 0, 0]), Counts(found, found, annotated), 60)


LEARNT = (("names <alone>", [scores(0)]), ("names, and examples", [scores(2), scores(4)]))


@pytest.fixture
def page(tmp_path):
    shown = Document("d", "left <i> Kiel at", spans=(Span(9, 13, "<i>"), Span(14, 16)))
    learnt = [Learnt(title, "f", "tag <i>", None, scores, [shown]) for title, scores in LEARNT]
    seen = MentionMap(["<i>"], ["d"], np.zeros((1, 2)), np.array([-1]), np.array([0.1]))
    hits = [HIT, {**HIT, "context_start": 0, "start": 6, "end": 11}]
    store, found = make_store(tmp_path / "s", 0, documents=1), [[], hits, *[[]] * (len(SEARCHES) - 2)]
    return write_page(tmp_path / "index.html", store, seen, [shown], found, learnt).read_text()


def test_a_hit_says_where_its_text_goes_on_and_its_id_is_one_line(page):
    assert page.count("…") == 1
    assert page.count('<td class="dim id">far-away-001</td>') == 2
    assert ".id{white-space:nowrap}" in page
    # what is wider than the screen scrolls, and not the page
    assert page.count("<div class='wide'><table>") == len(SEARCHES)


def test_texts_are_text_whatever_they_hold_and_nothing_is_fetched(page):
    assert "<i>" not in page
    assert (
        page.count("<p>left &lt;i&gt; <mark>Kiel</mark> <small class='dim'>&lt;i&gt;</small> <mark>at</mark></p>") == 3
    )
    assert not re.search(r"(?:src|href)=|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page)


def test_each_row_has_the_mean_of_what_was_measured(page):
    _, _, table = page.partition("<h2>A type of your own</h2>")
    head, *rows = [re.findall(r"<t[hd]>([^<]*)</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", table)]
    assert head == ["", "token macro-F1", "span micro-F1", *TYPES]
    assert rows[0] == ["names &lt;alone&gt;", "0.0%", "0.0%", "0.0%", "0.0%", "0.0%"]
    # F1 of the first type: 2 of 4 mentions, and 4 of 4; of the words all that are predicted are right
    assert rows[1] == ["names, and examples", "100.0%", "39.3%", "83.3%", "0.0%", "0.0%"]
    assert "60 sentences that nothing was learnt from" in table


def test_the_map_of_concepts_moves_to_what_is_found():
    places = np.array([[0.1, 0.2], [0.8, 0.9]])
    page = ConceptMap(("city", "river"), np.array([3, 2]), places, np.ones((2, 3)), "m").page().decode()
    assert '<meta name="viewport" content="width=device-width,initial-scale=1">' in page
    assert "find.oninput=show;" in page
    assert page.count("function show()") == 1
    assert "x+4+wide>innerWidth?x-8-wide:x" in page  # a name that would be cut stands to the left of its dot


def test_the_page_fits_a_telephone_and_says_from_when_on_a_mention_has_a_colour(page):
    head, _, body = page.partition("<h1>")
    assert '<meta name="viewport" content="width=device-width,initial-scale=1">' in head
    assert f"is grey where no type is at least {PROBABLE:.0%} probable" in " ".join(body.split())
    assert '<div class="wide"><svg' in body  # the map scrolls where it is wider than the screen
