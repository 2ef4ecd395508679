"""What `tokenizer_config.json` changes about a tokenizer, applied as `AutoTokenizer` applies it, without transformers.

A tokenizer class of transformers reads `tokenizer.json` and then puts its own arguments in the place of what stands
there: those of `tokenizer_config.json`, and its defaults where that file is silent or missing. This follows
transformers 4.57. Version 5 builds most tokenizers anew from their vocabulary with the same arguments, to the same ids;
it takes `tokenizer.json` as it is for `PreTrainedTokenizerFast`, and sets `handle_chinese_chars` for every class.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer

from nuner_embed.errors import ModelError
from nuner_embed.files import parse_json, read_json
from nuner_embed.limits import CONFIG_BYTES

CONFIG_FILE: Final = "tokenizer_config.json"

# The classes, less "Fast", that set the normalizer's case and accents, each with the types of network that stand for
# the class where no file names one.
_BERT_CLASSES: Final = {
    "BertTokenizer": (
        "align", "bark", "bert", "blip", "bros", "chinese_clip", "ernie", "git", "grounding-dino", "megatron-bert",
        "mm-grounding-dino", "nezha", "qdqbert", "tvp", "vilt", "visual_bert",
    ),
    "ConvBertTokenizer": ("convbert",),
    "DPRContextEncoderTokenizer": (),
    "DPRQuestionEncoderTokenizer": ("dpr",),
    "DPRReaderTokenizer": (),
    "DistilBertTokenizer": ("distilbert",),
    "ElectraTokenizer": ("electra",),
    "FunnelTokenizer": ("funnel",),
    "LayoutLMTokenizer": ("layoutlm",),
    "LayoutLMv2Tokenizer": ("layoutlmv2",),
    "LxmertTokenizer": ("lxmert",),
    "MPNetTokenizer": ("mpnet",),
    "MobileBertTokenizer": ("mobilebert",),
    "RealmTokenizer": ("realm",),
    "RetriBertTokenizer": ("retribert",),
    "RoFormerTokenizer": ("roformer",),
    "SplinterTokenizer": ("splinter",),
    "SqueezeBertTokenizer": ("squeezebert",),
}  # fmt: skip
# Of these classes, those that leave `handle_chinese_chars` as it stands.
_CASE_ALONE: Final = frozenset({"LayoutLMv2Tokenizer", "MPNetTokenizer", "RoFormerTokenizer", "SplinterTokenizer"})
_PREFIX_SPACE_CLASS: Final = "LayoutLMv3Tokenizer"  # the one that puts a blank before a text unless told not to
_CLASS_OF_NETWORK: Final = {
    **{network: name for name, networks in _BERT_CLASSES.items() for network in networks},
    **dict.fromkeys(("layoutlmv3", "lilt"), _PREFIX_SPACE_CLASS),
}
_AS_IT_STANDS: Final = "TokenizersBackend"  # version 5's name for the class that takes tokenizer.json as it is


def apply_config(definition: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The contents of a `tokenizer.json` as `AutoTokenizer` would use them, from the files beside it.

    Args:
        definition: the parsed file.
        directory: where `tokenizer_config.json` and `config.json` lie, if they exist.

    Returns:
        The very same object where nothing differs, so that its hash stays what it was.

    Raises:
        ModelError: `tokenizer_config.json` is no JSON object, or a setting has a value of the wrong kind.
    """
    settings = read_settings(directory / CONFIG_FILE)
    network = read_settings(directory / "config.json")
    name = str(settings.get("tokenizer_class") or network.get("tokenizer_class") or "").removesuffix("Fast")
    name = name or _CLASS_OF_NETWORK.get(str(network.get("model_type", "")), "")
    if name == _AS_IT_STANDS:
        return definition
    used = {"pre_tokenizer": _pre_tokenizer(definition.get("pre_tokenizer"), settings, name, directory)}
    if name in _BERT_CLASSES:
        used["normalizer"] = _normalizer(definition.get("normalizer"), settings, name, directory)
    if any(value != definition.get(part) for part, value in used.items()):
        definition = {**definition, **used}
    return _with_added_tokens(definition, settings, directory)


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON file's object; empty where there is no such file.

    Raises:
        ModelError: it cannot be read, or is no JSON object.
    """
    try:
        values = read_json(path, CONFIG_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ModelError(f"{path} is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} is not a JSON object")
    return values


def _normalizer(stands: Any, settings: Mapping[str, Any], name: str, directory: Path) -> Any:
    """A BERT normalizer with the class's settings; any other is left alone, as it has none of them."""
    if not isinstance(stands, dict) or stands.get("type") != "BertNormalizer":
        return stands
    wanted = {
        "lowercase": _flag(settings, "do_lower_case", True, directory),
        "strip_accents": _flag(settings, "strip_accents", None, directory),
    }
    chinese = {"handle_chinese_chars": _flag(settings, "tokenize_chinese_chars", True, directory)}
    return {**stands, **wanted, **({} if name in _CASE_ALONE else chinese)}


def _pre_tokenizer(stands: Any, settings: Mapping[str, Any], name: str, directory: Path) -> Any:
    """A byte-level pre-tokenizer with the class's setting; one within a sequence is left alone."""
    if not isinstance(stands, dict) or stands.get("type") != "ByteLevel":
        return stands
    wanted = _flag(settings, "add_prefix_space", name == _PREFIX_SPACE_CLASS, directory)
    return stands if wanted is None else {**stands, "add_prefix_space": wanted}


def _flag(settings: Mapping[str, Any], key: str, default: bool | None, directory: Path) -> bool | None:
    value = settings.get(key, default)
    if value is None or isinstance(value, bool):
        return value
    raise ModelError(f"{directory / CONFIG_FILE}: {key} must be true or false, not {value!r:.60}")


def _with_added_tokens(definition: dict[str, Any], settings: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """The definition with the words of `added_tokens_decoder` that it lacks; special tokens are never text."""
    declared = settings.get("added_tokens_decoder") or {}
    known = {token["content"] for token in definition.get("added_tokens") or ()}
    try:
        lacking = [
            AddedToken(**{**token, "special": False})
            for _, token in sorted(declared.items(), key=lambda item: int(item[0]))
            if token["content"] not in known and not token.get("special")
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ModelError(f"{directory / CONFIG_FILE}: added_tokens_decoder does not describe tokens") from None
    if not lacking:
        return definition
    backend = Tokenizer.from_str(json.dumps(definition))
    backend.add_tokens(lacking)
    added: dict[str, Any] = parse_json(backend.to_str())
    return added
