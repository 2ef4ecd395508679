"""A page on which a person judges a sample of annotations, as section 3.1 of the paper does with 100 of them."""

import html
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nuner_embed.annotation.sidecars import REVIEW_BEGINNING
from nuner_embed.documents import Document, Span
from nuner_embed.files import atomic_write, hash_of

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
