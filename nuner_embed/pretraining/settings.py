"""The settings of a pre-training run with their defaults, and the presets."""

import tomllib
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

from nuner_embed.errors import PretrainingError
from nuner_embed.files import read_bytes
from nuner_embed.limits import SETTINGS_BYTES
from nuner_embed.models.concept_facts import ConceptPooling

Objective = Literal["contrastive", "spans", "token-classification"]
Loss = Literal["sigmoid", "paper"]
Precision = Literal["f32", "bf16"]


def value(default: Any, about: str, choices: Any = None) -> Any:
    """A field with its help text and its choices."""
    return field(default=default, metadata={"about": about, "choices": get_args(choices) if choices else None})


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainSettings:
    """Everything that decides the trained weights besides the data and the base model.

    The defaults are the preset `small`, found for some ten thousand sentences and a small encoder (field notes,
    section 4); `PretrainSettings.preset("paper")` has the values of section 3.3 of the paper.

    Raises:
        ValueError: a value of the wrong type or out of range.
    """

    objective: Objective = value(
        "contrastive",
        "Training objective. contrastive: train both encoders on concepts; spans: train a span head on the frozen "
        "encoders of --base, which tag then uses; token-classification: train the text encoder on the tags of a typed "
        "corpus.",
        Objective,
    )
    loss: Loss = value(
        "sigmoid",
        "Loss of the objective contrastive. sigmoid: vectors of unit length, with a learned scale and bias; paper: dot "
        "products divided by a temperature.",
        Loss,
    )
    epochs: int = value(5, "Number of passes over the training texts.")
    batch_size: int = value(
        64, "Number of sentences per batch; the model learns to tell the concepts of a batch apart."
    )
    accumulate: int = value(1, "Number of batches per optimizer step.")
    learning_rate: float = value(4e-4, "Highest learning rate, reached after the warm-up.")
    warmup_ratio: float = value(
        0.1, "Share of the steps in which the learning rate rises; afterwards the rate falls to 0."
    )
    beta1: float = value(0.9, "Beta 1 of AdamW.")
    beta2: float = value(0.999, "Beta 2 of AdamW.")
    epsilon: float = value(1e-6, "Epsilon of AdamW.")
    weight_decay: float = value(0.01, "Weight decay of AdamW, for matrices only, not for biases and norms.")
    max_grad_norm: float = value(1.0, "Gradients with a larger norm are scaled down to this norm; 0: never.")
    dropout: float | None = value(None, "Dropout in the layers that are trained.  [default: the base model's]")
    frozen_layers: int | None = value(None, "Number of bottom layers of the text encoder to freeze.  [default: half]")
    frozen_concept_layers: int | None = value(
        None, "Number of bottom layers of the concept encoder to freeze.  [default: half]"
    )
    concept_pooling: ConceptPooling = value(
        "mean", "The vector of a concept: the mean of its word pieces, or its first (special) token.", ConceptPooling
    )
    temperature: float = value(5.0, "Temperature of the loss paper.")
    scale: float = value(10.0, "Initial scale of the loss sigmoid.")
    scale_rate: float = value(
        20.0, "Learning rate of scale and bias, as a multiple of the learning rate of the encoders."
    )
    validation: float = value(0.1, "Share of the texts to hold out for validation.")
    validate_every: float = value(0.5, "Number of epochs between two validations.")
    max_length: int | None = value(
        None,
        "Maximum length of a text in tokens; longer texts are split.  [default: 256, or the base model's limit]",
    )
    related_draws: float | None = value(
        None,
        "With a thesaurus: number of synonyms and broader types to draw into a batch for each of its concepts, on "
        "average; 0: count only those that are in the batch.  [default: 1]",
    )
    broader_weight: float | None = value(
        None,
        "With a thesaurus: weight of a broader type of a mention's concept as a positive; 0: broader types are neither "
        "positive nor negative.  [default: 0.5]",
    )
    teacher_weight: float | None = value(
        None,
        "With a teacher: weight of the distance, 1 less the cosine, between its vectors of tokens and those of the "
        "text encoder.  [default: 5]",
    )
    top_concepts: int | None = value(
        None, "Keep only the annotations of this many most frequent concepts.  [default: all]"
    )
    sample: int | None = value(None, "Number of texts to draw at random for training and validation.  [default: all]")
    precision: Precision = value("f32", "Precision of the arithmetic.", Precision)
    seed: int = value(0, "Random seed for the sample, the held-out texts, the order of the texts and dropout.")

    def __post_init__(self) -> None:
        check_values(self, _BOUNDS)
        if self.objective == "token-classification" and self.top_concepts is not None:
            raise ValueError("top_concepts goes with the objective contrastive")
        for name in GOES_WITH:
            if self.objective != "contrastive" and getattr(self, name) is not None:
                raise ValueError(f"{name} goes with the objective contrastive")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """A preset with some values changed."""
        if name not in PRESETS:
            raise ValueError(f"no preset is called {name!r}; there are {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **changes})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values under the names that files use: see `EARLIER_NAMES`.

        Without a thesaurus or a teacher, their settings are left out: a run of an earlier version has the same
        fingerprint.
        """
        return {
            EARLIER_NAMES.get(name, name): value
            for name, value in asdict(self).items()
            if value is not None or name not in GOES_WITH
        }


# The settings that go with another option of pretrain, by name, and that option; None without it.
GOES_WITH: Final = {"related_draws": "thesaurus", "broader_weight": "thesaurus", "teacher_weight": "teacher"}

# Two settings with the earlier names that files and flags used for them. Files keep the earlier names, so that a run of
# an earlier version has the same fingerprint and can be continued.
EARLIER_NAMES: Final = {"warmup_ratio": "warmup", "max_grad_norm": "clip"}


def by_present_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the names of their fields."""
    present = {earlier: name for name, earlier in EARLIER_NAMES.items()}
    return {present.get(name, name): value for name, value in values.items()}


_BOUNDS: dict[str, tuple[float, float]] = {
    "epochs": (1, 10_000), "batch_size": (1, 1_000_000), "accumulate": (1, 1_000_000), "learning_rate": (1e-12, 10),
    "warmup_ratio": (0, 1), "beta1": (0, 0.999999), "beta2": (0, 0.999999999), "epsilon": (1e-16, 1),
    "dropout": (0, 0.99),
    "temperature": (1e-6, 1e6), "scale": (1e-3, 1e4), "validation": (0, 0.9), "validate_every": (0.001, 10_000),
    "max_length": (3, 1_000_000), "related_draws": (0, 100), "broader_weight": (0, 1), "teacher_weight": (0, 1e6),
    "top_concepts": (1, 2**63 - 1), "sample": (1, 2**63 - 1),
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "small": {},
    # found for the span head of nuner-mini: benchmarks/spans.py, results/spans.md
    "spans": {
        "objective": "spans",
        "epochs": 2,
        "batch_size": 48,
        "learning_rate": 1e-3,
        "validation": 0.05,
        "validate_every": 1,
    },
    # section 3.3; it freezes nothing of the concept encoder and says nothing of clipping, pooling and dropout
    "paper": {
        "loss": "paper",
        "epochs": 10,
        "batch_size": 48,
        "learning_rate": 3e-5,
        "frozen_concept_layers": 0,
        "max_grad_norm": 0.0,
    },
}


def check_values(settings: Any, bounds: Mapping[str, tuple[float, float]]) -> None:
    """Checks the values of settings whose fields were made by `value`.

    Args:
        settings: a dataclass.
        bounds: the least and the greatest value of a number by its name; 0 and 2**63 - 1 for any other.

    Raises:
        ValueError: a value of the wrong type or out of range.
    """
    for one in fields(settings):
        _check(one, getattr(settings, one.name), *bounds.get(one.name, (0, 2**63 - 1)))


def _check(one: "Field[Any]", value: Any, low: float, high: float) -> None:
    name, choices = one.name, one.metadata["choices"]
    if choices is not None:
        if value not in choices:
            raise ValueError(f"{name} must be {' or '.join(choices)}, not {value!r}")
        return
    if value is None and one.default is None:
        return
    whole = kind_of(one) is int
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or value != value:
        raise ValueError(f"{name} must be a {'whole ' * whole}number, not {value!r}")
    if not low <= value <= high:
        limits = f"at least {low:g}" if high == 2**63 - 1 else f"between {low:g} and {high:g}"
        raise ValueError(f"{name} must be {limits}, not {str(value)[:20]}")


def kind_of(one: "Field[Any]") -> type:
    """Whether a setting is a word, a whole number or any number."""
    if one.metadata["choices"] is not None:
        return str
    return int if one.type in (int, "int", int | None, "int | None") else float


def read_settings(path: Path) -> dict[str, Any]:
    """The values that a TOML file names, and `preset`, if it names one.

    Raises:
        PretrainingError: the file cannot be read, or names an unknown setting.
    """
    try:
        values = tomllib.loads(read_bytes(path, SETTINGS_BYTES).decode("utf-8"))
    except OSError as error:
        raise PretrainingError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PretrainingError(f"{path}: not valid TOML: {error}") from None
    except ValueError as error:
        raise PretrainingError(f"{path}: not a settings file: {error}") from None
    known = {one.name for one in fields(PretrainSettings)} | {"preset"}
    written, values = values, by_present_names({name.replace("-", "_"): value for name, value in values.items()})
    if len(values) < len(written):
        raise PretrainingError(f"{path}: a setting occurs twice, under two names: {', '.join(sorted(written))}")
    unknown = sorted(set(values) - known)
    if unknown:
        raise PretrainingError(
            f"{path}: no setting is called {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )
    return values
