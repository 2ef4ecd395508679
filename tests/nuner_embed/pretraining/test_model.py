"""Halves, states, loss and accuracy against the plain way to compute them."""

import numpy as np
import pytest
import torch
from fakes import FAMILIES, UNFUSED_FAMILIES, tiny_model, wordpiece
from torch.nn import functional as F

from nuner_embed.errors import PretrainingError
from nuner_embed.models.resolver import locate
from nuner_embed.pretraining.feed import Source
from nuner_embed.pretraining.halves import FastDropout, Flat, Halves, Padded, use_fast_dropout
from nuner_embed.pretraining.objectives import BiEncoder, top_1
from nuner_embed.pretraining.settings import PretrainSettings
from nuner_embed.pretraining.states import BottomStates, FrozenStates
from nuner_embed.runtimes.torch import load_network

IDS = torch.tensor([[2, 9, 30, 31, 12, 3], [2, 8, 11, 3, 1, 1]])
MASK = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])


def network(folder, family="bert", **options):
    return load_network(locate(str(tiny_model(family, folder / family))), **options)


@pytest.mark.parametrize("family", [*FAMILIES, *UNFUSED_FAMILIES])
def test_two_halves_are_the_whole(tmp_path, family):
    whole = network(tmp_path, family)
    expected = whole(input_ids=IDS, attention_mask=MASK).last_hidden_state
    for cut in (0, 1):
        halves = Halves(network(tmp_path, family), cut)
        given = halves.bottom(IDS, MASK) if cut else IDS
        assert torch.allclose(halves(given, MASK)[MASK > 0], expected[MASK > 0], atol=1e-5)


def test_only_the_layers_above_the_cut_are_trained(tmp_path):
    halves = Halves(network(tmp_path), 1)
    trained = {name for name, one in halves.named_parameters() if one.requires_grad}
    assert trained == {name for name, _ in halves.named_parameters() if ".layer.1." in name}
    halves = Halves(network(tmp_path), 0)
    assert all(one.requires_grad for one in halves.parameters())


@pytest.mark.parametrize("cut", [2, 7])
def test_one_layer_must_be_left(tmp_path, cut):
    with pytest.raises(PretrainingError, match=f"has 2 layers; {cut} cannot be frozen"):
        Halves(network(tmp_path), cut)


@pytest.mark.parametrize("fast", [False, True])
def test_dropout_is_above_the_cut_and_only_while_training(tmp_path, fast):
    halves = Halves(network(tmp_path, attention="eager"), 1, dropout=0.5)
    if fast:
        use_fast_dropout(halves.network)
    given = halves.bottom(IDS, MASK)
    halves.set_training(True)
    assert torch.equal(halves.bottom(IDS, MASK), given)
    assert not torch.equal(halves(given, MASK), halves(given, MASK))
    halves.set_training(False)
    assert torch.equal(halves(given, MASK), halves(given, MASK))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5])
def test_fast_dropout_drops_so_many_and_keeps_the_mean(p):
    torch.manual_seed(0)
    layer = FastDropout(p).train()
    values = torch.ones(301, 1001, requires_grad=True)
    dropped = layer(values)
    share = float((dropped == 0).float().mean())
    assert share == pytest.approx(p, abs=0.004)
    assert float(dropped.detach().mean()) == pytest.approx(1, abs=0.01)
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped)  # the same elements, the same factor
    assert torch.equal(layer.eval()(values), values)
    torch.manual_seed(7)
    first = layer.train()(values)
    torch.manual_seed(7)
    assert torch.equal(layer(values), first)


def states(folder, halves, weights="w", progress=None):
    rng = np.random.default_rng(1)
    lengths = rng.integers(3, 12, 40)
    ids = rng.integers(5, 300, lengths.sum()).astype(np.int32)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    made = FrozenStates(folder / "states.npy", ids, bounds)
    done = []
    made.fill(BottomStates(halves, weights, 0, torch.device("cpu")), progress or (lambda *so_far: done.append(so_far)))
    return made, ids, bounds, done


def test_kept_states_are_the_bottoms(tmp_path):
    halves = Halves(network(tmp_path), 1)
    made, ids, bounds, _ = states(tmp_path, halves)
    for i in range(40):
        alone = torch.from_numpy(ids[bounds[i] : bounds[i + 1]].astype(np.int64))[None]
        expected = halves.bottom(alone, torch.ones_like(alone))[0].numpy()
        assert np.allclose(made[i], expected, atol=2e-3, rtol=1e-3)


def test_states_are_computed_once_for_the_same_weights_and_texts(tmp_path, monkeypatch):
    import nuner_embed.pretraining.states as module

    monkeypatch.setattr(module, "_PIECES_AT_ONCE", 16)
    halves = Halves(network(tmp_path), 1)
    assert states(tmp_path, halves)[3] == [(16, 40), (32, 40), (40, 40)]
    assert states(tmp_path, halves)[3] == []
    assert states(tmp_path, halves, weights="other")[3] == [(16, 40), (32, 40), (40, 40)]


def test_a_mark_never_speaks_of_another_file(tmp_path, monkeypatch):
    """One run's states are done; another's are begun in their place and stopped; the first one comes again."""
    halves = Halves(network(tmp_path), 1)
    whole = np.array(states(tmp_path, halves)[0]._states)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Halves, "bottom", stop)
        with pytest.raises(KeyboardInterrupt):
            states(tmp_path, halves, weights="other")
    assert np.array_equal(states(tmp_path, halves)[0]._states, whole)


def test_states_go_on_where_they_were_interrupted(tmp_path, monkeypatch):
    import nuner_embed.pretraining.states as module

    monkeypatch.setattr(module, "_PIECES_AT_ONCE", 16)
    halves = Halves(network(tmp_path), 1)
    whole = np.array(states(tmp_path, halves)[0]._states)
    (tmp_path / "states.npy").unlink()

    class Stop(Exception):
        pass

    def stop(done, total):
        raise Stop

    with pytest.raises(Stop):
        states(tmp_path, halves, progress=stop)
    again, _, _, done = states(tmp_path, halves)
    assert done == [(32, 40), (40, 40)]
    assert np.array_equal(again._states, whole)


@pytest.mark.parametrize("family", [*FAMILIES, "modernbert", "mpnet"])
@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_without_padding_it_is_the_same(tmp_path, family, pooling):
    """Values and gradients of the flat layers, where there are such, and of the padded ones: token for token."""
    sharp = network(tmp_path, family, attention="eager")
    with torch.no_grad():  # as initialised, attention is all but even, and what it attends to would not matter
        for name, one in sharp.named_parameters():
            sharpened = ("query", "key", "q_lin", "k_lin", "Wqkv", "attn.q", "attn.k")
            if name.endswith("weight") and any(part in name for part in sharpened):
                one.mul_(12)
            if "relative_attention_bias" in name:  # MPNet's
                one.mul_(100)
    halves = Halves(sharp, 1, 0.0)
    made, ids, bounds, _ = states(tmp_path, halves)
    assert halves.takes_flat == (family not in ("distilbert", "modernbert"))
    numbers = np.array([3, 17, 8, 30, 1])
    numbers = numbers[np.argsort(np.diff(bounds)[numbers], kind="stable")]
    found = {}
    for name, kept in (("padded", None), ("kept", made)):
        source = Source(halves, ids, bounds, (1, 1), kept, 0, torch.device("cpu"))
        pieces = source.pieces(numbers)
        assert isinstance(pieces, Flat if kept is not None and halves.takes_flat else Padded)
        tokens, vectors = halves.tokens(pieces), halves.pooled(pieces, pooling)
        halves.zero_grad()
        (tokens.square().sum() + vectors.square().sum()).backward()
        found[name] = [tokens, vectors, *(one.grad for one in halves.trained.parameters())]
    assert len(found["padded"][0]) == (np.diff(bounds)[numbers] - 2).sum()
    for padded, kept in zip(*found.values(), strict=True):
        assert torch.allclose(padded, kept, atol=2e-2, rtol=1e-2)


def test_texts_without_tokens_take_part(tmp_path):
    """An empty text is its two special tokens, of which none is asked for."""
    halves = Halves(network(tmp_path, attention="eager"), 1, 0.0)
    ids, bounds = np.arange(5, 18, dtype=np.int32), np.array([0, 2, 4, 13])
    kept = FrozenStates(tmp_path / "states.npy", ids, bounds)
    kept.fill(BottomStates(halves, "w", 0, torch.device("cpu")), lambda *so_far: None)
    found = []
    for states_ in (None, kept):
        pieces = Source(halves, ids, bounds, (1, 1), states_, 0, torch.device("cpu")).pieces(np.arange(3))
        tokens = halves.tokens(pieces)
        tokens.sum().backward()
        found.append(tokens)
    assert isinstance(pieces, Flat)
    assert found[0].shape == (7, 16)
    assert torch.allclose(*found, atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_pieces_of_one_group_may_begin_at_different_places(tmp_path, family):
    """The vector of an empty name is its first special token, of any other name the tokens after that."""
    sharp = network(tmp_path, family, attention="eager")
    with torch.no_grad():
        for name, one in sharp.named_parameters():
            if "relative_attention_bias" in name:
                one.mul_(100)
    halves = Halves(sharp, 1, 0.0)
    ids, bounds = np.arange(5, 10, dtype=np.int32), np.array([0, 2, 5])
    kept = FrozenStates(tmp_path / "states.npy", ids, bounds)
    kept.fill(BottomStates(halves, "w", 0, torch.device("cpu")), lambda *so_far: None)
    pieces = Source(halves, ids, bounds, (1, 1), kept, 0, torch.device("cpu")).pieces(np.arange(2))
    assert isinstance(pieces, Flat)
    found = halves.pooled(pieces, "mean")
    for number, token in enumerate((0, 1)):
        alone = torch.from_numpy(ids[bounds[number] : bounds[number + 1]].astype(np.int64))[None]
        expected = halves(halves.bottom(alone, torch.ones_like(alone)), torch.ones_like(alone))[0, token]
        assert torch.allclose(found[number], expected, atol=2e-3, rtol=1e-3)


def test_groups_keep_their_places(tmp_path):
    halves = Halves(network(tmp_path), 1, 0.0)
    made, ids, bounds, _ = states(tmp_path, halves)
    numbers = np.arange(40)
    vectors = []
    for kept in (None, made):
        groups, place = Source(halves, ids, bounds, (1, 1), kept, 0, torch.device("cpu")).groups(numbers)
        vectors.append(torch.cat([halves.pooled(group, "mean") for group in groups])[place])
    alone = [
        halves.pooled(
            Source(halves, ids, bounds, (1, 1), None, 0, torch.device("cpu")).pieces(numbers[i : i + 1]), "mean"
        )
        for i in range(40)
    ]
    assert torch.allclose(vectors[0], torch.cat(alone), atol=1e-4)
    assert torch.allclose(vectors[1], torch.cat(alone), atol=1e-2)


def test_no_room_for_the_states(tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(PretrainingError, match="0.0 GB are free in .*--no-cache"):
        states(tmp_path, Halves(network(tmp_path), 1))


def bi_encoder(folder, prior=0.01, **values):
    settings = PretrainSettings(dropout=0.0, **values)
    halves = [Halves(network(folder), 1, 0.0) for _ in range(2)]
    return BiEncoder(*halves, settings, prior)


CONCEPTS = torch.tensor([[2, 40, 41, 3], [2, 50, 3, 0], [2, 60, 61, 3]])
CONCEPT_MASK = torch.tensor([[1] * 4, [1] * 3 + [0], [1] * 4])
TARGETS = torch.zeros(2, 6, 3)
TARGETS[0, 2, 0] = TARGETS[0, 3, 0] = TARGETS[0, 3, 2] = TARGETS[1, 1, 1] = 1
COUNTS = MASK.bool().clone()
COUNTS[:, 0] = COUNTS[0, 5] = COUNTS[1, 3] = False


@pytest.mark.parametrize("loss", ["sigmoid", "paper"])
@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_the_loss_is_the_binary_cross_entropy_of_the_dense_array(tmp_path, loss, pooling):
    model = bi_encoder(tmp_path, loss=loss, concept_pooling=pooling)
    texts = model.text.network(input_ids=IDS, attention_mask=MASK).last_hidden_state
    names = model.concept.network(input_ids=CONCEPTS, attention_mask=CONCEPT_MASK).last_hidden_state
    if pooling == "first":
        vectors = names[:, 0]
    else:
        vectors = torch.stack([names[0, 1:3].mean(0), names[1, 1:2].mean(0), names[2, 1:3].mean(0)])
    if loss == "paper":
        logits = texts @ vectors.T / 5.0
        expected = F.binary_cross_entropy_with_logits(logits[COUNTS], TARGETS[COUNTS])
    else:
        cosines = F.normalize(texts, dim=-1) @ F.normalize(vectors, dim=-1).T
        logits = 10 * cosines + np.log(0.01 / 0.99)
        expected = F.binary_cross_entropy_with_logits(logits[COUNTS], TARGETS[COUNTS], reduction="none").sum(1).mean()
    inner = torch.from_numpy(np.flatnonzero(COUNTS.numpy()))
    token, column = torch.nonzero(TARGETS[COUNTS], as_tuple=True)
    given = Padded(model.text.bottom(IDS, MASK), MASK, inner)
    groups = []
    for some, inner_of_names in (([0, 1], [1, 2, 5]), ([2], [1, 2])):
        bottom = model.concept.bottom(CONCEPTS[some], CONCEPT_MASK[some])
        groups.append(Padded(bottom, CONCEPT_MASK[some], torch.tensor(inner_of_names)))
    found = model(given, groups, token, column)
    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-4)
    best = logits[COUNTS].argmax(1)
    labelled = TARGETS[COUNTS].any(1)
    correct = TARGETS[COUNTS][torch.arange(len(best)), best].bool() & labelled
    assert (int(found.correct), int(found.labelled)) == (int(correct.sum()), int(labelled.sum()))


def test_the_bias_begins_at_the_prior(tmp_path):
    assert torch.sigmoid(bi_encoder(tmp_path, prior=0.003).bias).item() == pytest.approx(0.003)


def test_top_1_by_hand():
    logits = torch.tensor([[1.0, 5, 2], [3, 1, 2], [0, 0, 9]])
    token, column = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2])
    assert [int(x) for x in top_1(logits, token, logits[token, column])] == [1, 2]


def test_the_tokenizer_of_the_fakes_has_specials():
    assert (len(wordpiece().prefix), len(wordpiece().suffix)) == (1, 1)  # what the tests above count on
