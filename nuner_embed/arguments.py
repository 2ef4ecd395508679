"""What callers may pass: one path, name or text in place of several, strings for documents, a callback for progress."""

import os
from collections.abc import Callable, Iterable, Sequence

from nuner_embed.documents import Document

StrPath = str | os.PathLike[str]
Paths = StrPath | Sequence[StrPath]
Texts = str | Document | Sequence[str | Document]
# Is told what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


def as_paths(paths: Paths) -> list[StrPath]:
    """Paths as a list: a string is one path."""
    return [paths] if isinstance(paths, str | os.PathLike) else list(paths)


def as_names(names: str | Iterable[str]) -> list[str]:
    """Names as a list: a string is one name."""
    return [names] if isinstance(names, str) else list(names)


def as_documents(texts: Texts, read: Callable[[str, str], Document] = Document) -> list[Document]:
    """Documents; a string becomes one, whose id is its place in the list.

    Args:
        texts: strings and documents, or one of these.
        read: makes a document of an id and a text.

    Raises:
        TypeError: something else.
    """
    items = [texts] if isinstance(texts, str | Document) else list(texts)
    for item in items:
        if not isinstance(item, str | Document):
            raise TypeError(f"expected a text or a Document, found {type(item).__name__}")
    return [read(str(place), item) if isinstance(item, str) else item for place, item in enumerate(items)]


def silent(what: str, done: int, total: int) -> None:
    """The `Progress` of callers who want none."""
