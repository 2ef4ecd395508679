"""`.txt`: one document on each line, optionally with mentions in double brackets: "A ferry to [[Oslo|city]]"."""

from collections.abc import Iterator

from nuner_embed.corpora.base import ReadOptions, Source
from nuner_embed.corpora.records import Item, reject
from nuner_embed.corpora.streams import read_lines
from nuner_embed.documents import Document, Span

_EXAMPLE = "'A ferry to [[Oslo|city]]'"


def unmark(text: str, *, labelled: bool) -> tuple[str, tuple[Span, ...]]:
    """Removes the double brackets from a text.

    Args:
        text: with any number of mentions in double brackets.
        labelled: read the text after the last bar within brackets as the label of the mention.

    Returns:
        The text without brackets and labels, and a span for each mention, without blanks at its ends.

    Raises:
        ValueError: brackets are nested, not closed or empty.
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
    """The positions of each pair of opening and closing double brackets."""
    place = 0
    while (opened := text.find("[[", place)) >= 0 and (closed := text.find("]]", opened + 2)) >= 0:
        yield opened, closed
        place = closed + 2


def read(source: Source, options: ReadOptions) -> Iterator[Item]:
    """Every line that is not blank, as a document; with `options.marked` with a span for each marked mention."""
    parse = _marked if options.marked else _plain
    with source.open() as stream:
        for number, line in read_lines(stream, source.name, limit=options.line_bytes):
            if not isinstance(line, str):
                yield number, line
            elif line and not line.isspace():
                yield parse(source.name, number, line)


def _plain(name: str, number: int, line: str) -> Item:
    return number, Document(f"{name}:{number}", line)


def _marked(name: str, number: int, line: str) -> Item:
    try:
        text, spans = unmark(line, labelled=True)
    except ValueError as error:
        return reject(name, number, f"{error}; expected a text with its mentions marked as in {_EXAMPLE}", line)
    return number, Document(f"{name}:{number}", text, spans=spans)
