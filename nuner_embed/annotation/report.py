"""What became of an LLM's replies: the counts, and the files beside the annotated corpus that hold them.

These files are a report, a figure, and a page on which a person judges a sample of the annotations, as section 3.1 of
the paper does with 100 of them. Each is written only where nothing lies, or an earlier file of nuner-embed.
"""

import io
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nuner_embed import metadata
from nuner_embed.annotation.alignment import Alignment
from nuner_embed.documents import Document, Span
from nuner_embed.errors import AnnotationError
from nuner_embed.files import atomic_write, hash_of, read_bytes
from nuner_embed.limits import JSON_FILE_BYTES
from nuner_embed.metadata import Count
from nuner_embed.pages import render

REPLIES_SUFFIX = ".replies.jsonl"
REPORT_SUFFIX = ".report.json"
FIGURE_SUFFIX = ".frequencies.png"
REVIEW_SUFFIX = ".review.html"
# By these, a review page and a figure of this program are recognised.
REVIEW_BEGINNING = '<!doctype html><html lang="en"><meta charset="utf-8"><title>review of '
FIGURE_SOFTWARE = "nuner-embed"
_HEAD_BYTES = 4096
_PNG = b"\x89PNG\r\n\x1a\n"
# The size in pixels of a figure of earlier versions, which did not sign it.
_OLD_FIGURE_SIZE = (768).to_bytes(4, "big") + (504).to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class _Report:
    """The fields that every report has; see `AnnotationReport.to_dict`."""

    replies: Count
    sentences: Count
    annotations: Count
    annotations_before_alignment: Count
    unique_concepts: Count
    concepts_seen_once: Count
    dropped_sentences: dict[str, Count]
    dropped_annotations: dict[str, Count]


def beside(output: Path, suffix: str) -> Path:
    """The path of a file beside an annotated corpus: corpus.png for corpus.jsonl.gz and .png."""
    name = output.name.removesuffix(".gz").removesuffix(".jsonl")
    return output.with_name(f"{name}{suffix}")


def require_own_sidecars(output: Path, *, review: bool = False) -> None:
    """Checks that the files beside an output would overwrite only earlier files of nuner-embed.

    Args:
        output: the annotated corpus.
        review: a review page will be written too.

    Raises:
        AnnotationError: a file there is not of nuner-embed; nothing was changed.
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
                f"{path} was not written by annotate, but a file of this name belongs to {output.name}; move the file "
                "away or name another output"
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

_SHOWN = 20
# Reasons for leaving out a sentence.
UNINFORMATIVE = 'sentence with the concept "concept"'
REFUSED = "refusal"
EMPTY = "reply without an annotation"
UNFINISHED = "reply that ends within its reasoning"
NONE_FOUND = "sentence with none of its annotations in the text"
UNREADABLE = "reply that cannot be read"


@dataclass
class AnnotationReport:
    """The counts of one conversion.

    Attributes:
        replies: replies that were read.
        sentences: sentences that were kept.
        mentions: spans in the kept sentences, each with a concept.
        lines: annotations of the LLM for the kept sentences, before alignment.
        folded: annotations that were found in the text only in folded form.
        concepts: number of spans of each concept.
        dropped_sentences: by reason.
        dropped_annotations: lines and annotations of kept sentences, by reason.
    """

    replies: int = 0
    sentences: int = 0
    mentions: int = 0
    lines: int = 0
    folded: int = 0
    concepts: Counter[str] = field(default_factory=Counter)
    dropped_sentences: Counter[str] = field(default_factory=Counter)
    dropped_annotations: Counter[str] = field(default_factory=Counter)

    def keep(self, lines: int, alignment: Alignment, drops: Counter[str]) -> None:
        """Counts a sentence that is kept."""
        self.sentences += 1
        self.lines += lines
        self.folded += alignment.folded
        self.mentions += len(alignment.spans)
        self.concepts.update(span.label for span in alignment.spans if span.label)
        self.dropped_annotations.update(drops)
        self.dropped_annotations.update(alignment.drops)

    @property
    def once(self) -> int:
        """Number of concepts that occur once."""
        return sum(count == 1 for count in self.concepts.values())

    def rarest(self, number: int = _SHOWN, seed: int = 0) -> list[str]:
        """Some of the least frequent concepts, drawn at random."""
        if not self.concepts:
            return []
        least = min(self.concepts.values())
        names = sorted(name for name, count in self.concepts.items() if count == least)
        drawn = np.random.default_rng(seed).choice(len(names), min(number, len(names)), replace=False)
        return [names[i] for i in sorted(drawn)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "replies": self.replies,
            "sentences": self.sentences,
            "annotations": self.mentions,
            "annotations_before_alignment": self.lines,
            "found_by_folding": self.folded,
            "unique_concepts": len(self.concepts),
            "concepts_seen_once": self.once,
            "dropped_sentences": dict(self.dropped_sentences.most_common()),
            "dropped_annotations": dict(self.dropped_annotations.most_common()),
            "most_frequent": dict(self.concepts.most_common(_SHOWN)),
            "some_of_the_rarest": self.rarest(),
        }


def frequency_figure(concepts: Counter[str]) -> bytes:
    """A PNG of the frequencies of concepts by rank, as in the paper's Figure 4.

    Raises:
        ImportError: matplotlib, of the extra `plots`, is not installed.
    """
    from matplotlib.figure import Figure  # not pyplot, whose backend and figures are global

    counts = np.sort(np.array(list(concepts.values()), np.int64))[::-1]
    drawn = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = drawn.subplots()
    axes.plot(np.arange(1, len(counts) + 1), counts, linewidth=1.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("concept, by rank")
    axes.set_ylabel("annotations")
    axes.set_title(f"{len(counts):,} concepts, {counts.sum():,} annotations", fontsize=10)
    axes.grid(alpha=0.25)
    content = io.BytesIO()
    drawn.savefig(content, format="png", dpi=120, metadata={"Software": FIGURE_SOFTWARE})
    return content.getvalue()


def sample_mentions(documents: Iterable[Document], size: int, seed: int = 0) -> list[tuple[Document, Span]]:
    """A random sample of annotations, drawn in one pass, in the order of the corpus."""
    random = np.random.default_rng(seed)
    drawn: list[tuple[int, Document, Span]] = []
    number = 0
    for document in documents:
        for span in document.spans:
            if len(drawn) < size:
                drawn.append((number, document, span))
            elif (place := int(random.integers(number + 1))) < size:
                drawn[place] = (number, document, span)
            number += 1
    return [(document, span) for _, document, span in sorted(drawn, key=lambda one: one[0])]


def write_review(path: Path, sample: list[tuple[Document, Span]], source: str) -> None:
    """Writes a self-contained page with each annotation in its text, a verdict for each, and the share so far."""
    from markupsafe import Markup

    page = render(
        "review.html",
        beginning=Markup(REVIEW_BEGINNING),  # noqa: S704 - a constant
        source=source,
        identity=hash_of([(d.id, s.start, s.end, s.label) for d, s in sample])[:12],
        mentions=[
            {
                "document": document,
                "span": span,
                "before": document.text[: span.start],
                "mention": document.text[span.start : span.end],
                "after": document.text[span.end :],
            }
            for document, span in sample
        ],
    )
    with atomic_write(path, follow=False) as stream:
        stream.write(page.encode())
