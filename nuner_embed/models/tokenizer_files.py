"""A tokenizer's files, read as `AutoTokenizer` reads them: `tokenizer.json` with its configuration, or older files.

A tokenizer class of transformers reads `tokenizer.json` and then replaces some of its settings by the arguments of the
class: those in `tokenizer_config.json`, or else the defaults of the class. This follows
transformers 4.57. Version 5 builds most tokenizers anew from their vocabulary with the same arguments, to the same ids;
it takes `tokenizer.json` as it is for `PreTrainedTokenizerFast`, and sets `handle_chinese_chars` for every class.
"""

import importlib.metadata
import importlib.util
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer

from nuner_embed.errors import ModelError
from nuner_embed.files import copy_file, parse_json, write_json
from nuner_embed.installation import install_command
from nuner_embed.models.config import read_settings
from nuner_embed.models.directories import TOKENIZER_FILES, VOCABULARY_FILES
from nuner_embed.printable import one_line

CONFIG_FILE: Final = "tokenizer_config.json"

# The classes, without "Fast", that set the normalizer's case and accents, each with the types of network that imply the
# class where no file names a class.
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
# Those of these classes that leave `handle_chinese_chars` unchanged.
_CASE_ALONE: Final = frozenset({"LayoutLMv2Tokenizer", "MPNetTokenizer", "RoFormerTokenizer", "SplinterTokenizer"})
_PREFIX_SPACE_CLASS: Final = "LayoutLMv3Tokenizer"  # the class that puts a blank before a text by default
_CLASS_OF_NETWORK: Final = {
    **{network: name for name, networks in _BERT_CLASSES.items() for network in networks},
    **dict.fromkeys(("layoutlmv3", "lilt"), _PREFIX_SPACE_CLASS),
}
_AS_IT_STANDS: Final = "TokenizersBackend"  # version 5's name for the class that takes tokenizer.json as it is
_COPIED: Final = frozenset(TOKENIZER_FILES) - {CONFIG_FILE, "chat_template.jinja"}
# The keys of `tokenizer_config.json` that are passed on: how text is cut, and which tokens are special.
_SETTINGS: Final = re.compile(
    r"tokenizer_class|do_.*|strip_accents|tokenize_chinese_chars|never_split|add_prefix_space|.*_token"
    r"|additional_special_tokens|extra_special_tokens|added_tokens_decoder|trim_offsets|errors|sp_model_kwargs"
    r"|keep_accents|remove_space|legacy|split_by_punct|vocab_type|model_max_length|clean_up_tokenization_spaces"
    r"|jamo_type|wordpieces_prefix|extra_ids|.*_lang|language.*|cls_token_box|.*_label|only_label_first_subword|task"
    r"|max_entity_length|max_mention_length|unicode_normalizer|word_tokenizer_type|subword_tokenizer_type"
)
_CLASS: Final = re.compile(r"[A-Z][A-Za-z0-9]*Tokenizer(Fast)?|TokenizersBackend")
# Classes that load more than the files of a tokenizer: other models or Python objects.
_CLASSES_REFUSED: Final = frozenset(
    {"RagTokenizer", "TransfoXLTokenizer", "JukeboxTokenizer", "EncoderDecoderTokenizer"}
)


def apply_config(definition: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The contents of a `tokenizer.json`, changed as `AutoTokenizer` changes them because of the files beside it.

    Args:
        definition: the parsed file.
        directory: where `tokenizer_config.json` and `config.json` lie, if they exist.

    Returns:
        The same object if nothing changes, so that its hash stays the same.

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


def _normalizer(stands: Any, settings: Mapping[str, Any], name: str, directory: Path) -> Any:
    """A BERT normalizer with the settings of the class; any other normalizer is returned unchanged."""
    if not isinstance(stands, dict) or stands.get("type") != "BertNormalizer":
        return stands
    wanted = {
        "lowercase": _flag(settings, "do_lower_case", True, directory),
        "strip_accents": _flag(settings, "strip_accents", None, directory),
    }
    chinese = {"handle_chinese_chars": _flag(settings, "tokenize_chinese_chars", True, directory)}
    return {**stands, **wanted, **({} if name in _CASE_ALONE else chinese)}


def _pre_tokenizer(stands: Any, settings: Mapping[str, Any], name: str, directory: Path) -> Any:
    """A byte-level pre-tokenizer with the setting of the class; one within a sequence is returned unchanged."""
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
    """The definition with the missing words of `added_tokens_decoder`; special tokens are left out."""
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


def _settings(directory: Path) -> dict[str, dict[str, Any]]:
    """The filtered configurations of a directory that transformers gets to see, by file."""
    settings = read_settings(directory / CONFIG_FILE)
    network = read_settings(directory / "config.json")
    for values in (settings, network):
        name = values.get("tokenizer_class")
        if name is None:
            continue
        if not isinstance(name, str) or not _CLASS.fullmatch(name) or name.removesuffix("Fast") in _CLASSES_REFUSED:
            raise ModelError(
                f"{directory} names a tokenizer of the class {name!r:.60}, which is not loaded here; convert it to "
                "tokenizer.json where you trust it (AutoTokenizer.from_pretrained, then save_pretrained)"
            )
    kept = {key: value for key, value in settings.items() if _SETTINGS.fullmatch(key)}
    of_network: dict[str, Any] = {key: network[key] for key in ("model_type", "tokenizer_class") if key in network}
    return {CONFIG_FILE: kept, **({"config.json": of_network} if of_network else {})}


def convert_older(directory: Path) -> str:
    """Converts an older tokenizer to a `tokenizer.json`, with transformers.

    Transformers gets a copy of the tokenizer's files and a filtered `tokenizer_config.json`, so that the configuration
    of a stranger's model can choose neither code nor other files.

    Raises:
        ModelError: there are no such files, they cannot be converted, or a package that this needs is not installed.
    """
    older = [path.name for path in sorted(directory.iterdir()) if path.name in VOCABULARY_FILES or _is_tiktoken(path)]
    if not older:
        raise ModelError(
            f"{directory} holds no tokenizer: expected tokenizer.json, or an older vocab.txt, vocab.json or *.model"
        )
    if importlib.util.find_spec("transformers") is None:
        raise ModelError(
            f"{directory} holds no tokenizer.json; converting its older tokenizer needs transformers: "
            f"{install_command('train')}"
        )
    missing = [package for package in _packages_for(older) if not _is_installed(package)]
    if missing:
        raise ModelError(
            f"{directory} holds no tokenizer.json; converting its {older[0]} needs {' and '.join(missing)}, which is "
            f"not installed: pip install {' '.join(missing)}"
        )
    settings = _settings(directory)
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory(prefix="nuner-embed-") as folder:
        place = Path(folder)
        for path in directory.iterdir():
            if path.is_file() and (path.name in _COPIED or _is_tiktoken(path)):
                copy_file(path, place / path.name)
        for name, values in settings.items():
            write_json(place / name, values)
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                place, use_fast=True, local_files_only=True, trust_remote_code=False
            )
            definition = str(tokenizer.backend_tokenizer.to_str())
        except Exception as error:  # each kind of tokenizer raises its own
            reason = one_line(error, 600).replace(folder, str(directory))[:300]
            raise ModelError(f"{directory} holds no tokenizer that can be used: {reason}") from None
    # transformers 5 makes up a tokenizer of nothing but special tokens where the vocabulary is missing
    vocabulary = [file for kind, file in type(tokenizer).vocab_files_names.items() if kind != "tokenizer_file"]
    if vocabulary and not any((directory / file).is_file() for file in vocabulary):
        raise ModelError(f"{directory} holds no tokenizer: neither tokenizer.json nor {' and '.join(vocabulary)}")
    return definition


def _is_tiktoken(path: Path) -> bool:
    return path.name == "tiktoken.model" or path.suffix == ".tiktoken"


def _packages_for(names: Sequence[str]) -> tuple[str, ...]:
    """The packages that transformers needs to read these files; none for text files."""
    if any(_is_tiktoken(Path(name)) for name in names):
        return ("tiktoken",)
    binary = all(name.endswith(".model") for name in names)
    return ("sentencepiece", "protobuf") if binary else ()


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
