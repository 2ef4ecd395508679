"""Models that ship as what training changed of their base."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nuner_embed.errors import ModelError
from nuner_embed.models.concept_facts import ConceptFacts
from nuner_embed.models.delta import compose, seal, ship
from nuner_embed.models.resolver import locate
from nuner_embed.models.snapshot import save_model


def tensors(seed, changed=()):
    random = np.random.default_rng(0)
    made = {f"layer.{i}": random.standard_normal((4, 3)).astype(np.float32) for i in range(4)}
    other = np.random.default_rng(seed)
    return made | {f"layer.{i}": other.standard_normal((4, 3)).astype(np.float32) for i in changed}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path / "cache"))
    for name, seed, changed in (("base", 0, ()), ("made", 1, (2, 3)), ("made/concept_encoder", 2, (3,))):
        (tmp_path / name).mkdir()
        save_file(tensors(seed, changed), tmp_path / name / "model.safetensors")
    (tmp_path / "base" / "config.json").write_text("{}")
    (tmp_path / "base" / "tokenizer.json").write_text("{}")
    (tmp_path / "made" / "recipe.json").write_text("{}")
    (tmp_path / "made" / "README.md").write_text("a card")
    ConceptFacts("0" * 64, "mean", {"scale": 2.0}).write(tmp_path / "made" / "concept_encoder")
    ship(tmp_path / "made", tmp_path / "base", tmp_path / "shipped")
    return tmp_path


def composed(place, name="m"):
    return compose(name, place / "shipped", lambda: place / "base")


def test_only_what_changed_is_shipped(place):
    for name, layers in (("text", {"layer.2", "layer.3"}), ("concept", {"layer.3"})):
        shipped = load_file(place / "shipped" / f"{name}.safetensors")
        assert set(shipped) == layers
        assert all(value.dtype == np.float16 for value in shipped.values())
        assert (place / "shipped" / f"{name}.safetensors").stat().st_mode & 0o777 == 0o644


def test_composed_it_is_what_was_trained_but_for_rounding(place):
    directory = composed(place)
    for folder in ("", "concept_encoder"):
        trained, found = (load_file(p / folder / "model.safetensors") for p in (place / "made", directory))
        base = tensors(0)
        for name, value in found.items():
            assert np.array_equal(value, base[name]) or np.allclose(value, trained[name], rtol=1e-3, atol=1e-6)
        assert json.loads((directory / folder / "recipe.json").read_text()) == {}
        assert (directory / folder / "tokenizer.json").exists()
    facts = ConceptFacts.read(directory / "concept_encoder")
    assert facts.similarity == {"scale": 2.0}
    assert (directory / "README.md").read_text() == "a card"


def test_composed_once_and_mended_when_damaged(place):
    directory = composed(place)
    weights = directory / "concept_encoder" / "model.safetensors"
    when, content = weights.stat().st_mtime_ns, weights.read_bytes()
    assert composed(place) == directory
    assert weights.stat().st_mtime_ns == when
    facts = directory / "concept_encoder" / "concepts.json"
    tokenizer = directory / "concept_encoder" / "tokenizer.json"
    for path, whole in ((weights, content), (facts, facts.read_bytes()), (tokenizer, tokenizer.read_bytes())):
        path.write_bytes(whole[:-1] + b"?")
        composed(place)
        assert path.read_bytes() == whole
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: composed(place, "another"), range(4))) == {composed(place, "another")}


def test_what_is_not_what_was_shipped_is_refused(place):
    save_file(tensors(5, (0,)), place / "base" / "model.safetensors")
    with pytest.raises(ModelError, match="was trained from another base"):
        composed(place)
    save_file(tensors(0), place / "base" / "model.safetensors")
    save_file(tensors(5, (2,)), place / "shipped" / "text.safetensors")
    with pytest.raises(ModelError, match=r"text\.safetensors is not what was shipped"):
        composed(place)
    assert not [path for path in (place / "cache" / "models").iterdir() if path.suffix != ".lock"]


def test_what_is_missing_is_one_line(place):
    (place / "shipped" / "shipped.json").unlink()
    with pytest.raises(ModelError, match="m is not where it should be .* reinstall nuner-embed"):
        composed(place)


def test_the_base_is_not_asked_for_twice(place):
    directory = composed(place)
    assert compose("m", place / "shipped", lambda: pytest.fail("it is there already")) == directory


def test_what_cannot_be_shipped(place):
    with pytest.raises(ModelError, match="is not a checkpoint of this base"):
        ship(place / "base", place / "base", place / "again")


def test_a_model_of_the_first_layers_of_its_base(bert, tmp_path, monkeypatch):
    """What was trained from the first layers is laid over the whole base, and composed it is the same network."""
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path / "cache"))
    save_model(str(bert), tmp_path / "cut", layers_kept=1)
    made = tmp_path / "made"
    for number, folder in enumerate((made, made / "concept_encoder"), start=1):
        folder.mkdir()
        trained = load_file(tmp_path / "cut" / "model.safetensors")
        trained["encoder.layer.0.output.dense.bias"] += number
        save_file(trained, folder / "model.safetensors")
    (made / "recipe.json").write_text("{}")
    (made / "README.md").write_text("a card")
    ConceptFacts("0" * 64, "mean", {"scale": 2.0}).write(made / "concept_encoder")
    ship(made, bert, tmp_path / "shipped", layers_kept=1)
    seal(tmp_path / "shipped")  # as after a file was added
    assert set(load_file(tmp_path / "shipped" / "text.safetensors")) == {"encoder.layer.0.output.dense.bias"}
    directory = compose("m", tmp_path / "shipped", lambda: bert)
    assert (directory / "config.json").read_bytes() == (tmp_path / "cut" / "config.json").read_bytes()
    assert locate(str(directory)).config == locate(str(tmp_path / "cut")).config
    for folder in ("", "concept_encoder"):
        found, trained = (load_file(place / folder / "model.safetensors") for place in (directory, made))
        assert found.keys() == trained.keys()
        assert all(np.allclose(found[name], trained[name], rtol=1e-3) for name in found)
