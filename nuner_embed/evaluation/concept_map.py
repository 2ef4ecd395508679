"""A map of concepts as the paper's Figure 6: by UMAP, coloured by UMAP, as large as they are frequent."""

import html
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuner_embed.documents import Document
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.errors import ModelError

_FEWEST = 10  # below, there is nothing to lay out
_NAMED = 60  # concepts whose names stand in the picture
_SOFTWARE = "nuner-embed concepts map"
_PNG = b"\x89PNG\r\n\x1a\n"
# by which a page of ours is known
_PAGE = b"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>concepts</title>"""
_STYLE = """
html,body{margin:0;height:100%;font:15px/1.4 system-ui,sans-serif;color:#1c2330;overflow:hidden}
#bar{position:fixed;left:0;right:0;top:0;padding:.5rem 1rem;background:#ffffffd8;display:flex;
flex-wrap:wrap;gap:.3rem 1rem}
#bar input{font:inherit;padding:.15rem .5rem;width:min(16rem,100%)}
#tip{position:fixed;pointer-events:none;background:#1c2330;
color:#fff;border-radius:4px;padding:.15rem .5rem;display:none}canvas{display:block;cursor:grab}.dim{color:#667}
"""
# Everything is in the page: nothing is fetched, and names are drawn on a canvas, never parsed as HTML.
_SCRIPT = """
const bar=document.getElementById('bar'),
points=JSON.parse(document.getElementById('points').textContent),canvas=document.querySelector('canvas'),
pen=canvas.getContext('2d'),tip=document.getElementById('tip'),find=document.querySelector('input'),
count=document.getElementById('count');let zoom=1,left=0,top_=0,drag=null,base=1;
function fit(){const ratio=devicePixelRatio||1;canvas.width=innerWidth*ratio;canvas.height=innerHeight*ratio;
canvas.style.width=innerWidth+'px';canvas.style.height=innerHeight+'px';pen.setTransform(ratio,0,0,ratio,0,0);
base=Math.min(innerWidth,innerHeight-60)*.92;show()}
const at=p=>[left+p[0]*base*zoom,top_+p[1]*base*zoom];
function draw(){pen.clearRect(0,0,innerWidth,innerHeight);const wanted=find.value.trim().toLowerCase();let hits=0;
const size=Math.sqrt(zoom),taken=[];
for(const p of points){const[x,y]=at(p),hit=wanted&&p[4].toLowerCase().includes(wanted);hits+=hit?1:0;
pen.globalAlpha=wanted?(hit?1:.12):.8;pen.fillStyle=p[3];pen.beginPath();
pen.arc(x,y,(hit?1.5:1)*p[2]*size,0,7);pen.fill()}
pen.globalAlpha=1;pen.font='12px system-ui,sans-serif';pen.fillStyle='#1c2330';
for(const p of points){if(wanted&&!p[4].toLowerCase().includes(wanted))continue;const[x,y]=at(p);
if(x<0||y<40||x>innerWidth||y>innerHeight)continue;const wide=pen.measureText(p[4]).width;
const from=x+4+wide>innerWidth?x-8-wide:x;
if(taken.some(t=>from<t[0]+t[2]+8&&t[0]<from+wide+8&&Math.abs(y-t[1])<14))continue;taken.push([from,y,wide]);
pen.fillText(p[4],from+4,y+4);if(taken.length>150)break}
count.textContent=wanted?hits+' found':points.length+' concepts'}
function near(e){let best=null,least=144;for(const p of points){const[x,y]=at(p),d=(x-e.clientX)**2+(y-e.clientY)**2;
if(d<least){least=d;best=p}}return best}
canvas.onwheel=e=>{e.preventDefault();const by=Math.exp(-e.deltaY/400),next=Math.max(1,Math.min(60,zoom*by));
left=e.clientX-(e.clientX-left)*next/zoom;top_=e.clientY-(e.clientY-top_)*next/zoom;zoom=next;draw()};
canvas.onpointerdown=e=>{drag=[e.clientX-left,e.clientY-top_];canvas.setPointerCapture(e.pointerId)};
canvas.onpointerup=()=>drag=null;canvas.onpointermove=e=>{if(drag){left=e.clientX-drag[0];top_=e.clientY-drag[1];draw()}
const p=near(e);tip.style.display=p?'block':'none';if(p){tip.textContent=p[4]+' ('+p[5].toLocaleString()+')';
tip.style.left=Math.min(e.clientX+14,innerWidth-tip.offsetWidth-8)+'px';tip.style.top=e.clientY+14+'px'}};
function show(){const wanted=find.value.trim().toLowerCase(),hits=points.filter(p=>p[4].toLowerCase().includes(wanted));
if(hits.length){const low=i=>Math.min(...hits.map(p=>p[i])),high=i=>Math.max(...hits.map(p=>p[i])),
top=bar.offsetHeight,wide=innerWidth-80,tall=innerHeight-top-80;
zoom=wanted?Math.max(1,Math.min(12,wide/base/Math.max(high(0)-low(0),1e-6),tall/base/Math.max(high(1)-low(1),1e-6))):1;
left=innerWidth/2-(low(0)+high(0))/2*base*zoom;top_=(innerHeight+top)/2-(low(1)+high(1))/2*base*zoom}draw()}
find.oninput=show;onresize=fit;fit();
"""


@dataclass(frozen=True, slots=True)
class ConceptMap:
    """Concepts in a plane.

    Attributes:
        names: most frequent first.
        counts: how often each was annotated, (n,).
        places: between 0 and 1, (n, 2).
        colours: red, green and blue of each, between 0 and 1, (n, 3).
        model: whose concept encoder laid them out.
    """

    names: tuple[str, ...] = field(repr=False)
    counts: NDArray[np.int64]
    places: NDArray[np.float64]
    colours: NDArray[np.float64]
    model: str

    @property
    def radii(self) -> NDArray[np.float64]:
        """Sizes of the disks: the logarithm of the frequency, as in the paper."""
        return 1.2 + np.log(self.counts)

    def page(self) -> bytes:
        """One HTML page that needs nothing else: zoom with the wheel, drag, point at a disk, look for a name."""
        points = [
            [round(float(x), 4), round(float(y), 4), round(float(radius), 1), _css(colour), name, int(count)]
            for name, count, (x, y), colour, radius in zip(
                self.names, self.counts, self.places, self.colours, self.radii, strict=True
            )
        ]
        data = json.dumps(points, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
        return f"""{_PAGE.decode()}<style>{_STYLE}</style>
<div id="bar"><b>Concepts of {html.escape(self.model)}</b><input placeholder="find a concept">
<span id="count"></span><span class="dim">placed and coloured by UMAP; size: logarithm of the frequency; wheel zooms,
dragging moves</span></div><div id="tip"></div><canvas></canvas>
<script type="application/json" id="points">{data}</script><script>{_SCRIPT}</script></html>
""".encode()

    def picture(self) -> bytes:
        """A PNG with the names of some frequent concepts.

        Raises:
            ImportError: matplotlib, of the extra `plots`, is not installed.
        """
        from matplotlib.figure import Figure

        drawn = Figure(figsize=(10, 10), layout="constrained")
        axes = drawn.subplots()
        axes.scatter(self.places[:, 0], self.places[:, 1], s=self.radii**2, c=self.colours, alpha=0.75, linewidths=0)
        taken: list[NDArray[np.float64]] = []
        for name, place in zip(self.names, self.places, strict=True):
            if any(abs(place[0] - other[0]) < 0.09 and abs(place[1] - other[1]) < 0.018 for other in taken):
                continue
            taken.append(place)
            shown = name if name.isprintable() else repr(name)
            axes.annotate(shown.replace("$", r"\$"), place, fontsize=8, ha="center")
            if len(taken) == _NAMED:
                break
        axes.invert_yaxis()  # as on the page
        axes.axis("off")
        content = io.BytesIO()
        drawn.savefig(content, format="png", dpi=110, metadata={"Software": _SOFTWARE})
        return content.getvalue()


def require_own(page: Path, picture: Path) -> None:
    """Checks that a map may be written: nothing lies where its files go, or an earlier map.

    Raises:
        ModelError: something else does.
    """
    beginning, head = _beginning(page), _beginning(picture)
    signed = f"Software\0{_SOFTWARE}".encode() in head
    # earlier versions did not sign their pictures: matplotlib did, and a page of theirs lies beside
    drawn = beginning.startswith(_PAGE) and b"Software\0Matplotlib" in head
    for path, is_ours in ((page, beginning.startswith(_PAGE)), (picture, head.startswith(_PNG) and (signed or drawn))):
        if os.path.lexists(path) and not is_ours:
            raise ModelError(
                f"{path} is no map of concepts, and would be overwritten; move it away or name another page with -o"
            )


def _beginning(path: Path) -> bytes:
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            return stream.read(1024)
    except OSError:
        return b""


def count_concepts(documents: Iterable[Document]) -> Counter[str]:
    """How often each label was annotated."""
    return Counter(span.label for document in documents for span in document.spans if span.label)


def lay_out(concepts: ConceptEncoder, counts: Counter[str], most: int, seed: int = 0) -> ConceptMap:
    """Lays out the most frequent concepts.

    Args:
        concepts: makes their vectors.
        counts: how often each was annotated.
        most: so many at most.
        seed: of UMAP.

    Raises:
        ModelError: there are too few.
        ImportError: umap-learn, of the extra `plots`, is not installed.
    """
    from umap import UMAP

    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    chosen = list(islice((item for item in ordered if concepts.takes(item[0])), most))
    if len(chosen) < _FEWEST:
        raise ModelError(f"a map of {len(chosen)} concepts shows nothing; at least {_FEWEST} are needed")
    names = tuple(name for name, _ in chosen)
    vectors = concepts.encode(names)
    options: dict[str, Any] = {"metric": "cosine", "random_state": seed, "n_neighbors": min(15, len(names) - 1)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one thread is used where the result must be the same again
        places, colours = (UMAP(n_components=size, **options).fit_transform(vectors) for size in (2, 3))
    counted = np.array([count for _, count in chosen], dtype=np.int64)
    return ConceptMap(names, counted, _between(places), _between(colours), concepts.model)


def _between(values: NDArray[Any]) -> NDArray[np.float64]:
    """Values shifted and stretched to lie between 0 and 1; the outermost hundredth is cut off."""
    low, high = np.quantile(values, [0.005, 0.995], axis=0)
    scaled: NDArray[np.float64] = np.clip((values - low) / np.maximum(high - low, 1e-9), 0, 1).astype(np.float64)
    return scaled


def _css(colour: NDArray[np.float64]) -> str:
    return "#" + "".join(f"{round(40 + 190 * float(part)):02x}" for part in colour)
