"""The recipe: everything besides weights, configuration and tokenizer that decides what an embedding means."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from nuner_embed.files import hash_of
from nuner_embed.metadata import convert

Pooling = Literal["first", "last", "mean"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How hidden states become embeddings.

    Attributes:
        layers: indices into the hidden states (0 is the embedding layer, -1 the last), concatenated in this order.
        pooling: the word pieces that represent a word; a mention is always the mean of its tokens.
        normalize: whether rows are scaled to unit length.
        max_length: longest window in tokens, special tokens included.
        stride: tokens that two neighbouring windows of a long text share; at most half a window.

    Raises:
        ValueError: an invalid value.
    """

    layers: tuple[int, ...] = (-1,)
    pooling: Pooling = "first"
    normalize: bool = False
    max_length: int = 512
    stride: int = 128

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not all(type(layer) is int for layer in self.layers):
            raise ValueError(f"layers must be whole numbers, not {list(self.layers)}")
        if type(self.normalize) is not bool:
            raise ValueError(f"normalize must be true or false, not {self.normalize!r}")
        if not type(self.max_length) is type(self.stride) is int:
            raise ValueError(f"max_length and stride must be whole numbers, not {self.max_length!r}, {self.stride!r}")
        if not self.layers or len(set(self.layers)) != len(self.layers):
            raise ValueError(f"layers must name each layer once and at least one, not {self.layers}")
        if self.pooling not in get_args(Pooling):
            raise ValueError(f"pooling must be one of {', '.join(get_args(Pooling))}, not {self.pooling!r}")
        if self.max_length < 3:
            raise ValueError(f"max_length must be at least 3 tokens, not {self.max_length}")
        if not 0 <= self.stride <= (self.max_length - 2) // 2:
            raise ValueError(
                f"stride must lie between 0 and half of a window's {self.max_length - 2} tokens, not {self.stride}"
            )

    def replace(self, **changes: Any) -> Self:
        """A copy with some values changed; None means unchanged, and a new length scales the stride with it."""
        given = {key: value for key, value in changes.items() if value is not None}
        if "max_length" in given and "stride" not in given:
            given["stride"] = given["max_length"] * self.stride // self.max_length
        return dataclasses.replace(self, **given)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as stores and exported models keep them."""
        return {**dataclasses.asdict(self), "layers": list(self.layers)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Reads what `to_dict` wrote; missing keys take their defaults.

        Raises:
            ValueError: an unknown key, or a value of the wrong kind.
        """
        if not isinstance(values, dict):
            raise ValueError(f"a recipe is an object, not {values!r:.60}")
        unknown = set(values) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"a recipe has no field {', '.join(sorted(unknown))}")
        return convert(values, cls)


def semantic_hash(weights: str, config: str, tokenizer: str, recipe: dict[str, Any]) -> str:
    """The hash of everything that decides what an embedding means: three hashes, and a recipe as JSON values."""
    return hash_of({"weights": weights, "config": config, "tokenizer": tokenizer, "recipe": recipe})
