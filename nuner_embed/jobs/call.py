"""The batch job as one call."""

from typing import Any, Literal

from nuner_embed.arguments import Paths, StrPath
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.encoders.loader import ModelSpec
from nuner_embed.encoders.mentions import SpanFinder
from nuner_embed.encoders.tokens import Granularity
from nuner_embed.encoders.windows import Overflow
from nuner_embed.errors import StoreError
from nuner_embed.files import expand
from nuner_embed.jobs.encode import run_job
from nuner_embed.jobs.options import JobOptions
from nuner_embed.jobs.reporter import Reporter
from nuner_embed.models.known import DEFAULT_MODEL
from nuner_embed.runtimes.base import Precision, RuntimeName
from nuner_embed.store.reader import Store
from nuner_embed.store.shard import Dtype


def encode(
    corpus: Paths | Corpus,
    store: StrPath,
    *,
    model: str = DEFAULT_MODEL,
    rows: Granularity = "word",
    runtime: RuntimeName = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    threads: int = 0,
    batch_tokens: int | None = None,
    overflow: Overflow = "window",
    dtype: Dtype = "float16",
    shard_rows: int = 100_000,
    workers: int = 1,
    on_error: Literal["fail", "skip"] = "fail",
    force: bool = False,
    detector: SpanFinder | None = None,
    also_file: bool = False,
    reporter: Reporter | None = None,
    **recipe: Any,
) -> Store:
    """Encodes a corpus into a store; called again after an interruption, it finishes the job.

    Args:
        corpus: files and directories, or a `Corpus` made of them.
        store: directory of the store.
        model: a Hugging Face or exported directory, a known name, or a hub name.
        rows: "token", "word" or "mention" (the spans of the corpus, or what `detector` finds).
        runtime, device, precision, batch_tokens: what runs the encoder; see `ModelSpec`. What is left open is
            what is fastest on this machine among what computes as the source does, measured once.
        threads: of each worker; 0 for one a core, shared among the workers.
        overflow: "window" encodes long texts in overlapping windows, "truncate" drops what is beyond the first
            (recorded in `coverage.jsonl`), "error" refuses them.
        dtype: of the stored vectors.
        shard_rows: rows after which a shard is closed; memory is bounded by it.
        workers: processes that encode, each a shard at a time.
        on_error: "skip" lists bad records in `rejects.jsonl` and goes on; a `Corpus` brings its own policy.
        force: start over.
        detector: finds the mentions; `nuner_embed.load_detector` gives a model's own, or makes one of a probe.
        also_file: you are going to `write_parquet` the store beside itself; a disk without room for both is refused.
        reporter: is told what happens.
        recipe: `layers`, `pooling`, `normalize`, `max_length`, `stride` in place of the model's own.

    Returns:
        The complete store, open for reading.

    Raises:
        NunerEmbedError: see `run_job`.
    """
    directory = expand(store)
    if directory.suffix == ".parquet":
        raise StoreError(f"{directory} names a file, and a store is a directory; write_parquet makes a file of a store")
    options = JobOptions(rows, overflow, dtype, shard_rows, workers, force, detector, also_file)
    spec = ModelSpec(model, runtime, device, precision, threads, batch_tokens, recipe)
    if isinstance(corpus, Corpus):
        run_job(corpus, directory, spec, options, reporter)
    else:
        with Corpus(corpus, on_error=on_error, exclude=[directory]) as opened:
            run_job(opened, directory, spec, options, reporter)
    return Store.open(directory)
