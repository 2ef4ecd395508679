"""Words and their labels: from annotated mentions to the classes that a probe learns, and back to mentions.

A probe gives each word one of the types or none, as in section 4.1 of the paper, without BIO tags; adjacent words
of one type are one mention (`SCHEME`). Two mentions of a type that touch cannot be told apart this way.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from nuner_embed.documents import Document, split_words
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.errors import ProbeError
from nuner_embed.tables import Ints
from nuner_embed.tags import OUTSIDE, spans_to_tags

SCHEME = "one type or none a word, no BIO; adjacent words of one type are one mention"
UNLABELLED = "ENTITY"
NONE = "None"  # display name of the class of words in no mention, which is always the first class
Unit = Literal["mentions", "words"]


@dataclass(frozen=True, slots=True)
class Runs:
    """Mentions as runs of words.

    Attributes:
        first: number of the first word, (m,).
        last: one past the last, (m,).
        code: type, (m,).
    """

    first: Ints
    last: Ints
    code: Ints


@dataclass(frozen=True, slots=True)
class WordLabels:
    """The labels of the words of annotated documents.

    Attributes:
        codes: 0 for none, else 1 + the place of the type in the list of types, (n,).
        mentions: as annotated: two touching mentions of a type are two.
        lost: number of mentions that hold no word, or overlap an earlier mention.
    """

    codes: Ints
    mentions: Runs
    lost: int

    @classmethod
    def of(cls, documents: Sequence[Document], features: WordFeatures, types: Sequence[str]) -> Self:
        """Labels the words of documents; mentions of other types than those listed do not count."""
        code = {name: 1 + place for place, name in enumerate(types)}
        codes = np.zeros(len(features.start), dtype=np.int64)
        runs: list[tuple[int, int, int]] = []
        lost = 0
        for number, document in enumerate(documents):
            spans = [span for span in document.spans if type_of(span.label) in code]
            if not spans:
                continue
            base = int(features.bounds[number])
            begun = len(runs)
            for place, tag in enumerate(spans_to_tags(spans, features.words(number)), start=base):
                if tag == OUTSIDE:
                    continue
                codes[place] = code[tag[2:]]
                if tag[0] == "B":
                    runs.append((place, place + 1, int(codes[place])))
                else:
                    runs[-1] = (runs[-1][0], place + 1, runs[-1][2])
            lost += len(spans) - (len(runs) - begun)
        first, last, of_type = np.array(runs, dtype=np.int64).reshape(-1, 3).T
        return cls(codes, Runs(first, last, of_type), lost)


def runs_of(codes: Ints, bounds: Ints) -> Runs:
    """The mentions in labelled words: runs of adjacent words of one type in a document."""
    if not len(codes):
        return Runs(codes, codes, codes)
    begins = np.empty(len(codes), dtype=bool)
    begins[0] = True
    np.not_equal(codes[1:], codes[:-1], out=begins[1:])
    inner = bounds[1:-1]
    begins[inner[inner < len(codes)]] = True
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(codes))
    typed = codes[first] > 0
    return Runs(first[typed], last[typed], codes[first[typed]])


def type_of(label: str | None) -> str:
    """The type that a span's label names; spans without one are of type ENTITY."""
    return label or UNLABELLED


def count_mentions(documents: Sequence[Document]) -> Counter[str]:
    """How many spans with each label the documents hold; see `types_among`."""
    return Counter(type_of(span.label) for document in documents for span in document.spans)


def types_among(labels: Iterable[str]) -> list[str]:
    """The types among labels, sorted; "O", which labels a span as no mention, is left out."""
    return sorted(set(labels) - {OUTSIDE})


def require_not_reserved(types: Collection[str]) -> None:
    """Checks that no type has the reserved name "O".

    Raises:
        ProbeError: a type is called "O", which means no entity.
    """
    if OUTSIDE in types:
        raise ProbeError(f'a type cannot be called "{OUTSIDE}", which stands for no entity; rename it')


def count_matrix(documents: Sequence[Document], types: Sequence[str], unit: Unit = "mentions") -> Ints:
    """How often each document holds each type, in mentions or in words that a probe could learn from, (d, types).

    A mention that overlaps an earlier one, or holds no word, does not count.
    """
    place = {name: i for i, name in enumerate(types)}
    counts = np.zeros((len(documents), len(types)), dtype=np.int64)
    for number, document in enumerate(documents):
        spans = [span for span in document.spans if type_of(span.label) in place]
        if not spans:
            continue
        words = document.words if document.words is not None else split_words(document.text)
        for tag in spans_to_tags(spans, words):
            if tag != OUTSIDE and (unit == "words" or tag[0] == "B"):
                counts[number, place[tag[2:]]] += 1
    return counts


def require_known(found: Collection[str], known: Collection[str], what: str) -> None:
    """Checks that a probe knows all types of annotated data.

    Raises:
        ProbeError: it does not; the message names the unknown and the known types.
    """
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise ProbeError(
            f"{what} holds the types {shortened(unknown)}, which the probe does not know; it knows "
            f"{shortened(sorted(known))}. Train it on these types, or name those to look at with --types"
            f"{comma_hint(known)}"
        )


def comma_hint(names: Iterable[str]) -> str:
    """How to write a name with a comma on the command line; empty if no name holds a comma."""
    for name in names:
        if "," in name:
            escaped = name.replace(",", r"\,")
            return rf" (a comma within a name is written \,: --types '{escaped}')"
    return ""


def shortened(names: Sequence[str], most: int = 8) -> str:
    """The first few names, for a message; control characters are escaped."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name if name.isprintable() else repr(name) for name in names[:most]) + more
