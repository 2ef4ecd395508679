"""The contract of a backend, which searches the vectors of a segment, and the registry of all backends.

To add a backend: one module with a class that derives from `Backend`, one entry in `BACKENDS`, one row in
`tests/indexes/test_backends.py`. The choices of `--kind`, its help text and the messages about it come from here.
"""

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import msgspec

from nuner_embed.metadata import Positive

if TYPE_CHECKING:  # the command line reads the choices, and must not import NumPy for them
    import numpy as np
    from numpy.typing import NDArray

    from nuner_embed.indexes.vectors import Floats, Ints, Metric, Vectors

AUTO = "auto"


class SearchParameters(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"nprobe": "probes", "ef_search": "effort", "k_factor": "candidates"},  # the keys of manifests
):
    """How thorough a search is. A backend ignores the parameters that its structure does not have.

    Attributes:
        nprobe: the number of inverted lists that a search looks into.
        ef_search: the length of the candidate queue of an HNSW search.
        k_factor: `k_factor * k` candidates are compared by their stored vectors, and the best k are returned.
    """

    nprobe: Positive = 16
    ef_search: Positive = 64
    k_factor: Positive = 4

    def harder(self, factor: float) -> "SearchParameters":
        """Parameters that are as thorough where only one in `factor` of the rows may be found."""
        return SearchParameters(
            nprobe=math.ceil(self.nprobe * factor),
            ef_search=math.ceil(self.ef_search * factor),
            k_factor=self.k_factor,
        )

    def to_dict(self) -> dict[str, int]:
        """The values by the keys that manifests and `index info --json` use."""
        return cast(dict[str, int], msgspec.to_builtins(self))


EXHAUSTIVE = SearchParameters(nprobe=1, ef_search=1, k_factor=1)  # of a backend that always looks at every row


class Untrainable(ValueError):
    """A backend cannot train a structure on the rows that there are, mostly because there are too few rows."""


class Backend(ABC):
    """A structure that searches the vectors of one segment. Any number of threads may search it.

    Rows are numbered by their places in `vectors`. A backend is made empty by `new`, trained, and filled by `add` in
    the order of the places; or it is opened as it was saved. Scores are the exact scores of the stored vectors, where
    higher is better: the cosine, the inner product, or the negative distance.

    Attributes:
        vectors: the stored vectors of the segment, prepared for the metric.
        spec: what is built, in the backend's own words, such as a FAISS factory string.
    """

    vectors: "Vectors"
    spec: str

    @classmethod
    @abstractmethod
    def spec_of(cls, kind: str, rows: int, dim: int) -> str:
        """The spec that is built for a kind over a number of rows."""

    @classmethod
    @abstractmethod
    def require_buildable(cls, spec: str, dim: int, metric: "Metric", *, gpu: bool) -> None:
        """Checks a spec before any row is read.

        Raises:
            ValueError: the backend does not know the spec, or cannot build it for this width and metric.
            IndexBundleError: a GPU is asked for, and there is none.
        """

    @classmethod
    @abstractmethod
    def new(cls, spec: str, vectors: "Vectors") -> Self:
        """An empty structure.

        Raises:
            ValueError: see `require_buildable`.
        """

    @classmethod
    @abstractmethod
    def open(cls, path: Path | None, spec: str, vectors: "Vectors") -> Self:
        """Opens a structure that `save` wrote, over all rows.

        Args:
            path: of its file; None for a backend without a file.
            spec: what the file should hold.
            vectors: the vectors that the structure was built over.

        Raises:
            IndexBundleError: the file is damaged, or holds something else.
        """

    @classmethod
    @abstractmethod
    def threads(cls, count: int) -> AbstractContextManager[None]:
        """Sets the number of threads for building and searching while the context lasts; 0 changes nothing."""

    @abstractmethod
    def train(self, end: int, *, gpu: bool = False) -> None:
        """Trains the empty structure, where it needs that, on rows spread over the places before `end`.

        Raises:
            Untrainable: there are too few rows.
            IndexBundleError: a GPU is asked for, and this spec does not train on one.
        """

    @abstractmethod
    def add(self, vectors: "Floats") -> None:
        """Adds the vectors of the next places, (n, dim)."""

    @abstractmethod
    def save(self, path: Path | None) -> None:
        """Writes the structure.

        Args:
            path: of its file; None for a backend without one.

        Raises:
            OSError: the file cannot be written, for instance on a full disk; the error names the file.
        """

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of rows that were added."""

    @property
    @abstractmethod
    def bytes_resident(self) -> int:
        """Bytes that the structure holds in memory; vectors that are read from disk do not count."""

    @property
    @abstractmethod
    def is_exhaustive(self) -> bool:
        """Whether every search looks at every row, and so finds the best rows."""

    @abstractmethod
    def settings(self) -> Iterator[list[SearchParameters]]:
        """Parameters to try, in families; within a family, each finds more than the one before, and is slower."""

    @abstractmethod
    def search(
        self,
        queries: "Floats",
        k: int,
        parameters: SearchParameters,
        keep: "NDArray[np.bool_] | None" = None,
    ) -> "tuple[Floats, Ints]":
        """The best rows for each query.

        Args:
            queries: prepared for the metric, (q, dim).
            k: number of rows; fewer are returned if fewer may be found.
            parameters: how thorough the search is.
            keep: marks the places that may be found, (size,); None for all.

        Returns:
            Exact scores and places, (q, min(k, rows that may be found)), best first.
        """


@dataclass(frozen=True, slots=True)
class Registered:
    """A backend that `--kind` can choose.

    Attributes:
        title: its name in messages.
        kinds: the names of what it builds. The first looks at every row; `auto` measures all of them.
        help: describes its kinds in the help text of `--kind`.
        place: of its class, as "module:class".
        file: the name of its file in the folder of a segment; None if it has no file.
        other_kinds: what any other string means; None if the backend accepts no other string.
    """

    title: str
    kinds: tuple[str, ...]
    help: str
    place: str
    file: str | None
    other_kinds: str | None = None

    @property
    def exhaustive_kind(self) -> str:
        """The kind that looks at every row."""
        return self.kinds[0]

    def load(self) -> type[Backend]:
        """The class of the backend; its library is imported here, and not before."""
        module, name = self.place.split(":")
        return cast(type[Backend], getattr(importlib.import_module(module), name))


# The first is the default, and takes every kind that no backend names.
BACKENDS = {
    "faiss": Registered(
        title="FAISS",
        kinds=("flat", "hnsw", "ivf", "ivf_pq"),
        help="flat compares the query with every row and is exact; FACTORY is a FAISS factory string",
        place="nuner_embed.indexes.faiss.backend:FaissBackend",
        file="index.faiss",
        other_kinds="a FAISS factory string",
    ),
    "numpy": Registered(
        title="NumPy",
        kinds=("numpy",),
        help="numpy is exact too, needs no FAISS and reads the vectors from disk",
        place="nuner_embed.indexes.exact:ExactBackend",
        file=None,
    ),
}
DEFAULT = next(iter(BACKENDS.values()))
KINDS = tuple(kind for backend in BACKENDS.values() for kind in backend.kinds)


def backend_of(kind: str | None) -> Registered:
    """The backend that builds a kind; None and "auto" are left to the default."""
    return next((backend for backend in BACKENDS.values() if kind in backend.kinds), DEFAULT)
