"""The contracts of heads, and the registry of their kinds.

A head reads the embeddings of texts and says where mentions are and of which type. There are three ways to do that:

- word by word: `linear.LinearHead` gives each word one of the types or none, and adjacent words of a type are a
  mention;
- mention by mention: in `named.MentionHead` a `SpanFinder` says which words are mentions, whatever their type, and a
  `SpanTyper` says which type each of them has;
- span by span: `spans.SpanHead` scores all short runs of words for each type, and keeps the best that do not overlap.

To add a kind of head: write a class that satisfies `Head`, register the class in `KINDS`, and add a row to
tests/nuner_embed/heads/test_heads.py. `SpanFinder` is defined beside `embed_detected`, where jobs need it.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Protocol, Self, cast, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from nuner_embed.arguments import Progress
from nuner_embed.documents import Document, is_text
from nuner_embed.encoders.base import Encoder
from nuner_embed.encoders.mentions import Found, SpanFinder
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import ProbeError
from nuner_embed.limits import PROBE_TYPES
from nuner_embed.metadata import Sha256
from nuner_embed.models.recipe import Recipe

__all__ = [
    "KINDS",
    "Found",
    "Head",
    "HeadFacts",
    "Part",
    "SavedFinder",
    "SpanFinder",
    "SpanTyper",
    "WithFacts",
    "head_class",
    "require_encoder",
    "require_probability",
]

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class HeadFacts:
    """What a head is, apart from its arrays; each kind adds to it.

    Attributes:
        semantic_hash: of the encoder whose embeddings the head reads.
        model: where that encoder was loaded from.
        recipe: of that encoder's embeddings.
        types: names of the types.
    """

    semantic_hash: Sha256
    model: str
    recipe: dict[str, Any]
    types: Annotated[tuple[str, ...], msgspec.Meta(max_length=PROBE_TYPES)]

    @property
    def ignored(self) -> Mapping[str, int]:
        """Types of the training data that the head does not tell apart, with the number of their mentions."""
        return {}

    def require_sound(self) -> None:
        """Checks the values beyond their types.

        Raises:
            ValueError: a value is not possible for a head; the message names the field.
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


class WithFacts:
    """What the facts of a head say, as properties of the head; the classes of heads derive from this one.

    Attributes:
        facts: what the head is, apart from its arrays.
    """

    __slots__ = ()

    facts: HeadFacts

    @property
    def types(self) -> tuple[str, ...]:
        """See `Head`."""
        return self.facts.types

    @property
    def semantic_hash(self) -> str:
        """See `Head`."""
        return self.facts.semantic_hash


class Part(Protocol):
    """A part of a head, which is saved with the head.

    Attributes:
        kind: its name in saved files.
    """

    kind: ClassVar[str]

    def to_saved(self) -> tuple[dict[str, Any], Arrays]:
        """The part as JSON values and arrays."""
        ...

    @classmethod
    def from_saved(cls, values: dict[str, Any], arrays: Arrays, semantic_hash: str) -> Self:
        """Makes the part from what `to_saved` returned; `semantic_hash` is of the head's encoder.

        Raises:
            KeyError, TypeError, ValueError: something is missing or does not fit.
        """
        ...


class SavedFinder(SpanFinder, Part, Protocol):
    """A `SpanFinder` that is saved with a head."""


class SpanTyper(Part, Protocol):
    """Says which type each mention has, from the mean vector of its tokens.

    Attributes:
        types: names of the types.
    """

    @property
    def types(self) -> tuple[str, ...]: ...  # noqa: D102

    def score(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """The log-odds of each type for mentions (m, dim): (m, types)."""
        ...


@runtime_checkable
class Head(Protocol):
    """Finds typed mentions in texts, with an encoder that is passed to each call.

    Attributes:
        kind: its name in `KINDS` and in saved files.
        facts_type: the class of its facts, by which a saved file is checked.
        scheme: how labels become mentions, for people.
        facts: what the head is, apart from its arrays.
        types: names of the types that it tells apart.
        semantic_hash: of the encoder that it reads.
        threshold: least probability of a type, unless a call gives another one.
    """

    kind: ClassVar[str]
    facts_type: ClassVar[type[HeadFacts]]
    scheme: ClassVar[str]

    @property
    def facts(self) -> HeadFacts: ...  # noqa: D102
    @property
    def types(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def semantic_hash(self) -> str: ...  # noqa: D102
    @property
    def threshold(self) -> float: ...  # noqa: D102

    def tag(
        self,
        encoder: TextEncoder,
        documents: Sequence[Document],
        threshold: float | None = None,
        *,
        scores: bool = False,
    ) -> list[Document]:
        """Copies of documents whose spans are the mentions found, each with its type and a probability.

        Args:
            encoder: the encoder with the head's `semantic_hash`.
            documents: with spans, if the head types given mentions; any other head ignores their spans.
            threshold: least probability of a type, in place of the head's own threshold.
            scores: also give each span the probability of every type, as `Span.scores`.

        Raises:
            ProbeError: the encoder is another one.
            OutOfMemory: one window alone does not fit.
            ValueError: a threshold that is not a probability.
        """
        ...

    def threshold_for(self, encoder: TextEncoder, documents: Sequence[Document], progress: Progress) -> float:
        """The threshold for texts that may hold far fewer mentions than the training texts of the head."""
        ...

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Writes the head, without its encoder, as a directory.

        Args:
            path: the directory.
            force: replace an existing head.

        Raises:
            ProbeError: a head is there and `force` was not given, or something else is there.
            OSError: the directory cannot be written.
        """
        ...

    @classmethod
    def from_saved(cls, facts: Any, arrays: Arrays) -> Self:
        """The head that `save` wrote.

        Raises:
            ValueError: the arrays do not fit the facts.
        """
        ...


# kind -> module and class; the module is imported when a head of the kind is opened
KINDS: Final = {
    "linear": "nuner_embed.heads.linear:LinearHead",
    "mentions": "nuner_embed.heads.named:MentionHead",
    "spans": "nuner_embed.heads.spans:SpanHead",
}


def head_class(kind: str) -> type[Head]:
    """The class of a kind of heads."""
    module, _, name = KINDS[kind].partition(":")
    return cast(type[Head], getattr(importlib.import_module(module), name))


def require_encoder(head: Head, encoder: Encoder) -> None:
    """Checks that an encoder is the one for which a head was made.

    Raises:
        ProbeError: it is another one; the message names both.
    """
    facts = head.facts
    if encoder.semantic_hash != facts.semantic_hash:
        raise ProbeError(
            f"this head was made for {facts.model} ({facts.semantic_hash[:12]}), not for "
            f"{encoder.source or 'this encoder'} ({encoder.semantic_hash[:12]}); a head reads the embeddings of its "
            "own encoder and recipe only"
        )


def require_probability(threshold: float) -> None:
    """Checks that a threshold is a probability.

    Raises:
        ValueError: it is not.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must be between 0 and 1, not {threshold!r}")
