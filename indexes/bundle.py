"""The manifest of an index: which segments there are, what is deleted, and what the vectors mean."""

import hashlib
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from nuner_embed.arrays import parse_array, write_array
from nuner_embed.errors import IndexBundleError
from nuner_embed.files import atomic_write, hash_of, read_bytes, sha256_of, write_json
from nuner_embed.indexes.entries import Factory, SegmentEntry
from nuner_embed.indexes.vectors import Metric
from nuner_embed.limits import MIB, VECTOR_WIDTH
from nuner_embed.metadata import Count, Positive, Sha256, convert, read_object
from nuner_embed.models.recipe import Recipe
from nuner_embed.store.shard import Dtype
from nuner_embed.tables import Granularity

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
SEGMENTS_FOLDER = "segments"
LOCK_FILE = ".lock"
TOMBSTONES = re.compile(r"tombstones-[0-9]{6,12}\.npy")
_CURE = "build the index again"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What `manifest.json` says.

    Attributes:
        model: the name or directory of the encoder, by which queries can be encoded.
        semantic_hash: of every vector in it.
        numeric_hashes: of the stores that it was made of.
        recipe: of the encoder, as JSON values.
        granularity: what a row is.
        dim: width of the vectors.
        dtype: of the stored vectors.
        metric: of the search.
        kind: as it was asked for; None where none was.
        target_recall: at 10, a fraction of 1; every segment is tuned to it.
        max_memory: bytes that FAISS may hold in memory for all segments; None for any.
        segments: the parts, oldest first.
        stores: fingerprints of the stores that were added.
        next_id: of the row that will be added next; ids are never used again.
        next_segment: number of the segment that will be written next; names are never used again either.
        tombstones: file with the ids of removed rows, or None.
        tombstones_sha256: of that file.
        removed: how many there are.
        generation: counts the changes.
    """

    model: str
    semantic_hash: Sha256
    numeric_hashes: tuple[Sha256, ...]
    recipe: dict[str, Any]
    granularity: Granularity
    dim: Annotated[int, msgspec.Meta(ge=1, le=VECTOR_WIDTH)]
    dtype: Dtype
    metric: Metric
    kind: Factory | None
    target_recall: Annotated[float, msgspec.Meta(gt=0, le=1)]
    max_memory: Positive | None
    segments: tuple[SegmentEntry, ...] = ()
    stores: tuple[Sha256, ...] = ()
    next_id: Count = 0
    next_segment: Count = 0
    tombstones: Annotated[str, msgspec.Meta(pattern=f"^{TOMBSTONES.pattern}$")] | None = None
    tombstones_sha256: Sha256 | None = None
    removed: Count = 0
    generation: Count = 0

    def write(self, directory: Path) -> None:
        """Makes this the state of the index, atomically."""
        values = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        write_json(directory / MANIFEST_FILE, {**values, "sha256": hash_of(values)})

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Reads the state of an index.

        Raises:
            IndexBundleError: there is none, it is damaged or was changed, or is of another schema.
        """
        path = directory / MANIFEST_FILE
        try:
            values = read_object(
                path,
                version=SCHEMA_VERSION,
                error=IndexBundleError,
                what="the manifest of an index",
                cure=_CURE,
                known_by=("segments", "sha256"),
            )
        except (FileNotFoundError, NotADirectoryError):
            raise IndexBundleError(f"{directory} holds no index; nuner-embed index build makes one") from None
        try:
            if hash_of({key: value for key, value in values.items() if key != "sha256"}) != values["sha256"]:
                raise IndexBundleError(f"{path} is not what was written (sha256 differs); {_CURE}")
            bundle = convert(values, cls)
            bundle.require_consistent()
        except (ValueError, TypeError) as error:
            raise IndexBundleError(f"{path}: {error}; {_CURE}") from None
        return bundle

    def require_consistent(self) -> None:
        """Refuses a state whose numbers contradict each other.

        Raises:
            ValueError, TypeError: saying which.
        """
        if set(self.recipe) != set(Recipe.from_dict(self.recipe).to_dict()):
            raise ValueError("recipe: it lacks a value")
        numbers = [int(segment.name) for segment in self.segments]
        if sorted(set(numbers)) != numbers or any(number >= self.next_segment for number in numbers):
            raise ValueError("segments: their names do not rise, or reach next_segment")
        for segment in self.segments:
            segment.require_all_files()
        rows = sum(segment.rows for segment in self.segments)
        if not self.removed <= rows <= self.next_id:
            raise ValueError(f"segments: {rows} rows with {self.removed} removed ones and ids below {self.next_id}")
        if not (self.tombstones is None) == (self.tombstones_sha256 is None) == (self.removed == 0):
            raise ValueError("tombstones, tombstones_sha256 and removed contradict each other")

    @property
    def rows(self) -> int:
        """How many may be found."""
        return sum(segment.rows for segment in self.segments) - self.removed

    @property
    def bytes_resident(self) -> int:
        """What FAISS holds in memory for all segments."""
        return sum(segment.bytes_resident for segment in self.segments)

    def removed_ids(self, directory: Path) -> NDArray[np.int64]:
        """The ids of removed rows, rising.

        Raises:
            IndexBundleError: their file is missing or damaged.
        """
        if self.tombstones is None:
            return np.empty(0, np.int64)
        path = directory / self.tombstones
        try:
            data = read_bytes(path, MIB + 8 * self.removed)
            ids: NDArray[np.int64] = parse_array(data)
        except (OSError, ValueError, EOFError) as error:
            raise IndexBundleError(f"{path} cannot be read ({error}); {_CURE}") from None
        if (
            ids.dtype != np.int64
            or ids.shape != (self.removed,)
            or (np.diff(ids) <= 0).any()
            or hashlib.sha256(data).hexdigest() != self.tombstones_sha256
        ):
            raise IndexBundleError(f"{path} does not hold the {self.removed} ids that it should; {_CURE}")
        return ids

    def with_removed(self, directory: Path, ids: NDArray[np.int64]) -> Self:
        """Writes the ids of all removed rows into a new file and returns the manifest that names it."""
        name = f"tombstones-{self.generation + 1:06d}.npy"
        with atomic_write(directory / name, follow=False) as stream:
            write_array(stream, ids)
        sha256 = sha256_of(directory / name)
        return replace(self, tombstones=name, tombstones_sha256=sha256, removed=len(ids))
