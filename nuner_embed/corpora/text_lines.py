"""`.txt`: a document a line."""

from collections.abc import Iterator
from typing import IO

from nuner_embed.corpora.decoding import read_lines
from nuner_embed.corpora.records import Item
from nuner_embed.documents import Document


def read_text_lines(stream: IO[bytes], name: str) -> Iterator[Item]:
    """Every line that is not blank, as it stands."""
    for number, line in read_lines(stream, name):
        if isinstance(line, str):
            if line and not line.isspace():
                yield number, Document(f"{name}:{number}", line)
        else:
            yield number, line
