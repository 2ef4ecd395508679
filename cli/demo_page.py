"""The demo's report, one page that needs nothing else, and the map of the mentions on the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nuner_embed.cli.demo_samples import DRAWS, SEARCHES, TYPES, Learnt
from nuner_embed.documents import Document
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.text import unit
from nuner_embed.files import atomic_write
from nuner_embed.pages import render
from nuner_embed.printable import readable
from nuner_embed.store.reader import Store

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
# an eight-colour palette that people with colour blindness tell apart (Okabe and Ito)
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
_GREY = "#c9ccd1"
_WIDTH, _HEIGHT, _MARGIN, _KEY = 960, 640, 24, 34
CONCEPTS = ("person", "city", "bird", "dish", "disease", "musical instrument", "company", "date")
_NAMED = 5  # mentions of each type whose text stands on the map
# Below, a mention stays grey, so that the map of the sample corpus is legible. What a probability means was measured
# when the model was calibrated; nothing that was measured speaks for this number rather than for another.
PROBABLE = 0.2


@dataclass(frozen=True, slots=True)
class MentionMap:
    """Mentions in a plane, with a type each, or none.

    Attributes:
        texts, documents: of each mention, (n,).
        places: in the plane, as t-SNE has it, (n, 2).
        types: number of its most probable one among `CONCEPTS`; -1 where none is probable, (n,).
        probabilities: of that type, (n,).
    """

    texts: list[str]
    documents: list[str]
    places: NDArray[np.float64]
    types: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @classmethod
    def of(cls, store: Store, concepts: ConceptEncoder) -> "MentionMap":
        """Lays out the rows of a store, and asks the concept encoder what they are."""
        from sklearn.manifold import TSNE

        vectors = unit(store.vectors(np.arange(len(store))).astype(np.float32))
        near = min(30.0, len(vectors) / 4)
        plane = TSNE(metric="cosine", init="pca", perplexity=near, max_iter=500, random_state=0)
        probabilities = concepts.probabilities(vectors @ concepts.encode(CONCEPTS).T)
        best = probabilities.max(axis=1)
        types = np.where(best >= PROBABLE, probabilities.argmax(axis=1), -1)
        table = store.table(["text", "document_id"])
        return cls(
            table["text"].to_pylist(), table["document_id"].to_pylist(), plane.fit_transform(vectors), types, best
        )

    def lines(self) -> Iterator[str]:
        """How many of each type, and the most probable ones, for the terminal."""
        for number, name in enumerate(CONCEPTS):
            best = ", ".join(self.texts[i] for i in self._best(number, 6))
            yield f"  {name} ({np.count_nonzero(self.types == number)}): {best}"

    def _best(self, number: int, most: int) -> list[int]:
        """The most probable mentions of a type, each text once."""
        order = np.argsort(np.where(self.types == number, -self.probabilities, 1), kind="stable")
        first: dict[str, int] = {}
        for i in order[: np.count_nonzero(self.types == number)].tolist():
            first.setdefault(self.texts[i], i)
        return list(first.values())[:most]

    def svg(self) -> "Markup":
        """The map as an SVG that stands for itself."""
        low, high = self.places.min(axis=0), self.places.max(axis=0)
        room = [_WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN]
        places = (self.places - low) / np.maximum(high - low, 1e-9) * room + [_MARGIN, _MARGIN + _KEY]
        return render(
            "map.svg",
            TEMPLATES,
            width=_WIDTH,
            height=_HEIGHT + _KEY,
            key=_key(),
            dots=[self._dot(i, *places[i]) for i in np.argsort(self.types >= 0, kind="stable")],
            names=list(self._names(places)),
        )

    def _dot(self, i: int, x: float, y: float) -> dict[str, Any]:
        known = self.types[i] >= 0
        about = f"{self.texts[i]} - {CONCEPTS[self.types[i]] if known else 'of another type'} ({self.documents[i]})"
        colour = _COLOURS[self.types[i]] if known else _GREY
        return {
            "x": f"{x:.1f}", "y": f"{y:.1f}", "r": 4.5 if known else 3, "colour": colour, "about": readable(about),
        }  # fmt: skip

    def _names(self, places: NDArray[np.float64]) -> Iterator[dict[str, str]]:
        """The texts of some mentions of each type, where there is room."""
        taken: list[NDArray[np.float64]] = []
        for number in range(len(CONCEPTS)):
            named = 0
            for i in self._best(number, 40):
                place = places[i]
                if named < _NAMED and not any((np.abs(place - other) < (90, 14)).all() for other in taken):
                    taken.append(place)
                    named += 1
                    yield _name(self.texts[i], *place)


def _name(text: str, x: float, y: float) -> dict[str, str]:
    left = x > _WIDTH - 120  # of its dot, where the map ends
    return {
        "x": f"{x + (-7 if left else 7):.1f}",
        "y": f"{y + 4:.1f}",
        "anchor": "end" if left else "start",
        "text": readable(text),
    }


def _key() -> list[dict[str, Any]]:
    parts, x = [], float(_MARGIN)
    for name, colour in [*zip(CONCEPTS, _COLOURS, strict=True), ("another", _GREY)]:
        parts.append({"x": f"{x:.0f}", "text_x": f"{x + 10:.0f}", "y": _KEY, "colour": colour, "name": name})
        x += 45 + 7.5 * len(name)
    return parts


def write_page(
    path: Path,
    store: Store,
    seen: MentionMap,
    detected: Sequence[Document],
    found: Sequence[list[dict[str, Any]]],
    learnt: Sequence[Learnt],
) -> Path:
    """Writes the page and returns its path.

    Args:
        path: of the page.
        store: the mentions that were detected.
        seen: their map.
        detected: some texts with their mentions.
        found: the hits of each of `SEARCHES`.
        learnt: from names alone, and from more and more examples beside them.
    """
    page = render(
        "demo.html",
        TEMPLATES,
        mentions=f"{len(store):,}",
        probable=f"{PROBABLE:.0%}",
        map=seen.svg(),
        detected=[_parts(document) for document in detected],
        searches=[(search.command, [_hit(hit) for hit in hits]) for search, hits in zip(SEARCHES, found, strict=True)],
        types=TYPES,
        unseen=learnt[0].scores[0].documents,
        draws=DRAWS,
        learnt=[
            {
                "title": one.title,
                "command": one.command,
                "figures": [f"{value:.1%}" for value in one.figures()],
                "shown": [_parts(document) for document in one.shown],
            }
            for one in learnt
        ],
        store=store.path.name,
        semantic_hash=store.semantic_hash[:12],
    )
    with atomic_write(path, follow=False) as stream:
        stream.write(page.encode())
    return path


def _parts(document: Document) -> list[dict[str, str]]:
    """A text cut at its mentions: what stands before each, the mention, its label; the rest of the text comes last."""
    parts, done = [], 0
    for span in document.spans:
        mention = document.text[span.start : span.end]
        parts.append({"before": document.text[done : span.start], "mention": mention, "label": span.label or ""})
        done = span.end
    return [*parts, {"before": document.text[done:], "mention": "", "label": ""}]


def _hit(hit: dict[str, Any]) -> dict[str, str]:
    start, end, context = hit["start"] - hit["context_start"], hit["end"] - hit["context_start"], hit["context"]
    return {
        "score": f"{hit['score']:.3f}",
        "before": ("…" if hit["context_start"] else "") + context[:start],
        "mention": context[start:end],
        "after": context[end:],
        "document_id": hit["document_id"],
    }
