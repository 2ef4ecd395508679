"""Texts to token ids with character offsets, through the tokenizers library alone."""

import importlib.metadata
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from nuner_embed.errors import ModelError
from nuner_embed.files import hash_of
from nuner_embed.installation import install_command
from nuner_embed.models.directories import VOCABULARY_FILES
from nuner_embed.models.exported import EXPORT_FILE
from nuner_embed.models.tokenizer_config import apply_config

_NEVER = -1e6  # a log probability below that of any real segmentation


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """A fast tokenizer that neither truncates nor pads, and for which text is only ever text.

    A literal "[SEP]" or "</s>" in a corpus is tokenized as the characters it consists of, never as the special
    token. Windows get their special tokens from `prefix` and `suffix`.

    Attributes:
        backend: the tokenizers library's own object.
        prefix: ids of the special tokens before a window.
        suffix: ids of the special tokens after it.
        definition: the contents of its `tokenizer.json`, truncation and padding left out.
        blank: id of the piece "▁" in a SentencePiece vocabulary, the blank before a word that begins otherwise.
        unknown: id of the unknown token of a Unigram vocabulary, which holds its special tokens as pieces.
        literal: ids of these special tokens.
    """

    backend: Tokenizer
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    definition: dict[str, Any]
    blank: int | None = None
    unknown: int | None = None
    literal: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"TextTokenizer({self.definition['model'].get('type')}, {self.backend.get_vocab_size():,} tokens)"

    @classmethod
    def from_directory(cls, directory: Path) -> Self:
        """Reads `tokenizer.json`, or converts an older tokenizer where transformers is installed.

        What `AutoTokenizer` would change because of `tokenizer_config.json` is changed here too; the `tokenizer.json`
        of an exported directory holds it already.

        Raises:
            ModelError: no tokenizer, or one that cannot be read.
        """
        path = directory / "tokenizer.json"
        try:
            if not path.is_file():
                definition = json.loads(_convert(directory))
            else:
                definition = json.loads(path.read_text(encoding="utf-8"))
                if not (directory / EXPORT_FILE).is_file():
                    definition = apply_config(definition, directory)
            return cls.from_definition(definition)
        except ModelError:
            raise
        except Exception as error:  # the library raises bare Exception for a definition that it cannot read
            raise ModelError(f"{directory}: tokenizer.json cannot be read: {error}") from None

    @classmethod
    def from_definition(cls, definition: dict[str, Any]) -> Self:
        """Builds the tokenizer from the parsed contents of a `tokenizer.json`."""
        kind = definition["model"].get("type")
        definition = {**definition, "truncation": None, "padding": None, "model": _without_literal_specials(definition)}
        backend = Tokenizer.from_str(json.dumps(definition))
        probe = backend.encode("a")
        content = [i for i, special in enumerate(probe.special_tokens_mask) if not special]
        if not content:
            raise ValueError("it makes no token of the letter a")
        prefix, suffix = probe.ids[: content[0]], probe.ids[content[-1] + 1 :]
        backend.encode_special_tokens = True
        blank = None if kind == "WordPiece" else backend.token_to_id("▁")
        unknown = definition["model"].get("unk_id") if kind == "Unigram" else None
        literal = tuple(token["id"] for token in definition.get("added_tokens", ()) if token["special"])
        return cls(backend, tuple(prefix), tuple(suffix), definition, blank, unknown, literal)

    @property
    def largest_id(self) -> int:
        """The highest id that it can give; not always the number of its tokens less one."""
        return int(max(self.backend.get_vocab().values()))

    @property
    def specials(self) -> int:
        """How many special tokens a window carries."""
        return len(self.prefix) + len(self.suffix)

    def encode(self, texts: Sequence[str]) -> list[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        """Token ids (n,) and character offsets (n, 2) of each whole text, special tokens left out."""
        encodings = self.backend.encode_batch(list(texts), add_special_tokens=False)
        return [
            self._mended(np.array(encoding.ids, np.int32), np.array(encoding.offsets, np.int64).reshape(-1, 2))
            for encoding in encodings
        ]

    def _mended(
        self, ids: NDArray[np.int32], offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Takes the next word's first character off a lone "▁", and special tokens that a text spelt out of the ids."""
        if self.blank is not None:
            blanks = ids == self.blank
            offsets[blanks, 1] = offsets[blanks, 0]
        if self.unknown is not None:
            ids[np.isin(ids, self.literal)] = self.unknown
        return ids, offsets

    @property
    def sha256(self) -> str:
        """Of the definition: the same for an exported model and its source."""
        return hash_of(self.definition)


def _without_literal_specials(definition: dict[str, Any]) -> dict[str, Any]:
    """The model part, changed so that Unigram never finds "<s>" and its like in a text.

    A Unigram vocabulary holds its special tokens as ordinary pieces with a perfect score; the others spell
    theirs in ways that no text leads to.
    """
    model: dict[str, Any] = definition["model"]
    if model.get("type") != "Unigram":
        return model
    specials = {token["content"] for token in definition.get("added_tokens", ()) if token["special"]}
    return {
        **model,
        "vocab": [[piece, _NEVER if piece in specials else score] for piece, score in model["vocab"]],
    }


def _convert(directory: Path) -> str:
    """The `tokenizer.json` that transformers makes of an older tokenizer's files."""
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
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            directory, use_fast=True, local_files_only=True, trust_remote_code=False
        )
        definition = str(tokenizer.backend_tokenizer.to_str())
    except Exception as error:  # of each kind of file its own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
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
