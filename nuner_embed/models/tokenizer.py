"""Texts to token ids with character offsets, through the tokenizers library alone."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from nuner_embed.errors import ModelError
from nuner_embed.files import hash_of, parse_json, read_json
from nuner_embed.limits import TOKENIZER_BYTES
from nuner_embed.models.onnx_export import EXPORT_FILE
from nuner_embed.models.tokenizer_files import apply_config, convert_older
from nuner_embed.printable import one_line

_NEVER = -1e6  # lower than the log probability of any real segmentation


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """A fast tokenizer that neither truncates nor pads, and never reads special tokens in a text.

    A literal "[SEP]" or "</s>" in a corpus is tokenized as the characters it consists of, never as the special
    token. Windows get their special tokens from `prefix` and `suffix`.

    Attributes:
        backend: the object of the tokenizers library.
        prefix: ids of the special tokens before a window.
        suffix: ids of the special tokens after it.
        definition: the contents of `tokenizer.json`, without truncation and padding.
        blank: id of the piece "▁" in a SentencePiece vocabulary, a blank that belongs to no other piece.
        unknown: id of the unknown token of a Unigram vocabulary, which holds its special tokens as pieces.
        literal: ids of the special tokens among the pieces of a Unigram vocabulary.
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

        Applies `tokenizer_config.json` as `AutoTokenizer` does; the `tokenizer.json` of an exported directory contains
        these changes already.

        Raises:
            ModelError: there is no tokenizer, or it cannot be read.
        """
        path = directory / "tokenizer.json"
        with _panics_as_errors(), _as_model_errors(f"{directory}: tokenizer.json cannot be read"):
            if not path.is_file():
                definition = parse_json(convert_older(directory))
            else:
                definition = read_json(path, TOKENIZER_BYTES)
                if not (directory / EXPORT_FILE).is_file():
                    definition = apply_config(definition, directory)
            return cls.from_definition(definition)

    @classmethod
    def from_definition(cls, definition: dict[str, Any]) -> Self:
        """Builds the tokenizer from the parsed contents of a `tokenizer.json`."""
        kind = definition["model"].get("type")
        definition = {**definition, "truncation": None, "padding": None, "model": _without_literal_specials(definition)}
        _require_known_specials(definition.get("post_processor"))
        backend = Tokenizer.from_str(json.dumps(definition))
        probe = backend.encode("a")
        content = [i for i, special in enumerate(probe.special_tokens_mask) if not special]
        if not content:
            raise ValueError("it makes no token for the letter a")
        prefix, suffix = probe.ids[: content[0]], probe.ids[content[-1] + 1 :]
        backend.encode_special_tokens = True
        blank = None if kind == "WordPiece" else backend.token_to_id("▁")
        unknown = definition["model"].get("unk_id") if kind == "Unigram" else None
        literal = tuple(token["id"] for token in definition.get("added_tokens", ()) if token["special"])
        return cls(backend, tuple(prefix), tuple(suffix), definition, blank, unknown, literal)

    @property
    def largest_id(self) -> int:
        """The highest token id; not always the number of tokens minus one."""
        return int(max(self.backend.get_vocab().values()))

    @property
    def specials(self) -> int:
        """The number of special tokens in a window."""
        return len(self.prefix) + len(self.suffix)

    def encode(self, texts: Sequence[str]) -> list[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        """Token ids (n,) and character offsets (n, 2) of each whole text, special tokens left out.

        Raises:
            ModelError: the tokenizer fails, for example because its `tokenizer.json` is damaged.
        """
        ids, offsets, counts = self.encode_joined(texts)
        cuts = np.cumsum(counts)[:-1]
        return list(zip(np.split(ids, cuts), np.split(offsets, cuts), strict=True)) if len(texts) else []

    def encode_joined(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """The tokens of all texts, one text after the other: ids (n,), offsets (n, 2), and tokens of each text (d,).

        Offsets are those within the token's own text. The library cuts the texts in as many threads as there are cores.

        Raises:
            ModelError: the tokenizer fails, for example because its `tokenizer.json` is damaged.
        """
        with _panics_as_errors(), _as_model_errors("the tokenizer cannot cut a text into tokens"):
            encodings = self.backend.encode_batch(list(texts), add_special_tokens=False)
        counts = np.fromiter(map(len, encodings), np.int64, len(encodings))
        n = int(counts.sum())
        ids = np.fromiter(chain.from_iterable(one.ids for one in encodings), np.int32, n)
        pairs = chain.from_iterable(one.offsets for one in encodings)
        offsets = np.fromiter(chain.from_iterable(pairs), np.int64, 2 * n).reshape(-1, 2)
        return *self._mended(ids, offsets), counts

    def _mended(
        self, ids: NDArray[np.int32], offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Empties the offsets of a lone "▁", and replaces special tokens that a text spells by the unknown token."""
        if self.blank is not None:
            blanks = ids == self.blank
            offsets[blanks, 1] = offsets[blanks, 0]
        if self.unknown is not None:
            ids[np.isin(ids, self.literal)] = self.unknown
        return ids, offsets

    @property
    def sha256(self) -> str:
        """The hash of the definition; an exported model and its source have the same."""
        return hash_of(self.definition)


def _without_literal_specials(definition: dict[str, Any]) -> dict[str, Any]:
    """The model part of a definition, changed so that Unigram never finds tokens such as "<s>" in a text.

    A Unigram vocabulary holds its special tokens as ordinary pieces with a perfect score; in other vocabularies no text
    leads to a special token.
    """
    model: dict[str, Any] = definition["model"]
    if model.get("type") != "Unigram":
        return model
    specials = {token["content"] for token in definition.get("added_tokens", ()) if token["special"]}
    return {
        **model,
        "vocab": [[piece, _NEVER if piece in specials else score] for piece, score in model["vocab"]],
    }


def _require_known_specials(processor: Any) -> None:
    """Refuses a template with undefined special tokens, with which the library would panic at the first text.

    Raises:
        ValueError: naming an undefined token.
    """
    if not isinstance(processor, dict):
        return
    for part in processor.get("processors") or ():
        _require_known_specials(part)
    if processor.get("type") == "TemplateProcessing":
        pieces = [*processor["single"], *processor["pair"]]
        named = {piece["SpecialToken"]["id"] for piece in pieces if "SpecialToken" in piece}
        unknown = named - processor["special_tokens"].keys()
        if unknown:
            raise ValueError(f"its template names {min(unknown)!r:.60}, which it does not define")


@contextlib.contextmanager
def _as_model_errors(what: str) -> Iterator[None]:
    """Turns any error of the tokenizers library, often a bare Exception, into a ModelError."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{what}: {one_line(error)}") from None


@contextlib.contextmanager
def _panics_as_errors() -> Iterator[None]:
    """Turns a Rust panic, which is no Exception in Python, into a ModelError."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise ModelError(f"the tokenizer is damaged ({one_line(error, 200)})") from None
        raise
