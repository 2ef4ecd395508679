"""The facts of a concept encoder: its text encoder, and the meaning of its similarities."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, Self

from nuner_embed.errors import ModelError
from nuner_embed.files import write_json
from nuner_embed.metadata import Sha256
from nuner_embed.metadata import read as read_metadata

CONCEPTS_FILE: Final = "concepts.json"
_SCHEMA_VERSION = 1
ConceptPooling = Literal["mean", "first"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Converts the cosine of a mention and a concept to the probability that the mention is of that type.

    Attributes:
        slope, intercept: the probability is `1 / (1 + exp(-(slope * cosine + intercept)))`.
        data: a description of the data that it was fitted on.
    """

    slope: float
    intercept: float
    data: str

    def __post_init__(self) -> None:
        if not (0 < self.slope < math.inf and math.isfinite(self.intercept)):
            raise ValueError(
                f"a calibration needs a finite slope above 0 and a finite intercept, not {self.slope} and "
                f"{self.intercept}; with null for the calibration, the model can be calibrated again"
            )


@dataclass(frozen=True, slots=True)
class ConceptFacts:
    """The contents of `concepts.json`.

    Attributes:
        text_weights_sha256: of the text encoder that was trained with the concept encoder.
        pooling: a concept's vector is the mean of its word pieces, or its first (special) token.
        similarity: how training scaled an inner product: by a scale and a bias, or a temperature.
        calibration: None for a model that was never calibrated.
    """

    text_weights_sha256: Sha256
    pooling: ConceptPooling
    similarity: dict[str, float]
    calibration: Calibration | None = None

    def write(self, directory: Path) -> None:
        """Writes `concepts.json` into the concept encoder's directory."""
        write_json(directory / CONCEPTS_FILE, {"schema_version": _SCHEMA_VERSION, **asdict(self)})

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Reads what `write` wrote.

        Raises:
            ModelError: the file is missing, damaged, or of another version.
        """
        path, cure = directory / CONCEPTS_FILE, "pre-train or export the model again"
        try:
            return read_metadata(
                path, cls, version=_SCHEMA_VERSION, error=ModelError, what="the facts of a concept encoder", cure=cure
            )
        except (FileNotFoundError, NotADirectoryError):
            raise ModelError(f"{path} is missing; {cure}") from None
