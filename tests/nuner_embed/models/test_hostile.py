"""Models that a stranger hands over: what of them is read, how much, and what is never done because they say so."""

import json
import shutil

import numpy as np
import pytest
from fakes import tiny_model
from safetensors.numpy import load_file, save_file

from nuner_embed.encoders.loader import load_encoder, load_named_encoder
from nuner_embed.errors import ModelError
from nuner_embed.models.resolver import locate
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.runtimes.network_config import network_config


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


CODE = {
    "_attn_implementation": "stranger/kernel", "attn_implementation": "stranger/kernel",
    "_name_or_path": "stranger/model",
    "base_model_name_or_path": "stranger/model", "kernels": {"a": "b"}, "use_kernels": True, "trust_remote_code": True,
    "_attn_implementation_internal": "stranger/kernel", "transformers_weights": "other.safetensors",
    "configuration_files": ["config.4.0.0.json"], "architectures": ["StrangersModel"], "custom_pipelines": {"a": "b"},
    "experts_implementation": "stranger/kernel", "torch_dtype": "float16",
}  # fmt: skip


@pytest.mark.parametrize("key", CODE)
def test_a_configuration_chooses_no_code(bert, copy, key):
    change(copy / "config.json", **{key: CODE[key]})
    expected, _ = network_config(locate(str(bert)))
    found, _ = network_config(locate(str(copy)))
    assert found.to_dict() == expected.to_dict()
    assert found._attn_implementation == expected._attn_implementation


def test_what_the_network_computes_with_reaches_transformers(copy):
    change(copy / "config.json", layer_norm_eps=0.5, hidden_act="relu", output_hidden_states=True)
    found, _ = network_config(locate(str(copy)))
    assert (found.layer_norm_eps, found.hidden_act, found.output_hidden_states) == (0.5, "relu", True)


def test_settings_that_no_signature_names_reach_transformers(tmp_path):
    """DeBERTa's network asks for some that its configuration does not declare."""
    directory = tiny_model("deberta-v2", tmp_path / "deberta")
    change(directory / "config.json", share_att_key=True, norm_rel_ebd="layer_norm", position_buckets=8)
    found, _ = network_config(locate(str(directory)))
    assert (found.share_att_key, found.norm_rel_ebd, found.position_buckets) == (True, "layer_norm", 8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes_4bit"}}, "in a format of another program"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "which nuner-embed never runs"),
        ({"num_hidden_layers": 10**9}, "its num_hidden_layers is 1000000000, expected a whole number from 1 to 1,000"),
        ({"max_position_embeddings": 10**9}, "its max_position_embeddings is 1000000000, expected"),
        ({"hidden_size": 2**40}, "its hidden_size is 1099511627776, expected"),
        ({"vocab_size": 10**12}, "its vocab_size is 1000000000000, expected"),
        ({"vocab_size": True}, "its vocab_size is True, expected a whole number"),
        ({"hidden_size": "16"}, "its hidden_size is '16', expected a whole number"),
        ({"hidden_size": float("inf")}, "its hidden_size is inf, expected a whole number"),
        ({"model_type": ["bert"]}, "expected a name"),
        ({"pad_token_id": [0]}, "its pad_token_id is .0., expected a whole number"),
        ({"max_position_embeddings": 2}, "too few for a text"),
    ],
)
def test_impossible_configurations_are_one_line(copy, values, message):
    change(copy / "config.json", **values)
    with pytest.raises(ModelError, match=message) as caught:
        locate(str(copy))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_hidden_layers": 900}, "asks for 900 layers, the weights hold"),
        ({"hidden_size": 4096}, "asks for 4,096 dimensions, the weights hold 320"),
        ({"vocab_size": 2**24}, "asks for 16,777,216 rows of vocabulary"),
        ({"max_position_embeddings": 2**20}, "asks for 1,048,576 positions"),
        ({"model_type": "nothing"}, "which is not a text encoder known to transformers"),
        ({"text_config": {"model_type": "bert"}}, "describes several networks"),
    ],
)
def test_what_the_weights_cannot_be_is_refused_before_memory_is_taken(copy, monkeypatch, values, message):
    monkeypatch.setattr("transformers.BertModel.from_pretrained", lambda *_, **__: pytest.fail("it was loaded"))
    change(copy / "config.json", **values)
    with pytest.raises(ModelError, match=message) as caught:
        load_encoder(str(copy), max_length=40)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["../elsewhere.safetensors", "/etc/passwd", "..", "a/b.safetensors", "", 7, None])
def test_a_map_of_weights_leads_nowhere_else(copy, tmp_path, file):
    shutil.copyfile(copy / "model.safetensors", tmp_path / "elsewhere.safetensors")
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}))
    with pytest.raises(ModelError, match="names no weights files of its own folder"):
        locate(str(copy))


def test_links_to_weights_elsewhere_are_refused_but_those_of_the_hubs_cache(bert, tmp_path):
    tensors = list(load_file(bert / "model.safetensors").items())
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    shutil.copytree(bert, snapshot, ignore=shutil.ignore_patterns("model.safetensors"))
    half = len(tensors) // 2
    for number, part in enumerate((tensors[:half], tensors[half:]), start=1):
        save_file(dict(part), blobs / f"blob{number}", metadata={"format": "pt"})
        (snapshot / f"part{number}.safetensors").symlink_to(f"../../blobs/blob{number}")
    names = {name: f"part{1 + (place >= half)}.safetensors" for place, (name, _) in enumerate(tensors)}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    text = ["the ferry left at seven"]
    np.testing.assert_array_equal(
        load_encoder(str(snapshot)).encode(text)[0].vectors, load_encoder(str(bert)).encode(text)[0].vectors
    )
    blobs.rename(tmp_path / "elsewhere")
    for number in (1, 2):
        (snapshot / f"part{number}.safetensors").unlink()
        (snapshot / f"part{number}.safetensors").symlink_to(tmp_path / "elsewhere" / f"blob{number}")
    with pytest.raises(ModelError, match=r"part1\.safetensors is a symbolic link to elsewhere"):
        locate(str(snapshot))


def test_an_adapter_loads_no_other_model(copy):
    (copy / "adapter_config.json").write_text('{"base_model_name_or_path": "stranger/model"}')
    with pytest.raises(ModelError, match="is an adapter"):
        locate(str(copy))


@pytest.mark.parametrize("name", ["os.system", "../x.Y", "Strangers", "RagTokenizer", "RagTokenizerFast", ["A"]])
def test_an_older_tokenizer_chooses_no_class(copy, name):
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    change(copy / "tokenizer_config.json", tokenizer_class=name)
    with pytest.raises(ModelError, match="names a tokenizer of the class"):
        TextTokenizer.from_directory(copy)


def test_an_older_tokenizer_reads_no_file_elsewhere(copy, tmp_path):
    (copy / "tokenizer.json").unlink()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
    (copy / "vocab.txt").write_text("\n".join(pieces) + "\n")
    (tmp_path / "other.txt").write_text("\n".join([*pieces, "secret"]) + "\n")
    settings = {"vocab_file": str(tmp_path / "other.txt"), "tokenizer_file": str(tmp_path / "none.json")}
    change(
        copy / "tokenizer_config.json", tokenizer_class="BertTokenizer", auto_map={"AutoTokenizer": ["x.Y"]}, **settings
    )
    assert TextTokenizer.from_directory(copy).backend.get_vocab().keys() == set(pieces)


def test_pickled_weights_run_no_code(copy, tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}) + b" " * 20_000)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_encoder(str(copy))
    assert not (tmp_path / "ran").exists()


def test_a_name_in_a_file_starts_no_download(monkeypatch, tmp_path):
    def asked(name, *, local_files_only=False, **_):
        assert local_files_only
        raise FileNotFoundError(name)

    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    for find in (
        lambda: locate("stranger/model", fetch=False),
        lambda: load_named_encoder("stranger/model", {}, "0" * 64),
    ):
        with pytest.raises(ModelError, match="a name that stands in a file is not downloaded"):
            find()


def test_what_the_hubs_cache_holds_is_found_without_a_network(bert, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **options: str(bert))
    assert locate("stranger/model", fetch=False).directory == bert


def test_a_directory_that_a_file_names_runs_only_if_it_is_the_one(bert, copy, monkeypatch):
    encoder = load_encoder(str(bert))
    recipe = encoder.recipe.to_dict()
    assert load_named_encoder(str(copy), recipe, encoder.semantic_hash).semantic_hash == encoder.semantic_hash
    change(copy / "config.json", layer_norm_eps=0.5)
    monkeypatch.setattr("nuner_embed.encoders.loader.load_runtime", lambda *_: pytest.fail("it ran"))
    with pytest.raises(ModelError, match="with this recipe has the semantic hash"):
        load_named_encoder(str(copy), recipe, encoder.semantic_hash)
    with pytest.raises(ModelError, match="the recipe is invalid: a recipe has no field runtime"):
        load_named_encoder(str(copy), {**recipe, "runtime": "onnx"}, encoder.semantic_hash)


def test_a_template_names_only_what_it_defines(copy, capfd):
    path = copy / "tokenizer.json"
    definition = json.loads(path.read_text())
    definition["post_processor"]["special_tokens"].pop("[SEP]")
    path.write_text(json.dumps(definition))
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read: its template names '\[SEP\]'"):
        TextTokenizer.from_directory(copy)
    assert capfd.readouterr().err == ""  # where the library panics, it says so there
