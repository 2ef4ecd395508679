"""A run's state in a file: what was written is read, and nothing else."""

import os
import random

import pytest
import torch

from nuner_embed.errors import PretrainingError
from nuner_embed.pretraining.run_state import Progressed, Row, Sums, load_state, save_state

PROGRESSED = Progressed("a" * 64, 3, [Row(0, 0.0, validation_loss=0.5), Row(3, 1.0, 0.25, 0.5)], Sums(1.5, 3, 4, 2))


def network(seed):
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 2)
    return model, torch.optim.AdamW(model.parameters())


def learn(model, optimizer):
    for _ in range(3):
        model(torch.ones(3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def same(one, other):
    for a, b in zip(one[0].parameters(), other[0].parameters(), strict=True):
        if not torch.equal(a, b) or not all(
            torch.equal(one[1].state[a][k], other[1].state[b][k]) for k in one[1].state[a]
        ):
            return False
    return True


@pytest.fixture
def kept(tmp_path):
    pair = network(0)
    learn(*pair)
    save_state(tmp_path / "state.safetensors", *pair, PROGRESSED)
    return tmp_path / "state.safetensors", pair


def test_what_was_written_is_read(kept):
    path, pair = kept
    other = network(1)
    assert load_state(path, *other) == PROGRESSED
    assert same(pair, other)


def test_the_best_parameters_are_kept_beside_the_last(kept, tmp_path):
    path, pair = kept
    best = {name: one.detach() + 1 for name, one in pair[0].named_parameters()}
    save_state(path, *pair, PROGRESSED, best)
    other, found = network(1), {}
    assert load_state(path, *other, found) == PROGRESSED
    assert same(pair, other)
    assert found.keys() == best.keys()
    assert all(torch.equal(found[name], best[name]) for name in best)
    save_state(path, *pair, PROGRESSED)
    with pytest.raises(PretrainingError, match="the state of the run is damaged .*best:weight"):
        load_state(path, *network(1), found)


def test_any_byte_may_be_another(kept):
    """The state is as it was, or one line says that it is damaged, and the network is as new."""
    path, pair = kept
    whole, chance = path.read_bytes(), random.Random(0)
    for number in range(600):
        place = chance.randrange(len(whole))
        rest = bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :] if number % 4 else b""
        path.write_bytes(whole[:place] + rest)
        other = network(1)
        try:
            assert load_state(path, *other) == PROGRESSED
        except PretrainingError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert "--force starts over" in str(error)  # noqa: PT017
            assert torch.equal(other[0].weight, network(1)[0].weight)
        else:
            assert same(pair, other)
    for put in (os.mkfifo, os.mkdir, lambda where: where.symlink_to("/dev/zero")):
        path.unlink()
        put(path)
        with pytest.raises(PretrainingError, match="the state of the run is damaged"):
            load_state(path, *network(1))
        path.rmdir() if path.is_dir() else path.unlink()
        path.touch()


def test_a_state_of_another_network_is_refused(kept):
    path, _ = kept
    wide = torch.nn.Linear(3, 1)  # to which copying would stretch numbers
    with pytest.raises(PretrainingError, match=r"has shape \(2, 3\), not \(1, 3\)"):
        load_state(path, wide, torch.optim.AdamW(wide.parameters()))
