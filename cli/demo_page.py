"""The demo's report: one page that needs nothing else."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nuner_embed.cli.demo_map import PROBABLE, MentionMap
from nuner_embed.cli.sample_probe import SHOTS, Probed
from nuner_embed.cli.sample_searches import SEARCHES, Search
from nuner_embed.documents import Document
from nuner_embed.files import atomic_write
from nuner_embed.store.reader import Store

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#1c2330}
svg{display:block;box-sizing:border-box;width:100%;min-width:720px;height:auto;border:1px solid #e3e6ea;
border-radius:6px}
circle:hover{stroke:#000;stroke-width:1.5}table{border-collapse:collapse;margin:.5rem 0 1.5rem}
td{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}.id{white-space:nowrap}
.wide{overflow-x:auto}code{overflow-wrap:anywhere}
mark{background:#fde9b4;border-radius:3px;padding:0 .2em}
code{background:#f2f4f7;padding:.15rem .4rem;border-radius:4px}.dim{color:#667}
"""


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
    types = html.escape(", ".join(few.tagger.types))
    body = f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>nuner-embed demo</title>
<style>{_STYLE}</style><h1>{len(store):,} mentions, found in plain text</h1>
<p>nuner-mini read the sample corpus (self-written toy data) once: its detector found the mentions, and each dot is the
embedding of one, laid out by t-SNE. Colours are asked for by name, without an example: each mention has the colour of
the type that its embedding is nearest to, and is grey where no type is at least {PROBABLE:.0%} probable. Point at a dot
to read it.</p>
<div class="wide">{seen.svg()}</div>
<h2>What was found</h2>{"".join(_tagged(document) for document in detected)}
<h2>Searches</h2>
<p>By a mention in its context, by examples, and by the name of a type (scores are then probabilities).</p>
{"".join(_search(search, hits) for search, hits in zip(SEARCHES, found, strict=True))}
<h2>A few-shot probe</h2>
<p>A linear layer on the frozen encoder, from {sum(few.tagger.head.facts.training.mentions.values())} mentions of
{types}, {SHOTS} to {2 * SHOTS} of each: {few}.</p>
{"".join(_tagged(document) for document in few.shown)}
<h2>A zero-shot probe</h2>
<p>The same layer made of the names of the types, without an example: {none}.</p>
{"".join(_tagged(document) for document in none.shown)}
<p class="dim">Made by <code>nuner-embed demo</code> from {html.escape(store.path.name)},
semantic hash {store.semantic_hash[:12]}.</p></html>
"""
    with atomic_write(path, follow=False) as stream:
        stream.write(body.encode())
    return path


def _search(search: Search, hits: list[dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{hit['score']:.3f}</td><td>{_marked(hit)}</td>"
        f'<td class="dim id">{html.escape(hit["document_id"])}</td></tr>'
        for hit in hits
    )
    return f"<p><code>{html.escape(search.command)}</code></p><div class='wide'><table>{rows}</table></div>"


def _tagged(document: Document) -> str:
    parts, done = [], 0
    for span in document.spans:
        parts.append(html.escape(document.text[done : span.start]))
        mention, label = html.escape(document.text[span.start : span.end]), html.escape(span.label or "")
        parts.append(f"<mark>{mention}</mark>" + f" <small class='dim'>{label}</small>" * bool(label))
        done = span.end
    return f"<p>{''.join(parts)}{html.escape(document.text[done:])}</p>"


def _marked(hit: dict[str, Any]) -> str:
    start, end = hit["start"] - hit["context_start"], hit["end"] - hit["context_start"]
    before, mention, after = (
        html.escape(hit["context"][part]) for part in (slice(start), slice(start, end), slice(end, None))
    )
    cut = "…" if hit["context_start"] else ""
    return f"{cut}{before}<mark>{mention}</mark>{after}"
