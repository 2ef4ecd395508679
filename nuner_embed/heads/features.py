"""Word embeddings, computed once for each text and encoder.

The embeddings are kept in an SQLite file for each encoder, with a row for each text, and used again for any corpus,
sample or probe. Each group of texts is one transaction, so that a killed run keeps the groups that it finished.
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from nuner_embed.arguments import Progress, silent
from nuner_embed.cache import cached
from nuner_embed.documents import Document
from nuner_embed.encoders.base import Encoder
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.errors import ProbeError
from nuner_embed.files import canonical_json

_CHARACTERS_AT_ONCE = 100_000
_TABLE = """CREATE TABLE IF NOT EXISTS texts (
    key BLOB PRIMARY KEY,   -- SHA-256 of the text and its words
    spans BLOB NOT NULL,    -- start and end of each word, int64 (n, 2)
    vectors BLOB NOT NULL   -- float32 (n, dim)
)"""
_LOCK_SECONDS = 60.0
_LOOKED_UP_AT_ONCE = 500


def feature_folder() -> Path:
    """The folder of the cached word embeddings; the folder may be emptied at any time."""
    return cached("features", folder=True)


def embed_words(encoder: Encoder, documents: Sequence[Document]) -> WordFeatures:
    """Encodes the words of documents; long texts are windowed, words without a token left out.

    Raises:
        OutOfMemory: one window alone does not fit.
    """
    embedded = encoder.encode_rows(encoder.tokenize(documents, "word"), "word")
    rows = embedded.rows
    bounds = np.searchsorted(rows.document, np.arange(len(documents) + 1))
    return WordFeatures(bounds, rows.start, rows.end, embedded.vectors)


class _Damaged(Exception):
    """A row of the cache file has unexpected content."""


class FeatureCache:
    """The word embeddings of texts by one encoder, in a file of that encoder's own.

    Args:
        folder: of the files of all encoders; it is created if it is missing.
        encoder: computes what is missing; its semantic and numeric hash name the file.

    Attributes:
        encoded: number of texts that had to be encoded so far.
    """

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{encoder.semantic_hash[:16]}-{encoder.numeric_hash[:16]}.sqlite"
        self.encoder = encoder
        self.encoded = 0

    def features(self, documents: Sequence[Document], progress: Progress = silent) -> WordFeatures:
        """The words of documents with their embeddings.

        Raises:
            ProbeError: the file is damaged, locked for a minute, or cannot be written.
            OutOfMemory: one window alone does not fit.
        """
        keys = [_key(document) for document in documents]
        try:
            with closing(sqlite3.connect(self.path, timeout=_LOCK_SECONDS)) as database:
                database.execute(_TABLE)
                self._fill(database, dict(zip(keys, documents, strict=True)), progress)
                return self._read(database, keys)
        except (sqlite3.Error, _Damaged) as error:
            raise ProbeError(
                f"the features kept in {self.path} cannot be used ({error}); if another process writes them, or the "
                "disk is full, try again, else remove that file: they are computed anew"
            ) from error

    def _fill(self, database: sqlite3.Connection, wanted: dict[bytes, Document], progress: Progress) -> None:
        missing = dict(wanted)
        for some in _chunks(list(wanted)):
            marks = ",".join("?" * len(some))
            for (key,) in database.execute(f"SELECT key FROM texts WHERE key IN ({marks})", some):  # noqa: S608
                del missing[key]
        # texts of similar length are encoded together, which saves padding
        by_length = sorted(missing.items(), key=lambda item: len(item[1].text))
        total, done = sum(len(document.text) for document in missing.values()), 0
        for group in _groups(by_length):
            progress("encoding", done, total)
            found = embed_words(self.encoder, [document for _, document in group])
            rows = []
            for number, (key, document) in enumerate(group):
                here = slice(found.bounds[number], found.bounds[number + 1])
                spans = np.stack([found.start[here], found.end[here]], axis=1).astype(np.int64)
                rows.append((key, spans.tobytes(), found.vectors[here].astype(np.float32).tobytes()))
                done += len(document.text)
            with database:
                database.executemany("INSERT OR IGNORE INTO texts VALUES (?, ?, ?)", rows)
            self.encoded += len(group)
        if total:
            progress("encoding", done, total)

    def _read(self, database: sqlite3.Connection, keys: list[bytes]) -> WordFeatures:
        kept: dict[bytes, tuple[bytes, bytes]] = {}
        for some in _chunks(list(dict.fromkeys(keys))):
            marks = ",".join("?" * len(some))
            for key, spans, vectors in database.execute(f"SELECT * FROM texts WHERE key IN ({marks})", some):  # noqa: S608
                kept[key] = spans, vectors
        try:
            return self._unpack([kept[key] for key in keys])
        except (ValueError, TypeError) as error:  # of the unpacking alone: the encoder's are not caught here
            raise _Damaged(str(error)) from None

    def _unpack(self, kept: list[tuple[bytes, bytes]]) -> WordFeatures:
        places = [np.frombuffer(spans, dtype=np.int64).reshape(-1, 2) for spans, _ in kept]
        spans = np.concatenate([np.empty((0, 2), np.int64), *places])
        if (spans[:, 0] < 0).any() or (spans[:, 0] >= spans[:, 1]).any():
            raise ValueError("words that end before they begin")
        vectors = np.empty((len(spans), self.encoder.dim), dtype=np.float32)
        bounds = np.cumsum([0, *map(len, places)], dtype=np.int64)
        for (_, packed), first, last in zip(kept, bounds[:-1], bounds[1:], strict=True):
            vectors[first:last] = np.frombuffer(packed, dtype=np.float32).reshape(-1, self.encoder.dim)
        return WordFeatures(bounds, spans[:, 0], spans[:, 1], vectors)


def _key(document: Document) -> bytes:
    return hashlib.sha256(canonical_json([document.text, document.words]).encode()).digest()


def _chunks(keys: list[bytes]) -> Iterator[list[bytes]]:
    for first in range(0, len(keys), _LOOKED_UP_AT_ONCE):
        yield keys[first : first + _LOOKED_UP_AT_ONCE]


def _groups(items: list[tuple[bytes, Document]]) -> Iterator[list[tuple[bytes, Document]]]:
    group: list[tuple[bytes, Document]] = []
    characters = 0
    for item in items:
        group.append(item)
        characters += len(item[1].text)
        if characters >= _CHARACTERS_AT_ONCE:
            yield group
            group, characters = [], 0
    if group:
        yield group
