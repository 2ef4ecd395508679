"""A page to look at: a map of the mentions and their nearest neighbours."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nuner_embed.cli.sample import Look, Mention
from nuner_embed.cli.sample_probe import Probed
from nuner_embed.cli.sample_searches import SEARCHES, Search
from nuner_embed.documents import Document
from nuner_embed.encoding.store import Store
from nuner_embed.files import atomic_write

# an eight-colour palette that people with colour blindness tell apart (Okabe and Ito)
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
_GREY = "#c9ccd1"
_WIDTH, _HEIGHT, _MARGIN = 960, 620, 20
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#1c2330}
svg{width:100%;height:auto;background:#fafbfc;border:1px solid #e3e6ea;border-radius:6px}
circle:hover{stroke:#000;stroke-width:1.5}table{border-collapse:collapse;margin:.5rem 0 1.5rem}
td,th{padding:.2rem .8rem .2rem 0;text-align:left}.key span{display:inline-block;margin-right:1rem}
.dot{width:.7em;height:.7em;border-radius:50%;margin-right:.35em!important}.dim{color:#667}
"""


def write_page(path: Path, store: Store, seen: Look, found: Sequence[list[dict[str, Any]]], probed: Probed) -> Path:
    """Writes the page, self-contained, and returns its path; `found` holds the hits of each of `SEARCHES`."""
    label_colours = {label: colour for (label, _), colour in zip(seen.labels, _COLOURS, strict=False)}
    key = "".join(
        f'<span><span class="dot" style="background:{colour}"></span>{html.escape(label)}</span>'
        for label, colour in label_colours.items()
    )
    body = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>nuner-embed demo</title>
<style>{_STYLE}</style><h1>{len(store):,} mentions of the sample corpus</h1>
<p>Each dot is a mention, placed by the two directions in which the embeddings vary most (PCA), coloured by the eight
most frequent labels. Point at a dot to read it. The corpus is self-written toy data, the encoder
<code>minilm-l6</code>, a sentence encoder that was never trained on entities.</p>
<p class="key">{key}<span><span class="dot" style="background:{_GREY}"></span>any other</span></p>
{_map(store, label_colours)}
<h2>Nearest mentions</h2>
<p>By cosine, other documents and other words only. The nearest one carries the same label in
{seen.agreement:.0%} of the cases; by chance it would in {seen.chance:.1%}.</p>
{"".join(_neighbours(example) for example in seen.examples)}
<h2>Searches</h2>
{"".join(_search(search, hits) for search, hits in zip(SEARCHES, found, strict=True))}
<h2>A few-shot probe</h2>
<p>A linear layer on the frozen encoder, from {sum(probed.tagger.facts.training.mentions.values())} mentions of
{html.escape(", ".join(probed.tagger.types))}. On {probed.scores.documents} sentences that it has not seen: token
macro-F1 with None left out {probed.scores.token_macro_f1:.1%}, span micro-F1 {probed.scores.span_micro_f1:.1%}.</p>
{"".join(_tagged(document) for document in probed.shown)}
<p class="dim">Made by <code>nuner-embed demo</code> from {html.escape(store.path.name)},
semantic hash {store.semantic_hash[:12]}.</p></html>
"""
    with atomic_write(path) as stream:
        stream.write(body.encode())
    return path


def _map(store: Store, colours: dict[str, str]) -> str:
    vectors = store.vectors(np.arange(len(store))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    _, _, axes = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    flat = (vectors - vectors.mean(axis=0)) @ axes[:2].T
    low, high = flat.min(axis=0), flat.max(axis=0)
    places = (flat - low) / (high - low) * [_WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN] + _MARGIN
    table = store.table(["text", "label", "document_id"]).to_pylist()
    dots = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{4.5 if row["label"] in colours else 3}" fill-opacity=".8" '
        f'fill="{colours.get(row["label"], _GREY)}">'
        f"<title>{html.escape(row['text'])} - {html.escape(str(row['label']))}"
        f" ({html.escape(row['document_id'])})</title></circle>"
        for (x, y), row in sorted(zip(places, table, strict=True), key=lambda pair: pair[1]["label"] in colours)
    ]
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="map of mentions">{"".join(dots)}</svg>'


def _neighbours(example: list[Mention]) -> str:
    query, *others = example
    rows = "".join(
        f"<tr><td>{other.score:.3f}</td><td>{html.escape(other.text)}</td><td>{html.escape(other.label)}</td>"
        f'<td class="dim">{html.escape(other.document)}</td></tr>'
        for other in others
    )
    return (
        f"<h3>{html.escape(query.text)} <span class='dim'>({html.escape(query.label)}, "
        f"{html.escape(query.document)})</span></h3><table>{rows}</table>"
    )


def _search(search: Search, hits: list[dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{hit['score']:.3f}</td><td>{_marked(hit)}</td><td>{html.escape(hit['label'] or '')}</td>"
        f'<td class="dim">{html.escape(hit["document_id"])}</td></tr>'
        for hit in hits
    )
    return f"<p><code>{html.escape(search.command)}</code></p><table>{rows}</table>"


def _tagged(document: Document) -> str:
    parts, done = [], 0
    for span in document.spans:
        parts.append(html.escape(document.text[done : span.start]))
        mention, label = html.escape(document.text[span.start : span.end]), html.escape(span.label or "")
        parts.append(f"<mark>{mention}</mark> <small class='dim'>{label}</small>")
        done = span.end
    return f"<p>{''.join(parts)}{html.escape(document.text[done:])}</p>"


def _marked(hit: dict[str, Any]) -> str:
    start, end = hit["start"] - hit["context_start"], hit["end"] - hit["context_start"]
    before, mention, after = (
        html.escape(hit["context"][part]) for part in (slice(start), slice(start, end), slice(end, None))
    )
    return f"{before}<mark>{mention}</mark>{after}"
