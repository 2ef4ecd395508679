"""Replies in, an annotated corpus out."""

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from nuner_embed.annotation.alignment import Occurrences, align, is_uninformative
from nuner_embed.annotation.parser import Parsed, parse_reply
from nuner_embed.annotation.replies import Reply, read_replies
from nuner_embed.annotation.report import (
    EMPTY,
    NONE_FOUND,
    REFUSED,
    UNFINISHED,
    UNINFORMATIVE,
    UNREADABLE,
    AnnotationReport,
)
from nuner_embed.annotation.sidecars import REPLIES_SUFFIX
from nuner_embed.arguments import Paths, StrPath, as_paths
from nuner_embed.documents import Document
from nuner_embed.errors import AnnotationError
from nuner_embed.files import atomic_write


def annotated(
    replies: Iterable[Reply], report: AnnotationReport, *, occurrences: Occurrences = "all"
) -> Iterator[Document]:
    """The sentences that are kept, with concepts as labels of their spans, counting into the report.

    A sentence is left out if its reply cannot be read, ends within its reasoning, holds no annotation or is a refusal,
    or has the concept "concept" (section 3.1 of the paper); and if none of its annotations stands in it: whoever
    learns from it would learn that it holds no mention.
    """
    for reply in replies:
        report.replies += 1
        if reply.reply is None:
            report.dropped_sentences[UNREADABLE] += 1
            continue
        parsed = parse_reply(reply.reply, cut=reply.cut)
        if not parsed.entries:
            report.dropped_sentences[_why_empty(reply, parsed)] += 1
        elif is_uninformative(parsed.entries):
            report.dropped_sentences[UNINFORMATIVE] += 1
        else:
            alignment = align(reply.text, parsed.entries, occurrences)
            if not alignment.spans:
                report.dropped_sentences[NONE_FOUND] += 1
                continue
            report.keep(len(parsed.entries), alignment, parsed.drops)
            yield Document(reply.id, reply.text, spans=alignment.spans)


def _why_empty(reply: Reply, parsed: Parsed) -> str:
    if parsed.unfinished:
        return UNFINISHED
    return REFUSED if parsed.refused or reply.refused else EMPTY


def write_annotated(path: Path, documents: Iterable[Document]) -> None:
    """Writes JSONL, `{"id", "text", "spans"}` a line, atomically; gzip where the name ends in `.gz`."""
    with atomic_write(path) as stream:
        if path.suffix.lower() == ".gz":
            with gzip.GzipFile(fileobj=stream, mode="wb", filename="", mtime=0) as packed:
                _write(packed, documents)
        else:
            _write(stream, documents)


def require_other_files(written: Sequence[Path], read: Sequence[Path]) -> None:
    """Checks that no file is both read and written.

    Raises:
        AnnotationError: an output, the first of what is written, is by its name a file of kept replies, or something
            that is written is also read.
    """
    if written[0].name.removesuffix(".gz").endswith(REPLIES_SUFFIX):
        raise AnnotationError(f"{written[0]}: files of this name hold kept replies; name another output")
    for output in written:
        if output.exists() and any(path.exists() and output.samefile(path) for path in read):
            raise AnnotationError(f"{output} is a file that is read; name another output")


def convert_replies(paths: Paths, output: StrPath, *, occurrences: Occurrences = "all") -> AnnotationReport:
    """Makes an annotated corpus of replies that are there already; see `read_replies` for the files.

    Args:
        paths: of the replies.
        output: a `.jsonl` or `.jsonl.gz` file.
        occurrences: which matches of an entity in its text are annotated.

    Raises:
        CorpusError: a file that cannot be read, or holds no replies.
        AnnotationError: the output is one of the files.
    """
    output = Path(output)
    require_other_files([output], [Path(path) for path in as_paths(paths)])
    report = AnnotationReport()
    write_annotated(output, annotated(read_replies(paths), report, occurrences=occurrences))
    return report


def _write(stream: IO[bytes] | gzip.GzipFile, documents: Iterable[Document]) -> None:
    ids: Counter[str] = Counter()
    for document in documents:
        ids[document.id] += 1
        again = ids[document.id]  # records of several files may share an id, and a corpus may not
        record = {
            "id": document.id if again == 1 else f"{document.id}#{again}",
            "text": document.text,
            "spans": [{"start": span.start, "end": span.end, "label": span.label} for span in document.spans],
        }
        stream.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
