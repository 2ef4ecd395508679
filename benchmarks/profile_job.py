"""Shows where an encode job spends its time, beside the encoder alone on the same windows.

    python benchmarks/profile_job.py [--documents 20000] [--model nuner-mini] [--no-network] [--keep NAME]

Three jobs: many short documents (eight words each), few long ones (a hundredth as many, of 600 words), and sentences of
25 words in which `--mentions detect` finds the rows. All texts are paragraphs of the books.

Wall time is that of the job's own thread: its stages follow one another and add up to the job. CPU time is that of all
threads of Python; what the process needs besides is the network and the tokenizer's own threads. A stage does not count
the stages within it. "The encoder alone" is the runtime's own time for the windows of the job, without anything around
them, measured after the job in the same process.

With --no-network the runtime gives zeros at once, so that the rest of the job, the host's part, is measured alone: this
is the rate that a faster processor or a GPU can be fed with.
"""

import argparse
import contextlib
import functools
import gzip
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from common import WORK as ALL_WORK
from common import data_file, exported, keep, machine

import nuner_embed.encoders.loader as loader
from nuner_embed import load_detector
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.documents import ContentHash
from nuner_embed.encoders import mentions, text, tokens
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.jobs import encoding
from nuner_embed.jobs.engines import base
from nuner_embed.jobs.engines.local import LocalEngine
from nuner_embed.jobs.options import JobOptions
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.runtimes import padding
from nuner_embed.runtimes.base import Pass, RowFormat, WindowBatch, ignore_pass
from nuner_embed.store import shard
from nuner_embed.store.journal import Journal

WORK = ALL_WORK / "profile"
# Owner, attribute and stage. A generator counts while it makes its next item.
STAGES: list[tuple[Any, str, str]] = [
    (loader.ModelSpec, "load", "load the model"),
    (Corpus, "survey", "survey the corpus"),
    (Corpus, "_read", "read"),
    (ContentHash, "add", "hash documents"),
    (encoding, "estimate", "estimate the size"),
    (TextTokenizer, "encode", "tokenize (library)"),
    (text, "tokenize", "token tables"),
    (text, "make_rows", "rows and windows"),
    (text, "place", "rows and windows"),
    (TextEncoder, "_batch", "rows and windows"),
    (mentions, "make_rows", "rows and windows"),
    (tokens, "word_bounds", "split words"),
    (padding, "pad", "pad"),
    (padding, "pool", "pool"),
    (mentions, "pool", "pool"),
    (mentions.EmbeddedTokens, "find", "find mentions"),
    (mentions.EmbeddedTokens, "mentions", "rows of mentions"),
    (base, "require_finite", "check the numbers"),
    (RowFormat, "apply", "scale and cast"),
    (LocalEngine, "run", "wait for tokens or for the writer"),
    (base, "write_shard", "write: the rest"),
    (shard, "rows_as_arrow", "write: Arrow tables"),
    (shard, "documents_as_arrow", "write: Arrow tables"),
    (shard, "write_array", "write: vectors"),
    (shard.pq, "write_table", "write: Parquet"),
    (shard, "sync", "write: sync"),
    (shard, "sha256_of", "write: checksums"),
    (Journal, "commit", "write: journal"),
]
RUNTIME, NETWORK, REST = "runtime", "network, tokenizer's threads, unnamed", "the rest of the job"


class Clock:
    """Seconds of each stage: wall time of one thread, CPU time of all."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self.main = threading.get_ident()
        self._open = threading.local()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        inner = getattr(self._open, "inner", (0.0, 0.0))
        self._open.inner = (0.0, 0.0)
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
            within = self._open.inner
            with self._lock:
                if threading.get_ident() == self.main:
                    self.wall[name] += wall - within[0]
                self.cpu[name] += cpu - within[1]
            self._open.inner = (inner[0] + wall, inner[1] + cpu)

    def timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                result = function(*args, **kwargs)
            return self._items(result, name) if hasattr(result, "__next__") else result

        return timed

    def _items(self, items: Iterator[Any], name: str) -> Iterator[Any]:
        while True:
            with self.stage(name):
                item = next(items, self)
            if item is self:
                return
            yield item


@contextlib.contextmanager
def watched(clock: Clock, stages: list[tuple[Any, str, str]]) -> Iterator[None]:
    """Times the stages within the block."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in stages]
    for owner, name, stage in stages:
        setattr(owner, name, clock.timed(getattr(owner, name), stage))
    try:
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


@dataclass
class Rows:
    """Stands for the runtime's `rows`: keeps the batches of the job, and may leave the network out."""

    encoder: TextEncoder
    network: bool
    batches: list[tuple[WindowBatch, RowFormat]] = field(default_factory=list)

    def __call__(self, batch: WindowBatch, batch_tokens: int, on_pass: Callable[[Pass], None], form: RowFormat) -> Any:
        self.batches.append((batch, form))
        if self.network:
            return type(self.encoder.runtime).rows(self.encoder.runtime, batch, batch_tokens, on_pass, form)
        on_pass(Pass(len(batch.ids), 0, batch_tokens))
        return np.zeros((len(batch.window), self.encoder.dim), form.dtype)

    def alone(self) -> float:
        """Seconds of the runtime for all batches of the job."""
        began = time.perf_counter()
        for batch, form in self.batches:
            runtime = self.encoder.runtime
            type(runtime).rows(runtime, batch, self.encoder.batch_tokens, ignore_pass, form)
        return time.perf_counter() - began


def profile(corpus: Path, model: str, network: bool, **options: Any) -> dict[str, Any]:
    """Runs one job; seconds by stage, and of the encoder alone."""
    clock, made = Clock(), []
    load = loader.ModelSpec.load

    def remember(spec: Any, workers: int = 1) -> TextEncoder:
        encoder = load(spec, workers)
        made.append(Rows(encoder, network))
        encoder.runtime.rows = clock.timed(made[-1], RUNTIME)  # type: ignore[method-assign]
        return encoder

    loader.ModelSpec.load = remember  # type: ignore[method-assign]
    try:
        with watched(clock, STAGES):
            cpu, began = time.process_time(), time.perf_counter()
            with Corpus(corpus) as opened:
                job = encoding.run_job(opened, WORK / "store", JobOptions.of(model=model, force=True, **options))
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    finally:
        loader.ModelSpec.load = load  # type: ignore[method-assign]
    alone = made[0].alone() if network else 0.0
    clock.wall[REST] = seconds - sum(clock.wall.values())
    clock.cpu.pop(RUNTIME, None)  # the network's, if it runs in this thread
    clock.cpu[NETWORK] = cpu - sum(clock.cpu.values())
    return {
        "seconds": seconds, "cpu": cpu, "alone": alone, "tokens": job.tokens, "documents": job.documents,
        "rows": job.rows, "runtime": made[0].encoder.runtime.description, "wall": dict(clock.wall),
        "cpu_by_stage": dict(clock.cpu),
    }  # fmt: skip


def write_corpora(documents: int) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The corpora of the jobs, with the options of each job."""
    with gzip.open(data_file("text/books-paragraphs.txt.gz"), "rt", encoding="utf-8") as lines:
        paragraphs = [words for line in lines if len(words := line.split()) >= 25]
    step = max(1, len(paragraphs) // documents)
    drawn = paragraphs[::step][:documents]
    stream = iter([word for words in paragraphs for word in words])
    kinds = {
        "short": ([words[:8] for words in drawn], {"rows": "word"}),
        "long": ([[next(stream) for _ in range(600)] for _ in range(max(1, documents // 100))], {"rows": "word"}),
        "detect": ([words[:25] for words in drawn], {"rows": "mention"}),
    }
    made = {}
    for name, (texts, options) in kinds.items():
        path = WORK / f"{name}.txt"
        path.write_text("".join(" ".join(words) + "\n" for words in texts), encoding="utf-8")
        made[name] = (path, options)
    return made


def table_of(found: dict[str, dict[str, Any]], network: bool) -> str:
    """The figures as Markdown."""
    lines = [f"Runtime: {next(iter(found.values()))['runtime']}.", ""]
    if network:
        lines += ["| job | documents | tokens | rows | job, s | encoder alone, s | job / encoder alone | tokens/s |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
    else:
        lines += ["| host alone | documents | tokens | rows | job, s | CPU, s | tokens/s | rows/s |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
    for name, one in found.items():
        sizes = f"| {name} | {one['documents']:,} | {one['tokens']:,} | {one['rows']:,} | {one['seconds']:.2f} |"
        rate = f"{one['tokens'] / one['seconds']:,.0f}"
        if network:
            lines.append(f"{sizes} {one['alone']:.2f} | {one['seconds'] / one['alone']:.3f} | {rate} |")
        else:
            lines.append(f"{sizes} {one['cpu']:.2f} | {rate} | {one['rows'] / one['seconds']:,.0f} |")
    stages = sorted(
        {stage for one in found.values() for stage in (*one["wall"], *one["cpu_by_stage"])},
        key=lambda stage: -sum(one["wall"].get(stage, 0) + one["cpu_by_stage"].get(stage, 0) for one in found.values()),
    )
    lines += [
        "",
        "| stage | " + " | ".join(f"{name}: wall, CPU" for name in found) + " |",
        "|---" * (1 + len(found)) + "|",
    ]
    for stage in stages:
        cells = [
            f"{one['wall'].get(stage, 0) / one['seconds']:.1%}, {one['cpu_by_stage'].get(stage, 0) / one['cpu']:.1%}"
            for one in found.values()
        ]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000, help="number of short documents")
    parser.add_argument("--model", default="nuner-mini", help="a base model, which is exported first")
    parser.add_argument("--threads", type=int, default=0, help="threads of the runtime; 0 for one for each core")
    parser.add_argument("--no-network", action="store_true", help="measure the host's part alone")
    parser.add_argument("--only", default="", help="only the job with this name")
    parser.add_argument("--keep", default="", metavar="NAME", help="write the figures to benchmarks/results/NAME")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    model = exported(arguments.model, WORK / arguments.model)
    found = {}
    few = WORK / "few.txt"
    few.write_text("A ferry left Oslo at seven.\n")
    profile(few, model, True, threads=arguments.threads, rows="word")  # imports, and measures the runtimes once
    for name, (path, options) in write_corpora(arguments.documents).items():
        if arguments.only in ("", name):
            if name == "detect":
                options["detector"] = load_detector(model)
            network = not arguments.no_network
            found[name] = profile(path, model, network, threads=arguments.threads, **options)
            print(f"{name}: {found[name]['seconds']:.1f} s", flush=True)
    shutil.rmtree(WORK / "store", ignore_errors=True)
    table = table_of(found, not arguments.no_network)
    if arguments.keep:
        packages = ("onnxruntime", "openvino", "tokenizers", "pyarrow", "numpy")
        keep(arguments.keep, {"machine": machine(*packages), "jobs": found}, table)
    else:
        print(table)


if __name__ == "__main__":
    main()
