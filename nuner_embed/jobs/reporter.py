"""Reports of a job's progress."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a job before it begins.

    Attributes:
        documents: in the corpus.
        finished_documents: documents in shards that an earlier run finished.
        rejects: rejected records of the corpus.
        rows: of the store, estimated.
        store_bytes: size of the store, estimated.
        free_bytes: free space on the store's disk.
        tokens: that go through the encoder for the whole corpus, special tokens and overlaps included; estimated.
    """

    documents: int
    finished_documents: int
    rejects: int
    rows: int
    store_bytes: int
    free_bytes: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of a job.

    Attributes:
        documents: in the store.
        rows: in the store.
        shards: in the store.
        tokens: that went through the encoder, special tokens and overlaps included.
        padding_share: share of padding among all tokens, from 0 to 1.
        windows: of all texts.
        covered: documents in `coverage.jsonl`, with several windows or not wholly encoded.
        rejects: records in `rejects.jsonl`.
        store_bytes: size of the shards.
        reduced_shards: shards that ran with a smaller batch budget because memory ran out.
        seconds: duration of this run without the survey of the corpus.
        tokens_per_second: of this run; 0 if nothing was left to do.
    """

    documents: int
    rows: int
    shards: int
    tokens: int
    padding_share: float
    windows: int
    covered: int
    rejects: int
    store_bytes: int
    reduced_shards: tuple[str, ...]
    seconds: float
    tokens_per_second: float


class Reporter:
    """Is told of a job's progress; this class does nothing. `shard` is called from the thread that writes."""

    def notice(self, text: str) -> None:
        """Passes on a sentence for the user."""

    def surveying(self, documents: int) -> None:
        """Called during the survey of the corpus, with the number of documents so far."""

    def started(self, plan: Plan) -> None:
        """Called before encoding begins."""

    def tokens(self, count: int) -> None:
        """Called with the number of tokens that went through the encoder since the last call."""

    def shard(self, name: str, documents: int, rows: int) -> None:
        """Called when a shard has become part of the store."""

    def finished(self, summary: Summary) -> None:
        """Called when the store is complete."""
