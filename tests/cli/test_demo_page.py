"""The parts of the demo's report."""

from types import SimpleNamespace

import numpy as np
from stores import make_store

from nuner_embed.cli.demo_map import PROBABLE, MentionMap
from nuner_embed.cli.demo_page import _STYLE, _search, write_page
from nuner_embed.cli.sample_searches import SEARCHES
from nuner_embed.evaluation.concept_map import ConceptMap

HIT = {"score": 0.5, "document_id": "far-away-001", "start": 19, "end": 23, "context": " left [<i>] at"}
HIT["context_start"] = 12


def test_a_hit_says_where_its_text_goes_on_and_its_id_is_one_line():
    page = _search(SEARCHES[0], [HIT, {**HIT, "context_start": 0, "start": 6, "end": 11}])
    assert page.count("…") == 1
    assert page.count('<td class="dim id">far-away-001</td>') == 2
    assert "<i>" not in page
    assert ".id{white-space:nowrap}" in _STYLE
    assert page.count("<div class='wide'>") == 1  # what is wider than the screen scrolls, and not the page


def test_the_map_of_concepts_moves_to_what_is_found():
    places = np.array([[0.1, 0.2], [0.8, 0.9]])
    page = ConceptMap(("city", "river"), np.array([3, 2]), places, np.ones((2, 3)), "m").page().decode()
    assert '<meta name="viewport" content="width=device-width,initial-scale=1">' in page
    assert "find.oninput=show;" in page
    assert page.count("function show()") == 1
    assert "x+4+wide>innerWidth?x-8-wide:x" in page  # a name that would be cut stands to the left of its dot


def test_the_page_fits_a_telephone_and_says_from_when_on_a_mention_has_a_colour(tmp_path):
    training = SimpleNamespace(mentions={"city": 8})
    tagger = SimpleNamespace(types=("city",), head=SimpleNamespace(facts=SimpleNamespace(training=training)))
    probed = SimpleNamespace(tagger=tagger, shown=[])
    seen = MentionMap(["Kiel"], ["d"], np.zeros((1, 2)), np.array([-1]), np.array([0.1]))
    store, found = make_store(tmp_path / "s", 0, documents=1), [[HIT]] * len(SEARCHES)
    page = write_page(tmp_path / "index.html", store, seen, [], found, (probed, probed)).read_text()
    head, _, body = page.partition("<h1>")
    assert '<meta name="viewport" content="width=device-width,initial-scale=1">' in head
    assert f"is grey where no type is at least {PROBABLE:.0%} probable" in " ".join(body.split())
    assert '<div class="wide"><svg' in body  # the map scrolls where it is wider than the screen
