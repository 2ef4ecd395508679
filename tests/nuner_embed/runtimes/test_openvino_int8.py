"""A float32 graph whose weights OpenVINO gets in eight bits, on whatever processor."""

import numpy as np
import pytest

from nuner_embed import Document, load_encoder
from nuner_embed.errors import RuntimeUnavailable
from nuner_embed.models.resolver import locate
from nuner_embed.runtimes import openvino, openvino_int8
from nuner_embed.runtimes.base import RuntimeOptions
from nuner_embed.runtimes.openvino_int8 import has_vnni, round_weights
from nuner_embed.runtimes.selection import choose, measure

DOCUMENTS = [Document("a", "the ferry left at seven"), Document("b", "an old ferry " * 9)]


@pytest.fixture
def units(monkeypatch, tmp_path):
    """Lets a test say whether the processor has VNNI; small matrices are rounded too."""
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(openvino_int8, "_FEWEST", 1)

    def set_units(there):
        monkeypatch.setattr(openvino, "has_vnni", lambda: there)

    return set_units


def tables(model):
    """What lookups read from: the embeddings, and numbers of shapes."""
    read = [one.input_value(0).get_node() for one in model.get_ops() if one.get_type_name() == "Gather"]
    return [(one.get_friendly_name(), one.get_type_name(), str(one.output(0).partial_shape)) for one in read]


def test_weights_are_rounded_for_each_output_and_embeddings_are_not(exported_bert, units):
    before = openvino.ov.Core().read_model(str(locate(str(exported_bert)).graph))
    after = before.clone()
    assert round_weights(after, openvino.ov.opset13) == 12  # six in each of two layers
    exact = {one.get_friendly_name(): one for one in before.get_ops() if one.get_type_name() == "MatMul"}
    seen = 0
    for product in after.get_ops():
        restored = product.input_value(1).get_node() if product.get_type_name() == "MatMul" else None
        if restored is None or restored.get_type_name() != "Multiply":
            continue
        rounded = restored.input_value(0).get_node().input_value(0).get_node()
        if rounded.get_type_name() != "Constant":
            continue
        scale = restored.input_value(1).get_node().data
        weights = exact[product.get_friendly_name()].input_value(1).get_node().data
        assert rounded.data.dtype == np.int8
        assert (np.abs(rounded.data).max(axis=0) == 127).all()  # every output uses the whole range
        assert scale.shape == (1, weights.shape[1])  # a scale for each output
        assert np.abs(rounded.data.astype(np.float32) * scale - weights).max() <= scale.max() / 2 * 1.001
        seen += 1
    assert seen == 12
    assert tables(after) == tables(before)


def test_asked_for_it_runs_and_stays_near(exported_bert, units):
    units(True)
    exact = load_encoder(str(exported_bert), runtime="openvino", precision="f32", batch_tokens=64)
    rounded = load_encoder(str(exported_bert), runtime="openvino", precision="int8", batch_tokens=64)
    assert rounded.numerics["precision"] == "int8"
    assert "int8" in rounded.runtime.description
    for one, other in zip(exact.encode(DOCUMENTS), rounded.encode(DOCUMENTS), strict=True):
        cosines = (one.vectors * other.vectors).sum(1) / np.linalg.norm(one.vectors, axis=1)
        cosines /= np.linalg.norm(other.vectors, axis=1)
        assert cosines.min() > 0.98
        assert not np.array_equal(one.vectors, other.vectors)


def test_it_is_measured_alone_and_chosen_only_where_it_is_asked_for(exported_bert, units):
    units(True)
    model = locate(str(exported_bert))
    assert {row.precision for row in measure(model, RuntimeOptions())} <= {"f32", "bf16"}
    (row,) = measure(model, RuntimeOptions(precision="int8"))
    assert (row.runtime, row.precision) == ("openvino", "int8")
    assert choose(model, "auto", RuntimeOptions(), None).precision in ("f32", "bf16")


def test_without_vnni_the_way_out_is_named(exported_bert, units):
    units(False)
    with pytest.raises(RuntimeUnavailable, match=r"processor with VNNI.*export --precision int8 makes a graph for any"):
        load_encoder(str(exported_bert), precision="int8")
    with pytest.raises(RuntimeUnavailable, match="OpenVINO runs .* in f32"):
        load_encoder(str(exported_bert), runtime="openvino", precision="int8", batch_tokens=64)


@pytest.mark.parametrize(("flags", "there"), [(["avx2"], False), (["avx2", "avx_vnni"], True), (["avx512_vnni"], True)])
def test_which_processors_have_it(monkeypatch, flags, there):
    monkeypatch.setattr(openvino_int8, "cpu_features", lambda: flags)
    assert has_vnni() is there
