"""A map of concepts as in the paper's Figure 6: places and colours by UMAP, sizes by frequency."""

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
from nuner_embed.pages import render

_FEWEST = 10  # fewest concepts for a map
_NAMED = 60  # concepts whose names stand in the picture
_SOFTWARE = "nuner-embed concepts map"
_PNG = b"\x89PNG\r\n\x1a\n"
# the beginning by which a page of this program is recognised
_PAGE = b"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>concepts</title>"""


@dataclass(frozen=True, slots=True)
class ConceptMap:
    """Concepts in a plane.

    Attributes:
        names: most frequent first.
        counts: how often each was annotated, (n,).
        places: between 0 and 1, (n, 2).
        colours: red, green and blue of each, between 0 and 1, (n, 3).
        model: of the concept encoder.
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
        """A self-contained HTML page: zoom with the wheel, drag, point at a disk, search for a name."""
        from markupsafe import Markup

        points = [
            [round(float(x), 4), round(float(y), 4), round(float(radius), 1), _css(colour), name, int(count)]
            for name, count, (x, y), colour, radius in zip(
                self.names, self.counts, self.places, self.colours, self.radii, strict=True
            )
        ]
        data = json.dumps(points, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
        points_json = Markup(data)  # noqa: S704 - it holds no <
        page = render("concepts.html", beginning=Markup(_PAGE.decode()), model=self.model, points=points_json)  # noqa: S704
        return page.encode()

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
    """Checks that writing a map would overwrite nothing but an earlier map.

    Raises:
        ModelError: another file is in the way.
    """
    beginning, head = _beginning(page), _beginning(picture)
    signed = f"Software\0{_SOFTWARE}".encode() in head
    # earlier versions did not sign their pictures: matplotlib did, and their page lies beside the picture
    drawn = beginning.startswith(_PAGE) and b"Software\0Matplotlib" in head
    for path, is_ours in ((page, beginning.startswith(_PAGE)), (picture, head.startswith(_PNG) and (signed or drawn))):
        if os.path.lexists(path) and not is_ours:
            raise ModelError(
                f"{path} is not a map of concepts, and would be overwritten; move it away or name another page with -o"
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
        most: largest number of concepts.
        seed: of UMAP.

    Raises:
        ModelError: there are fewer than ten concepts.
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
        warnings.simplefilter("ignore")  # the warning that a fixed seed means one thread
        places, colours = (UMAP(n_components=size, **options).fit_transform(vectors) for size in (2, 3))
    counted = np.array([count for _, count in chosen], dtype=np.int64)
    return ConceptMap(names, counted, _between(places), _between(colours), concepts.model)


def _between(values: NDArray[Any]) -> NDArray[np.float64]:
    """Values scaled to lie between 0 and 1; the outermost hundredth is clipped."""
    low, high = np.quantile(values, [0.005, 0.995], axis=0)
    scaled: NDArray[np.float64] = np.clip((values - low) / np.maximum(high - low, 1e-9), 0, 1).astype(np.float64)
    return scaled


def _css(colour: NDArray[np.float64]) -> str:
    return "#" + "".join(f"{round(40 + 190 * float(part)):02x}" for part in colour)
