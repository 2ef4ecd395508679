"""What became of an LLM's replies: counts, drops by reason, concepts from frequent to rare, and a page for reviewers.

On the page a person judges a sample of the annotations, as section 3.1 of the paper does with 100 of them.
"""

import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nuner_embed.annotation.alignment import Alignment
from nuner_embed.annotation.sidecars import FIGURE_SOFTWARE, REVIEW_BEGINNING
from nuner_embed.documents import Document, Span
from nuner_embed.files import atomic_write, hash_of
from nuner_embed.pages import render

_SHOWN = 20
# Why a sentence is left out.
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
        replies: read.
        sentences: kept.
        mentions: spans in them, a concept each.
        lines: annotations that the LLM gave in the kept sentences, before alignment.
        folded: of these, found in the text only without regard to case, quotes, blanks and the like.
        concepts: how often each was given, by span.
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
        """Concepts that were given a single time."""
        return sum(count == 1 for count in self.concepts.values())

    def rarest(self, number: int = _SHOWN, seed: int = 0) -> list[str]:
        """Some of the concepts that are given least often, drawn evenly."""
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
    """How often each concept was given, from the most to the least common, as in the paper's Figure 4; PNG.

    Raises:
        ImportError: matplotlib, of the extra `plots`, is not installed.
    """
    from matplotlib.figure import Figure  # and not pyplot, which has a backend and figures for the whole process

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
    """Writes the page, self-contained: each annotation in its text, a verdict for each, the share so far."""
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
