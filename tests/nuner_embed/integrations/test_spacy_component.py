"""The spaCy component, found by its entry point as users find it."""

import numpy as np
import pytest

import nuner_embed
from nuner_embed.documents import Document, Span
from nuner_embed.encoders.mentions import embed_detected
from nuner_embed.errors import ProbeError
from nuner_embed.heads.detector import load_detector

spacy = pytest.importorskip("spacy")
TEXTS = ["The ferry left Zürich at seven .", "", " \n ", "Kiel\n\n  and the ferry in Oslo", "no 😀 mention"]


@pytest.fixture(scope="module")
def head(small_model):
    return str(small_model / "detector")


@pytest.fixture(scope="module")
def nlp(head):
    pipeline = spacy.blank("en")
    pipeline.add_pipe("nuner_embed", config={"head": head, "threshold": 0.05, "threads": 1})
    return pipeline


def found_in(doc):
    return [(span.start_char, span.end_char, span.label_) for span in doc.spans["nuner_embed"]]


def test_spans_are_those_of_the_head(nlp, head):
    docs = list(nlp.pipe(TEXTS, batch_size=2))
    tagger = nuner_embed.Tagger.open(head, threads=1)
    words = [tuple((t.idx, t.idx + len(t)) for t in doc if not t.is_space) for doc in docs]
    given = [Document(str(i), text, words[i]) for i, text in enumerate(TEXTS)]
    wanted = tagger.tag(given, 0.05)
    assert sum(len(document.spans) for document in wanted) > 2
    for doc, document in zip(docs, wanted, strict=True):
        spans = sorted(document.spans, key=lambda span: (span.start, span.end))
        assert found_in(doc) == [(span.start, span.end, span.label) for span in spans]
        assert doc.spans["nuner_embed"].attrs["scores"] == pytest.approx([span.score for span in spans], abs=1e-6)
        assert [(e.start_char, e.end_char, e.label_) for e in doc.ents] == found_in(doc)


def test_vectors_are_those_of_a_store(nlp, head):
    """Rows of words and of mentions, as `encode` would write them for the same words."""
    doc = nlp(TEXTS[3])
    encoder = nuner_embed.Tagger.open(head, threads=1).encoder
    inked = [token for token in doc if not token.is_space]
    given = Document("0", TEXTS[3], tuple((t.idx, t.idx + len(t)) for t in inked))
    rows = encoder.encode_rows(encoder.tokenize([given], "word"), "word").vectors
    assert len(inked) == len(rows) < len(doc)
    assert doc.tensor[[token.i for token in inked]] == pytest.approx(rows, abs=1e-5)
    assert not doc.tensor[[token.i for token in doc if token.is_space]].any()
    assert inked[0].vector == pytest.approx(rows[0], abs=1e-5)
    spans = doc.spans["nuner_embed"]
    assert spans
    mentions = Document("0", TEXTS[3], spans=tuple(Span(s.start_char, s.end_char) for s in spans))
    rows = encoder.encode_rows(encoder.tokenize([mentions], "mention"), "mention").vectors
    assert np.stack([span._.nuner_vector for span in spans]) == pytest.approx(rows, abs=1e-5)
    assert doc[1:2]._.nuner_vector is None


def test_detected_mentions_have_the_vectors_of_an_encoded_corpus(nlp, head, small_model):
    doc = nlp("Oslo Kiel")
    encoder = nuner_embed.load_encoder(str(small_model), threads=1)
    table = encoder.tokenize([Document("0", "Oslo Kiel")], "word")
    wanted = embed_detected(encoder, table, load_detector(str(small_model)))
    vectors = {(s.start, s.end): v for s, v in zip(wanted.found, wanted.vectors, strict=True)}
    shared = [s for s in doc.spans["nuner_embed"] if (s.start_char, s.end_char) in vectors]
    assert shared
    for span in shared:
        assert span._.nuner_vector == pytest.approx(vectors[span.start_char, span.end_char], abs=1e-5)


def test_one_document_as_many(nlp):
    for doc, alone in zip(nlp.pipe(TEXTS), map(nlp, TEXTS), strict=True):
        assert found_in(doc) == found_in(alone)
        assert doc.tensor == pytest.approx(alone.tensor, abs=1e-5)


def test_entities_of_an_earlier_component_stay(head):
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "CITY", "pattern": "Zürich"}])
    pipeline.add_pipe("nuner_embed", config={"head": head, "threshold": 0.01, "threads": 1, "vectors": False})
    doc = pipeline(TEXTS[0])
    assert "CITY" in [entity.label_ for entity in doc.ents]
    assert len(doc.spans["nuner_embed"]) > 0
    assert doc.tensor.size == 0


def test_a_pipeline_on_disk_holds_the_head(nlp, head, tmp_path):
    nlp.to_disk(tmp_path / "pipeline")
    nlp.to_disk(tmp_path / "pipeline")  # twice
    again = spacy.load(tmp_path / "pipeline")
    loaded = again.get_pipe("nuner_embed")
    assert loaded.labels == nlp.get_pipe("nuner_embed").labels
    assert found_in(again(TEXTS[0])) == found_in(nlp(TEXTS[0]))
    (tmp_path / "pipeline" / "nuner_embed" / "head" / "probe.json").unlink()
    with pytest.raises(ProbeError, match="holds no probe"):
        spacy.load(tmp_path / "pipeline")


def test_the_head_is_not_needed_where_it_was_trained(head, tmp_path):
    """A pipeline that was saved is moved to a place where the path of its config leads nowhere."""
    nuner_embed.Tagger.open(head, threads=1).save(tmp_path / "probe")
    pipeline = spacy.blank("en")
    pipeline.add_pipe("nuner_embed", config={"head": str(tmp_path / "probe"), "threads": 1})
    pipeline.to_disk(tmp_path / "pipeline")
    (tmp_path / "probe").rename(tmp_path / "elsewhere")
    assert spacy.load(tmp_path / "pipeline").get_pipe("nuner_embed").labels
    pipeline.remove_pipe("nuner_embed")
    pipeline.add_pipe("nuner_embed", config={"head": str(tmp_path / "probe")})
    with pytest.raises(ProbeError, match="holds no probe"):
        pipeline("Oslo")


def test_bytes_and_docs(nlp):
    again = spacy.blank("en")
    again.add_pipe("nuner_embed", config={"head": "not read", "threshold": 0.05, "threads": 1})
    again.from_bytes(nlp.to_bytes())
    doc = again(TEXTS[0])
    assert found_in(doc) == found_in(nlp(TEXTS[0]))
    read = spacy.tokens.Doc(again.vocab).from_bytes(doc.to_bytes())
    assert (read.tensor == doc.tensor).all()
    assert (read.spans["nuner_embed"].attrs["scores"] == doc.spans["nuner_embed"].attrs["scores"]).all()
    for span in read.spans["nuner_embed"]:
        assert span._.nuner_vector.shape == doc.tensor.shape[1:]


def test_an_error_handler_gets_the_batch():
    pipeline = spacy.blank("en")
    component = pipeline.add_pipe("nuner_embed", config={"head": "nowhere"})
    told = []
    component.set_error_handler(lambda name, pipe, docs, error: told.append((name, len(docs), str(error))))
    docs = [pipeline.make_doc("Oslo"), pipeline.make_doc("Kiel")]
    assert list(component.pipe(docs)) == docs
    assert component(docs[0]) is docs[0]
    assert [(name, count) for name, count, _ in told] == [("nuner_embed", 2), ("nuner_embed", 1)]
    assert told[0][2].startswith("nowhere holds no probe")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, 'needs either "head", the directory of a probe'),
        ({"head": "p", "concepts": ["city"]}, 'needs either "head"'),
        ({"head": "p", "threshold": 2.0}, "threshold must be between 0 and 1"),
        ({"head": "p", "heads": "q"}, "unexpected argument: 'heads'"),
    ],
)
def test_a_config_that_cannot_be_right(config, said):
    with pytest.raises(ValueError, match=said):
        spacy.blank("en").add_pipe("nuner_embed", config=config)


@pytest.mark.slow
def test_named_types(default_model, tmp_path):
    nlp = spacy.blank("en")
    concepts = {"CITY": "city", "PERSON": ["person", "human"]}
    nlp.add_pipe("nuner_embed", config={"concepts": concepts, "model": str(default_model)})
    text = "Ines Varga flew to Oslo."
    assert [(e.text, e.label_) for e in nlp(text).ents] == [("Ines Varga", "PERSON"), ("Oslo", "CITY")]
    oslo, bergen, boat = (nlp(f"They saw {name}.")[2] for name in ("Oslo", "Bergen", "boats"))
    with pytest.warns(UserWarning, match="W007"):
        assert oslo.similarity(bergen) > oslo.similarity(boat)
    nlp.to_disk(tmp_path / "pipeline")
    assert [e.label_ for e in spacy.load(tmp_path / "pipeline")(text).ents] == ["PERSON", "CITY"]
