"""The options of a job."""

from dataclasses import dataclass, fields
from typing import Any, Protocol, Self, get_args

from nuner_embed.encoders.loader import ModelSpec
from nuner_embed.encoders.mentions import SpanFinder
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.tables import Dtype, Granularity, Overflow


class EncoderSpec(Protocol):
    """How to load the encoder, here or in another process; can be pickled. `ModelSpec` is one."""

    def load(self, workers: int = 1) -> TextEncoder:
        """Loads the encoder; where no number of threads was given, the workers share the cores."""
        ...

    def pinned(self, numerics: dict[str, Any]) -> Self:
        """A copy in which all open choices are those of an earlier run."""
        ...


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The encoder of a job, and what to do with it.

    Attributes:
        spec: loads the encoder.
        granularity: what becomes a row: "token", "word" or "mention" (the spans of the corpus, or what `detector`
            finds).
        overflow: "window" encodes long texts in overlapping windows, "truncate" drops what is beyond the first window
            (recorded in `coverage.jsonl`), "error" refuses long texts.
        dtype: of the stored vectors.
        shard_rows: rows after which a shard is closed; bounds the memory.
        workers: processes that encode, each one shard at a time.
        force: start over even if the directory holds a store.
        detector: finds the mentions that become rows, instead of the spans of the corpus; `nuner_embed.load_detector`
            loads a model's own detector, or makes one from a probe.
        also_file: the rows are also going to be written as one file; the disk must have room for both.

    Raises:
        ValueError: an invalid value.
    """

    spec: EncoderSpec
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

    @classmethod
    def of(cls, *, rows: Granularity = "word", **values: Any) -> Self:
        """Options from keywords.

        Args:
            rows: the `granularity`, under the name that the command line uses.
            values: fields of `JobOptions` and of `ModelSpec`; all others are values of the recipe (`layers`, `pooling`,
                `normalize`, `max_length`, `stride`) that replace those of the model.
        """
        own = {field.name for field in fields(cls)} - {"spec", "granularity"}
        of_model = {field.name for field in fields(ModelSpec)} - {"recipe", "semantic_hash", "graph", "streams"}
        job = {name: values.pop(name) for name in own & set(values)}
        model = {name: values.pop(name) for name in of_model & set(values)}
        return cls(ModelSpec(**model, recipe=values), rows, **job)

    @property
    def tokenized(self) -> Granularity:
        """The granularity of the tokenized texts: words for a detector, else that of the rows."""
        return "word" if self.detector else self.granularity
