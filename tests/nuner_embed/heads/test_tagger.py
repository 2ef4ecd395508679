"""From annotated texts to a probe and its mentions; and what cannot be learnt."""

from dataclasses import replace

import pytest
from fakes import hash_encoder
from ferries import TRAINING, annotated, wide_encoder

from nuner_embed import score_tagger, train_probe
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.documents import Document, Span
from nuner_embed.errors import CorpusError, ProbeError
from nuner_embed.evaluation.metrics import Scores
from nuner_embed.heads import tagger as module
from nuner_embed.heads.labelled_words import SCHEME
from nuner_embed.heads.tagger import Tagger


@pytest.fixture
def tagger(tmp_path):
    return train_probe(TRAINING, wide_encoder(), C=10.0, cache=tmp_path)


def test_it_finds_what_it_learnt_where_it_stands(tagger):
    text = "😀 seven\r\nthe ferry, Vol kova!"
    (found,) = tagger.tag([Document("x", text)])
    assert [(text[span.start : span.end], span.label) for span in found.spans] == [
        ("seven", "time"),
        ("ferry", "boat"),
        ("Vol kova", "time"),
    ]
    assert all(0 < span.score <= 1 for span in found.spans)
    assert (found.id, found.text) == ("x", text)


def test_a_threshold_is_how_probable_a_type_must_be(tagger):
    text = "the ferry left at seven, at an Zürich"
    (default,) = tagger.tag([Document("x", text)])
    assert tagger.tag([Document("x", text)], threshold=0.5)[0].spans == default.spans
    found = {t: tagger.tag([Document("x", text)], threshold=t)[0].spans for t in (1e-6, 0.999999)}
    assert len(found[1e-6]) == 1 or len(found[1e-6]) > len(default.spans)
    assert sum(span.end - span.start for span in found[1e-6]) > sum(span.end - span.start for span in default.spans)
    assert found[0.999999] == ()
    for wrong in (0, 1, float("nan")):
        with pytest.raises(ValueError, match="threshold must be between 0 and 1"):
            tagger.tag([Document("x", text)], threshold=wrong)


def test_documents_keep_their_order_and_old_spans_go(tagger):
    given = [annotated("the ferry"), Document("empty", ""), Document("plain", "the the", spans=(Span(0, 3, "x"),))]
    assert [len(document.spans) for document in tagger.tag(given)] == [1, 0, 0]
    assert tagger.tag([Document("empty", "")])[0].spans == ()


def test_scores_of_the_training_texts_are_perfect(tagger, tmp_path):
    scores = score_tagger(tagger, TRAINING, cache=tmp_path)
    assert isinstance(scores, Scores)
    assert scores.token_macro_f1 == scores.span_micro_f1 == 1
    assert scores.to_dict()["scheme"] == SCHEME
    assert score_tagger(tagger, TRAINING, types=["boat"], cache=tmp_path).types == ("boat",)


def test_another_encoder_is_refused_naming_both(tagger, tmp_path, monkeypatch):
    tagger.save(tmp_path / "probe")
    other = hash_encoder(pooling="mean")
    monkeypatch.setattr(module, "load_encoder", lambda name, threads, **recipe: other)
    with pytest.raises(ProbeError) as caught:
        Tagger.open(tmp_path / "probe", model="elsewhere")
    assert tagger.encoder.semantic_hash[:12] in str(caught.value)
    assert other.semantic_hash[:12] in str(caught.value)


def test_weights_for_vectors_of_another_length(tagger):
    narrow = replace(tagger.head.weights, coef=tagger.head.weights.coef[:, :5])
    with pytest.raises(ProbeError, match="are for vectors of 5 numbers, the encoder's have 32; train the probe again"):
        replace(tagger, head=replace(tagger.head, weights=narrow)).tag("the ferry")


def test_k_draws_a_support_set(tmp_path):
    many = [annotated("the ferry left at seven", i) for i in range(20)]
    facts = train_probe(many, hash_encoder(), k=3, seed=1, cache=tmp_path).head.facts.training
    assert (facts.k, facts.seed) == (3, 1)
    assert all(3 <= count <= 6 for count in facts.mentions.values())
    assert facts.sentences < 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"types": ["river"]}, "the data holds no mention of river; its types are boat, time"),
        ({"k": 4}, "too few mentions for k = 4: time has 3 of 4; take a smaller k, or --short-types drop"),
        ({"k": 9, "short_types": "drop"}, "no type has 9 mentions; take a smaller k"),
    ],
)
def test_what_cannot_be_learnt_is_one_line(tmp_path, arguments, said):
    with pytest.raises(ProbeError, match=said):
        train_probe(TRAINING, hash_encoder(), cache=tmp_path, **arguments)


def test_short_types_are_dropped_or_kept(tmp_path):
    dropped = train_probe(TRAINING, wide_encoder(), C=10.0, k=4, short_types="drop", cache=tmp_path)
    assert dropped.types == ("boat",)
    assert dropped.head.facts.training.left_out == {"time": 3}
    assert score_tagger(dropped, TRAINING, cache=tmp_path).token_macro_f1 == 1  # times count as none
    kept = train_probe(TRAINING, hash_encoder(), k=4, short_types="keep", cache=tmp_path)
    assert kept.head.facts.training.mentions == {"boat": 4, "time": 3}


def test_a_type_of_which_no_word_can_be_learnt_is_left_out_and_said(tmp_path):
    text = "the ferry \u200b left"
    spans = (Span(4, 9, "boat"), Span(10, 11, "nothing"), Span(0, 9, "shadowed"))
    documents = [Document("d", text, spans=spans)]
    tagger = train_probe(documents, wide_encoder(), C=10.0, cache=tmp_path)
    assert tagger.types == ("boat",)
    assert tagger.head.facts.training.left_out == {"nothing": 1, "shadowed": 1}
    assert score_tagger(tagger, documents, cache=tmp_path).token_macro_f1 == 1
    with pytest.raises(ProbeError, match="words of one class only"):
        train_probe([Document("d", text, spans=spans[1:2])], wide_encoder(), cache=tmp_path)


def test_words_of_one_class_only(tmp_path):
    with pytest.raises(ProbeError, match="holds words of one class only"):
        train_probe([Document("d", "ferry", spans=(Span(0, 5, "boat"),))], hash_encoder(), cache=tmp_path)


def test_types_that_the_probe_does_not_know(tagger, tmp_path):
    with pytest.raises(ProbeError, match="holds the types river, which the probe does not know; it knows boat, time"):
        score_tagger(tagger, [Document("d", "the", spans=(Span(0, 3, "river"),))], cache=tmp_path)


def test_corpora_without_mentions(tmp_path):
    (tmp_path / "a.txt").write_text("O\tthe\nB-boat\tferry\n")
    with pytest.raises(CorpusError, match="holds no annotated mention; .* --format conll reads it as words and tags"):
        read_annotated([tmp_path / "a.txt"])
    documents, _ = read_annotated([tmp_path / "a.txt"], "conll")
    assert [span.label for document in documents for span in document.spans] == ["boat"]
    (tmp_path / "b.conll").write_text("the\tO\nferry\tO\n")
    with pytest.raises(CorpusError, match="needed here$"):
        read_annotated([tmp_path / "b.conll"])


def test_a_probe_whose_data_never_showed_a_word_of_none(tmp_path):
    texts = [Document(str(i), "ferry seven", spans=(Span(0, 5, "boat"), Span(6, 11, "time"))) for i in range(2)]
    tagger = train_probe(texts, hash_encoder(), cache=tmp_path)
    assert tagger.head.weights.classes.tolist() == [1, 2]
    (found,) = tagger.tag([Document("x", "seven ferry")])
    assert [span.label for span in found.spans] == ["time", "boat"]


def test_a_type_may_be_called_none_and_one_span_of_o_is_no_mention(tmp_path):
    named = [
        replace(
            one, spans=tuple(replace(span, label={"boat": "None", "time": "time"}[span.label]) for span in one.spans)
        )
        for one in TRAINING
    ]
    named[0] = replace(named[0], spans=(*named[0].spans, Span(0, 3, "O")))  # "the"
    tagger = train_probe(named, wide_encoder(), C=10.0, cache=tmp_path)
    assert (tagger.types, tagger.head.facts.training.left_out) == (("None", "time"), {"O": 1})
    (found,) = tagger.tag("the ferry at seven")
    assert [(span.start, span.end, span.label) for span in found.spans] == [(4, 9, "None"), (13, 18, "time")]
    scores = score_tagger(tagger, named, cache=tmp_path)
    assert scores.span_micro_f1 == 1
    assert scores.to_dict()["per_type"]["None"]["spans"] == 4
    assert scores.to_dict(confusion=True)["confusion"]["classes"] == [
        "None",
        "None",
        "time",
    ]  # the first are words in no mention
    with pytest.raises(ProbeError, match="holds no annotated mention"):
        train_probe([Document("x", "the ferry", spans=(Span(0, 3, "O"),))], wide_encoder(), cache=tmp_path)
    with pytest.raises(ProbeError, match="holds no mention of O; its types are None, time"):
        train_probe(named, wide_encoder(), types=["O"], cache=tmp_path)
