"""The directories of models: their files and folders, and the marker of those that this project writes."""

import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from nuner_embed.artifacts import Kind
from nuner_embed.errors import ModelError
from nuner_embed.files import sha256_of, write_json
from nuner_embed.metadata import Sha256
from nuner_embed.metadata import read as read_metadata

# Folders in the directory of a text encoder.
CONCEPT_FOLDER: Final = "concept_encoder"  # the other half of the bi-encoder, a model of its own
DETECTOR_FOLDER: Final = "detector"  # a probe that finds mentions
SPAN_FOLDER: Final = "span_head"  # a head that scores spans for any type that is named
HEAD_FOLDER: Final = "head"  # the head of a fine-tuned model, which finds typed mentions
COMPANIONS: Final = (CONCEPT_FOLDER, DETECTOR_FOLDER, SPAN_FOLDER, HEAD_FOLDER)

CARD_FILE: Final = "README.md"
# The files that a tokenizer of the Hugging Face library may be made from without a tokenizer.json. TOKENIZER_FILES also
# has the files that only complete one of these.
VOCABULARY_FILES: Final = (
    "vocab.txt", "vocab.json", "spm.model", "spiece.model", "sentencepiece.bpe.model", "sentencepiece.model",
    "tokenizer.model", "spm_char.model", "tiktoken.model", "dict.txt", "prophetnet.tokenizer",
)  # fmt: skip
TOKENIZER_FILES: Final = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", *VOCABULARY_FILES,
    "merges.txt", "bpe.codes", "vocab.bpe", "vocab-src.json", "vocab-tgt.json", "entity_vocab.json", "byte_maps.json",
    "word_shape.json", "word_pronunciation.json", "emoji.json", "chat_template.jinja",
)  # fmt: skip

MARKER_FILE: Final = "nuner-embed-model.json"
SCHEMA_VERSION: Final = 1
Purpose = Literal["saved", "composed", "fetched"]


@dataclass(frozen=True, slots=True)
class Marker:
    """The contents of `nuner-embed-model.json`, the marker of a model's directory.

    Attributes:
        purpose: "saved" by `nuner-embed models save`, or in the cache folder "fetched" by `nuner-embed models fetch`
            or "composed" of a base and trained layers.
        files: the SHA-256 of every other file, by its path within the directory.
    """

    purpose: Purpose
    files: dict[str, Sha256]


def mark(directory: Path, purpose: Purpose, known: Mapping[Path, str] | None = None) -> None:
    """Writes the marker of a finished directory.

    Args:
        directory: of the model, with no files but ours.
        purpose: see `Marker`.
        known: the known SHA-256 of some files, which are then not read.
    """
    hashes = {path: (known or {}).get(path) or sha256_of(path) for path in _files(directory)}
    files = {path.relative_to(directory).as_posix(): sha256 for path, sha256 in sorted(hashes.items())}
    write_json(directory / MARKER_FILE, {"schema_version": SCHEMA_VERSION, "purpose": purpose, "files": files})


def _files(directory: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(directory):
        yield from (path for name in names if (path := Path(parent) / name) != directory / MARKER_FILE)


def _read_marker(directory: Path) -> Marker:
    return read_metadata(
        directory / MARKER_FILE,
        Marker,
        version=SCHEMA_VERSION,
        error=ModelError,
        what="the marker of a model that nuner-embed wrote",
        cure="save the model into another directory",
    )


def _require_unchanged(directory: Path) -> Marker:
    """Reads the marker of a saved model, of which no file may have been changed."""
    marker = _read_marker(directory)
    if marker.purpose != "saved":
        raise ModelError(f"{directory} belongs to the cache")
    for path in sorted(_files(directory)):
        inner, facts = path.relative_to(directory).as_posix(), path.lstat()
        written = marker.files.get(inner)
        if written is None or written != _sha256_of(path, facts.st_ino, facts.st_size, facts.st_mtime_ns):
            raise ModelError(f"{inner} is not as nuner-embed wrote it")
    return marker


@functools.lru_cache
def _sha256_of(path: Path, *_version: int) -> str:
    return sha256_of(path) if path.is_file() and not path.is_symlink() else ""


_FILES: Final = ("*", *(f"{folder}/*" for folder in COMPANIONS))
# A saved model is replaced only if no file was changed: an edited card or recipe is the user's work.
SAVED_MODEL: Final = Kind("a saved model", MARKER_FILE, _require_unchanged, _FILES, ModelError, ModelError)
# Models in the cache folder are replaced when they are damaged.
COMPOSED_MODEL: Final = Kind("a composed model", MARKER_FILE, _read_marker, _FILES, ModelError, ModelError)
FETCHED_MODEL: Final = Kind("a fetched model", MARKER_FILE, _read_marker, ("*",), ModelError, ModelError)
