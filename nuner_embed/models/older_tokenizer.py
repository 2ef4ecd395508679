"""Tokenizers of before `tokenizer.json`, converted by transformers."""

import importlib.metadata
import importlib.util
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from nuner_embed.errors import ModelError
from nuner_embed.files import copy_file, write_json
from nuner_embed.installation import install_command
from nuner_embed.models.directories import TOKENIZER_FILES, VOCABULARY_FILES
from nuner_embed.models.tokenizer_config import CONFIG_FILE, read_settings

_COPIED: Final = frozenset(TOKENIZER_FILES) - {CONFIG_FILE, "chat_template.jinja"}
# What `tokenizer_config.json` may say of a tokenizer: how text is cut, and which tokens are special.
_SETTINGS: Final = re.compile(
    r"tokenizer_class|do_.*|strip_accents|tokenize_chinese_chars|never_split|add_prefix_space|.*_token"
    r"|additional_special_tokens|extra_special_tokens|added_tokens_decoder|trim_offsets|errors|sp_model_kwargs"
    r"|keep_accents|remove_space|legacy|split_by_punct|vocab_type|model_max_length|clean_up_tokenization_spaces"
    r"|jamo_type|wordpieces_prefix|extra_ids|.*_lang|language.*|cls_token_box|.*_label|only_label_first_subword|task"
    r"|max_entity_length|max_mention_length|unicode_normalizer|word_tokenizer_type|subword_tokenizer_type"
)
_CLASS: Final = re.compile(r"[A-Z][A-Za-z0-9]*Tokenizer(Fast)?|TokenizersBackend")
# Classes that load what is no tokenizer's file, other models or Python objects.
_CLASSES_REFUSED: Final = frozenset(
    {"RagTokenizer", "TransfoXLTokenizer", "JukeboxTokenizer", "EncoderDecoderTokenizer"}
)


def _settings(directory: Path) -> dict[str, dict[str, Any]]:
    """What transformers is shown in the place of the configurations of a directory, by file."""
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


def convert(directory: Path) -> str:
    """The `tokenizer.json` that transformers makes of an older tokenizer's files.

    Transformers is shown a copy of these files alone, with what `tokenizer_config.json` says about them: the
    configuration of a stranger's model chooses no code and no file elsewhere.

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
        except Exception as error:  # of each kind of file its own
            reason = " ".join(str(error).replace(folder, str(directory)).split())[:300] or type(error).__name__
            raise ModelError(f"{directory} holds no tokenizer that can be used: {reason}") from None
    # transformers 5 makes up a tokenizer of nothing but special tokens where the vocabulary is missing
    vocabulary = [file for kind, file in type(tokenizer).vocab_files_names.items() if kind != "tokenizer_file"]
    if vocabulary and not any((directory / file).is_file() for file in vocabulary):
        raise ModelError(f"{directory} holds no tokenizer: neither tokenizer.json nor {' and '.join(vocabulary)}")
    return definition


def _is_tiktoken(path: Path) -> bool:
    return path.name == "tiktoken.model" or path.suffix == ".tiktoken"


def _packages_for(names: Sequence[str]) -> tuple[str, ...]:
    """What transformers needs besides itself to read the first of these files; text files need nothing."""
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
