import logging

import numpy as np
import pytest
from fakes import tiny_model

from nuner_embed import load_encoder
from nuner_embed.runtimes import measurements, weights_selection
from nuner_embed.runtimes.parity import Agreement

CLOSE, FAR = Agreement(0.9999, 0.9999, 0.1, 0.99), Agreement(0.99, 0.9999, 0.1, 0.99)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return str(tiny_model("bert", tmp_path_factory.mktemp("models") / "bert"))


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Lets a test say whether the processor has bf16, how fast each precision is, and how close bf16 is."""
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path))
    calls = []

    def set_up(*, units=True, f32=1000, bf16=2000, agreement=CLOSE):
        monkeypatch.setattr(weights_selection, "has_bf16", lambda: units)
        monkeypatch.setattr(weights_selection, "_NARROWEST", 1)
        paces = {"f32": f32, "bf16": bf16}

        def speeds(runtime, reference):
            calls.append(runtime.precision)
            return {256: paces[runtime.precision] - 1.0}

        def tuned_speeds(runtime, reference):
            calls.append(f"{runtime.precision} tuned")
            return {256: paces[runtime.precision] - 1.0, 512: float(paces[runtime.precision])}

        monkeypatch.setattr(weights_selection, "speeds", speeds)
        monkeypatch.setattr(weights_selection, "tuned_speeds", tuned_speeds)
        monkeypatch.setattr(
            measurements, "compare",
            lambda runtime, reference: agreement if runtime.precision == "bf16" else Agreement(1.0, 1.0, 0.0, 1.0),
        )  # fmt: skip
        return calls

    return set_up


def test_bf16_runs_where_the_processor_has_it_and_the_gate_passes(directory, measured, caplog):
    calls = measured()
    with caplog.at_level(logging.INFO, "nuner_embed"):
        encoder = load_encoder(directory, device="cpu")
    assert (encoder.runtime.precision, encoder.batch_tokens, calls) == ("bf16", 512, ["f32", "bf16", "bf16 tuned"])
    assert caplog.messages[-1] == "fastest here: torch bf16, 2000 tokens/s in batches of 512 (torch f32 999)"
    assert load_encoder(directory, device="cpu").runtime.precision == "bf16"
    assert len(calls) == 3  # the figures were kept
    assert load_encoder(directory, device="cpu", batch_tokens=99).batch_tokens == 99


def test_a_precision_that_was_asked_for_is_not_measured(directory, measured):
    calls = measured()
    assert load_encoder(directory, device="cpu", precision="f32").runtime.precision == "f32"
    assert not calls


@pytest.mark.parametrize("given", [{"units": False}, {"agreement": FAR}, {"bf16": 900}])
def test_f32_runs_elsewhere(directory, measured, given):
    measured(**given)
    assert load_encoder(directory, device="cpu").runtime.precision == "f32"


def test_a_narrow_network_is_not_measured(directory, measured, monkeypatch):
    calls = measured()
    monkeypatch.setattr(weights_selection, "_NARROWEST", 256)
    assert load_encoder(directory, device="cpu").runtime.precision == "f32"
    assert not calls


def test_bf16_is_compared_with_f32_for_real(directory, monkeypatch, tmp_path):
    """Emulated where the processor has no units; whichever is faster, the vectors are those of the model."""
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path))
    monkeypatch.setattr(weights_selection, "has_bf16", lambda: True)
    monkeypatch.setattr(weights_selection, "_NARROWEST", 1)
    found = load_encoder(directory, device="cpu").encode(["the ferry left at seven"])[0].vectors
    exact = load_encoder(directory, device="cpu", precision="f32").encode(["the ferry left at seven"])[0].vectors
    cosine = (found * exact).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosine.min() > 0.999
    (kept,) = (tmp_path / "precisions").iterdir()
    assert '"bf16"' in kept.read_text()
    kept.write_text("{}")
    assert load_encoder(directory, device="cpu").runtime.precision in ("f32", "bf16")  # damaged figures: measured anew
    assert '"bf16"' in kept.read_text()
