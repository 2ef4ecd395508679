"""A probe on disk: probe.json and weights beside it; never a pickle.

A probe is written beside its place and takes its name in one step: a probe directory is the old one or the new one at
any moment. A reader that came in between reads again.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Self

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nuner_embed import metadata
from nuner_embed.artifacts import Kind, replacing
from nuner_embed.documents import is_text
from nuner_embed.errors import ProbeError
from nuner_embed.files import atomic_write, hash_of, read_bytes, write_json
from nuner_embed.heads.labelled_words import SCHEME
from nuner_embed.heads.linear import ProbeWeights
from nuner_embed.limits import PROBE_TYPES, PROBE_WEIGHTS_BYTES
from nuner_embed.metadata import Count, FileName, Positive, Sha256, convert
from nuner_embed.models.recipe import Recipe

PROBE_FILE: Final = "probe.json"
SCHEMA_VERSION: Final = 1
_WEIGHTS_FILES: Final = "weights-" + "[0-9a-f]" * 16 + ".safetensors"
_TRIES: Final = 5  # of a reader, each of which needs a probe that was replaced in the very moment
_AGAIN: Final = "train the probe again"


@dataclass(frozen=True, slots=True)
class Training:
    """What a probe was trained on.

    Attributes:
        sentences: documents in the support set.
        words: words in them.
        mentions: mentions of each type in them.
        k: mentions of each type that were asked for, between k and 2k; None where all the data was taken.
        seed: of the draw, None where there was none.
        left_out: types of the data that the probe does not know, with their mentions.
        lost: mentions that no word stands for or that an earlier one overlaps.
        gradient_norm: largest entry of the gradient of the mean loss in the end.
        iterations: of the solver.
        mention_words: words of the support set that are in mentions.
        background_words: words of texts that nobody annotated, learnt from as words of none.
    """

    sentences: Count
    words: Count
    mentions: dict[str, Count]
    k: Positive | None
    seed: int | None
    left_out: dict[str, Count]
    lost: Count
    gradient_norm: float
    iterations: Count
    mention_words: Count = 0  # a probe of an earlier version says neither
    background_words: Count = 0

    @classmethod
    def none(cls, types: Sequence[str]) -> Self:
        """Of a probe that was made without any example."""
        return cls(0, 0, dict.fromkeys(types, 0), None, None, {}, 0, 0.0, 0)


@dataclass(frozen=True, slots=True)
class ProbeFacts:
    """What a probe is, besides its weights.

    Attributes:
        semantic_hash: of the encoder whose embeddings it reads.
        model: where that encoder was loaded from.
        recipe: what its embeddings are.
        types: names of the types; class 0 is none, class i is `types[i - 1]`.
        parameters: of the `LinearProbe`.
        training: see `Training`.
    """

    semantic_hash: str
    model: str
    recipe: dict[str, Any]
    types: Annotated[tuple[str, ...], msgspec.Meta(max_length=PROBE_TYPES)]
    parameters: dict[str, Any]
    training: Training

    def __repr__(self) -> str:
        return f"ProbeFacts({self.model!r}, {len(self.types)} types)"

    def require_sound(self) -> None:
        """Checks what a value's type does not say.

        Raises:
            ValueError: a value that no probe has; the message names it.
        """
        if not all(name and is_text(name) for name in self.types):
            raise ValueError("types: a name that is empty, or no text")
        if len(set(self.types)) != len(self.types):
            raise ValueError("types: one is named twice")
        if not is_text(self.model):
            raise ValueError("model: it is no text")
        try:
            Recipe.from_dict(self.recipe)
        except ValueError as error:
            raise ValueError(f"recipe: {error}") from None
        if self.training.mention_words > self.training.words:
            raise ValueError(
                f"training: {self.training.mention_words} words in mentions, and {self.training.words} in all"
            )
        threshold, concepts = self.parameters.get("threshold", 0.5), self.parameters.get("concepts", {})
        if type(threshold) not in (int, float) or not 0 < threshold < 1:
            raise ValueError(f"parameters: the threshold is no number between 0 and 1, but {threshold!r:.40}")
        names = [*concepts, *concepts.values()] if isinstance(concepts, dict) else [None]
        if not all(isinstance(name, str) and is_text(name) for name in names):
            raise ValueError("parameters: the concepts are not names by types")


@dataclass(frozen=True, slots=True)
class _WeightsFile:
    """Which file holds the weights, and the shape of the matrix, (classes, dim), which earlier versions left out."""

    file: FileName
    sha256: Sha256
    shape: tuple[Positive, Positive] | None = None


@dataclass(frozen=True, slots=True)
class _ProbeFile(ProbeFacts):
    """What `probe.json` says; `sha256` is of all the rest of it, unless an earlier version wrote it."""

    semantic_hash: Sha256
    weights: _WeightsFile = field(kw_only=True)
    sha256: Sha256 | None = field(default=None, kw_only=True)

    @property
    def facts(self) -> ProbeFacts:
        return ProbeFacts(self.semantic_hash, self.model, self.recipe, self.types, self.parameters, self.training)


def _read_file(directory: Path) -> _ProbeFile:
    """Reads `probe.json`.

    Raises:
        ProbeError: there is none, it is damaged, or of another schema version.
    """
    path = directory / PROBE_FILE
    try:
        values = metadata.read_object(
            path, version=SCHEMA_VERSION, error=ProbeError, what="the facts of a probe", cure=_AGAIN
        )
    except (FileNotFoundError, NotADirectoryError):
        raise ProbeError(f"{directory} holds no probe (no {PROBE_FILE}); nuner-embed probe train makes one") from None
    try:
        read = convert(values, _ProbeFile)
        read.require_sound()
        if read.sha256 is not None and read.sha256 != _hash_of_facts(values):
            raise ValueError("its values are not those that were written (sha256 differs)")
    except ValueError as error:
        raise ProbeError(f"{path}: {error}; {_AGAIN}") from None
    return read


def _hash_of_facts(values: dict[str, Any]) -> str:
    return hash_of({name: value for name, value in values.items() if name != "sha256"})


PROBE: Final = Kind("a probe", PROBE_FILE, _read_file, (_WEIGHTS_FILES,), ProbeError, ProbeError)


def save_probe(directory: Path, weights: ProbeWeights, facts: ProbeFacts) -> None:
    """Writes a probe as a directory, in place of a probe that is there.

    Raises:
        ProbeError: something else is there, or the probe has more types than can be read again.
        OSError: it cannot be written.
    """
    if len(facts.types) > PROBE_TYPES:
        raise ProbeError(f"a probe has at most {PROBE_TYPES:,} types, not {len(facts.types):,}; name some with --types")
    content = save(
        {
            "classes": weights.classes,
            "coef": np.ascontiguousarray(weights.coef, dtype=np.float32),
            "intercept": np.ascontiguousarray(weights.intercept, dtype=np.float32),
        }
    )
    digest = hashlib.sha256(content).hexdigest()
    name = f"weights-{digest[:16]}.safetensors"
    values = {
        "schema_version": SCHEMA_VERSION,
        "scheme": SCHEME,
        **asdict(facts),
        "weights": {"file": name, "sha256": digest, "shape": list(weights.coef.shape)},
    }
    values = json.loads(json.dumps(values))  # as it will be read: keys that are numbers are texts there
    with replacing(directory, PROBE, force=True) as work:
        with atomic_write(work / name, follow=False) as stream:
            stream.write(content)
        write_json(work / PROBE_FILE, {**values, "sha256": _hash_of_facts(values)})


def read_probe(directory: Path) -> tuple[ProbeWeights, ProbeFacts]:
    """Reads a probe, and checks that every byte is as it was written.

    Raises:
        ProbeError: there is none, it is damaged, or of another schema version.
    """
    for attempt in range(_TRIES):
        read = _read_file(directory)
        try:
            return _read_weights(directory / read.weights.file, read), read.facts
        except FileNotFoundError:
            if attempt == _TRIES - 1 or _read_file(directory) == read:
                break  # nobody replaced the probe in the meantime
    raise ProbeError(f"{directory} holds no probe (no {read.weights.file}); nuner-embed probe train makes one")


def _read_weights(path: Path, read: _ProbeFile) -> ProbeWeights:
    try:
        content = read_bytes(path, PROBE_WEIGHTS_BYTES)
        if hashlib.sha256(content).hexdigest() != read.weights.sha256:
            raise ProbeError(f"{path} is not what was written (sha256 differs); {_AGAIN}")
        found = load(content)
        if sorted(found) != ["classes", "coef", "intercept"]:
            raise ValueError(f"it holds {', '.join(sorted(found))[:60]}")
        _require_fitting(found, read)
        return ProbeWeights(**found)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ProbeError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, SafetensorError) as error:
        raise ProbeError(f"{path} holds no weights of this probe ({error}); {_AGAIN}") from None


def _require_fitting(found: dict[str, Any], read: _ProbeFile) -> None:
    """Checks the weights against what the facts say."""
    classes, coef, intercept = found["classes"], found["coef"], found["intercept"]
    if classes.dtype != np.int64 or classes.ndim != 1 or not len(classes):
        raise ValueError(f"classes are {classes.dtype} of shape {classes.shape}")
    if not all(one.dtype in (np.float32, np.float64) for one in (coef, intercept)):
        raise ValueError(f"weights are {coef.dtype} and {intercept.dtype}")
    if np.unique(classes).size != len(classes) or not np.isin(classes, np.arange(len(read.types) + 1)).all():
        raise ValueError(f"classes {classes.tolist()[:20]} for {len(read.types)} types")
    if read.weights.shape is not None and coef.shape != read.weights.shape:
        raise ValueError(f"weights of shape {coef.shape}, and {PROBE_FILE} says {read.weights.shape}")
