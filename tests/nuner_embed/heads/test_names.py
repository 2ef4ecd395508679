"""Names of types beside examples: made of labels, checked, averaged, and what the fit starts from."""

import json
from pathlib import Path

import numpy as np
import pytest
from fakes import HashRuntime, HashSpec, byte_level_bpe, hash_encoder

from nuner_embed import train_probe
from nuner_embed.documents import Document, Span
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.text import unit
from nuner_embed.errors import ModelError, ProbeError
from nuner_embed.heads.io import PROBE_FILE, open_head
from nuner_embed.heads.names import NamedTypes, name_of, names_of, vectors_of
from nuner_embed.models.concept_facts import Calibration, ConceptFacts

DIM = 64
CALIBRATION = Calibration(20.0, -10.0, "a guess")
TRAINING = [
    Document("a", "the ferry left Zürich", spans=(Span(4, 9, "SHIP"), Span(15, 21, "PLACE"))),
    Document("b", "at seven the ferry in", spans=(Span(13, 18, "SHIP"),)),
]


def encoder(**recipe):
    return hash_encoder(runtime=HashRuntime(DIM), **recipe)


def concepts(calibration=CALIBRATION):
    of_names = HashSpec(dim=DIM).load()
    return ConceptEncoder(
        "fake", Path("fake"), of_names, ConceptFacts(of_names.weights_sha256, "mean", {}, calibration)
    )


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("cell_type", "cell type"), ("ProgramLang", "program lang"), ("ACTOR", "actor"), ("DNA", "DNA"),
        ("LOC", "location"), ("per", "person"), ("MISC", "miscellaneous"), ("WORK_OF_ART", "work of art"),
        ("RATINGS_AVERAGE", "ratings average"), ("person-artist/author", "person artist author"),
        ("location-GPE", "location country"), ("city of birth", "city of birth"), ("Opening_Hours", "opening hours"),
        ("T1", None), ("LABEL_0", None), ("X", None), ("B-x", None), ("xqz", None), ("", None), ("__", None),
        ("Straße", None), ("of", None),
    ],
)  # fmt: skip
def test_what_a_label_reads_as(label, name):
    assert name_of(label) == name


def test_names_are_those_given_else_those_of_labels():
    found = names_of(["LOC", "cell_type", "T1", "SHIP"], {"SHIP": ["boat", "ferry"]})
    assert found == {"LOC": ("location",), "SHIP": ("boat", "ferry"), "cell_type": ("cell type",)}
    assert names_of(["cell_type", "CellType", "city"]) == {"city": ("city",)}  # nothing tells the first two apart
    assert names_of(["LOC", "place"], {"place": ["Location"]}) == {"place": ("Location",)}
    with pytest.raises(ValueError, match="A and B have one name, city / town; name what tells them apart"):
        names_of([], {"A": ["city", "town"], "B": ["Town ", "city"]})


def test_several_names_are_averaged():
    one, two, both = vectors_of([["ferry"], ["seven"], ["ferry", "seven"]], concepts())
    np.testing.assert_allclose(both, unit(np.array([(one + two) / 2]))[0], atol=1e-6)


def train(tmp_path, names, k=None, **options):
    named = NamedTypes(names, options.pop("concepts", None) or concepts()) if names else None
    return train_probe(
        TRAINING, options.pop("encoder", None) or encoder(), cache=tmp_path / "c", named=named, **options
    )


def test_a_name_finds_what_no_example_holds(tmp_path):
    text = [Document("t", "an pres left at Vol")]
    plain = train(tmp_path, None)
    assert [span.label for span in plain.tag(text)[0].spans] == []
    named = train(tmp_path, {"SHIP": ("pres",), "PLACE": ("Vol",)})
    assert [(span.start, span.label) for span in named.tag(text)[0].spans] == [(3, "SHIP"), (16, "PLACE")]
    found = named.tag(TRAINING)  # and what the examples hold
    assert [[span.label for span in one.spans] for one in found] == [["SHIP", "PLACE"], ["SHIP"]]


def test_the_head_tells_its_names_and_is_a_linear_layer(tmp_path):
    tagger = train(tmp_path, {"SHIP": ("boat", "ferry")})
    parameters = tagger.head.facts.parameters
    assert parameters["names"] == {"SHIP": ["boat", "ferry"]}
    assert parameters["C"] == 0.01
    assert parameters["offset_weight"] > 0
    assert "names" not in train(tmp_path, None).head.facts.parameters
    tagger.save(tmp_path / "p")
    assert open_head(tmp_path / "p").tag(encoder(), TRAINING) == tagger.tag(TRAINING)
    saved = json.loads((tmp_path / "p" / PROBE_FILE).read_text())
    assert saved["parameters"]["names"] == {"SHIP": ["boat", "ferry"]}


def test_with_many_examples_the_examples_decide(tmp_path):
    """Names that say the opposite are outvoted."""
    many = TRAINING * 40
    wrong = NamedTypes({"SHIP": ("Zürich",), "PLACE": ("ferry",)}, concepts())
    tagger = train_probe(many, encoder(), cache=tmp_path, named=wrong)
    assert [[span.label for span in one.spans] for one in tagger.tag(TRAINING)] == [["SHIP", "PLACE"], ["SHIP"]]
    assert tagger.head.facts.parameters["offset_weight"] < 0.9


def test_what_does_not_go_together(tmp_path):
    with pytest.raises(ProbeError, match="RIVER is named, and the data holds no mention of it .*types are PLACE, SHIP"):
        train(tmp_path, {"RIVER": ("river",)})
    with pytest.raises(ProbeError, match="does not belong to"):
        train(tmp_path, {"SHIP": ("boat",)}, encoder=hash_encoder(byte_level_bpe(), HashRuntime(DIM)))
    with pytest.raises(ProbeError, match="agree with the last layer alone"):
        train(tmp_path, {"SHIP": ("boat",)}, encoder=encoder(layers=(-2,)))
    with pytest.raises(ModelError, match="not calibrated"):
        train(tmp_path, {"SHIP": ("boat",)}, concepts=concepts(None))
    with pytest.raises(ValueError, match="a concept is the name of an entity type of 1 to"):
        train(tmp_path, {"SHIP": ("boat " * 400,)})
