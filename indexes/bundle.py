"""The manifest of an index: its segments, its removed rows, and the encoder of its vectors."""

import hashlib
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from nuner_embed.arrays import parse_array, write_array
from nuner_embed.errors import IndexBundleError
from nuner_embed.files import atomic_write, hash_of, read_bytes, sha256_of, write_json
from nuner_embed.indexes.base import SearchParameters, backend_of
from nuner_embed.indexes.vectors import Metric
from nuner_embed.limits import MIB, VECTOR_WIDTH
from nuner_embed.metadata import Count, Fraction, Positive, Sha256, convert, read_object
from nuner_embed.models.recipe import Recipe
from nuner_embed.tables import Dtype, Granularity

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
SEGMENTS_FOLDER = "segments"
LOCK_FILE = ".lock"
TOMBSTONES = re.compile(r"tombstones-[0-9]{6,12}\.npy")
_CURE = "build the index again"
VECTORS_FILE = "vectors.npy"
IDS_FILE = "ids.npy"
LATE_FILE = "late.npy"
# Names of segments' folders are numbers of five digits, and of more after the 99,999th.
SEGMENT_NAME = re.compile(r"[0-9]{5,9}")

SegmentName = Annotated[str, msgspec.Meta(pattern=f"^{SEGMENT_NAME.pattern}$")]
Factory = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
_NotNegative = Annotated[float, msgspec.Meta(ge=0)]


def rows_file(part: int) -> str:
    """The name of a part's rows."""
    return f"rows-{part:05d}.parquet"


def documents_file(part: int) -> str:
    """The name of the documents that a part's rows stand in."""
    return f"documents-{part:05d}.parquet"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The size and hash of a file when it was written.

    Attributes:
        sha256: of its bytes.
        bytes: its size.
    """

    sha256: Sha256
    bytes: Count


@dataclass(frozen=True, slots=True)
class Recall:
    """The measured recall of a search at ten rows.

    Attributes:
        recall: mean share of a query's ten nearest rows that is found, a fraction of 1; None if it was not measured.
        low: lower end of its 95% interval.
        high: upper end.
        queries: number of queries of the measurement: rows drawn at random, which were not in the index yet.
        queries_per_second: of that measurement, in batches of 64.
        target: the recall that was asked for.
        reached: whether the mean recall of the queries that chose the setting, less a standard error, reaches the
            target; None if it was not measured.
        why: how the recall was measured, or why not.
    """

    recall: Fraction | None
    low: Fraction | None
    high: Fraction | None
    queries: Count
    queries_per_second: _NotNegative | None
    target: Fraction
    reached: bool | None
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Trial:
    """What was measured of one kind on a sample, and what that predicts for all rows.

    Attributes:
        kind: one of the default backend's.
        sample_rows: the number of rows that it was built over.
        recall: at 10, a fraction of 1.
        queries_per_second: over the sample.
        build_seconds: over the sample.
        expected_queries_per_second: over all rows, extrapolated from how time grew from a smaller sample to this one.
        expected_bytes: that the backend would hold in memory for all rows.
        fits: whether recall and memory meet what was asked for.
    """

    kind: str
    sample_rows: Count
    recall: Fraction
    queries_per_second: _NotNegative
    build_seconds: _NotNegative
    expected_queries_per_second: _NotNegative
    expected_bytes: Count
    fits: bool


class SegmentEntry(msgspec.Struct, frozen=True, kw_only=True, rename={"parameters": "how"}):
    """A segment as the manifest describes it.

    Attributes:
        name: of its folder.
        rows: the number of rows.
        parts: the number of pairs of files with rows and documents.
        kind: what was built: one of `base.KINDS`, or another string that the default backend takes.
        factory: the same in the backend's own words, such as a FAISS factory string.
        why: the reason for the kind.
        trials: what was measured of every kind; none where the kind was given.
        parameters: of a search that is given no others.
        recall: what was measured when the segment was built.
        bytes_resident: that the backend holds in memory.
        files: each file by its name.
    """

    name: SegmentName
    rows: Positive
    parts: Positive
    kind: Factory
    factory: Factory
    why: str
    trials: tuple[Trial, ...]
    parameters: SearchParameters
    recall: Recall
    bytes_resident: Count
    files: dict[str, FileFacts]

    def to_dict(self) -> dict[str, Any]:
        """The values by the keys of the manifest."""
        return cast(dict[str, Any], msgspec.to_builtins(self))

    @property
    def backend_file(self) -> str | None:
        """The name of the file of the segment's backend; None where it has none."""
        return backend_of(self.kind).file

    def require_all_files(self) -> None:
        """Checks that the entry names exactly the files of a segment.

        Raises:
            ValueError: a file is missing, or another one is named.
        """
        expected = {VECTORS_FILE, IDS_FILE, LATE_FILE} | ({self.backend_file} if self.backend_file else set())
        if len(self.files) == len(expected) + 2 * self.parts:  # checked before the number of parts is used
            expected |= {name(part) for part in range(self.parts) for name in (rows_file, documents_file)}
        if expected != set(self.files):
            raise ValueError(f"segment {self.name} does not consist of the files that {self.parts} parts make")


@dataclass(frozen=True, slots=True)
class Bundle:
    """The contents of `manifest.json`.

    Attributes:
        model: the name or directory of the encoder, by which queries can be encoded.
        semantic_hash: of every vector in the index.
        numeric_hashes: of the stores that the index was made of.
        recipe: of the encoder, as JSON values.
        granularity: what a row is.
        dim: width of the vectors.
        dtype: of the stored vectors.
        metric: of the search.
        kind: the kind that was asked for; None if none was.
        target_recall: at 10, a fraction of 1; every segment is tuned to it.
        max_memory: bytes that all segments may hold in memory; None for any number.
        segments: the parts, oldest first.
        stores: fingerprints of the stores that were added.
        next_id: of the row that will be added next; ids are never used again.
        next_segment: number of the segment that will be written next; names of segments are never used again either.
        tombstones: file with the ids of removed rows, or None.
        tombstones_sha256: of that file.
        removed: the number of removed rows.
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
        """Writes the manifest atomically, which makes this the state of the index."""
        values = {"schema_version": SCHEMA_VERSION, **msgspec.to_builtins(self)}
        write_json(directory / MANIFEST_FILE, {**values, "sha256": hash_of(values)})

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Reads the state of an index.

        Raises:
            IndexBundleError: there is no manifest, or it is damaged, was changed, or has another schema version.
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
        """Checks that the values of the state do not contradict each other.

        Raises:
            ValueError, TypeError: they do; the message says which.
        """
        if set(self.recipe) != set(Recipe.from_dict(self.recipe).to_dict()):
            raise ValueError("recipe: a value is missing")
        numbers = [int(segment.name) for segment in self.segments]
        if sorted(set(numbers)) != numbers or any(number >= self.next_segment for number in numbers):
            raise ValueError("segments: their names do not increase, or reach next_segment")
        for segment in self.segments:
            segment.require_all_files()
        rows = sum(segment.rows for segment in self.segments)
        if not self.removed <= rows <= self.next_id:
            raise ValueError(f"segments: {rows} rows with {self.removed} removed ones and ids below {self.next_id}")
        if not (self.tombstones is None) == (self.tombstones_sha256 is None) == (self.removed == 0):
            raise ValueError("tombstones, tombstones_sha256 and removed contradict each other")

    @property
    def rows(self) -> int:
        """The number of rows that may be found."""
        return sum(segment.rows for segment in self.segments) - self.removed

    @property
    def bytes_resident(self) -> int:
        """Bytes that all segments hold in memory."""
        return sum(segment.bytes_resident for segment in self.segments)

    def removed_ids(self, directory: Path) -> NDArray[np.int64]:
        """The ids of removed rows, ascending.

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
