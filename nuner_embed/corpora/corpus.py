"""Corpora: the documents of files, which can be read several times."""

import contextlib
import logging
import shutil
import sys
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal, Self

import numpy as np

from nuner_embed.arguments import Paths, as_names, as_paths
from nuner_embed.corpora.base import FORMATS, ReadOptions, Source, known_format
from nuner_embed.corpora.dataset import DatasetRows
from nuner_embed.corpora.listing import list_files
from nuner_embed.corpora.objects import ANNOTATION_KEYS
from nuner_embed.corpora.records import Item, Reject, shown
from nuner_embed.documents import ContentHash, Document
from nuner_embed.errors import CorpusError
from nuner_embed.limits import LINE_MIB
from nuner_embed.printable import printable

if TYPE_CHECKING:
    from datasets import Dataset

OnError = Literal["fail", "skip"]
STANDARD_INPUT = "-"
_PLAIN = ("txt",)
_DESCRIPTORS = "/proc/self/fd"  # each name opens an open file again, at its beginning
_SAMPLE_DOCUMENTS = 512
_SAMPLE_CHARACTERS = 400_000
_REPORT_EVERY = 10_000
_LONGEST_KEY = 60  # in a message
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Survey:
    """The counts of one pass over a corpus.

    Attributes:
        documents: number of documents.
        rejects: number of bad records, which were skipped; 0 where bad records are errors.
        characters: of all texts.
        annotated_characters: of the texts with at least one span.
        spans: number of annotated mentions.
        annotated: number of documents with at least one span.
        sha256: hash of all documents' contents.
        sample: up to 512 documents, evenly spread.
    """

    documents: int
    rejects: int
    characters: int
    annotated_characters: int
    spans: int
    annotated: int
    sha256: str
    sample: tuple[Document, ...] = field(repr=False)


def id_hash(identity: str) -> int:
    """A hash of an id, 64 bits, for this process: Python's own, whose key differs from process to process."""
    return hash(identity)


class IdCensus:
    """Collects the hashes of all ids, at eight bytes each, and finds those that came more than once."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, identity: str) -> None:
        """Adds an id."""
        self._hashes.append(id_hash(identity))

    def repeated(self) -> frozenset[int]:
        """The hashes that came more than once: duplicates, or collisions, of which there is one in 2^64 pairs."""
        if not len(self._hashes):
            return frozenset()
        hashes = np.frombuffer(self._hashes, dtype=np.int64)
        hashes.sort()
        return frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist())


class DuplicateFinder:
    """Tells duplicates from collisions; keeps only the ids with a repeated hash."""

    def __init__(self, repeated: frozenset[int]) -> None:
        self._repeated = repeated
        self._seen: dict[str, str] = {}

    def reason(self, identity: str, where: str) -> str | None:
        """Why a document's id is refused, or None."""
        if not self._repeated or id_hash(identity) not in self._repeated:
            return None
        first = self._seen.get(identity)
        if first is None:
            self._seen[identity] = where
            return None
        return (
            f"duplicate id {shown(identity)}, first used at {first}; make ids unique, or name the directory that the "
            "files have in common"
        )


class Corpus:
    """The documents of files, directories, standard input or a `datasets.Dataset`; may be iterated several times.

    With `on_error="fail"` a bad record ends the iteration with an error; with "skip" the iteration yields a `Reject`
    instead. Standard input is copied to a temporary file, which `close` removes.

    Args:
        paths: files, directories, or "-", one or several; or one `datasets.Dataset`.
        format: a key of `FORMATS` for all files, whatever their suffixes; of a directory all files are then read
            except hidden ones.
        text_column: of Parquet files and datasets, or of the `data` of Label Studio's tasks.
        id_column: likewise; None for `id` if there is one.
        tag_names: the names of tags or labels that are numbers, in order; Parquet files may hold such names.
        word_column: which field of a line holds the word in column files (`conll`): its number from 1, or its name in
            the file's first line; None to find it by what the fields hold.
        tag_column: which field holds the tag, likewise; "none" for words without tags.
        on_error: what to do with bad records.
        exclude: directories to leave out.
        max_line_mib: a longer line, in mebibytes of decompressed data, is a bad record.
        marked: read "A ferry to [[Oslo|city]]" in `.txt` files as a text with a span; brackets are text otherwise.

    Raises:
        CorpusError: a path is missing, of no known suffix, named twice, or a directory without corpora.
        TypeError: a dataset of several splits, or a streamed one.
        ValueError: an unknown format or policy, a format for a dataset, or no path.
    """

    def __init__(
        self,
        paths: "Paths | Dataset",
        *,
        format: str | None = None,
        text_column: str = "text",
        id_column: str | None = None,
        tag_names: Sequence[str] = (),
        word_column: int | str | None = None,
        tag_column: int | str | None = None,
        on_error: OnError = "fail",
        exclude: Sequence[Path] = (),
        marked: bool = False,
        max_line_mib: int = LINE_MIB,
    ) -> None:
        if format is not None:
            known_format(format)
        if on_error not in ("fail", "skip"):
            raise ValueError(f'on_error must be "fail" or "skip", not {on_error!r}')
        self._on_error = on_error
        self._options = ReadOptions(
            text_column=text_column,
            id_column=id_column,
            tag_names=tuple(as_names(tag_names)),
            word_column=word_column,
            tag_column=tag_column,
            marked=marked,
            max_line_mib=max_line_mib,
        )
        self._survey: Survey | None = None
        self._repeated: frozenset[int] = frozenset()
        self._spool: IO[bytes] | None = None
        self._dataset = DatasetRows.of(paths)
        if self._dataset is not None and format is not None:
            raise ValueError(f"a format is of files, and this is a dataset; leave out format={format!r}")
        paths = [] if self._dataset is not None else as_paths(paths)
        self.from_stdin = STANDARD_INPUT in map(str, paths)
        self.files: tuple[Source, ...] = ()
        if self.from_stdin:
            if len(paths) > 1:
                raise CorpusError(STANDARD_INPUT, None, "standard input cannot be combined with other files")
            self._spool = _spool_standard_input()
            self._finalizer = weakref.finalize(self, self._spool.close)
            named = isinstance(self._spool.name, str)
            opened = Path(self._spool.name if named else f"{_DESCRIPTORS}/{self._spool.fileno()}")
            self.files = (Source(opened, STANDARD_INPUT, format or "txt"),)
        elif self._dataset is None:
            self.files = list_files(paths, format, exclude)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Removes the copy of standard input."""
        if self._spool is not None:
            self._finalizer()

    def survey(self, progress: Callable[[int], None] = lambda documents: None) -> Survey:
        """Reads the corpus once: counts, hashes and samples documents, and finds duplicate ids. The result is kept.

        Args:
            progress: called now and then with the number of documents seen.

        Raises:
            CorpusError: a bad record (unless they are skipped), or no document at all.
        """
        if self._survey is None:
            census = IdCensus()
            survey = self._pass(progress, census)
            self._repeated = census.repeated()
            if self._repeated:
                survey = self._pass(progress, IdCensus())
            if not survey.documents:
                names = ", ".join(self._names[:3])
                rejected = f", only {survey.rejects} records that were rejected" if survey.rejects else ""
                raise CorpusError(names, None, f"the corpus holds no documents{rejected}")
            self._pass_on_remarks()
            self._survey = survey
        return self._survey

    def __iter__(self) -> Iterator[Document | Reject]:
        """All documents in order; where bad records are skipped, with a `Reject` for each.

        Raises:
            CorpusError: a bad record, unless they are skipped.
        """
        self.survey()
        return self._read()

    def _pass_on_remarks(self) -> None:
        """Logs warnings about annotations that were not read, and the other remarks of readers."""
        unread = [printable(f"{key[:_LONGEST_KEY]} ({where})") for key, where in self._options.unread.items()]
        if unread:
            keys = ", ".join(ANNOTATION_KEYS)
            _LOG.warning(
                "not read, although it looks like annotations: %s; mentions are read from the first of %s that holds "
                "any",
                ", ".join(unread),
                keys,
            )
        for remark, where in self._options.remarks.items():
            _LOG.warning("%s (first at %s)", remark, printable(where))

    def _pass(self, progress: Callable[[int], None], census: IdCensus) -> Survey:
        documents = rejects = characters = spans = annotated = annotated_characters = 0
        content, sample = ContentHash(), _Sample()
        for item in self._read():
            if isinstance(item, Reject):
                rejects += 1
                continue
            documents += 1
            characters += len(item.text)
            if item.spans:
                spans += len(item.spans)
                annotated += 1
                annotated_characters += len(item.text)
            content.add(item)
            census.add(item.id)
            sample.offer(item)
            if documents % _REPORT_EVERY == 0:
                progress(documents)
        return Survey(
            documents=documents,
            rejects=rejects,
            characters=characters,
            annotated_characters=annotated_characters,
            spans=spans,
            annotated=annotated,
            sha256=content.hexdigest(),
            sample=tuple(sample.documents),
        )

    @property
    def _names(self) -> list[str]:
        return [file.name for file in self.files] if self._dataset is None else [self._dataset.name]

    def _parts(self) -> Iterator[Iterator[Item]]:
        """The records of each file, or of the dataset."""
        if self._dataset is not None:
            yield self._dataset.read(self._options)
        for file in self.files:
            yield FORMATS[file.format].read(file, self._options)

    def _read(self) -> Iterator[Document | Reject]:
        finder = DuplicateFinder(self._repeated)
        for name, items in zip(self._names, self._parts(), strict=True):
            try:
                for line, item in items:
                    if isinstance(item, Document):
                        reason = finder.reason(item.id, f"{name}:{line}")
                        if reason is None:
                            yield item
                            continue
                        item = Reject(name, line, reason, item.text[:2000])
                    if self._on_error == "fail":
                        raise CorpusError(item.source, item.line, item.reason)
                    yield item
            except CorpusError as error:
                if self._on_error == "fail":
                    raise
                yield Reject(error.source, error.line, error.reason)


class _Sample:
    """A sample of every n-th document; n doubles whenever the sample grows too large."""

    def __init__(self) -> None:
        self.documents: list[Document] = []
        self._characters = 0
        self._step = 1
        self._seen = 0

    def offer(self, document: Document) -> None:
        if self._seen % self._step == 0:
            self.documents.append(document)
            self._characters += len(document.text)
            while len(self.documents) > _SAMPLE_DOCUMENTS or (
                self._characters > _SAMPLE_CHARACTERS and len(self.documents) > 1
            ):
                self.documents = self.documents[::2]
                self._characters = sum(len(kept.text) for kept in self.documents)
                self._step *= 2
        self._seen += 1


def _spool_standard_input() -> IO[bytes]:
    """Copies standard input to an unnamed file, which the system removes when this process ends."""
    if sys.stdin is None:  # a service or a windowed program may have none
        raise CorpusError(STANDARD_INPUT, None, "there is no standard input; name a file")
    unnamed = Path(_DESCRIPTORS).is_dir()
    make = tempfile.TemporaryFile if unnamed else tempfile.NamedTemporaryFile
    spool: IO[bytes] = make(prefix="nuner-embed-stdin-")
    try:
        shutil.copyfileobj(sys.stdin.buffer, spool)
        spool.flush()
    except BaseException as error:
        with contextlib.suppress(OSError):  # flushing the rest of the buffer may fail too
            spool.close()
        if isinstance(error, OSError):
            place = tempfile.gettempdir()
            reason = f"cannot be spooled to {place}: {error.strerror or error}; TMPDIR names another place"
            raise CorpusError(STANDARD_INPUT, None, reason) from None
        raise
    return spool


def read_annotated(
    paths: "Paths | Dataset", format: str | None = None, **reading: Any
) -> tuple[tuple[Document, ...], str]:
    """Reads a corpus with spans or BIO tags; returns its documents and the hash of their contents.

    In a `.txt` file mentions are marked by double brackets, with a label after a bar: "A ferry to [[Oslo|city]]".

    Args:
        paths: files, directories, or "-"; or a `datasets.Dataset`.
        format: see `Corpus`.
        reading: further options of `Corpus`, such as `tag_names`.

    Raises:
        CorpusError: the corpus cannot be read, or holds no annotated mention.
    """
    with Corpus(paths, format=format, marked=True, **reading) as corpus:
        survey = corpus.survey()
        if not survey.spans:
            plain = any(file.format in _PLAIN for file in corpus.files)
            hint = (
                " (a .txt is read as a text a line, with mentions marked as in 'A ferry to [[Oslo|city]]'; "
                "--format conll reads it as words and tags)"
                if plain
                else ""
            )
            name = ", ".join(corpus._names) if not corpus.files else ", ".join(map(str, as_paths(paths)))
            raise CorpusError(name, None, f"holds no annotated mention; spans or BIO tags are needed here{hint}")
        return tuple(item for item in corpus if isinstance(item, Document)), survey.sha256
