"""The three figures against scikit-learn and nervaluate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nervaluate import Evaluator
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from nuner_embed.evaluation.metrics import Counts, Scores
from nuner_embed.heads.labelled_words import Runs, WordLabels, runs_of
from nuner_embed.tags import BIO, PLAIN, tags_to_spans

TYPES = ("A", "B", "C")
TAGS = ["O", *(f"{prefix}-{name}" for name in TYPES for prefix in "BI")]
sentences = st.lists(
    st.integers(1, 8).flatmap(
        lambda n: st.tuples(
            st.lists(st.sampled_from(TAGS), min_size=n, max_size=n),
            st.lists(st.sampled_from(range(len(TYPES) + 1)), min_size=n, max_size=n),
        )
    ),
    min_size=1,
    max_size=6,
)


def scored(pairs):
    """Scores of predicted codes on BIO-tagged sentences, and both as spans of words."""
    bounds = np.cumsum([0, *(len(tags) for tags, _ in pairs)])
    gold_codes = np.array([0 if tag == "O" else 1 + TYPES.index(tag[2:]) for tags, _ in pairs for tag in tags])
    codes = np.array([code for _, predicted in pairs for code in predicted])
    gold, found = [], []
    for tags, predicted in pairs:
        words = [(i, i + 1) for i in range(len(tags))]
        gold.append(tags_to_spans(tags, words, BIO))
        plain = ["O" if code == 0 else TYPES[code - 1] for code in predicted]
        found.append(tags_to_spans(plain, words, PLAIN))
    mentions = [
        (base + span.start, base + span.end, 1 + TYPES.index(span.label))
        for base, spans in zip(bounds, gold, strict=False)
        for span in spans
    ]
    runs = Runs(*np.array(mentions, dtype=np.int64).reshape(-1, 3).T)
    labels = WordLabels(gold_codes, runs, lost=0)
    return Scores.of(TYPES, labels, codes, runs_of(codes, bounds), len(pairs)), gold_codes, codes, gold, found


@pytest.mark.slow
@given(sentences)
@settings(max_examples=200)
def test_words_against_scikit_learn(pairs):
    scores, gold, codes, _, _ = scored(pairs)
    np.testing.assert_array_equal(scores.confusion, confusion_matrix(gold, codes, labels=range(4)))
    for value, first in ((scores.token_macro_f1, 1), (scores.token_macro_f1_with_none, 0)):
        present = sorted({*gold.tolist(), *codes.tolist()} - set(range(first)))
        if present:
            *_, macro, _ = precision_recall_fscore_support(
                gold, codes, labels=present, average="macro", zero_division=0
            )
            assert value == pytest.approx(macro)
        else:
            assert value == 0
    precision, recall, f1, support = precision_recall_fscore_support(gold, codes, labels=range(4), zero_division=0)
    np.testing.assert_allclose(scores.tokens.precision(), precision)
    np.testing.assert_allclose(scores.tokens.recall(), recall)
    np.testing.assert_allclose(scores.tokens.f1(), f1)
    np.testing.assert_array_equal(scores.tokens.annotated, support)


@given(sentences)
@settings(max_examples=120)
def test_mentions_against_nervaluate(pairs):
    scores, _, _, gold, found = scored(pairs)

    def entities(spans):  # nervaluate's ends are inclusive
        return [[{"label": span.label, "start": span.start, "end": span.end - 1} for span in one] for one in spans]

    if not any(gold):
        assert scores.span_micro_f1 == 0
        return
    strict = Evaluator(entities(gold), entities(found), tags=list(TYPES), loader="dict").evaluate()["overall"]["strict"]
    total = scores.spans.total()
    assert int(total.right[0]) == strict.correct
    assert float(total.precision()[0]) == pytest.approx(strict.precision)
    assert float(total.recall()[0]) == pytest.approx(strict.recall)
    assert scores.span_micro_f1 == pytest.approx(strict.f1)
    for i, name in enumerate(TYPES, start=1):
        exact = [(number, span) for number, one in enumerate(gold) for span in one if span.label == name]
        assert scores.spans.annotated[i] == len(exact)
        assert scores.spans.right[i] == sum(span in found[number] for number, span in exact)


@given(sentences, st.data())
def test_scores_of_parts_add_up(pairs, data):
    cut = data.draw(st.integers(0, len(pairs)))
    whole = scored(pairs)[0]
    if 0 < cut < len(pairs):
        summed = scored(pairs[:cut])[0] + scored(pairs[cut:])[0]
        assert summed.to_dict() == whole.to_dict()


def test_two_mentions_that_touch_are_one_prediction():
    """The price of labels without BIO, which every report states."""
    scores, *_ = scored([(["B-A", "B-A", "O"], [1, 1, 0])])
    assert scores.token_macro_f1 == 1
    assert scores.span_micro_f1 == 0


def test_scores_over_other_types_do_not_add():
    scores = scored([(["B-A"], [1])])[0]
    none = np.zeros(1, np.int64)
    other = Scores(("X",), np.zeros((2, 2), np.int64), Counts(none, none, none), 1)
    with pytest.raises(ValueError, match="cannot be added"):
        scores + other


def test_the_keys_that_others_rely_on():
    scores = scored([(["B-A", "O"], [1, 2])])[0]
    found = scores.to_dict()
    assert list(found) == [
        "token_macro_f1", "token_macro_f1_with_none", "span_micro_f1", "span_micro_precision", "span_micro_recall",
        "scheme", "per_type", "sentences", "tokens", "lost_mentions",
    ]  # fmt: skip
    assert (found["sentences"], found["tokens"]) == (1, 2)
    assert found["span_micro_precision"] == 0.5
    assert scores.to_dict(confusion=True)["confusion"] == {
        "classes": ["None", "A", "B", "C"],
        "counts": [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
    }
