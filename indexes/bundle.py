"""The manifest of an index: which segments there are, what is deleted, and what the vectors mean."""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arrays import parse_array
from nuner_embed.errors import IndexBundleError
from nuner_embed.files import atomic_write, hash_of, read_json, sha256_of, write_json
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
    semantic_hash: str
    numeric_hashes: tuple[str, ...]
    recipe: dict[str, Any]
    granularity: str
    dim: int
    dtype: str
    metric: Metric
    kind: str | None
    target_recall: float
    max_memory: int | None
    segments: tuple[SegmentEntry, ...] = ()
    stores: tuple[str, ...] = ()
    next_id: int = 0
    next_segment: int = 0
    tombstones: str | None = None
    tombstones_sha256: str | None = None
    removed: int = 0
    generation: int = 0

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
            values = read_json(path)
            if "segments" not in values:
                raise ValueError("it names no segments")
            if values["schema_version"] != SCHEMA_VERSION:
                raise IndexBundleError(f"{path} is of another version; build the index again")
            sha256 = values.pop("sha256")
            if hash_of(values) != sha256:
                raise IndexBundleError(f"{path} is not what was written (sha256 differs); build the index again")
            del values["schema_version"]
            segments = tuple(SegmentEntry.from_dict(segment) for segment in values.pop("segments"))
            hashes, stores = tuple(values.pop("numeric_hashes")), tuple(values.pop("stores"))
            bundle = cls(**values, numeric_hashes=hashes, stores=stores, segments=segments)
        except (FileNotFoundError, NotADirectoryError):
            raise IndexBundleError(f"{directory} holds no index; nuner-embed index build makes one") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise IndexBundleError(f"{path} is no manifest of an index ({error}); build the index again") from None
        for segment in bundle.segments:
            if not segment.name.isdecimal():
                raise IndexBundleError(f"{path} names {segment.name!r}, which is no segment; build the index again")
        return bundle

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
        path = directory / Path(self.tombstones).name
        try:
            data = path.read_bytes()
            ids: NDArray[np.int64] = parse_array(data)
        except (OSError, ValueError, EOFError) as error:
            raise IndexBundleError(f"{path} cannot be read ({error}); build the index again") from None
        if (
            ids.dtype != np.int64
            or len(ids) != self.removed
            or hashlib.sha256(data).hexdigest() != self.tombstones_sha256
        ):
            raise IndexBundleError(f"{path} does not hold the {self.removed} ids that it should; build the index again")
        return ids

    def with_removed(self, directory: Path, ids: NDArray[np.int64]) -> Self:
        """Writes the ids of all removed rows into a new file and returns the manifest that names it."""
        name = f"tombstones-{self.generation + 1:06d}.npy"
        with atomic_write(directory / name) as stream:
            np.save(stream, ids)
        sha256 = sha256_of(directory / name)
        return replace(self, tombstones=name, tombstones_sha256=sha256, removed=len(ids))
