"""What a job is told."""

from dataclasses import dataclass
from typing import Any, Protocol, Self, get_args

from nuner_embed.encoders.mentions import SpanFinder
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.encoders.tokens import Granularity
from nuner_embed.encoders.windows import Overflow
from nuner_embed.store.shard import Dtype


class EncoderSpec(Protocol):
    """How to load the encoder, here or in another process; can be pickled."""

    def load(self, workers: int = 1) -> TextEncoder:
        """Loads it; threads that were left open are the cores, divided by the workers."""
        ...

    def pinned(self, numerics: dict[str, Any]) -> Self:
        """A copy in which whatever was left open takes the value of an earlier run."""
        ...


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What the job is to do.

    Attributes:
        granularity: what becomes a row.
        overflow: what happens to texts longer than a window.
        dtype: of the stored vectors.
        shard_rows: rows after which a shard is closed.
        workers: processes that encode, each a shard at a time.
        force: start over, whatever the directory's store holds.
        detector: finds the mentions that become rows, in place of those that the corpus gives.
        also_file: one file of the rows is going to be written beside the store; the disk must have room for both.
    """

    granularity: Granularity = "word"
    overflow: Overflow = "window"
    dtype: Dtype = "float16"
    shard_rows: int = 100_000
    workers: int = 1
    force: bool = False
    detector: SpanFinder | None = None
    also_file: bool = False

    def __post_init__(self) -> None:
        for name, values in (("granularity", Granularity), ("overflow", Overflow), ("dtype", Dtype)):
            if getattr(self, name) not in get_args(values):
                raise ValueError(f"{name} must be {' or '.join(get_args(values))}, not {getattr(self, name)!r}")
        for name in ("shard_rows", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.detector is not None and self.granularity != "mention":
            raise ValueError(f"a detector finds mentions; with rows of {self.granularity}s there is nothing to find")

    @property
    def tokenized(self) -> Granularity:
        """What texts are cut into before the encoder runs: the words that a detector looks at, or the rows."""
        return "word" if self.detector else self.granularity
