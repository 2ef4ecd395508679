"""What a few-shot run measures: which support sets, drawn how; the same for every model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nuner_embed.documents import Document
from nuner_embed.encoders.tokens import Ints
from nuner_embed.files import hash_of
from nuner_embed.heads.defaults import DEFAULT_C, DEFAULT_CLASS_WEIGHT
from nuner_embed.heads.labelled_words import Unit, count_matrix, count_mentions, shortened, types_among
from nuner_embed.heads.support_set import draw_k, draw_words, short_types
from nuner_embed.limits import DRAWS_MOST, SEED_MOST, SHOTS_MOST

ShortCells = Literal["blank", "drop", "keep"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is measured.

    Attributes:
        k: sizes of the support sets.
        draws: support sets of each size.
        seed: of the draws.
        unit: whether k counts mentions, between k and 2k of each type, or words, exactly k of each (section 6).
        short_types: what happens where a type has fewer than k: the cell stays blank, the type is dropped (its words
            count as none, in training and test), or kept with as many as there are.
        C, class_weight, tol: of the probes, see `LinearProbe`.

    Raises:
        ValueError: sizes, draws or a seed that are none, or out of bounds.
    """

    k: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    draws: int = 10
    seed: int = 0
    unit: Unit = "mentions"
    short_types: ShortCells = "blank"
    C: float = DEFAULT_C
    class_weight: str | None = DEFAULT_CLASS_WEIGHT
    tol: float = 1e-4

    def __post_init__(self) -> None:
        for name, values, low, high in (
            ("k", self.k, 1, SHOTS_MOST), ("draws", (self.draws,), 1, DRAWS_MOST), ("seed", (self.seed,), 0, SEED_MOST),
        ):  # fmt: skip
            if not values or not all(low <= value <= high for value in values):
                raise ValueError(f"{name} must lie between {low:,} and {high:,}, not {str(list(values))[1:60]}")


@dataclass(frozen=True, slots=True)
class TypedSet:
    """An annotated set with its own training and test part.

    Attributes:
        name: for tables.
        train: support sets are drawn from it.
        test: all of it is measured.
        sha256: of both parts.
    """

    name: str
    train: tuple[Document, ...] = field(repr=False)
    test: tuple[Document, ...] = field(repr=False)
    sha256: str

    @property
    def types(self) -> list[str]:
        """The types of both parts, sorted."""
        return types_among(count_mentions(self.train) | count_mentions(self.test))

    def repeated(self) -> int:
        """Test texts that also stand in the training part."""
        seen = {document.text for document in self.train}
        return sum(document.text in seen for document in self.test)


@dataclass(frozen=True, slots=True)
class Draws:
    """The support sets of one size.

    Attributes:
        k: the size.
        types: the types told apart.
        left_out: types that are not, for want of mentions.
        sets: numbers of the training sentences of each draw; none where the cell is blank.
        blank: why it is, else None.
    """

    k: int
    types: tuple[str, ...]
    left_out: tuple[str, ...]
    sets: tuple[NDArray[np.intp], ...]
    blank: str | None


def plan(typed: TypedSet, protocol: Protocol) -> list[Draws]:
    """Draws the support sets of every size: the same for every model."""
    types = typed.types
    counts = count_matrix(typed.train, types, protocol.unit)
    return [_plan(counts, types, k, protocol) for k in protocol.k]


def _plan(counts: Ints, types: list[str], k: int, protocol: Protocol) -> Draws:
    sample = draw_words if protocol.unit == "words" else draw_k
    lacking = short_types(counts, types, k)
    if lacking and protocol.short_types == "blank":
        return Draws(k, tuple(types), (), (), f"too few {protocol.unit}: {shortened([str(one) for one in lacking])}")
    left_out = {one.type for one in lacking if protocol.short_types == "drop" or not one.count}
    kept = [place for place, name in enumerate(types) if name not in left_out]
    names = tuple(types[place] for place in kept)
    if not kept:
        return Draws(k, names, tuple(sorted(left_out)), (), f"no type has {k} {protocol.unit}")
    sets = []
    for number in range(protocol.draws):
        chosen = sample(counts[:, kept], k, [protocol.seed, k, number])
        if chosen is None:
            bounds = f"{k}" if protocol.unit == "words" else f"{k} to {2 * k}"
            return Draws(
                k, names, tuple(sorted(left_out)), (), f"no sentences hold {bounds} {protocol.unit} of each type"
            )
        sets.append(chosen)
    return Draws(k, names, tuple(sorted(left_out)), tuple(sets), None)


def needed(draws: Sequence[Draws]) -> NDArray[np.intp]:
    """The training sentences that any draw asks for, in order."""
    return np.unique(np.concatenate([np.empty(0, np.intp), *(one for size in draws for one in size.sets)]))


def key_of(typed: TypedSet, protocol: Protocol, encoder: tuple[str, str]) -> str:
    """A hash of all that decides the cells of a model on a set; `encoder` is its semantic and numeric hash."""
    return hash_of({"set": typed.sha256, "protocol": asdict(protocol), "encoder": encoder, "schema": 1})
