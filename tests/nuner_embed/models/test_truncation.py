"""A network of the first layers of another: what it computes, and what is refused."""

import json

import pytest
import torch
from command import run
from fakes import FAMILIES, UNFUSED_FAMILIES, tiny_model

from nuner_embed.errors import ModelError
from nuner_embed.models.resolver import locate
from nuner_embed.models.snapshot import save_model
from nuner_embed.models.weights import read_tensors
from nuner_embed.runtimes.torch import load_network

IDS, MASK = torch.tensor([[2, 9, 30, 31, 3], [2, 8, 3, 1, 1]]), torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])


@pytest.mark.parametrize("family", [*FAMILIES, *UNFUSED_FAMILIES])
def test_the_last_layer_of_a_cut_network_is_that_layer_of_the_whole(tmp_path, family):
    source = tiny_model(family, tmp_path / "whole")
    cut = save_model(str(source), tmp_path / "cut", layers_kept=1)
    assert (cut.config.layers, locate(str(source)).config.layers) == (1, 2)
    names = list(read_tensors(tmp_path / "cut" / "model.safetensors"))
    assert not [name for name in names if "pooler" in name or "layer.1." in name]
    assert "The first 1 of the 2 layers of whole" in (tmp_path / "cut" / "README.md").read_text()
    network = load_network(locate(str(source)))
    with torch.no_grad():
        expected = network(input_ids=IDS, attention_mask=MASK, output_hidden_states=True).hidden_states[1]
        expected = getattr(network, "final_norm", torch.nn.Identity())(expected)  # ModernBERT's
        found = load_network(cut)(input_ids=IDS, attention_mask=MASK).last_hidden_state
    assert torch.allclose(found[MASK > 0], expected[MASK > 0], atol=1e-5)


def test_the_command_keeps_some_layers(bert, tmp_path):
    done = run("models", "save", bert, "-o", tmp_path / "cut", "--layers-kept", "1", check=0)
    assert f"made: {tmp_path / 'cut'}, bert, 1 layers, 16 dimensions" in done.stderr


def test_what_was_trained_for_the_whole_is_left_behind(copy, tmp_path):
    (copy / "concept_encoder").mkdir()
    (copy / "concept_encoder" / "config.json").write_text("{}")
    (copy / "recipe.json").write_text(json.dumps({"layers": [-1, -3], "max_length": 20, "stride": 5}))
    save_model(str(copy), tmp_path / "cut", layers_kept=1)
    assert not (tmp_path / "cut" / "concept_encoder").exists()
    assert locate(str(tmp_path / "cut")).recipe == locate(str(copy)).recipe.replace(layers=(-1,))


@pytest.mark.parametrize("kept", [0, 2, 7])
def test_so_many_layers_cannot_be_kept(bert, tmp_path, kept):
    with pytest.raises(ModelError, match=f"has 2 layers; keep 1 to 1 of them, not {kept}"):
        save_model(str(bert), tmp_path / "cut", layers_kept=kept)
    assert not (tmp_path / "cut").exists()


def test_weights_whose_layers_cannot_be_told_apart_are_refused(copy, tmp_path):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match="have 0 lists of 3 numbered layers, expected one"):
        save_model(str(copy), tmp_path / "cut", layers_kept=1)


def test_pickled_weights_are_not_cut(copy, tmp_path):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="weights in pytorch_model.bin; only safetensors can be cut"):
        save_model(str(copy), tmp_path / "cut", layers_kept=1)
