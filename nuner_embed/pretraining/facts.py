"""What a run writes down of itself: what it was begun with, and what came of it. By that its folder is known."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from nuner_embed.errors import PretrainingError
from nuner_embed.files import read_json
from nuner_embed.metadata import Count, Positive, Sha256, convert

FACTS_FILE: Final = "pretrain.json"
RUN_FILE: Final = "run.json"
CARD: Final = "README.md"
TRAINING_FOLDER: Final = "training"
SCHEMA_VERSION: Final = 1
RUN_KIND: Final = "pre-training run"
T = TypeVar("T")
_NOT_OURS = "name another directory, or remove that one yourself"


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What a run learns from, as `Prepared.facts` says it."""

    files: list[str]
    sha256: Sha256
    texts: Count
    pieces: Count
    mentions: Count
    mentions_lost: Count
    labels: Count
    kind: str
    held_out: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunFacts:
    """What a run was begun with; `processes` is not in what it makes."""

    base: str
    base_sha256: Sha256
    data: DataFacts
    settings: dict[str, Any]
    probe_set: str | None
    processes: Positive = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts(BegunFacts):
    """What `pretrain.json` says of a finished model.

    Attributes:
        layers, frozen_layers, frozen_concept_layers: of the encoders; the last where there is a concept encoder.
        similarity: scale and bias of the loss, or its temperature.
        steps: of the optimizer.
        validation_loss, validation_top1, probe_f1: in the end; None where it was not measured.
        cards: SHA-256 of the cards as they were written, by their paths; an earlier version kept none.
    """

    layers: Positive
    frozen_layers: Count
    similarity: dict[str, float]
    steps: Positive
    validation_loss: float | None
    validation_top1: float | None
    probe_f1: float | None
    frozen_concept_layers: Count | None = None
    cards: dict[str, Sha256] | None = None


def read_begun(directory: Path) -> dict[str, Any] | None:
    """What the run in a directory was begun with; None where it is not written down yet.

    Raises:
        FileNotFoundError: no run was begun there.
        PretrainingError: the file is damaged, somebody else's, or of another version.
    """
    path = directory / TRAINING_FOLDER / RUN_FILE
    values = _object(path, "the mark of a pre-training run")
    begun: Any = values
    if "schema_version" in values:  # an earlier version wrote down nothing but what the run was begun with
        if values.get("kind") != RUN_KIND:
            raise PretrainingError(f"{path} is not the mark of a pre-training run; {_NOT_OURS}")
        begun = values.get("begun")
    if begun is not None:
        _require(path, begun, BegunFacts)
    return begun  # type: ignore[no-any-return]


def read_model(directory: Path) -> ModelFacts:
    """The facts of a finished model.

    Raises:
        FileNotFoundError: there is none.
        PretrainingError: they are damaged, somebody else's, or of another version.
    """
    path = directory / FACTS_FILE
    return _require(path, _object(path, "the facts of a pre-trained model"), ModelFacts)


def _require(path: Path, values: Any, kind: type[T]) -> T:
    try:
        return convert(values, kind)
    except ValueError as error:
        raise PretrainingError(f"{path}: {error}; {_NOT_OURS}") from None


def _object(path: Path, what: str) -> dict[str, Any]:
    try:
        values = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise PretrainingError(f"{path} cannot be read as {what} ({reason}); {_NOT_OURS}") from None
    version = values.get("schema_version", SCHEMA_VERSION) if isinstance(values, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        raise PretrainingError(f"{path} is not {what} of schema version {SCHEMA_VERSION}; {_NOT_OURS}")
    return values  # type: ignore[no-any-return]
