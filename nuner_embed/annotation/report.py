"""What became of an LLM's replies: counts, drops by reason, concepts from frequent to rare, and a page for reviewers.

On the page a person judges a sample of the annotations, as section 3.1 of the paper does with 100 of them.
"""

import html
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


_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:900px;margin:2rem auto;padding:0 1rem;color:#1c2330}
article{border:1px solid #e3e6ea;border-radius:6px;padding:.6rem 1rem;margin:.8rem 0}
article.now{outline:3px solid #56B4E9}article.yes{background:#eefaf3}article.no{background:#fdf0ec}
mark{background:#ffe9a8;padding:0 .15em}button{font:inherit;margin-right:.5rem;cursor:pointer}
#bar{position:sticky;top:0;background:#fff;padding:.6rem 0;border-bottom:1px solid #e3e6ea}.dim{color:#667}
"""
# Judgements stay in the page and in the browser's own storage; nothing is sent anywhere. The interval is Wilson's.
_SCRIPT = """
const all=[...document.querySelectorAll('article')],key='review-'+document.body.dataset.sample;
let verdicts={},now=0;try{verdicts=JSON.parse(localStorage.getItem(key))||{}}catch(e){}
function show(){let yes=0,no=0;all.forEach((a,i)=>{const v=verdicts[i];a.className=(v||'')+(i===now?' now':'');
if(v==='yes')yes++;if(v==='no')no++});const n=yes+no,p=n?yes/n:0,z=1.96;
const mid=(p+z*z/(2*n))/(1+z*z/n),half=z*Math.sqrt(p*(1-p)/n+z*z/(4*n*n))/(1+z*z/n);
document.getElementById('sum').textContent=n?`${n} of ${all.length} judged: ${(100*p).toFixed(0)}% sensible `+
`(95% interval ${(100*(mid-half)).toFixed(0)} to ${(100*Math.min(1,mid+half)).toFixed(0)}%)`:'nothing judged yet'}
function judge(i,v){verdicts[i]=v;try{localStorage.setItem(key,JSON.stringify(verdicts))}catch(e){}
now=Math.min(i+1,all.length-1);show();all[now].scrollIntoView({block:'center'})}
all.forEach((a,i)=>{a.querySelector('.y').onclick=()=>judge(i,'yes');a.querySelector('.n').onclick=()=>judge(i,'no')});
document.onkeydown=e=>{if(e.ctrlKey||e.metaKey||e.altKey)return;if(e.key==='y')judge(now,'yes');
if(e.key==='n')judge(now,'no');if(e.key==='ArrowDown'||e.key==='ArrowUp'){
now=Math.max(0,Math.min(all.length-1,now+(e.key==='ArrowDown'?1:-1)));show();e.preventDefault();
all[now].scrollIntoView({block:'center'})}};
document.getElementById('save').onclick=()=>{const quote=t=>'"'+t.replaceAll('"','""')+'"';
const rows=[['document','start','end','mention','concept','verdict']];
all.forEach((a,i)=>rows.push([a.dataset.id,a.dataset.start,a.dataset.end,a.querySelector('mark').textContent,
a.querySelector('.concept').textContent,verdicts[i]||'']));
const link=document.createElement('a');link.download='review.csv';
link.href=URL.createObjectURL(new Blob([rows.map(r=>r.map(quote).join(',')).join('\\n')+'\\n'],{type:'text/csv'}));
link.click()};show();
"""


def sample_mentions(documents: Iterable[Document], size: int, seed: int = 0) -> list[tuple[Document, Span]]:
    """So many annotations, each as likely as any other, in one pass and in the order of the corpus."""
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
    identity = hash_of([(d.id, s.start, s.end, s.label) for d, s in sample])[:12]
    page = f"""{REVIEW_BEGINNING}{html.escape(source)}</title>
<style>{_STYLE}</style><body data-sample="{identity}"><h1>{len(sample)} annotations of {html.escape(source)}</h1>
<p>Is the marked text what its concept says, in this sentence? The paper found more than 95 of 100 sensible for its own
data (section 3.1). Keys: <b>y</b> sensible, <b>n</b> questionable, arrows to move.</p>
<div id="bar"><span id="sum"></span> <button id="save">save as CSV</button></div>
{"".join(_article(*one) for one in sample)}
<script>{_SCRIPT}</script></body></html>
"""
    with atomic_write(path, follow=False) as stream:
        stream.write(page.encode())


def _article(document: Document, span: Span) -> str:
    before, mention, after = (
        html.escape(document.text[part])
        for part in (slice(span.start), slice(span.start, span.end), slice(span.end, None))
    )
    return (
        f'<article data-id="{html.escape(document.id)}" data-start="{span.start}" data-end="{span.end}">'
        f'<p>{before}<mark>{mention}</mark>{after}</p><p><b class="concept">{html.escape(span.label or "")}</b> '
        f'<span class="dim">{html.escape(document.id)}</span></p>'
        '<button class="y">sensible</button><button class="n">questionable</button></article>\n'
    )
