"""What types are called: names from labels, several names of one type, and the scores that names give to words.

Beside examples, the names are where the fit of a linear layer starts from: the score of a type is the weighted log-odds
that the calibrated concept encoder gives to the type's name, plus the layer (`LinearProbe`'s `offset`). The log-odds
are linear in a word's vector, so that the sum is a linear layer again, and a head with names is saved and used like any
other. How much names help: benchmarks/fewshot.py, results/fewshot.md.

A label reads as a name if it is a standard abbreviation (`ABBREVIATIONS`), or if its words, divided at `_`, `-`, `.`,
`/`, blanks and before capitals that follow a small letter, are words: three letters or more, with a vowel; or two or
three capitals, which stay as they are (DNA). Words are written small: `cell_type` is "cell type", `ProgramLang` is
"program lang", `ACTOR` is "actor"; `T1`, `LABEL_0` and `X` read as nothing.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nuner_embed.encoders.base import Encoder
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.text import unit
from nuner_embed.errors import ProbeError

Names = Mapping[str, Sequence[str]]
Offsets = dict[int, tuple[NDArray[np.floating[Any]], float]]
# Labels of CoNLL-2003 and OntoNotes 5.
ABBREVIATIONS: Final = {
    "CARDINAL": "number", "FAC": "building", "GPE": "country", "LOC": "location", "MISC": "miscellaneous",
    "NORP": "nationality", "ORDINAL": "ordinal number", "ORG": "organization", "PER": "person",
    "WORK_OF_ART": "work of art",
}  # fmt: skip
_BORDERS = re.compile(r"[\s_\-./]+|(?<=[a-z])(?=[A-Z])")
_WORD, _CAPITALS = re.compile(r"(?=.*[aeiouyAEIOUY])[A-Za-z]{3,}"), re.compile(r"[A-Z]{2,3}")
_SHORT = {"a", "an", "at", "by", "in", "of", "on", "or", "to"}


def name_of(label: str) -> str | None:
    """The name that a label reads as, by the rule above; None where it reads as none."""
    if label.upper() in ABBREVIATIONS:
        return ABBREVIATIONS[label.upper()]
    words = [word for word in _BORDERS.split(label) if word]
    read = [_read(word, alone=len(words) == 1) for word in words]
    return " ".join(word for word in read if word) if words and all(read) else None


def _read(word: str, *, alone: bool) -> str | None:
    """A word of a label as a name has it; None where it is no word."""
    if word in ABBREVIATIONS:
        return ABBREVIATIONS[word]
    if _CAPITALS.fullmatch(word):
        return word
    return word.lower() if _WORD.fullmatch(word) or (not alone and word.lower() in _SHORT) else None


def names_of(labels: Collection[str], given: Names | None = None) -> dict[str, tuple[str, ...]]:
    """The names of the types of some data: those given, else what their labels read as.

    A type whose label reads as no name, or as the name of another type, is left out.

    Raises:
        ValueError: two types that are given one name.
    """
    found = {label: tuple(names) for label, names in (given or {}).items()}
    require_different(found)
    taken = {_folded(names) for names in found.values()}
    read = {label: (name,) for label in labels if label not in found and (name := name_of(label)) is not None}
    often = Counter(map(_folded, read.values()))
    found |= {
        label: names for label, names in read.items() if _folded(names) not in taken and often[_folded(names)] == 1
    }
    return dict(sorted(found.items()))


def require_different(names: Names) -> None:
    """Checks that no two types have the same name, which nothing could tell apart.

    Raises:
        ValueError: two have; the message names them.
    """
    owners: dict[tuple[str, ...], str] = {}
    for label, several in names.items():
        other = owners.setdefault(_folded(several), label)
        if other != label:
            name = " / ".join(names[other])
            raise ValueError(f"{other} and {label} have one name, {name}; name what tells them apart")


def _folded(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(" ".join(name.casefold().split()) for name in names))


@dataclass(frozen=True, slots=True)
class NamedTypes:
    """Names of types, with the concept encoder that knows what the names mean.

    Attributes:
        names: by label, one or several for each type.
        concepts: of the model whose words the head reads; calibrated.
        vectors: whose product with a word of length 1 is the log-odds of the type, less the calibration's intercept.

    Raises:
        ModelError: the concept encoder is not calibrated.
        ValueError: a name that is none.
    """

    names: Names
    concepts: ConceptEncoder
    vectors: dict[str, NDArray[np.floating[Any]]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        slope = self.concepts.calibration.slope
        encoded = vectors_of(self.names.values(), self.concepts) if self.names else ()
        object.__setattr__(
            self, "vectors", {label: slope * one for label, one in zip(self.names, encoded, strict=True)}
        )

    def require_fitting(self, encoder: Encoder) -> None:
        """Checks that the concept encoder is the other half of a text encoder.

        Raises:
            ProbeError: the text encoder is of another model, or reads other layers than the last.
        """
        concepts, recipe = self.concepts, encoder.recipe
        if recipe.layers != (-1,):
            raise ProbeError(f"names agree with the last layer alone; {encoder.source} reads {list(recipe.layers)}")
        if concepts.semantic_hash_of_texts(recipe.to_dict()) != encoder.semantic_hash:
            raise ProbeError(f"the concept encoder of {concepts.model} does not belong to {encoder.source}")

    def offsets(self, types: Sequence[str], words: NDArray[np.floating[Any]]) -> Offsets:
        """What `LinearProbe` takes as `offset`: the log-odds of each named type, by class: 1 + the type's place.

        A cosine is a product with vectors of length 1. The lengths of a network's last states are nearly the same for
        all words, so that their mean stands for the length of each.

        Args:
            types: of the classes from 1 on.
            words: from whose mean length the cosine is computed, (n, dim).
        """
        length = float(np.linalg.norm(words, axis=1).mean()) if self.concepts.metric == "cosine" else 1.0
        intercept = self.concepts.calibration.intercept
        return {
            place: (self.vectors[label] / length, intercept)
            for place, label in enumerate(types, start=1)
            if label in self.vectors
        }


def vectors_of(names: Iterable[Sequence[str]], concepts: ConceptEncoder) -> NDArray[np.float32]:
    """The vector of each type, (types, dim): the mean of its names' vectors, of length 1 if these are.

    Raises:
        ValueError: a name that is none.
    """
    several = list(names)
    encoded = concepts.encode([name for one in several for name in one])
    bounds = np.cumsum([0, *map(len, several)])
    means = [encoded[first:last].mean(axis=0) for first, last in pairwise(bounds.tolist())]
    found = np.stack(means).astype(np.float32)
    return unit(found) if concepts.metric == "cosine" else found
