"""The batch job, which encodes a corpus into a store and can be resumed."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuner_embed.arguments import Paths, StrPath
from nuner_embed.corpora.corpus import Corpus, OnError, Survey
from nuner_embed.corpora.records import Reject
from nuner_embed.documents import ContentHash, Document
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import StoreError, StoreLocked, StoreMismatch
from nuner_embed.files import expand
from nuner_embed.jobs.engines import engine_of
from nuner_embed.jobs.engines.base import ShardTask, WrittenShard
from nuner_embed.jobs.options import JobOptions
from nuner_embed.jobs.plan import cut_shards, estimate
from nuner_embed.jobs.reporter import Plan, Reporter, Summary
from nuner_embed.store.journal import Journal, RejectFile
from nuner_embed.store.layout import MANIFEST_FILE, remove_contents, shard_files
from nuner_embed.store.manifest import Manifest, StoredManifest, read_manifest
from nuner_embed.store.ownership import require_ours, writer_lock
from nuner_embed.store.reader import Store

if TYPE_CHECKING:
    from datasets import Dataset

# Bytes to leave free on the disk besides the size of the store.
_SPARE_BYTES = 64 << 20


def encode(
    corpus: "Paths | Corpus | Dataset",
    store: StrPath,
    options: JobOptions | None = None,
    *,
    on_error: OnError = "fail",
    reporter: Reporter | None = None,
    **values: Any,
) -> Store:
    """Encodes a corpus into a store; called again after an interruption, it finishes the job.

    Args:
        corpus: files and directories, or a `datasets.Dataset`; or a `Corpus` made of these.
        store: directory of the store.
        options: of the job; None for `JobOptions.of(**values)`.
        on_error: "skip" lists bad records in `rejects.jsonl` and goes on; a `Corpus` has its own policy.
        reporter: is told of the progress.
        values: `model`, `rows`, `runtime`, `device`, `precision`, `threads`, `batch_tokens`, `overflow`, `dtype`,
            `shard_rows`, `workers`, `force`, `detector`, `also_file`, and parts of the recipe; see `JobOptions.of`.

    Returns:
        The complete store, open for reading.

    Raises:
        NunerEmbedError: see `run_job`.
        TypeError, ValueError: an unknown keyword or value.
    """
    directory = expand(store)
    if directory.suffix == ".parquet":
        raise StoreError(f"{directory} names a file, and a store is a directory; write_parquet makes a file of a store")
    if options is None:
        options = JobOptions.of(**values)
    elif values:
        raise TypeError(f"give {', '.join(values)} within the options, not beside them")
    if isinstance(corpus, Corpus):
        run_job(corpus, directory, options, reporter)
    else:
        with Corpus(corpus, on_error=on_error, exclude=[directory]) as opened:
            run_job(opened, directory, options, reporter)
    return Store.open(directory)


def run_job(corpus: Corpus, directory: Path, options: JobOptions, reporter: Reporter | None = None) -> Summary:
    """Encodes a corpus into a store, or finishes a store that an earlier run began.

    Raises:
        CorpusError: a record cannot be read; then nothing is written.
        StoreLocked: another job writes the store.
        StoreMismatch: the store was begun with another recipe, corpus, runtime or schema.
        StoreError: the disk is too small or full, or the directory holds something else.
        ModelError, RuntimeUnavailable, OutOfMemory: the encoder cannot be loaded or run.
    """
    reporter = reporter or Reporter()
    with contextlib.ExitStack() as stack:
        begun = None
        made = directory.exists()  # else the directory is made after the corpus was read without an error
        if made:
            require_ours(directory, force=options.force)  # before anything is written
            stack.enter_context(writer_lock(directory))
            require_ours(directory, force=options.force)
            begun = _begun(directory, options)
        spec = options.spec.pinned(begun.numerics) if begun else options.spec
        encoder = spec.load(options.workers)
        options = replace(options, spec=spec.pinned(encoder.numerics))  # so that other processes load the same
        reporter.notice(f"runtime: {encoder.runtime.description}, batches of {encoder.batch_tokens} tokens")
        survey = corpus.survey(reporter.surveying)
        _require_mentions(survey, encoder, options, reporter)
        manifest = _manifest(corpus, survey, encoder, options)
        if begun:
            manifest.require_same(begun, directory)
            _require_same_corpus(corpus, survey, begun, Journal.read(directory), directory)
        if not made:
            stack.enter_context(writer_lock(directory))
            if (directory / MANIFEST_FILE).exists():
                raise StoreLocked(f"{directory} was begun by another process just now; run the command again")
            require_ours(directory, force=options.force)
        with _want_told(directory):
            return _Job(corpus, survey, directory, encoder, manifest, options, reporter).run(begun)


def _require_mentions(survey: Survey, encoder: TextEncoder, options: JobOptions, reporter: Reporter) -> None:
    """Refuses rows of mentions for a corpus without mentions, or with a detector of another model."""
    if options.granularity == "mention" and not survey.spans and not options.detector:
        raise StoreError(
            "the corpus has no spans, so rows of mentions would make an empty store; --mentions detect finds some, "
            "or use --rows word"
        )
    if options.granularity == "mention" and not options.detector and survey.annotated < survey.documents:
        reporter.notice(
            f"mentions: the spans of {survey.annotated:,} of {survey.documents:,} documents; the others have none "
            "and make no rows (--mentions detect looks for mentions in all)"
        )
    if options.detector and options.detector.semantic_hash != encoder.semantic_hash:
        raise StoreError(
            f"the mention detector reads the words of another model or recipe "
            f"({options.detector.semantic_hash[:12]}) than {encoder.source} ({encoder.semantic_hash[:12]})"
        )


def _manifest(corpus: Corpus, survey: Survey, encoder: TextEncoder, options: JobOptions) -> Manifest:
    """The facts that are pinned when the job starts."""
    return Manifest(
        model=encoder.source,
        semantic_hash=encoder.semantic_hash,
        recipe=encoder.recipe.to_dict(),
        weights_sha256=encoder.weights_sha256,
        config_sha256=encoder.config_sha256,
        tokenizer_sha256=encoder.tokenizer.sha256,
        numerics=encoder.numerics,
        granularity=options.granularity,
        detector=options.detector.facts if options.detector else None,
        overflow=options.overflow,
        dim=encoder.dim,
        dtype=options.dtype,
        shard_rows=options.shard_rows,
        corpus_sha256=survey.sha256,
        corpus_documents=survey.documents,
        resumable=not corpus.from_stdin,
    )


def _begun(directory: Path, options: JobOptions) -> StoredManifest | None:
    """The manifest of the store that this job resumes; None where the job starts over."""
    begun = read_manifest(directory)
    if begun is None or begun.clearing or options.force:
        return None
    if not begun.resumable and not begun.complete:
        raise StoreMismatch(f"{directory} was begun from standard input and cannot be resumed; --force starts over")
    return begun


class _Job:
    """A job after all checks."""

    def __init__(
        self,
        corpus: Corpus,
        survey: Survey,
        directory: Path,
        encoder: TextEncoder,
        manifest: Manifest,
        options: JobOptions,
        reporter: Reporter,
    ) -> None:
        self.corpus = corpus
        self.survey = survey
        self.directory = directory
        self.encoder = encoder
        self.manifest = manifest
        self.options = options
        self.reporter = reporter
        self.began = time.monotonic()

    def run(self, begun: StoredManifest | None) -> Summary:
        journal = Journal.read(self.directory) if begun else Journal(self.directory, [])
        journal.require_files()
        if begun and begun.complete:
            if [(entry.name, entry.sha256) for entry in journal.entries] != [(s.name, s.sha256) for s in begun.shards]:
                raise StoreError(f"{self.directory}: manifest and journal name different shards; --force starts over")
            self.reporter.notice(f"{self.directory} is complete already; nothing to do")
            return self._finish(journal, 0, begun.rejects)
        if begun:
            journal.repair()
        plan = self._plan(journal)
        if begun is None:
            if (self.directory / MANIFEST_FILE).exists():
                self.manifest.write_clearing(self.directory)
                remove_contents(self.directory)
            self.manifest.write(self.directory)
        elif journal.entries:
            self.reporter.notice(f"resuming after {journal.entries[-1].name} ({journal.documents:,} documents)")
        self.reporter.started(plan)
        tokens, rejects_sha256 = self._encode(journal)
        self.manifest.write_complete(self.directory, journal.entries, self.survey.rejects, rejects_sha256)
        return self._finish(journal, tokens, self.survey.rejects)

    def _plan(self, journal: Journal) -> Plan:
        """The plan of the job, which is refused if the disk is too small."""
        guess = estimate(self.survey, self.encoder, self.options)
        free = shutil.disk_usage(self.directory).free
        # shards that are kept, or that are about to be removed
        there = sum(path.lstat().st_size for path in shard_files(self.directory))
        needed = guess.store_bytes * (2 if self.options.also_file else 1) - there
        if needed + _SPARE_BYTES > free:
            again = ", and the file beside the store as much again" if self.options.also_file else ""
            raise StoreError(
                f"the store will take about {guess.store_bytes / 1e6:,.0f} MB{again}; {free / 1e6:,.0f} MB are free on "
                f"the disk of {self.directory}, of which {_SPARE_BYTES / 1e6:.0f} MB must stay free; use another disk, "
                "--rows mention, or fewer layers"
            )
        return Plan(
            documents=self.survey.documents,
            finished_documents=journal.documents,
            rejects=self.survey.rejects,
            rows=guess.rows,
            store_bytes=guess.store_bytes,
            free_bytes=free,
            tokens=guess.tokens,
        )

    def _encode(self, journal: Journal) -> tuple[int, str | None]:
        """Encodes the documents of the shards that the journal lacks.

        Returns:
            The tokens of this run, and the hash of the rejects; None without rejects.
        """
        options = self.options
        done = len(journal.entries)

        def commit(shard: WrittenShard) -> None:
            entry = shard.entry
            journal.commit(entry, shard.coverage, shard.paths)
            self.reporter.shard(entry.name, entry.documents, entry.rows)

        with RejectFile(self.directory) as rejects:
            documents = self._documents(rejects)
            changed = _changed_shard(documents, journal)
            if changed:  # the corpus changed during an earlier run, and changed back
                raise StoreMismatch(f"{self.directory} was written from other documents {changed}; --force starts over")
            tables = cut_shards(documents, self.encoder, options)
            engine = engine_of(options, self.encoder, self.reporter)
            engine.run(ShardTask(self.directory, options, first=done), tables, commit)
        return sum(entry.tokens for entry in journal.entries[done:]), rejects.sha256

    def _documents(self, rejects: RejectFile) -> Iterator[Document]:
        content = ContentHash()
        for item in self.corpus:
            if isinstance(item, Reject):
                rejects.add(item)
            else:
                content.add(item)
                yield item
        if content.hexdigest() != self.survey.sha256:
            raise StoreError(
                f"the corpus changed while it was being read; {self.directory} must start over with --force"
            )

    def _finish(self, journal: Journal, tokens: int, rejects: int) -> Summary:
        entries = journal.entries
        real, padding = sum(entry.tokens for entry in entries), sum(entry.padding for entry in entries)
        seconds = time.monotonic() - self.began
        summary = Summary(
            documents=journal.documents,
            rows=sum(entry.rows for entry in entries),
            shards=len(entries),
            tokens=real,
            padding_share=padding / (real + padding) if real else 0.0,
            windows=sum(entry.windows for entry in entries),
            covered=sum(entry.covered for entry in entries),
            rejects=rejects,
            store_bytes=sum(sum(entry.bytes.values()) for entry in entries),
            reduced_shards=tuple(entry.name for entry in entries if entry.batch_tokens),
            seconds=seconds,
            tokens_per_second=tokens / seconds,
        )
        self.reporter.finished(summary)
        return summary


def _require_same_corpus(
    corpus: Corpus, survey: Survey, begun: StoredManifest, journal: Journal, directory: Path
) -> None:
    if survey.sha256 == begun.corpus_sha256:
        return
    documents = (item for item in corpus if isinstance(item, Document))
    where = _changed_shard(documents, journal) or "after the finished shards"
    raise StoreMismatch(
        f"{directory} was begun with another corpus: {begun.corpus_documents} documents then, "
        f"{survey.documents} now, "
        f"differing {where}. Give the same files in the same order, name another store, or start over with --force"
    )


def _changed_shard(documents: Iterator[Document], journal: Journal) -> str | None:
    """Skips the documents of the finished shards; returns where they differ from the encoded ones, or None."""
    for entry in journal.entries:
        content = ContentHash()
        first = None
        for document in islice(documents, entry.documents):
            first = first or document.id
            content.add(document)
        if content.hexdigest() != entry.content_sha256:
            return f"in {entry.name}, which begins with document {first}" if first else f"in {entry.name}"
    return None


@contextlib.contextmanager
def _want_told(directory: Path) -> Iterator[None]:
    """Turns errors of the disk, and a lack of memory, descriptors or threads, into a one-line StoreError."""
    kept = "what is finished is kept"
    try:
        yield
    except OSError as error:
        path = Path(os.fsdecode(error.filename or directory))
        place = f"{directory} cannot be written" if path.is_relative_to(directory) else f"{path} cannot be used"
        raise StoreError(
            f"{place}: {error.strerror or error}; {kept}; once there is room, the same command continues"
        ) from error
    except MemoryError as error:
        raise StoreError(
            f"memory ran out; {kept}; with more memory or fewer --workers, the same command continues"
        ) from error
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        raise StoreError(
            f"the system refuses another thread or more memory; {kept}, and the same command continues"
        ) from error
