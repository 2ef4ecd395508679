"""The files that annotating writes beside its output, and whether one that is there is ours to be replaced."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nuner_embed import metadata
from nuner_embed.errors import AnnotationError
from nuner_embed.files import read_bytes
from nuner_embed.limits import JSON_FILE_BYTES
from nuner_embed.metadata import Count

REPLIES_SUFFIX = ".replies.jsonl"
REPORT_SUFFIX = ".report.json"
FIGURE_SUFFIX = ".frequencies.png"
REVIEW_SUFFIX = ".review.html"
# What the page of a review begins with, and what tells our figure from another.
REVIEW_BEGINNING = '<!doctype html><html lang="en"><meta charset="utf-8"><title>review of '
FIGURE_SOFTWARE = "nuner-embed"
_HEAD_BYTES = 4096
_PNG = b"\x89PNG\r\n\x1a\n"
# The figure of versions that did not sign it: drawn by matplotlib, 768 by 504 pixels.
_OLD_FIGURE_SIZE = (768).to_bytes(4, "big") + (504).to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class _Report:
    """What every report holds; see `AnnotationReport.to_dict`."""

    replies: Count
    sentences: Count
    annotations: Count
    annotations_before_alignment: Count
    unique_concepts: Count
    concepts_seen_once: Count
    dropped_sentences: dict[str, Count]
    dropped_annotations: dict[str, Count]


def beside(output: Path, suffix: str) -> Path:
    """A file that belongs to an annotated corpus: corpus.jsonl.gz and .png make corpus.png."""
    name = output.name.removesuffix(".gz").removesuffix(".jsonl")
    return output.with_name(f"{name}{suffix}")


def require_own_sidecars(output: Path, *, review: bool = False) -> None:
    """Checks that the files beside an output would overwrite nothing but earlier files of nuner-embed.

    Args:
        output: the annotated corpus.
        review: the page to judge a sample on is one of them.

    Raises:
        AnnotationError: something lies there that is not ours; nothing was changed.
    """
    for suffix, is_ours in _IS_OURS.items():
        path = beside(output, suffix)
        if suffix == REVIEW_SUFFIX and not review:
            continue
        try:
            facts = path.lstat()
        except OSError:  # nothing is there
            continue
        if not stat.S_ISREG(facts.st_mode) or (facts.st_size and not is_ours(path)):
            raise AnnotationError(
                f"{path} was not written by annotate, which would write a file of this name beside {output.name}; "
                "move that one away or name another output"
            )


def _is_report(path: Path) -> bool:
    try:
        metadata.parse(read_bytes(path, JSON_FILE_BYTES), _Report)
    except (OSError, ValueError):
        return False
    return True


def _is_review(path: Path) -> bool:
    return _head(path).startswith(REVIEW_BEGINNING.encode())


def _is_figure(path: Path) -> bool:
    head = _head(path)
    if not head.startswith(_PNG):
        return False
    signed = b"Software\0" + FIGURE_SOFTWARE.encode() in head
    return signed or (head[16:24] == _OLD_FIGURE_SIZE and b"Software\0Matplotlib" in head)


def _head(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(_HEAD_BYTES)


_IS_OURS: dict[str, Callable[[Path], bool]] = {
    REPORT_SUFFIX: _is_report,
    FIGURE_SUFFIX: _is_figure,
    REVIEW_SUFFIX: _is_review,
}
