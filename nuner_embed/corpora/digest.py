"""The content of documents as one hash: how a store knows its corpus again."""

import hashlib

from nuner_embed.documents import Document


class ContentHash:
    """SHA-256 over the ids, texts, words and spans of documents, in order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, document: Document) -> None:
        """Takes one more document into the hash."""
        parts: tuple[object, ...] = (document.id, document.text, document.words)
        parts += tuple((span.start, span.end, span.label, span.score) for span in document.spans)
        encoded = repr(parts).encode("ascii", "backslashreplace")
        self._hash.update(len(encoded).to_bytes(8, "little"))
        self._hash.update(encoded)

    def hexdigest(self) -> str:
        """The hash so far, in hex."""
        return self._hash.hexdigest()
