"""What travels with a concept encoder: whose it is, and what its similarities mean."""

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
    """From the cosine of a mention and a concept to the probability that the mention is of that type.

    Attributes:
        slope, intercept: the probability is `1 / (1 + exp(-(slope * cosine + intercept)))`.
        data: what it was fitted on, for people.
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
    """What `concepts.json` says.

    Attributes:
        text_weights_sha256: of the text encoder whose tokens the concepts agree with.
        pooling: a concept's vector is the mean of its word pieces, or its first (special) token.
        similarity: what the training made of an inner product: scale and bias, or a temperature.
        calibration: None where nobody measured what a cosine means.
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
            ModelError: it is missing, damaged, or of another version.
        """
        path, cure = directory / CONCEPTS_FILE, "pre-train or export the model again"
        try:
            return read_metadata(
                path, cls, version=_SCHEMA_VERSION, error=ModelError, what="the facts of a concept encoder", cure=cure
            )
        except (FileNotFoundError, NotADirectoryError):
            raise ModelError(f"{path} is missing; {cure}") from None
