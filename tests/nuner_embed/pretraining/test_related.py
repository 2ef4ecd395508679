"""A thesaurus for the objective contrastive: what it adds to batches and to the loss, and whole runs with one."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import wordpiece
from hypothesis import given
from hypothesis import strategies as st
from pretraining_runs import metrics, run, same, stop_now_and_then, weights
from torch import nn
from torch.nn import functional as F

from nuner_embed.errors import PretrainingError
from nuner_embed.pretraining.examples import Batch, positive_share
from nuner_embed.pretraining.facts import read_model
from nuner_embed.pretraining.objectives import BiEncoder
from nuner_embed.pretraining.related import Related
from nuner_embed.pretraining.settings import PretrainSettings
from nuner_embed.pretraining.thesaurus import Thesaurus

LINES = {
    "city": (("town", "in"), ("left", "the")),  # the concept, its synonyms, its broader types
    "seven": ((), ("city",)),
    "boat": (("ferry",), ("left",)),
    "raft": (("boat",), ()),
    "nobody": (("number",), ("rome",)),
}
LABELS = ("city", "seven", "boat", "left", "nowhere", "kiel")
BROADER = 0.25
THESAURUS = Thesaurus({c: s for c, (s, _) in LINES.items()}, {c: b for c, (_, b) in LINES.items()}, "0" * 64)


def related(draws=1.0, broader_weight=BROADER):
    return Related.of(LABELS, THESAURUS, wordpiece(), draws, broader_weight)


NAMES = {*LINES, *(name for lists in LINES.values() for names in lists for name in names)}


def listed_weight(one, other):
    """How much one name holds for the mentions of another by a line of its own, or the other's; None: no line says."""
    synonyms, broader = LINES.get(one, ((), ()))
    if other in synonyms or one in LINES.get(other, ((), ()))[0]:
        return 1.0
    return BROADER if other in broader else None


def expected_weight(one, other):
    """The same from all lines; None: a negative."""
    if one == other:
        return 1.0
    if (weight := listed_weight(one, other)) is not None:
        return weight
    ways = [(one, other), (other, one)]  # a narrower type, and what follows from two lines, in either direction
    apart = any(listed_weight(a, name) and listed_weight(name, b) for a, b in ways for name in NAMES)
    return 0.0 if apart or listed_weight(other, one) else None


def test_the_names_that_a_thesaurus_adds():
    found = related()
    assert found.names[: len(LABELS)] == LABELS
    assert set(found.names[len(LABELS) :]) == {"town", "in", "the", "ferry", "raft"}  # nothing of "nobody"
    for number, one in enumerate(LABELS):
        here = slice(found.bounds[number], found.bounds[number + 1])
        weights = {found.names[i]: float(w) for i, w in zip(found.other[here], found.weight[here], strict=True)}
        assert weights == {
            other: expected_weight(one, other) for other in found.names if expected_weight(one, other) is not None
        }
        drawable = {found.names[i] for i in found.other[here][found.drawable[here]]}
        assert drawable == {name for name, weight in weights.items() if weight and name != one}


def test_names_of_the_same_tokens_are_one():
    thesaurus = Thesaurus({"City": ("TOWN", "Boat")}, {"City": ("city",)}, "0" * 64)
    found = Related.of(("city", "boat", "town"), thesaurus, wordpiece(), 1.0, BROADER)
    assert found.names == ("city", "boat", "town")
    assert found.other[: found.bounds[1]].tolist() == [0, 1, 2]
    assert found.weight[: found.bounds[1]].tolist() == [1, 1, 1]


def batches():
    """Batches of pairs of tokens and labels."""
    pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, len(LABELS) - 1)), min_size=1, max_size=12)
    return pairs.map(_batch)


def _batch(pairs):
    token, label = (np.array(one) for one in zip(*sorted(set(pairs)), strict=True))
    labels, column = np.unique(label, return_inverse=True)
    return Batch(np.array([0]), 6, labels, token, column)


@given(batches(), st.sampled_from([None, 0.0, 0.4, 1.0, 2.5, 50.0]), st.integers(0, 5))
def test_pairs_token_by_token(batch, draws, seed):
    """Against loops over all pairs: of a token's concepts, the one that gives a column the greatest weight counts."""
    found = related(draws or 0.0)
    extended = found.extended(batch, None if draws is None else np.random.default_rng(seed))
    names = [found.names[i] for i in extended.labels]
    assert names[: len(batch.labels)] == [LABELS[i] for i in batch.labels]
    assert len(set(names)) == len(names)
    weights = {}
    for token, own in zip(batch.token, batch.column, strict=True):
        for column, name in enumerate(names):
            weight = expected_weight(names[own], name)
            if weight is not None:
                weights[token, column] = max(weight, weights.get((token, column), 0.0))
    pairs = zip(extended.token.tolist(), extended.column.tolist(), strict=True)
    assert dict(zip(pairs, extended.weight.tolist(), strict=True)) == weights
    assert len(extended.token) == len(weights)
    assert positive_share([extended]) == pytest.approx(sum(weights.values()) / (6 * len(names)))


@given(batches(), st.sampled_from([0.0, 0.4, 1.0, 2.5, 50.0]), st.integers(0, 5))
def test_so_many_names_are_drawn(batch, draws, seed):
    drawn = related(draws).extended(batch, np.random.default_rng(seed)).labels[len(batch.labels) :]
    names = [related().names[i] for i in drawn]
    there = {LABELS[i] for i in batch.labels}
    possible = {one: {name for name in related().names if expected_weight(one, name)} - there for one in there}
    assert set(names) <= set().union(*possible.values())
    assert len(names) <= sum(min(len(some), int(np.ceil(draws))) for some in possible.values())
    assert all(len(some & set(names)) >= min(len(some), int(draws)) for some in possible.values())
    again = related(draws).extended(batch, np.random.default_rng(seed)).labels
    assert again[len(batch.labels) :].tolist() == drawn.tolist()


def test_a_fraction_is_drawn_now_and_then():
    batch, random = _batch([(0, 2)]), np.random.default_rng(0)  # "boat", which has three names to draw
    counts = [len(related(1.3).extended(batch, random).labels) - 1 for _ in range(2000)]
    assert set(counts) == {1, 2}
    assert np.mean(counts) == pytest.approx(1.3, abs=0.04)


@pytest.mark.parametrize("loss", ["sigmoid", "paper"])
def test_the_loss_pair_by_pair(loss):
    generator = torch.Generator().manual_seed(1)
    tokens, concepts = (torch.randn(n, 8, generator=generator, dtype=torch.float64) for n in (5, 4))
    model = BiEncoder(nn.Identity(), nn.Identity(), PretrainSettings(loss=loss), 0.1).double()
    weights = {(0, 0): 1.0, (0, 2): 0.25, (1, 3): 0.0, (3, 1): 1.0, (3, 0): 0.5, (4, 1): 1.0}
    token, column = (torch.tensor(one) for one in zip(*weights, strict=True))
    weight = torch.tensor(list(weights.values()), dtype=torch.float64)
    compared = model._compare(tokens, concepts, token, column, weight)
    logits, expected = model.logits(tokens, concepts), 0.0
    for i, row in enumerate(logits):
        for j, logit in enumerate(row):
            if (i, j) in weights:
                expected = expected + weights[i, j] * F.softplus(-logit)
            else:
                expected = expected + F.softplus(logit)
    expected = expected / (5 if loss == "sigmoid" else 20)
    assert torch.allclose(compared.loss, expected)
    best = logits.argmax(1).tolist()
    assert int(compared.correct) == sum(weights.get((i, best[i])) == 1 for i in (0, 3, 4))
    assert int(compared.labelled) == 3
    whole = weight == 1
    plain = model._compare(tokens, concepts, token[whole], column[whole], None)
    as_weights = model._compare(tokens, concepts, token[whole], column[whole], weight[whole])
    assert torch.allclose(plain.loss, as_weights.loss)


@pytest.fixture(scope="module")
def thesaurus(tmp_path_factory):
    path = tmp_path_factory.mktemp("thesaurus") / "t.tsv"
    path.write_text("boat\tferry|raft|the third\tship|baltic city|seven\nbaltic city\ttown\tthe|number\n")
    return path


@pytest.fixture(scope="module")
def with_thesaurus(data, base, thesaurus, tmp_path_factory):
    output = tmp_path_factory.mktemp("with") / "m"
    notes = []
    facts = run(data, base, output, accumulate=2, options={"thesaurus": thesaurus, "note": notes.append})
    return output, facts, notes


def test_a_run_with_a_thesaurus(with_thesaurus, trained):
    output, facts, notes = with_thesaurus
    assert "the thesaurus has 2 of the 2 concepts and adds 7 names" in notes
    assert (facts["settings"]["related_draws"], facts["settings"]["broader_weight"]) == (1.0, 0.5)
    assert read_model(output).thesaurus == facts["thesaurus"]
    assert "with a thesaurus" in (output / "README.md").read_text()
    assert facts["data"]["labels"] == 2  # those of the corpus
    assert "thesaurus" not in trained[1]
    assert not {"related_draws", "broader_weight"} & set(trained[1]["settings"])  # the fingerprint of earlier versions
    assert "thesaurus" not in (trained[0] / "README.md").read_text()


def test_interrupted_with_a_thesaurus_it_ends_in_the_same_weights(
    with_thesaurus, data, base, thesaurus, tmp_path, monkeypatch
):
    stop_now_and_then(monkeypatch)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(data, base, tmp_path / "m", accumulate=2, options={"thesaurus": thesaurus})
    with pytest.raises(PretrainingError, match=r"begun with another .*related_draws \(1.0 there, None here\)"):
        run(data, base, tmp_path / "m", accumulate=2)
    run(data, base, tmp_path / "m", accumulate=2, options={"thesaurus": thesaurus})
    assert same(weights(tmp_path / "m"), weights(with_thesaurus[0]))
    assert metrics(tmp_path / "m") == metrics(with_thesaurus[0])


def test_what_the_settings_change(data, base, thesaurus, tmp_path):
    """Each of them changes the weights; a thesaurus without any name of the corpus changes nothing but rounding."""
    (tmp_path / "other.tsv").write_text("kiel\toslo\tcity\n")
    made = []
    for number, (file, values) in enumerate(
        [
            (thesaurus, {}),
            (thesaurus, {"related_draws": 0.0}),
            (thesaurus, {"broader_weight": 0}),
            (thesaurus, {"loss": "paper"}),
            (tmp_path / "other.tsv", {}),
            (None, {}),
        ]
    ):
        run(data, base, tmp_path / str(number), epochs=1, options={"thesaurus": file}, **values)
        made.append(weights(tmp_path / str(number)))
    assert not any(same(a, b) for i, a in enumerate(made[:-1]) for b in made[:i])
    for name, one in made[-1].items():
        assert torch.allclose(made[-2][name], one, atol=1e-6), name


def test_what_a_thesaurus_does_not_go_with(data, base, thesaurus, tmp_path):
    with pytest.raises(PretrainingError, match="objectives contrastive and spans; token-classification learns tags"):
        run(data, base, tmp_path / "m", objective="token-classification", options={"thesaurus": thesaurus})
    for name in ("related_draws", "broader_weight"):
        with pytest.raises(PretrainingError, match=f"{name} goes with a thesaurus; give one with --thesaurus FILE"):
            run(data, base, tmp_path / "m", **{name: 0.5})
        with pytest.raises(ValueError, match=f"{name} goes with the objective contrastive"):
            PretrainSettings(objective="spans", **{name: 0.5})
    with pytest.raises(ValueError, match="broader_weight must be between 0 and 1"):
        PretrainSettings(broader_weight=1.5)
    (tmp_path / "twice.tsv").write_text("boat\tship\t-\n\nboat\traft\t-\n")
    with pytest.raises(PretrainingError, match=r"twice\.tsv, line 3: 'boat' has a line already, line 1; make one line"):
        run(data, base, tmp_path / "m", options={"thesaurus": tmp_path / "twice.tsv"})
    assert not (tmp_path / "m").exists()


def test_the_settings_of_a_run_without_a_thesaurus_are_those_of_earlier_versions():
    """What an earlier version wrote down of a run has neither setting."""
    settings = PretrainSettings()
    assert json.loads(json.dumps(settings.to_dict())).keys().isdisjoint({"related_draws", "broader_weight"})
    assert replace(settings, related_draws=0.0).to_dict()["related_draws"] == 0.0
