import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
import torch
from fakes import FAMILIES, tiny_model

from nuner_embed import Document, export_onnx, load_encoder
from nuner_embed.errors import ModelError, RuntimeUnavailable
from nuner_embed.runtimes.base import RuntimeOptions
from nuner_embed.runtimes.onnx import choose_device

TEXTS = ["the ferry left at seven", "", "😀 e\u0301 שלום", "x", "Zürich " * 90, "a\x00b <pad> [PAD] </s>"]
DOCUMENTS = [Document(str(i), text) for i, text in enumerate(TEXTS)]


@pytest.fixture(
    scope="module",
    params=[pytest.param(one, marks=[pytest.mark.slow] * (one not in ("bert", "roberta"))) for one in FAMILIES],
)
def source(request, tmp_path_factory):
    return tiny_model(request.param, tmp_path_factory.mktemp("models") / request.param)


@pytest.fixture(scope="module")
def exported(source):
    directory = source.with_name(f"{source.name}-onnx")
    export_onnx(str(source), directory)
    return directory


def test_a_document_alone_gives_the_same_numbers_as_in_a_batch(source):
    encoder = load_encoder(str(source))
    together = encoder.encode(DOCUMENTS)
    for document, result in zip(DOCUMENTS, together, strict=True):
        (alone,) = encoder.encode([document])
        np.testing.assert_allclose(alone.vectors, result.vectors, atol=1e-5)
        np.testing.assert_array_equal(alone.offsets, result.offsets)


def test_onnx_equals_torch_and_means_the_same(source, exported):
    torch_encoder, onnx_encoder = load_encoder(str(source)), load_encoder(str(exported), precision="f32")
    for a, b in zip(torch_encoder.encode(DOCUMENTS), onnx_encoder.encode(DOCUMENTS), strict=True):
        np.testing.assert_allclose(a.vectors, b.vectors, atol=1e-5)
    assert torch_encoder.semantic_hash == onnx_encoder.semantic_hash
    assert torch_encoder.numeric_hash != onnx_encoder.numeric_hash
    assert onnx_encoder.runtime.device == "cpu"


def test_it_agrees_with_transformers_own_loop(source):
    """One window, run by the library itself: same ids, same hidden states."""
    from transformers import AutoModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(source / "tokenizer.json"), add_prefix_space=source.name.endswith("prefix")
    )
    model = AutoModel.from_pretrained(source).eval()
    text = "the ferry left at seven, Zürich"
    with torch.inference_mode():
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        states = model(input_ids=ids).hidden_states[-1][0].numpy()
    (result,) = load_encoder(str(source)).encode([Document("a", text)])
    np.testing.assert_allclose(result.vectors, states[1:-1], atol=1e-5)


def test_models_load_in_several_threads(bert):
    """transformers changes torch for all threads while it loads a network."""
    (expected,) = load_encoder(str(bert)).encode(DOCUMENTS[:1])

    def load(_):
        (found,) = load_encoder(str(bert), threads=1).encode(DOCUMENTS[:1])
        return found.vectors

    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            for vectors in pool.map(load, range(12)):
                np.testing.assert_allclose(vectors, expected.vectors, atol=1e-5)


def test_the_longest_window_runs(source):
    encoder = load_encoder(str(source), max_length=40, stride=4)
    ids = np.full((1, 40), 9, dtype=np.int64)
    assert encoder.runtime.states(ids, np.ones_like(ids)).shape == (1, 40, 16)


def test_layers_are_concatenated(bert):
    both, last, middle = (load_encoder(str(bert), layers=layers) for layers in ((-1, -2), (-1,), (-2,)))
    (a,), (b,), (c,) = (encoder.encode(DOCUMENTS[:1]) for encoder in (both, last, middle))
    np.testing.assert_allclose(a.vectors, np.concatenate([b.vectors, c.vectors], axis=1), atol=1e-6)
    assert both.dim == 32


def test_weights_in_torchs_own_format_load(bert, tmp_path):
    state = load_encoder(str(bert)).runtime.network.network.state_dict()
    directory = shutil.copytree(bert, tmp_path / "bin")
    (directory / "model.safetensors").unlink()
    torch.save(state, directory / "pytorch_model.bin")
    a, b = (load_encoder(str(d)).encode(DOCUMENTS[:1])[0].vectors for d in (bert, directory))
    np.testing.assert_array_equal(a, b)


def test_a_pickle_that_runs_code_is_refused(bert, tmp_path):
    directory = shutil.copytree(bert, tmp_path / "evil")
    (directory / "model.safetensors").unlink()

    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"x": Evil()}, directory / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_encoder(str(directory))


def test_missing_weights_are_not_made_up(bert, tmp_path):
    directory = shutil.copytree(bert, tmp_path / "short")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match="weights of the bert are not in its files .* would be random"):
        load_encoder(str(directory))


def test_a_tokenizer_that_does_not_belong(bert, tmp_path):
    directory = shutil.copytree(bert, tmp_path / "other")
    shutil.copy(tiny_model("roberta", tmp_path / "r") / "tokenizer.json", directory / "tokenizer.json")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    with pytest.raises(ModelError, match="do not belong together"):
        load_encoder(str(directory))


def test_an_id_beyond_the_network(bert, tmp_path):
    directory = shutil.copytree(bert, tmp_path / "gap")
    definition = json.loads((directory / "tokenizer.json").read_text())
    definition["model"]["vocab"]["zzz"] = 5000
    (directory / "tokenizer.json").write_text(json.dumps(definition))
    with pytest.raises(ModelError, match="ids go up to 5000, the network has only 320"):
        load_encoder(str(directory))


def test_broken_files_are_one_line(bert, tmp_path):
    directory = shutil.copytree(bert, tmp_path / "broken")
    weights = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read as weights: the header"):
        load_encoder(str(directory))
    (directory / "model.safetensors").write_bytes(weights)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "model_type": "no-such-type"}))
    with pytest.raises(ModelError, match="no-such-type, which is not a text encoder known to transformers"):
        load_encoder(str(directory))


def test_another_activation_is_another_meaning(bert, tmp_path):
    directory = shutil.copytree(bert, tmp_path / "relu")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    assert load_encoder(str(directory)).semantic_hash != load_encoder(str(bert)).semantic_hash


def test_the_last_layer_is_what_the_network_gives(tmp_path):
    """Some networks normalise after their last layer; hidden_states[-1] stands before that."""
    import transformers

    torch.manual_seed(0)
    config = transformers.RobertaPreLayerNormConfig(
        vocab_size=420, max_position_embeddings=42, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, pad_token_id=1,
    )  # fmt: skip
    network = transformers.AutoModel.from_config(config).eval()
    network.save_pretrained(tmp_path)
    shutil.copy(tiny_model("roberta", tmp_path / "r") / "tokenizer.json", tmp_path)
    encoder = load_encoder(str(tmp_path))
    assert encoder.recipe.max_length == 40  # its positions begin at 2, as RoBERTa's
    ids = np.full((1, 40), 9, dtype=np.int64)
    with torch.inference_mode():
        expected = network(input_ids=torch.from_numpy(ids)).last_hidden_state.numpy()
    np.testing.assert_allclose(encoder.runtime.states(ids, np.ones_like(ids)), expected, atol=1e-5)


def test_layers_as_a_list_and_from_the_first(bert, tmp_path):
    export_onnx(str(bert), tmp_path / "x", layers=(2,))
    a, b = load_encoder(str(tmp_path / "x"), layers=[-1]), load_encoder(str(bert), layers=[2])
    assert a.semantic_hash == b.semantic_hash


def test_a_runtime_that_cannot_run_the_files(bert):
    with pytest.raises(RuntimeUnavailable, match="nuner-embed export .* --model DIR"):
        load_encoder(str(bert), runtime="onnx")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_cuda_that_is_not_there_is_an_error(bert, tmp_path):
    with pytest.raises(RuntimeUnavailable, match=r"finds none; .* --device cpu"):
        load_encoder(str(bert), device="cuda")
    export_onnx(str(bert), tmp_path / "x")
    with pytest.raises(RuntimeUnavailable, match=r"no CUDAExecutionProvider; .*pip install .*\[gpu\]"):
        load_encoder(str(tmp_path / "x"), device="cuda")


def test_a_session_that_fell_back_is_an_error(bert, tmp_path, monkeypatch):
    """A GPU wheel without CUDA libraries: the provider is offered, the session runs without it."""
    export_onnx(str(bert), tmp_path / "x")
    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    real = onnxruntime.InferenceSession
    asked = []

    def fall_back(path, options, providers):
        asked.append(providers)
        return real(path, options, providers=providers[1:])

    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
    for device in ("cuda", "auto"):
        with pytest.raises(RuntimeUnavailable, match="the session runs on CPUExecutionProvider"):
            load_encoder(str(tmp_path / "x"), device=device)
    assert asked[0][0] == ("CUDAExecutionProvider", {"use_tf32": "0"})  # f32 means f32


def test_devices():
    assert choose_device("auto", ["CPUExecutionProvider"]) == "cpu"
    assert choose_device("auto", ["CUDAExecutionProvider", "CPUExecutionProvider"]) == "cuda"
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda, not 'tpu'"):
        RuntimeOptions(device="tpu")


def test_precisions(bert, tmp_path):
    exact, rough = (load_encoder(str(bert), precision=p).encode(DOCUMENTS[:1])[0].vectors for p in ("f32", "bf16"))
    assert 0 < np.abs(exact - rough).max() < 0.1
    with pytest.raises(RuntimeUnavailable, match="fp16 runs on a GPU only"):
        load_encoder(str(bert), precision="fp16", device="cpu")
    with pytest.raises(RuntimeUnavailable, match="not in int8, which takes an exported model"):
        load_encoder(str(bert), precision="int8")
    export_onnx(str(bert), tmp_path / "x")
    with pytest.raises(RuntimeUnavailable, match="no runtime here runs .* with these options; there is onnx in f32"):
        load_encoder(str(tmp_path / "x"), precision="fp16")
    with pytest.raises(RuntimeUnavailable, match="the onnx runtime runs in f32, not in bf16"):
        load_encoder(str(tmp_path / "x"), runtime="onnx", precision="bf16", batch_tokens=64)


def test_threads_are_explicit_and_part_of_the_numeric_hash(bert):
    one, two = (load_encoder(str(bert), threads=n) for n in (1, 2))
    assert torch.get_num_threads() == 2
    assert one.numeric_hash != two.numeric_hash
    assert one.semantic_hash == two.semantic_hash
