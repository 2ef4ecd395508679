"""A head on disk: probe.json, and its arrays in a safetensors file beside it; never a pickle.

A head is written to a temporary directory, which is renamed in one step: at any moment the directory is the old or the
new one. A reader that meets the replacement of a head reads again. `kind` in the JSON says which class reads the rest;
files of earlier versions have no `kind`: linear heads were the only ones.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nuner_embed import metadata
from nuner_embed.artifacts import Kind, replacing
from nuner_embed.errors import ProbeError
from nuner_embed.files import atomic_write, expand, hash_of, read_bytes, write_json
from nuner_embed.heads.base import KINDS, Head, HeadFacts, head_class
from nuner_embed.limits import PROBE_TYPES, PROBE_WEIGHTS_BYTES
from nuner_embed.metadata import FileName, Positive, Sha256, convert
from nuner_embed.models.directories import HEAD_FOLDER

PROBE_FILE: Final = "probe.json"
SCHEMA_VERSION: Final = 1
_WEIGHTS_FILES: Final = "weights-" + "[0-9a-f]" * 16 + ".safetensors"
_TRIES: Final = 5  # of a reader; each further try needs a head that was replaced during the one before
_AGAIN: Final = "train the probe again"
_MATRIX: Final = "coef"  # the array whose shape stands in the JSON, if a head has it


@dataclass(frozen=True, slots=True)
class _WeightsFile:
    """The file with the arrays, and the shape of the matrix, (classes, dim), which earlier versions left out."""

    file: FileName
    sha256: Sha256
    shape: tuple[Positive, Positive] | None = None


@dataclass(frozen=True, slots=True)
class _Envelope:
    """The values of `probe.json` besides the facts; `sha256` is of all the others; earlier versions lack it."""

    weights: _WeightsFile
    kind: str = "linear"
    sha256: Sha256 | None = None


@dataclass(frozen=True, slots=True)
class _HeadFile:
    envelope: _Envelope
    facts: HeadFacts


def _read_file(directory: Path) -> _HeadFile:
    """Reads `probe.json`.

    Raises:
        ProbeError: there is no such file, or it is damaged or has another schema version.
    """
    path = directory / PROBE_FILE
    try:
        values = metadata.read_object(
            path, version=SCHEMA_VERSION, error=ProbeError, what="the facts of a probe", cure=_AGAIN
        )
    except (FileNotFoundError, NotADirectoryError):
        raise ProbeError(f"{directory} holds no probe (no {PROBE_FILE}); nuner-embed probe train makes one") from None
    try:
        envelope = convert(values, _Envelope)
        if envelope.kind not in KINDS:
            raise ValueError(f"kind: expected {' or '.join(KINDS)}, found {envelope.kind!r:.40}")
        facts = convert(values, head_class(envelope.kind).facts_type)
        facts.require_sound()
        if envelope.sha256 is not None and envelope.sha256 != _hash_of_facts(values):
            raise ValueError("its values are not those that were written (sha256 differs)")
    except ValueError as error:
        raise ProbeError(f"{path}: {error}; {_AGAIN}") from None
    return _HeadFile(envelope, facts)


def _hash_of_facts(values: dict[str, Any]) -> str:
    return hash_of({name: value for name, value in values.items() if name != "sha256"})


PROBE: Final = Kind("a probe", PROBE_FILE, _read_file, (_WEIGHTS_FILES,), ProbeError, ProbeError)


def save_head(path: str | Path, head: Head, arrays: Mapping[str, NDArray[Any]], *, force: bool = False) -> None:
    """Writes a head as a directory; see `Head.save`.

    Args:
        path: the directory.
        head: its kind and facts are written.
        arrays: of the head; 64-bit floating-point numbers are written in 32 bits.
        force: replace an existing head.

    Raises:
        ProbeError: a head is there and `force` was not given, or something else is there; or the head has more types
            than can be read again.
        OSError: it cannot be written.
    """
    if len(head.types) > PROBE_TYPES:
        raise ProbeError(f"a probe has at most {PROBE_TYPES:,} types, not {len(head.types):,}; name some with --types")
    content = save(
        {
            name: np.ascontiguousarray(array, np.float32 if array.dtype == np.float64 else array.dtype)
            for name, array in arrays.items()
        }
    )
    digest = hashlib.sha256(content).hexdigest()
    name = f"weights-{digest[:16]}.safetensors"
    shape = {"shape": list(arrays[_MATRIX].shape)} if _MATRIX in arrays else {}
    values = {
        "schema_version": SCHEMA_VERSION,
        "kind": head.kind,
        "scheme": head.scheme,
        **asdict(head.facts),
        "weights": {"file": name, "sha256": digest, **shape},
    }
    values = json.loads(json.dumps(values))  # as the file will be read, where keys are always strings
    with replacing(expand(path), PROBE, force=force) as work:
        with atomic_write(work / name, follow=False) as stream:
            stream.write(content)
        write_json(work / PROBE_FILE, {**values, "sha256": _hash_of_facts(values)})


def head_folder(path: str | Path) -> Path:
    """The folder of a head: the path itself, or the folder `head` in the directory of a fine-tuned model."""
    directory = expand(path)
    inner = directory / HEAD_FOLDER
    return inner if (inner / PROBE_FILE).is_file() and not (directory / PROBE_FILE).exists() else directory


def open_head(path: str | Path) -> Head:
    """Reads a saved head of any kind, and verifies its hashes.

    Args:
        path: see `head_folder`.

    Raises:
        ProbeError: there is no head, or it is damaged or has another schema version.
    """
    directory = head_folder(path)
    for attempt in range(_TRIES):
        read = _read_file(directory)
        try:
            return _with_arrays(directory / read.envelope.weights.file, read)
        except FileNotFoundError:
            if attempt == _TRIES - 1 or _read_file(directory) == read:
                break  # nobody replaced the head in the meantime
    missing = read.envelope.weights.file
    raise ProbeError(f"{directory} holds no probe (no {missing}); nuner-embed probe train makes one")


def _with_arrays(path: Path, read: _HeadFile) -> Head:
    weights = read.envelope.weights
    try:
        content = read_bytes(path, PROBE_WEIGHTS_BYTES)
        if hashlib.sha256(content).hexdigest() != weights.sha256:
            raise ProbeError(f"{path} is not what was written (sha256 differs); {_AGAIN}")
        arrays = load(content)
        head = head_class(read.envelope.kind).from_saved(read.facts, arrays)
        if weights.shape is not None and arrays[_MATRIX].shape != weights.shape:
            raise ValueError(f"weights of shape {arrays[_MATRIX].shape}, and {PROBE_FILE} says {weights.shape}")
        return head
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ProbeError(f"{path} cannot be read: {error.strerror or error}") from None
    except (KeyError, ValueError, SafetensorError) as error:
        reason = f"no array {error}" if isinstance(error, KeyError) else error
        raise ProbeError(f"{path} holds no weights of this probe ({reason}); {_AGAIN}") from None
