"""Four annotated texts about ferries, from which a probe learns times and boats."""

import re

from fakes import HashRuntime, hash_encoder

from nuner_embed.documents import Document, Span

TIMES = ("seven", "Vol kova")
BOATS = ("ferry",)


def annotated(text, number=0):
    """Times and boats, wherever they stand."""
    spans = [
        Span(found.start(), found.end(), label)
        for label, names in (("time", TIMES), ("boat", BOATS))
        for name in names
        for found in re.finditer(name, text)
    ]
    return Document(f"d{number}", text, spans=tuple(sorted(spans, key=lambda span: span.start)))


def wide_encoder():
    """Words are points of a space in which few of them can be told apart whichever way they are labelled."""
    return hash_encoder(runtime=HashRuntime(dim=32))


TRAINING = [
    annotated(text, i)
    for i, text in enumerate(
        ["the ferry left at seven", "at seven the ferry", "Vol kova left in the ferry", "left in an ferry"]
    )
]
