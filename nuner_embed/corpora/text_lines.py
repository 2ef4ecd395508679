"""`.txt`: a document a line."""

from collections.abc import Iterator
from typing import IO

from nuner_embed.corpora.decoding import read_lines
from nuner_embed.corpora.records import Item
from nuner_embed.documents import Document
from nuner_embed.limits import LINE_MIB, MIB


def read_text_lines(stream: IO[bytes], name: str, limit: int = LINE_MIB * MIB) -> Iterator[Item]:
    """Every line that is not blank, as it stands."""
    for number, line in read_lines(stream, name, limit=limit):
        if isinstance(line, str):
            if line and not line.isspace():
                yield number, Document(f"{name}:{number}", line)
        else:
            yield number, line
