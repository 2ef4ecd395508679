"""The map of the demo."""

from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
from stores import make_store

from nuner_embed.cli.demo_page import CONCEPTS, PROBABLE, MentionMap

SVG = "{http://www.w3.org/2000/svg}"


def made(texts, types):
    places = np.random.default_rng(0).random((len(texts), 2))
    return MentionMap(texts, ["d"] * len(texts), places, np.array(types), np.linspace(0.9, 0.1, len(texts)))


def test_texts_are_text_whatever_they_hold():
    texts = ["<b>&\"'", "a\x00b\u202ec", "Kiel"]
    root = ElementTree.fromstring(made(texts, [0, 1, -1]).svg())
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert titles == ["Kiel - of another type (d)", "<b>&\"' - person (d)", "a\ufffdb\ufffdc - city (d)"]
    names = [text.text for text in root.iter(f"{SVG}text")]
    assert names[: len(CONCEPTS) + 1] == [*CONCEPTS, "another"]
    assert names[len(CONCEPTS) + 1 :] == [name for text in ("<b>&\"'", "a\ufffdb\ufffdc") for name in (text, text)]


def test_a_name_stands_at_a_mention_of_its_type():
    seen = made(["Jordan", "Jordan", "Jordan", "Kiel"], [-1, 1, 0, 1])
    root = ElementTree.fromstring(seen.svg())
    dots = {dot[0].text: dot.get("cy") for dot in root.iter(f"{SVG}circle") if len(dot)}
    named = {round(float(text.get("y")) - 4, 1) for text in root.iter(f"{SVG}text") if text.text == "Jordan"}
    assert named == {float(dots["Jordan - person (d)"]), float(dots["Jordan - city (d)"])}
    assert list(seen.lines())[:2] == ["  person (1): Jordan", "  city (2): Jordan, Kiel"]


def test_a_mention_is_grey_where_no_type_is_probable_enough(tmp_path):
    store = make_store(tmp_path / "s", 0, documents=1)
    chances = np.full((len(store), len(CONCEPTS)), 0.01)
    chances[::2, 1] = PROBABLE  # so probable is enough
    chances[1::2, 2] = PROBABLE - 1e-3
    concepts = SimpleNamespace(encode=lambda names: np.zeros((len(names), 16)), probabilities=lambda cosines: chances)
    seen = MentionMap.of(store, concepts)
    assert seen.types.tolist() == [1, -1] * (len(store) // 2)
    dots = [dot for dot in ElementTree.fromstring(seen.svg()).iter(f"{SVG}circle") if len(dot)]
    colours = {dot.get("fill"): dot[0].text.split(" - ")[1].split(" (")[0] for dot in dots}
    key = [dot.get("fill") for dot in ElementTree.fromstring(seen.svg()).iter(f"{SVG}circle") if not len(dot)]
    assert colours == {key[-1]: "of another type", key[1]: CONCEPTS[1]}
    assert sum(dot.get("fill") == key[-1] for dot in dots) == len(store) // 2
    assert [line.split(":")[0] for line in seen.lines()][1:3] == [f"  city ({len(store) // 2})", "  bird (0)"]
