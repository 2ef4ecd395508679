"""A probe on disk: probe.json and weights beside it; never a pickle.

The weights are written first, under the name of their own hash, then probe.json, which names them: a probe directory is
the old one or the new one at any moment.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nuner_embed.errors import ProbeError
from nuner_embed.files import atomic_write, read_json, write_json
from nuner_embed.models import Recipe
from nuner_embed.probing.weights import ProbeWeights
from nuner_embed.probing.words import SCHEME

PROBE_FILE: Final = "probe.json"
SCHEMA_VERSION: Final = 1


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

    sentences: int
    words: int
    mentions: dict[str, int]
    k: int | None
    seed: int | None
    left_out: dict[str, int]
    lost: int
    gradient_norm: float
    iterations: int
    mention_words: int = 0  # a probe of an earlier version says neither
    background_words: int = 0

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
    types: tuple[str, ...]
    parameters: dict[str, Any]
    training: Training

    def __repr__(self) -> str:
        return f"ProbeFacts({self.model!r}, {len(self.types)} types)"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Reads what `asdict` gives.

        Raises:
            KeyError, TypeError, ValueError: it does not.
        """
        types = values["types"]
        if not isinstance(types, list) or not all(isinstance(name, str) for name in types):
            raise ValueError(f"types that are no names: {types!r}")
        if len(set(types)) != len(types):
            raise ValueError(f"a type that is named twice: {types!r}")
        Recipe.from_dict(values["recipe"])
        training = Training(**values["training"])
        named = str(values["semantic_hash"]), str(values["model"]), dict(values["recipe"])
        return cls(*named, tuple(types), dict(values["parameters"]), training)


def save_probe(directory: Path, weights: ProbeWeights, facts: ProbeFacts) -> None:
    """Writes a probe into a directory, in place of one that is there.

    Raises:
        OSError: it cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    before = _weights_named_in(directory)
    arrays = {
        "classes": weights.classes,
        "coef": np.ascontiguousarray(weights.coef, dtype=np.float32),
        "intercept": np.ascontiguousarray(weights.intercept, dtype=np.float32),
    }
    content = save(arrays)
    digest = hashlib.sha256(content).hexdigest()
    named = directory / f"weights-{digest[:16]}.safetensors"
    with atomic_write(named) as stream:
        stream.write(content)
    values = {
        "schema_version": SCHEMA_VERSION,
        "scheme": SCHEME,
        **asdict(facts),
        "weights": {"file": named.name, "sha256": digest},
    }
    write_json(directory / PROBE_FILE, values)
    if before and before != named:
        before.unlink(missing_ok=True)


def _weights_named_in(directory: Path) -> Path | None:
    """The weights of the probe that is there, if there is one: nothing else in the folder is ours to remove."""
    try:
        return directory / Path(read_json(directory / PROBE_FILE)["weights"]["file"]).name
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_probe(directory: Path) -> tuple[ProbeWeights, ProbeFacts]:
    """Reads a probe.

    Raises:
        ProbeError: there is none, it is damaged, or of another schema version.
    """
    path = directory / PROBE_FILE
    try:
        values = read_json(path)
        if values["schema_version"] != SCHEMA_VERSION:
            raise ProbeError(
                f"{path} has schema version {values['schema_version']}, this program reads {SCHEMA_VERSION}; "
                "train the probe again"
            )
        facts = ProbeFacts.from_dict(values)
        file = directory / Path(values["weights"]["file"]).name
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != values["weights"]["sha256"]:
            raise ProbeError(f"{file} is not what was written (sha256 differs); train the probe again")
        weights = ProbeWeights(**load(content))
        if not np.isin(weights.classes, np.arange(len(facts.types) + 1)).all():
            raise ValueError(f"classes {weights.classes.tolist()} for {len(facts.types)} types")
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise ProbeError(f"{directory} holds no probe (no {missing}); nuner-embed probe train makes one") from None
    except (NotADirectoryError, KeyError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        raise ProbeError(f"{directory} holds no probe that can be read: problem with {error} in {path}") from None
    return weights, facts
