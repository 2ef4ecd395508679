import contextlib
import importlib.metadata
import json

import numpy as np
import pytest
import transformers
from fakes import tiny_model, wordpiece

from nuner_embed.errors import ModelError
from nuner_embed.models.known import DEFAULT_MODEL, PACKAGED, known_recipe
from nuner_embed.models.recipe import Recipe
from nuner_embed.models.resolver import locate
from nuner_embed.models.snapshot import save_model
from nuner_embed.models.tokenizer import TextTokenizer


def test_the_default_model_is_laid_over_its_base():
    model, base = locate(DEFAULT_MODEL), locate("minilm-l6")
    assert (model.config, model.recipe.max_length, model.recipe.layers) == (base.config, 256, (-1,))
    assert model.weights_sha256 != base.weights_sha256
    assert locate(DEFAULT_MODEL).directory == model.directory
    assert {"concept_encoder", "detector", "README.md"} <= {path.name for path in model.directory.iterdir()}


def test_without_its_base_the_default_model_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"nuner-mini needs its base model: .* pip install .*\[mini\]'") as caught:
        locate(DEFAULT_MODEL)
    assert "\n" not in str(caught.value)


def test_the_base_is_the_pinned_one():
    model = locate("minilm-l6")
    assert model.weights_sha256 == PACKAGED["minilm-l6"].sha256
    assert (model.config.hidden_size, model.config.layers, model.config.positions) == (384, 6, 512)
    assert model.recipe.max_length == 256


def test_other_weights_under_a_pinned_name_are_refused(copy, monkeypatch):
    pinned = PACKAGED["minilm-l6"]
    monkeypatch.setitem(PACKAGED, "minilm-l6", type(pinned)(pinned.package, ".", "0" * 64, "mini", Recipe(), ""))
    monkeypatch.setattr("nuner_embed.models.resolver.weight_files", lambda *_: [copy / "config.json"])
    with pytest.raises(ModelError, match="not the pinned ones"):
        locate("minilm-l6")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minilm-16", "did you mean minilm-l6"),
        (
            "nothing",
            "no directory and no known model is called 'nothing'; known names: nuner-mini, nuner-base, minilm-l6",
        ),
        ("./no/such", "no directory and no known model"),
    ],
)
def test_a_name_that_leads_nowhere(name, message):
    with pytest.raises(ModelError, match=message):
        locate(name)


def test_a_hub_name_without_a_network_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="the hub did not give a model .* check the name and the network") as caught:
        locate("numind/NuNER-v2.0")
    assert "\n" not in str(caught.value)


def test_nuner_checkpoints_are_known_by_hub_name_and_by_directory(copy, tmp_path):
    assert known_recipe("numind/NuNER-v1.0") == Recipe(layers=(-1, -7))
    assert known_recipe("numind/NuNER-v2.0") == Recipe(layers=(-1,))
    assert known_recipe("roberta-base") is None
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 12}))
    named = copy.rename(tmp_path / "NuNER-v1.0")
    assert locate(str(named)).recipe.layers == (-1, -7)


def test_a_recipe_file_travels_with_a_directory(copy):
    (copy / "recipe.json").write_text(json.dumps({"layers": [-2], "pooling": "mean", "max_length": 20, "stride": 5}))
    assert locate(str(copy)).recipe == Recipe((-2,), "mean", False, 20, 5)
    (copy / "recipe.json").write_text('{"layer": [-2]}')
    with pytest.raises(ModelError, match="recipe.json is not a recipe: a recipe has no field layer"):
        locate(str(copy))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auto_map": {"AutoModel": "x.Y"}}, "which nuner-embed never runs"),
        ({"hidden_size": None}, "does not describe a text encoder"),
    ],
)
def test_configurations_that_are_not_trusted(copy, change, message):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError, match=message):
        locate(str(copy))


def test_a_directory_that_is_no_model(tmp_path):
    with pytest.raises(ModelError, match="no config.json"):
        locate(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="config.json is not JSON"):
        locate(str(tmp_path))
    with pytest.raises(ModelError, match="is a file; a model is a directory"):
        locate(str(tmp_path / "config.json"))


def test_a_directory_without_weights(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no model.safetensors and no pytorch_model.bin"):
        locate(str(copy))


@pytest.mark.parametrize(
    ("layers", "message"),
    [((3,), "3 hidden states"), ((-4,), "no layer -4"), ((-1, 2), "twice")],
)
def test_layers_that_a_model_lacks(bert, layers, message):
    model = locate(str(bert))
    with pytest.raises(ModelError, match=message):
        model.checked_recipe(model.recipe.replace(layers=layers))


def test_windows_beyond_the_positions(bert):
    model = locate(str(bert))
    assert model.recipe.max_length == 40
    with pytest.raises(ModelError, match="at most 40 tokens at a time, not 64"):
        model.checked_recipe(model.recipe.replace(max_length=64))


def test_roberta_gives_two_positions_to_its_offset(tmp_path):
    assert locate(str(tiny_model("roberta", tmp_path / "r"))).config.positions == 40


def test_an_older_tokenizer_without_tokenizer_json_is_converted(copy):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    vocabulary = wordpiece().backend.get_vocab()
    (copy / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n")
    converted = TextTokenizer.from_directory(copy)
    assert (converted.prefix, converted.suffix) == ((2,), (3,))
    text = "The ferry left at seven, 7 [SEP]"
    (ids, offsets), (expected, places) = converted.encode([text])[0], wordpiece().encode([text])[0]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(offsets, places)


@pytest.mark.parametrize(
    ("file", "missing", "packages"),
    [
        ("spm.model", {"sentencepiece"}, "sentencepiece"),
        ("sentencepiece.bpe.model", {"sentencepiece", "protobuf"}, "sentencepiece protobuf"),
        ("qwen.tiktoken", {"tiktoken"}, "tiktoken"),
    ],
)
def test_an_older_tokenizer_that_needs_a_package_names_the_package(copy, monkeypatch, file, missing, packages):
    def version(name):
        if name in missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1"

    (copy / "tokenizer.json").unlink()
    (copy / file).write_bytes(b"x")
    monkeypatch.setattr("importlib.metadata.version", version)
    with pytest.raises(ModelError, match=rf"its {file} needs .* not installed: pip install {packages}$") as caught:
        TextTokenizer.from_directory(copy)
    assert "\n" not in str(caught.value)


def test_every_file_of_a_tokenizer_is_saved_with_the_model(copy, tmp_path):
    """Every name that any text encoder's tokenizer reads in transformers."""
    names = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}
    for name in dir(transformers):
        if "Tokenizer" in name and not name.startswith(("Jukebox", "TransfoXL", "Whisper")):  # no text encoders
            with contextlib.suppress(ImportError):  # of a class whose package is not installed
                names |= set(getattr(getattr(transformers, name), "vocab_files_names", {}).values())
    assert {"vocab.txt", "merges.txt", "spm.model", "sentencepiece.bpe.model", "spiece.model"} <= names
    for name in names:
        if not (copy / name).exists():
            (copy / name).write_text(f"of {name}")
    save_model(str(copy), tmp_path / "saved")
    for name in names:
        assert (tmp_path / "saved" / name).read_bytes() == (copy / name).read_bytes()


def test_a_directory_without_any_tokenizer(copy):
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="tokenizer.json cannot be read"):
        TextTokenizer.from_directory(copy)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="holds no tokenizer"):
        TextTokenizer.from_directory(copy)
    (copy / "vocab.txt").unlink(missing_ok=True)
    (copy / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    with pytest.raises(ModelError, match="holds no tokenizer"):
        TextTokenizer.from_directory(copy)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "deberta-v2", "modernbert", "mpnet"])
def test_no_tokenizer_is_made_up(tmp_path, family):
    """transformers 5 gives one of nothing but special tokens, for which every word is [UNK]."""
    directory = tiny_model(family, tmp_path / family)
    (directory / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"holds no tokenizer[^\n]*$"):
        TextTokenizer.from_directory(directory)


def test_the_weights_that_are_hashed_are_those_that_transformers_loads(copy):
    """A stray file beside pytorch_model.bin is not loaded, and decides nothing."""
    weights = copy / "model.safetensors"
    (copy / "model.fp16.safetensors").write_bytes(weights.read_bytes())
    before = locate(str(copy)).weights_sha256
    (copy / "model.fp16.safetensors").write_bytes(b"other")
    assert locate(str(copy)).weights_sha256 == before
    weights.rename(copy / "pytorch_model.bin")
    assert locate(str(copy)).weights_sha256 == before
    (copy / "pytorch_model.bin").write_bytes(b"another")
    assert locate(str(copy)).weights_sha256 != before


def test_sharded_weights_are_those_of_the_index(copy):
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (copy / "model.safetensors").unlink()
    for part in parts.values():
        (copy / part).write_bytes(part.encode())
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    before = locate(str(copy)).weights_sha256
    (copy / parts["b"]).write_bytes(b"other")
    assert locate(str(copy)).weights_sha256 != before
    (copy / parts["b"]).unlink()
    with pytest.raises(ModelError, match="00002-of-00002.safetensors cannot be read: No such file"):
        locate(str(copy))
    (copy / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="names no weights"):
        locate(str(copy))


def test_what_the_network_computes_is_hashed_and_how_it_was_made_is_not(copy):
    def hash_with(**changes):
        (copy / "config.json").write_text(json.dumps({**config, **changes}))
        return locate(str(copy)).config.sha256

    config = json.loads((copy / "config.json").read_text())
    same = hash_with()
    for changes in ({"transformers_version": "9"}, {"output_hidden_states": False}, {"hidden_dropout_prob": 0.3}):
        assert hash_with(**changes) == same
    for changes in ({"hidden_act": "relu"}, {"layer_norm_eps": 0.1}, {"num_attention_heads": 1}):
        assert hash_with(**changes) != same


def test_layers_counted_from_the_first_are_the_same_layers(copy):
    model = locate(str(copy))
    assert model.checked_recipe(Recipe(layers=(2, 0), max_length=40, stride=4)).layers == (-1, -3)
    with pytest.raises(ModelError, match="twice"):
        model.checked_recipe(Recipe(layers=(2, -1), max_length=40, stride=4))


def test_a_config_that_is_no_object(copy):
    (copy / "config.json").write_text("5")
    with pytest.raises(ModelError, match="not a JSON object"):
        locate(str(copy))
