"""`.txt`: a document a line, perhaps with its mentions in double brackets: "A ferry to [[Oslo|city]]"."""

from collections.abc import Iterator
from typing import IO

from nuner_embed.corpora.lines import read_lines
from nuner_embed.corpora.records import Item, reject
from nuner_embed.documents import Document, Span
from nuner_embed.limits import LINE_MIB, MIB

_EXAMPLE = "'A ferry to [[Oslo|city]]'"


def unmark(text: str, *, labelled: bool) -> tuple[str, tuple[Span, ...]]:
    """Takes the double brackets out of a text.

    Args:
        text: with its mentions in double brackets, as many as there are.
        labelled: what stands behind the last bar within the brackets is the mention's label.

    Returns:
        The text without brackets and labels, and a span for each mention, without blanks at its ends.

    Raises:
        ValueError: brackets that are nested or not closed, or nothing between them.
    """
    parts: list[str] = []
    spans: list[Span] = []
    length = done = 0
    for opened, closed in _marks(text):
        before, inner, label = text[done:opened], text[opened + 2 : closed], None
        if labelled and "|" in inner:
            inner, _, label = inner.rpartition("|")
            label = label.strip()
        mention = inner.strip()
        if not mention or label == "" or "[[" in inner or "]]" in before:
            raise ValueError(
                f"brackets that are nested or not closed, or hold nothing, at {text[opened : closed + 2][:60]!r}"
            )
        start = length + len(before) + len(inner) - len(inner.lstrip())
        spans.append(Span(start, start + len(mention), label))
        parts += [before, inner]
        length += len(before) + len(inner)
        done = closed + 2
    rest = text[done:]
    if "[[" in rest or "]]" in rest:
        raise ValueError(f"double brackets that are opened or closed alone, at {rest[:60]!r}")
    return "".join([*parts, rest]), tuple(spans)


def _marks(text: str) -> Iterator[tuple[int, int]]:
    """Where double brackets open and next close."""
    place = 0
    while (opened := text.find("[[", place)) >= 0 and (closed := text.find("]]", opened + 2)) >= 0:
        yield opened, closed
        place = closed + 2


def read_marked_lines(stream: IO[bytes], name: str, limit: int = LINE_MIB * MIB) -> Iterator[Item]:
    """Every line that is not blank, with a span for each mention; one without a label has none."""
    for number, line in read_lines(stream, name, limit=limit):
        if not isinstance(line, str):
            yield number, line
        elif line and not line.isspace():
            try:
                text, spans = unmark(line, labelled=True)
            except ValueError as error:
                reason = f"{error}; expected a text with its mentions marked as in {_EXAMPLE}"
                yield reject(name, number, reason, line)
            else:
                yield number, Document(f"{name}:{number}", text, spans=spans)


def read_text_lines(stream: IO[bytes], name: str, limit: int = LINE_MIB * MIB) -> Iterator[Item]:
    """Every line that is not blank, as it stands."""
    for number, line in read_lines(stream, name, limit=limit):
        if isinstance(line, str):
            if line and not line.isspace():
                yield number, Document(f"{name}:{number}", line)
        else:
            yield number, line
