"""What the manifest of an index says of each of its segments."""

import re
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import msgspec

from nuner_embed.indexes.kinds import SearchParameters
from nuner_embed.indexes.segment_rows import documents_file, rows_file
from nuner_embed.metadata import Count, Fraction, Positive, Sha256

FAISS_FILE = "index.faiss"
VECTORS_FILE = "vectors.npy"
IDS_FILE = "ids.npy"
LATE_FILE = "late.npy"
# Names of segments' folders are numbers of five digits, and of more after the 99,999th.
SEGMENT_NAME = re.compile(r"[0-9]{5,9}")

SegmentName = Annotated[str, msgspec.Meta(pattern=f"^{SEGMENT_NAME.pattern}$")]
Factory = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
_NotNegative = Annotated[float, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file as it was written.

    Attributes:
        sha256: of its bytes.
        bytes: how many.
    """

    sha256: Sha256
    bytes: Count


@dataclass(frozen=True, slots=True)
class Recall:
    """How many of the nearest ten rows a search finds.

    Attributes:
        recall: mean share of a query's ten nearest rows that is found, a fraction of 1; None where it was not measured.
        low: lower end of its 95% interval.
        high: upper end.
        queries: how many it was measured with: rows drawn at random and not in the index at the time.
        queries_per_second: of that measurement, in batches of 64.
        target: what was asked for.
        reached: whether the queries that the setting was chosen with found so much, less a standard error; None where
            it was not measured.
        why: what it rests on.
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
    """What was measured of one kind, and what that lets expect of all rows.

    Attributes:
        kind: one of `kinds.KINDS`.
        sample_rows: it was built over.
        recall: at 10, a fraction of 1.
        queries_per_second: over the sample.
        build_seconds: over the sample.
        expected_queries_per_second: over all rows; time grows with rows as it did from the smaller sample to this.
        expected_bytes: that FAISS would hold in memory for all rows.
        fits: whether recall and memory are as asked for.
    """

    kind: str
    sample_rows: Count
    recall: Fraction
    queries_per_second: _NotNegative
    build_seconds: _NotNegative
    expected_queries_per_second: _NotNegative
    expected_bytes: Count
    fits: bool


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A segment as the manifest names it.

    Attributes:
        name: of its folder.
        rows: in it.
        parts: how many pairs of rows and documents it has.
        kind: what was built, see `kinds.KINDS`.
        factory: FAISS's string for it.
        why: it is of this kind.
        trials: what was measured of every kind; nothing where the kind was given.
        how: how hard a search tries.
        recall: what was measured when it was built.
        bytes_resident: what FAISS holds in memory for it.
        files: each file by its name.
    """

    name: SegmentName
    rows: Positive
    parts: Positive
    kind: Factory
    factory: Factory
    why: str
    trials: tuple[Trial, ...]
    how: SearchParameters
    recall: Recall
    bytes_resident: Count
    files: dict[str, FileFacts]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def require_all_files(self) -> None:
        """Refuses an entry that names other files than a segment consists of.

        Raises:
            ValueError: it does.
        """
        expected = {FAISS_FILE, VECTORS_FILE, IDS_FILE, LATE_FILE}
        if len(self.files) == len(expected) + 2 * self.parts:  # before a number of parts is believed
            expected |= {name(part) for part in range(self.parts) for name in (rows_file, documents_file)}
        if expected != set(self.files):
            raise ValueError(f"segment {self.name} does not consist of the files that {self.parts} parts make")
