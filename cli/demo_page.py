"""The demo's report: one page that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nuner_embed.cli.demo_map import PROBABLE, TEMPLATES, MentionMap
from nuner_embed.cli.sample_probe import SHOTS, Probed
from nuner_embed.cli.sample_searches import SEARCHES
from nuner_embed.documents import Document
from nuner_embed.files import atomic_write
from nuner_embed.pages import render
from nuner_embed.store.reader import Store


def write_page(
    path: Path,
    store: Store,
    seen: MentionMap,
    detected: Sequence[Document],
    found: Sequence[list[dict[str, Any]]],
    probes: tuple[Probed, Probed],
) -> Path:
    """Writes the page and returns its path.

    Args:
        path: of the page.
        store: the mentions that were detected.
        seen: their map.
        detected: some texts with their mentions.
        found: the hits of each of `SEARCHES`.
        probes: from a few examples, and from names alone.
    """
    few, none = probes
    page = render(
        "demo.html",
        TEMPLATES,
        mentions=f"{len(store):,}",
        probable=f"{PROBABLE:.0%}",
        map=seen.svg(),
        detected=[_parts(document) for document in detected],
        searches=[(search.command, [_hit(hit) for hit in hits]) for search, hits in zip(SEARCHES, found, strict=True)],
        examples=sum(few.tagger.head.facts.training.mentions.values()),
        types=few.tagger.types,
        shots=SHOTS,
        few={"figures": str(few), "shown": [_parts(document) for document in few.shown]},
        zero={"figures": str(none), "shown": [_parts(document) for document in none.shown]},
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
