"""A larger text encoder as a teacher: the vectors of its tokens are computed once, and the trained encoder learns them.

The trained encoder's tokens are compared with the teacher's through a linear layer, which is thrown away at the end:
the two may have different dimensions, and the concepts decide what the trained encoder's own axes mean.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arguments import Progress
from nuner_embed.encoders.loader import load_encoder
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import PretrainingError
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.pretraining.examples import Examples, within
from nuner_embed.pretraining.states import FrozenStates
from nuner_embed.runtimes.base import Precision, WindowBatch
from nuner_embed.tables import Ints

TEACHER_WEIGHT = 5.0
_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Teacher:
    """A text encoder that cuts texts into the same tokens as the one that is trained.

    Attributes:
        name: of the model.
        encoder: the encoder.
        ids: the teacher's id of each of the trained encoder's tokens; -1 for a token that the teacher lacks.
    """

    name: str
    encoder: TextEncoder
    ids: Ints

    @classmethod
    def open(cls, name: str, tokenizer: TextTokenizer, device: str, threads: int, precision: Precision) -> Self:
        """Loads the teacher.

        Args:
            name: see `ModelSpec`.
            tokenizer: of the encoder that is trained.
            device: "auto", "cpu" or "cuda".
            threads: 0 for one for each core.
            precision: of the arithmetic.

        Raises:
            ModelError: there is no such model.
            PretrainingError: its vectors are not those of one layer.
        """
        encoder = load_encoder(name, device=device, threads=threads, precision=precision)
        if len(encoder.recipe.layers) != 1:
            raise PretrainingError(
                f"a teacher has the vectors of one layer; {name} joins the layers {list(encoder.recipe.layers)}"
            )
        theirs = encoder.tokenizer.backend.get_vocab()
        ids = np.full(tokenizer.largest_id + 1, -1, np.int64)
        for token, number in tokenizer.backend.get_vocab().items():
            ids[number] = theirs.get(token, -1)
        return cls(name, encoder, ids)

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self.encoder.dim

    def require_same_tokens(self, names: tuple[str, ...], tokenizer: TextTokenizer, base: str) -> None:
        """Checks that the teacher cuts names of concepts into the tokens of the encoder that is trained.

        Raises:
            PretrainingError: it does not.
        """
        pairs = zip(names, tokenizer.encode(names), self.encoder.tokenizer.encode(names), strict=True)
        for name, (mine, _), (theirs, _) in pairs:
            if not np.array_equal(self.ids[mine], theirs):
                raise PretrainingError(
                    f"{self.name} cuts {name!r} into other tokens than {base}; a teacher needs the vocabulary of the "
                    "base, as mpnet-base has that of minilm-l6"
                )

    def learnt_from(self, examples: Examples, path: Path, progress: Progress, *, fill: bool) -> "TaughtStates":
        """The teacher's states of all pieces, computed where the file lacks them.

        Args:
            examples: the pieces.
            path: of the file.
            progress: is told `(what, done, total)`.
            fill: compute what is missing; of several processes, one does.

        Raises:
            PretrainingError: a piece is longer than the teacher takes, or holds a token that the teacher lacks.
        """
        taught = TaughtStates(path, self, examples)
        if fill:
            taught.states.fill(
                _TokenStates(self.encoder), lambda done, total: progress("vectors of the teacher", done, total)
            )
        return taught


class TaughtStates:
    """The teacher's vectors of the tokens of every piece, special tokens left out.

    Args:
        path: of the file that keeps the states.
        teacher: the teacher.
        examples: the pieces.
    """

    def __init__(self, path: Path, teacher: Teacher, examples: Examples) -> None:
        tokenizer = teacher.encoder.tokenizer
        before, after = examples.specials
        self._first, self._last = len(tokenizer.prefix), len(tokenizer.suffix)
        inner = examples.lengths - before - after
        if inner.max() > teacher.encoder.capacity:
            raise PretrainingError(
                f"{teacher.name} takes {teacher.encoder.capacity:,} tokens at most; set --max-length "
                f"{teacher.encoder.capacity + before + after}"
            )
        bounds = np.concatenate([[0], np.cumsum(inner + tokenizer.specials)])
        ids = np.empty(bounds[-1], np.int64)
        place = np.repeat(bounds[:-1] + self._first, inner) + within(inner)
        ids[place] = teacher.ids[examples.ids[np.repeat(examples.bounds[:-1] + before, inner) + within(inner)]]
        for i, special in enumerate(tokenizer.prefix):
            ids[bounds[:-1] + i] = special
        for i, special in enumerate(reversed(tokenizer.suffix), start=1):
            ids[bounds[1:] - i] = special
        if (ids < 0).any():
            raise PretrainingError(f"{teacher.name} lacks tokens of the base; a teacher needs the base's vocabulary")
        self.states = FrozenStates(path, ids.astype(np.int32), bounds)

    def vectors(self, pieces: Ints) -> NDArray[np.float32]:
        """The vectors of some pieces, one piece after the other, (t, dim)."""
        rows = [self.states[piece] for piece in pieces]
        inner = [row[self._first : len(row) - self._last] for row in rows]
        return np.concatenate(inner).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _TokenStates:
    """The states of whole pieces; see `StateSource`."""

    encoder: TextEncoder
    what: ClassVar[str] = "the teacher"
    is_optional: ClassVar[bool] = False

    @property
    def key(self) -> list[Any]:
        """See `StateSource`."""
        return [self.encoder.semantic_hash, self.encoder.runtime.precision]

    @property
    def dim(self) -> int:
        """Width of a state."""
        return self.encoder.dim

    def states(self, rows: list[NDArray[np.int32]]) -> Iterator[tuple[int, NDArray[np.floating[Any]]]]:
        """See `StateSource`."""
        for begin in range(0, len(rows), _AT_ONCE):
            some = rows[begin : begin + _AT_ONCE]
            lengths = np.array([len(row) for row in some], np.int64)
            bounds = np.concatenate([[0], np.cumsum(lengths)])
            first = within(lengths)
            window = np.repeat(np.arange(len(some)), lengths)
            batch = WindowBatch(np.concatenate(some).astype(np.int64), bounds, window, first, first + 1)
            found = self.encoder.runtime.rows(batch, self.encoder.batch_tokens)
            yield from enumerate(np.split(found, bounds[1:-1]), start=begin)
