"""Finds duplicate ids with eight bytes of memory a document."""

import hashlib
from array import array

import numpy as np

from nuner_embed.corpora.records import shown


def id_hash(identity: str) -> int:
    """Sixty-four bits of an id."""
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "little")


class IdCensus:
    """Collects the hashes of all ids, then tells which came more than once."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def add(self, identity: str) -> None:
        """Adds an id."""
        self._hashes.append(id_hash(identity))

    def repeated(self) -> frozenset[int]:
        """Hashes that came more than once: of duplicates and, one in 2^64 pairs, of a collision."""
        if not len(self._hashes):
            return frozenset()
        hashes = np.frombuffer(self._hashes, dtype=np.uint64)
        hashes.sort()
        return frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist())


class DuplicateFinder:
    """Tells duplicates from collisions, by keeping the ids of the few repeated hashes."""

    def __init__(self, repeated: frozenset[int]) -> None:
        self._repeated = repeated
        self._seen: dict[str, str] = {}

    def reason(self, identity: str, where: str) -> str | None:
        """Why a document's id is refused, or None."""
        if not self._repeated or id_hash(identity) not in self._repeated:
            return None
        first = self._seen.get(identity)
        if first is None:
            self._seen[identity] = where
            return None
        return (
            f"duplicate id {shown(identity)}, first used at {first}; make ids unique, or name the directory that the "
            "files have in common"
        )
