"""`AutoTokenizer` of the installed transformers says what is right."""

import itertools
import json

import numpy as np
import pytest
import transformers
from fakes import byte_level_bpe, wordpiece
from transformers import AutoTokenizer

from nuner_embed.errors import ModelError
from nuner_embed.models.onnx_export import EXPORT_FILE
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.models.tokenizer_files import _BERT_CLASSES, _CLASS_OF_NETWORK

TEXT = "The FERRY left Zürich, naïve cafe\u0301 東京 x東京 at Seven"
MAJOR = int(transformers.__version__.split(".")[0])
ABSENT = object()


def directory_with(path, definition, settings, network):
    path.mkdir()
    (path / "tokenizer.json").write_text(json.dumps(definition), encoding="utf-8")
    (path / "config.json").write_text(json.dumps(network))
    if settings is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def assert_ids_are_those_of_transformers(directory):
    (ids, _), (lone, _) = TextTokenizer.from_directory(directory).encode([TEXT, "ferry"])
    right = AutoTokenizer.from_pretrained(directory)
    assert ids.tolist() == right(TEXT, add_special_tokens=False)["input_ids"]
    assert lone.tolist() == right("ferry", add_special_tokens=False)["input_ids"]


def with_normalizer(**settings):
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, **settings}
    return {**wordpiece().definition, "normalizer": normalizer}


CASED = with_normalizer(strip_accents=None, lowercase=False)
UNCASED = with_normalizer(strip_accents=None, lowercase=True)
ODD = with_normalizer(strip_accents=False, lowercase=True, handle_chinese_chars=False)
CHOICES = {
    "do_lower_case": (ABSENT, True, False),
    "strip_accents": (ABSENT, None, True, False),
    "tokenize_chinese_chars": (ABSENT, True, False),
}


@pytest.mark.parametrize("stands", [CASED, UNCASED, ODD], ids=["cased", "uncased", "odd"])
@pytest.mark.parametrize("name", ["BertTokenizer", "BertTokenizerFast", "ElectraTokenizer", "PreTrainedTokenizerFast"])
def test_case_accents_and_chinese_characters(stands, name, tmp_path):
    for number, values in enumerate(itertools.product(*CHOICES.values())):
        settings = {key: value for key, value in zip(CHOICES, values, strict=True) if value is not ABSENT}
        settings["tokenizer_class"] = name
        directory = directory_with(tmp_path / str(number), stands, settings, {"model_type": "bert"})
        assert_ids_are_those_of_transformers(directory)


@pytest.mark.parametrize("network", sorted(_CLASS_OF_NETWORK))
def test_without_the_file_the_network_names_the_class(network, tmp_path):
    """Whose defaults hold: a cased tokenizer.json beside a BERT is used uncased."""
    if _CLASS_OF_NETWORK[network] in ("RoFormerTokenizer",):
        pytest.skip("its own pre-tokenizer needs the package rjieba")
    if MAJOR != 4 and (network not in transformers.CONFIG_MAPPING or network == "lilt"):
        pytest.skip(f"version 5 has no {network}, or another rule for it; ours is that of version 4")
    definition = byte_level_bpe().definition if network in ("layoutlmv3", "lilt") else CASED
    directory = directory_with(tmp_path / "model", definition, None, {"model_type": network})
    try:
        AutoTokenizer.from_pretrained(directory)
    except Exception as error:  # a network that this version no longer has
        pytest.skip(f"{network}: {error}")
    if network in ("layoutlmv2", "layoutlmv3", "lilt"):  # whose tokenizers also ask for boxes
        ours = TextTokenizer.from_directory(directory).definition
        theirs = json.loads(AutoTokenizer.from_pretrained(directory).backend_tokenizer.to_str())
        assert ours["normalizer"] == theirs["normalizer"]
        assert ours["pre_tokenizer"] == theirs["pre_tokenizer"]
        return
    assert_ids_are_those_of_transformers(directory)


@pytest.mark.skipif(MAJOR != 4, reason="version 5 merged the classes")
def test_every_class_of_transformers_that_sets_the_case_is_known():
    import inspect

    found = set()
    for name in dir(transformers):
        if name.endswith("TokenizerFast"):
            base = getattr(transformers, name)
            own = [c for c in inspect.getmro(base) if c.__module__.startswith("transformers.models")]
            if any('"lowercase"' in inspect.getsource(c.__init__) for c in own if "__init__" in vars(c)):
                found.add(name.removesuffix("Fast"))
    assert len(found) > 10
    assert found == {name for name in _BERT_CLASSES if hasattr(transformers, f"{name}Fast")}


@pytest.mark.parametrize("stands", [True, False], ids=["blank", "no_blank"])
@pytest.mark.parametrize("given", [ABSENT, True, False], ids=["absent", "true", "false"])
@pytest.mark.parametrize(
    "name", ["RobertaTokenizer", "RobertaTokenizerFast", "GPT2Tokenizer", "PreTrainedTokenizerFast", None]
)
def test_the_blank_before_a_text(stands, given, name, tmp_path):
    if name == "PreTrainedTokenizerFast" and MAJOR != 4:
        pytest.skip("version 5 ignores the setting there")
    settings = {} if name is None else {"tokenizer_class": name}
    if given is not ABSENT:
        settings["add_prefix_space"] = given
    definition = byte_level_bpe(add_prefix_space=stands).definition
    directory = directory_with(tmp_path / "model", definition, settings, {"model_type": "roberta"})
    assert_ids_are_those_of_transformers(directory)


def test_a_word_that_was_added(tmp_path):
    word = {"content": "ferry", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    settings = {"tokenizer_class": "BertTokenizer", "added_tokens_decoder": {"900": {**word, "special": False}}}
    definition = {**UNCASED, "model": {**UNCASED["model"]}}
    definition["model"]["vocab"] = {k: v for k, v in UNCASED["model"]["vocab"].items() if k != "ferry"}
    directory = directory_with(tmp_path / "model", definition, settings, {"model_type": "bert"})
    assert_ids_are_those_of_transformers(directory)


def test_what_does_not_differ_keeps_its_hash(tmp_path):
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": None}
    same = directory_with(tmp_path / "same", UNCASED, settings, {"model_type": "bert"})
    other = directory_with(tmp_path / "other", UNCASED, {**settings, "do_lower_case": False}, {"model_type": "bert"})
    expected = TextTokenizer.from_definition(UNCASED).sha256
    assert TextTokenizer.from_directory(same).sha256 == expected
    assert TextTokenizer.from_directory(other).sha256 != expected


def test_an_exported_directory_holds_the_tokenizer_that_was_used(tmp_path):
    directory = directory_with(tmp_path / "model", CASED, None, {"model_type": "bert"})
    (directory / EXPORT_FILE).write_text("{}")
    ids, expected = (t.encode([TEXT])[0][0] for t in (TextTokenizer.from_directory(directory),
                                                     TextTokenizer.from_definition(CASED)))  # fmt: skip
    np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "tokenizer_config.json is not JSON"),
        ("[]", "tokenizer_config.json is not a JSON object"),
        ('{"do_lower_case": "no"}', "do_lower_case must be true or false, not 'no'"),
        ('{"added_tokens_decoder": {"x": 1}}', "added_tokens_decoder does not describe tokens"),
    ],
)
def test_a_file_that_cannot_be_followed(text, message, tmp_path):
    directory = directory_with(tmp_path / "model", CASED, None, {"model_type": "bert"})
    (directory / "tokenizer_config.json").write_text(text)
    with pytest.raises(ModelError, match=message) as caught:
        TextTokenizer.from_directory(directory)
    assert "\n" not in str(caught.value)
