"""The settings of fine-tuning with their defaults, and the presets."""

from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from nuner_embed.pretraining.settings import Precision, PretrainSettings, check_values, value


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSettings:
    """Everything that decides a fine-tuned model besides its data and its base.

    The defaults were found on development parts with nuner-mini (docs/probing.md). `FinetuneSettings.preset("paper")`
    has the 30 epochs of section 6 of the paper, which says no more of the training, and the learning rate of its
    pre-training.

    Raises:
        ValueError: a value of the wrong type or out of range.
    """

    epochs: int = value(30, "Largest number of passes over the training sentences.")
    batch_size: int = value(8, "Number of sentences per batch.")
    learning_rate: float = value(2e-4, "Highest learning rate, reached after the warm-up.")
    warmup_ratio: float = value(
        0.1, "Share of the steps in which the learning rate rises; afterwards the rate falls to 0."
    )
    weight_decay: float = value(0.01, "Weight decay of AdamW, for matrices only, not for biases and norms.")
    max_grad_norm: float = value(1.0, "Gradients with a larger norm are scaled down to this norm; 0: never.")
    dropout: float = value(0.1, "Dropout in all layers, and before the linear layer.")
    validation: float = value(
        0.0, "Share of the sentences to hold out for early stopping; 0: hold out nothing, and train for all epochs."
    )
    patience: int = value(
        5, "With --validation: number of epochs after which training stops if no more held-out words got right."
    )
    max_length: int | None = value(
        None, "Maximum length of a text in tokens; longer texts are split.  [default: 256, or the base model's limit]"
    )
    precision: Precision = value("f32", "Precision of the arithmetic.", Precision)
    seed: int = value(
        0, "Random seed for the draw of --k, the held-out sentences, the order of the sentences and dropout."
    )

    def __post_init__(self) -> None:
        check_values(self, _BOUNDS)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """A preset with some values changed."""
        if name not in FINETUNE_PRESETS:
            raise ValueError(f"no preset is called {name!r}; there are {', '.join(FINETUNE_PRESETS)}")
        return cls(**{**FINETUNE_PRESETS[name], **changes})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def of_training(self) -> PretrainSettings:
        """The settings of the training loop: every layer is trained, and measured after every epoch."""
        given = asdict(self)
        del given["patience"]
        return PretrainSettings(objective="token-classification", frozen_layers=0, validate_every=1.0, **given)


_BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "epochs": (1, 10_000), "batch_size": (1, 1_000_000), "learning_rate": (1e-12, 10), "warmup_ratio": (0, 1),
    "dropout": (0, 0.99), "validation": (0, 0.9), "patience": (1, 10_000), "max_length": (3, 1_000_000),
}  # fmt: skip

FINETUNE_PRESETS: Final[dict[str, dict[str, Any]]] = {
    "small": {},
    # section 6 says "30 epochs"; the rate is that of section 3.3, whose batches of 48 would be one a pass at k = 8
    "paper": {"epochs": 30, "learning_rate": 3e-5, "max_grad_norm": 0.0},
}
