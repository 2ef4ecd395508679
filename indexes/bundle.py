"""The manifest of an index: which segments there are, what is deleted, how to search, and how well that does."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.errors import IndexBundleError
from nuner_embed.files import atomic_write, read_json, write_json
from nuner_embed.indexes.kinds import SearchParameters
from nuner_embed.indexes.segment import SegmentEntry
from nuner_embed.indexes.vectors import Metric

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
SEGMENTS_FOLDER = "segments"
LOCK_FILE = ".lock"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What `manifest.json` says.

    Attributes:
        semantic_hash: of every vector in it.
        numeric_hashes: of the stores that it was made of.
        recipe: of the encoder, as JSON values.
        granularity: what a row is.
        dim: width of the vectors.
        metric: of the search.
        kind: as it was asked for.
        factory: FAISS's string that the newest segment was built with.
        how: how hard a search tries.
        segments: the parts, oldest first.
        next_id: of the row that will be added next; ids are never used again.
        next_segment: number of the segment that will be written next; names are never used again either.
        tombstones: file with the ids of removed rows, or None.
        removed: how many there are.
        recall: what was measured, or None.
        generation: counts the changes.
    """

    semantic_hash: str
    numeric_hashes: tuple[str, ...]
    recipe: dict[str, Any]
    granularity: str
    dim: int
    metric: Metric
    kind: str
    factory: str
    how: SearchParameters
    segments: tuple[SegmentEntry, ...] = ()
    next_id: int = 0
    next_segment: int = 0
    tombstones: str | None = None
    removed: int = 0
    recall: dict[str, Any] | None = None
    generation: int = 0

    def write(self, directory: Path) -> None:
        """Makes this the state of the index, atomically."""
        write_json(directory / MANIFEST_FILE, {"schema_version": SCHEMA_VERSION, **asdict(self)})

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Reads the state of an index.

        Raises:
            IndexBundleError: there is none, it is damaged, or of another schema.
        """
        path = directory / MANIFEST_FILE
        try:
            values = read_json(path)
            if values.pop("schema_version") != SCHEMA_VERSION:
                raise IndexBundleError(f"{path} is of another version; build the index again")
            segments = tuple(SegmentEntry.from_dict(segment) for segment in values.pop("segments"))
            how = SearchParameters(**values.pop("how"))
            hashes = tuple(values.pop("numeric_hashes"))
            bundle = cls(**values, segments=segments, how=how, numeric_hashes=hashes)
        except FileNotFoundError:
            raise IndexBundleError(f"{directory} holds no index; nuner-embed index build makes one") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise IndexBundleError(f"{path} is no manifest of an index ({error}); build the index again") from None
        for segment in bundle.segments:
            if not segment.name.isdecimal():
                raise IndexBundleError(f"{path} names {segment.name!r}, which is no segment; build the index again")
        return bundle

    def removed_ids(self, directory: Path) -> NDArray[np.int64]:
        """The ids of removed rows, rising.

        Raises:
            IndexBundleError: their file is missing or damaged.
        """
        if self.tombstones is None:
            return np.empty(0, np.int64)
        path = directory / Path(self.tombstones).name
        try:
            ids: NDArray[np.int64] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise IndexBundleError(f"{path} cannot be read ({error}); build the index again") from None
        if ids.dtype != np.int64 or len(ids) != self.removed:
            raise IndexBundleError(f"{path} does not hold the {self.removed} ids that it should; build the index again")
        return ids

    def with_removed(self, directory: Path, ids: NDArray[np.int64]) -> Self:
        """Writes the ids of all removed rows into a new file and returns the manifest that names it."""
        name = f"tombstones-{self.generation + 1:06d}.npy"
        with atomic_write(directory / name) as stream:
            np.save(stream, ids)
        return replace(self, tombstones=name, removed=len(ids))
