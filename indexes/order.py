"""Where the rows of a segment stand in FAISS: all in their order, but for those that were held out, which come last."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Order:
    """Rows, as the store has them, and their places in FAISS.

    Attributes:
        size: how many rows there are.
        late: rows that were held out of the index while its recall was measured, rising; they were added last.
    """

    size: int
    late: Ints

    @property
    def early(self) -> int:
        """How many rows were not held out."""
        return self.size - len(self.late)

    def rows(self, places: Ints) -> Ints:
        """The rows at some places, in any shape."""
        if not len(self.late):
            return places
        # among the early rows, each late one before a row has moved it a place forward
        gaps = self.late - np.arange(len(self.late))
        rows = places + np.searchsorted(gaps, places, side="right")
        last = places >= self.early
        rows[last] = self.late[places[last] - self.early]
        return rows

    def places(self, rows: Ints) -> Ints:
        """Where some rows stand."""
        if not len(self.late):
            return rows
        before = np.searchsorted(self.late, rows)
        held = before < len(self.late)
        held[held] = self.late[before[held]] == rows[held]
        return np.where(held, self.early + before, rows - before)

    def marked(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mark for each row, (size,), as a mark for each place."""
        return np.concatenate([np.delete(rows, self.late), rows[self.late]]) if len(self.late) else rows
