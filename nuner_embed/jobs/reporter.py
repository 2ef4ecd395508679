"""What a job tells whoever watches it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job is about to do.

    Attributes:
        documents: in the corpus.
        finished_documents: of these, in shards that an earlier run finished.
        rejects: records of the corpus that are left out.
        rows: about how many the store will have.
        store_bytes: about what it will weigh.
        free_bytes: free on its disk.
        tokens: about how many go through the encoder for the whole corpus, special tokens and overlaps included.
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
    """What became of a job.

    Attributes:
        documents: in the store.
        rows: in the store.
        shards: in the store.
        tokens: that went through the encoder for it, special tokens and overlaps included.
        padding_share: padding among all that went through, a fraction of 1.
        windows: that its texts were cut into.
        covered: documents in `coverage.jsonl`, windowed or not wholly encoded.
        rejects: records in `rejects.jsonl`.
        store_bytes: size of the shards.
        reduced_shards: shards that ran with a smaller batch budget because memory ran out.
        seconds: this run took, once the corpus had been surveyed.
        tokens_per_second: of this run; 0 if it had nothing left to do.
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
    """Hears what a job does; this one says nothing. `shard` is called from the thread that writes."""

    def notice(self, text: str) -> None:
        """Something the user should know."""

    def surveying(self, documents: int) -> None:
        """The corpus is being read through; called now and then with the documents seen so far."""

    def started(self, plan: Plan) -> None:
        """Encoding begins."""

    def tokens(self, count: int) -> None:
        """So many more tokens went through the encoder."""

    def shard(self, name: str, documents: int, rows: int) -> None:
        """A shard with so many documents and rows is now part of the store."""

    def finished(self, summary: Summary) -> None:
        """The store is complete."""
