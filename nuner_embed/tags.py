"""Tags, one for each word: their scheme, and their conversion to spans and back."""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise
from operator import gt
from typing import Final, Literal

from nuner_embed.documents import Span

OUTSIDE: Final = "O"
_BEGINS: Final = frozenset("BSU")
_INNER: Final = frozenset("IMEL")
_OPEN: Final = frozenset("BIM")  # a mention may go on after these
_ENDS: Final = frozenset("ESLU")
_PREFIXES: Final = _BEGINS | _INNER
_SEPARATORS: Final = "-_:/"
_SEVERAL: Final = re.compile(r"[|,;+&][BIMESLUbimeslu][-_:/]")  # B-LOC|B-ORG: two tags of one word
_NAMED = 6
_SHOWN = 60  # characters of a tag in a message
_UNLABELLED = "ENTITY"

Parts = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class TagScheme:
    """How the tags of a corpus are written.

    Attributes:
        kind: "before" for a prefix and a type (B-LOC), "after" for a type and a prefix (LOC-B), "bare" for a prefix
            alone (B), "plain" for a type alone (LOC). Prefixes are those of BIO, BIOES, BILOU and BMES.
        separator: what stands between prefix and type.
        lower: whether prefixes are lower-case letters.
        outside: the tag of words in no mention.
    """

    kind: Literal["before", "after", "bare", "plain"]
    separator: str = "-"
    lower: bool = False
    outside: str = OUTSIDE

    @property
    def expected(self) -> str:
        """What a tag of this scheme looks like, for messages."""
        if self.kind == "plain":
            return f"{self.outside} or a type"
        first, second = (
            {"before": f"{prefix}{self.separator}x", "after": f"x{self.separator}{prefix}", "bare": prefix}[self.kind]
            for prefix in ("bi" if self.lower else "BI")
        )
        return f"{self.outside} or a tag such as {first} or {second}"

    def reads(self, tag: str) -> bool:
        """Whether a tag is of this scheme."""
        return tag == self.outside or self._split(tag) is not None

    def parts(self, tag: str) -> Parts | None:
        """A tag's prefix, one of B, I, E, S, L, U, M, and its type; None for the tag of words in no mention.

        The type is None in a bare scheme. The prefix is "I" in a plain one.

        Raises:
            ValueError: the tag is not of this scheme.
        """
        if tag == self.outside:
            return None
        parts = self._split(tag)
        if parts is None:
            raise ValueError(f"expected {self.expected}, found {_shown(tag)}")
        return parts

    def _split(self, tag: str) -> Parts | None:
        if self.kind == "plain":
            return None if tag in ("", "O", "o") else ("I", tag)
        if self.kind == "bare":
            prefix, label = tag, None
        else:
            before = self.kind == "before"
            prefix, separator, label = (tag[:1], tag[1:2], tag[2:]) if before else (tag[-1:], tag[-2:-1], tag[:-2])
            if separator != self.separator or not label or _SEVERAL.search(label):
                return None
        letter = prefix.upper()
        return (letter, label) if letter in _PREFIXES and prefix.islower() == self.lower else None


BIO: Final = TagScheme("before")
PLAIN: Final = TagScheme("plain")
_PREFIXED: Final = tuple(
    TagScheme(kind, separator, lower)
    for kind in ("before", "after")
    for separator in _SEPARATORS
    for lower in (False, True)
)


def find_scheme(sequences: Iterable[Sequence[str]]) -> TagScheme | None:
    """Finds the scheme of many tags; None if no word is in a mention.

    Type names may look like tags: "B-cell" beside "T-cell" is a type, beside "I-cell" a tag. So the whole
    set decides, with the order of the tags: a tag that continues the one before (B-x, I-x) shows prefixes.

    Args:
        sequences: the tags of about a hundred sentences. A list of tag names without sentences may be one sequence.

    Raises:
        ValueError: the tags can be read in more than one way; the message names some of them.
    """
    sequences = [list(tags) for tags in sequences]
    counts = Counter(tag for tags in sequences for tag in tags if tag)
    outside = "o" if "o" in counts and OUTSIDE not in counts else OUTSIDE
    del counts[outside]
    if not counts:
        return None
    if all(tag.upper() in _PREFIXES for tag in counts):
        return _bare_scheme(counts, outside)
    evidence = max((_Evidence(scheme, sequences, counts) for scheme in _PREFIXED), key=lambda one: one.weight)
    if not evidence.is_prefixed():
        if any(tag[:-1].upper() in _PREFIXES and tag[-1] in _SEPARATORS for tag in counts):
            raise _ambiguous(counts)
        return TagScheme("plain", outside=outside)
    scheme = evidence.scheme
    return TagScheme(scheme.kind, scheme.separator, scheme.lower, outside)


def _bare_scheme(counts: Counter[str], outside: str) -> TagScheme:
    lower = all(tag.islower() for tag in counts)
    if not {"B", "I"} & {tag.upper() for tag in counts} or (not lower and any(tag.islower() for tag in counts)):
        raise _ambiguous(counts)
    return TagScheme("bare", lower=lower, outside=outside)


class _Evidence:
    """The evidence for one way to split tags into prefixes and types."""

    def __init__(self, scheme: TagScheme, sequences: Sequence[Sequence[str]], counts: Counter[str]) -> None:
        self.scheme, self._sequences, self._counts = scheme, sequences, counts
        self._parts = {tag: parts for tag in counts if (parts := scheme._split(tag)) is not None}
        self._odd = [tag for tag in counts if tag not in self._parts]
        self._prefixes = {prefix for prefix, _ in self._parts.values()}
        self._continued = any(self._continues(a, b) for tags in sequences for a, b in pairwise(tags))
        self._occurrences = sum(counts[tag] for tag in self._parts)

    @property
    def weight(self) -> tuple[bool, int]:
        """A sort key; larger for likelier schemes."""
        return self._continued, self._occurrences

    def is_prefixed(self) -> bool:
        """Whether the tags are prefixes and types, rather than types that look like prefixes and types.

        Raises:
            ValueError: both are possible.
        """
        most = self._occurrences * 2 >= self._counts.total()
        if self._continued:
            if not most:
                raise _ambiguous(self._counts)
            return True
        if self._odd:
            return most and self._is_prefixed_beside_odd_ones()
        return self._are_well_formed()

    def _continues(self, tag: str, following: str) -> bool:
        first, second = self._parts.get(tag), self._parts.get(following)
        if first is None or second is None or tag == following:
            return False
        return first[1] == second[1] and first[0] in _OPEN and second[0] in _INNER

    def _is_prefixed_beside_odd_ones(self) -> bool:
        if any(self._looks_alike(tag) for tag in self._odd):  # T-cell beside B-cell
            return False
        if self.scheme.kind == "before" and self._prefixes <= _BEGINS and len(self._parts) > len(self._odd):
            return True
        raise _ambiguous(self._counts)

    def _looks_alike(self, tag: str) -> bool:
        letter, separator = (tag[:1], tag[1:2]) if self.scheme.kind == "before" else (tag[-1:], tag[-2:-1])
        return len(tag) > 2 and separator == self.scheme.separator and letter.isalnum()

    def _are_well_formed(self) -> bool:
        prefixes_of: dict[str | None, set[str]] = {}
        for prefix, label in self._parts.values():
            prefixes_of.setdefault(label, set()).add(prefix)
        if any({"B", "I"} <= prefixes for prefixes in prefixes_of.values()) and self.scheme.kind == "before":
            return True
        if self._prefixes & _INNER and self._prefixes != {"I"}:  # E-mail, or I-beam beside B-cell
            if all(len(prefixes) == 1 for prefixes in prefixes_of.values()):
                return False
            raise _ambiguous(self._counts)
        lonely = "B" not in self._prefixes and "I" not in self._prefixes and len(prefixes_of) == 1  # S-Bahn, U-boat
        if self.scheme.kind == "after" or lonely or self._begins_come_in_runs():
            raise _ambiguous(self._counts)
        return True

    def _begins_come_in_runs(self) -> bool:
        """Whether mentions of several words seem to be written B-x B-x, which means that "B-x" is a type."""
        if "I" in self._prefixes:
            return False
        runs = [len(list(run)) for tags in self._sequences for tag, run in groupby(tags) if tag in self._parts]
        return sum(length > 1 for length in runs) >= max(2, len(runs) / 2)


def _shown(tag: str) -> str:
    return repr(tag if len(tag) <= _SHOWN else f"{tag[:_SHOWN]}...")


def _ambiguous(tags: Iterable[str]) -> ValueError:
    names = sorted(tags)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    some = ", ".join(map(_shown, names[:_NAMED]))
    return ValueError(
        f"the tags {some}{more} may be types, or prefixes such as B and I with types; "
        "rename the types, or write B-x for the first word of a mention and I-x for the others"
    )


def tags_to_spans(tags: Sequence[str], words: Sequence[tuple[int, int]], scheme: TagScheme) -> tuple[Span, ...]:
    """Converts tags to spans over the words' characters.

    A continuation without a beginning opens a span, as in conlleval; in a plain scheme, adjacent words of one type
    are one span. Spans of a bare scheme have no label.

    Args:
        tags: one for each word.
        words: `(start, end)` of each word.
        scheme: of the whole corpus, see `find_scheme`.

    Raises:
        ValueError: a tag is not of the scheme, or there are not as many tags as words.
    """
    if len(tags) != len(words):
        raise ValueError(f"{len(tags)} tags for {len(words)} words")
    if scheme.kind == "plain":
        _require_no_prefixes(tags)
    spans: list[Span] = []
    label: str | None = None
    is_open = False
    start = end = 0
    for tag, (word_start, word_end) in zip(tags, words, strict=True):
        parts = scheme.parts(tag)
        if is_open and (parts is None or parts[0] in _BEGINS or parts[1] != label):
            spans.append(Span(start, end, label))
            is_open = False
        if parts is None:
            continue
        if not is_open:
            is_open, label, start = True, parts[1], word_start
        end = word_end
        if parts[0] in _ENDS:
            spans.append(Span(start, end, label))
            is_open = False
    if is_open:
        spans.append(Span(start, end, label))
    return tuple(spans)


def _require_no_prefixes(tags: Sequence[str]) -> None:
    """Refuses a type "B-x" right before a type "I-x": files of two schemes may have been joined."""
    for tag, following in pairwise(tags):
        if tag[:1] == "B" and following[:1] == "I" and tag[1:] == following[1:] and tag[1:2] in _SEPARATORS:
            raise ValueError(f"expected {PLAIN.expected}, as in the corpus's other sentences, found {_shown(tag)}")


def spans_to_tags(spans: Iterable[Span], words: Sequence[tuple[int, int]]) -> list[str]:
    """Converts spans to BIO tags, one for each word; of overlapping spans the first in the input wins.

    A word belongs to a span if it shares a character with it. Unlabelled spans read as `ENTITY`.
    """
    spans = list(spans)
    if not spans:
        return [OUTSIDE] * len(words)
    starts, ends = [start for start, _ in words], [end for _, end in words]
    if any(map(gt, ends, islice(starts, 1, None))):
        return _tags_of_odd_words(spans, words)
    tags = [OUTSIDE] * len(words)
    taken: list[tuple[int, int]] = []  # runs of words that are in a span already, in order
    for span in spans:
        first, last = bisect_right(ends, span.start), bisect_left(starts, span.end)
        place = bisect_left(taken, (last, 0))  # runs from there on begin behind the span
        if first < last and not (place and taken[place - 1][1] > first):
            taken.insert(place, (first, last))
            label = span.label or _UNLABELLED
            tags[first:last] = [f"B-{label}", *[f"I-{label}"] * (last - first - 1)]
    return tags


def _tags_of_odd_words(spans: Iterable[Span], words: Sequence[tuple[int, int]]) -> list[str]:
    """As `spans_to_tags`, for words that overlap or are out of order, which only programs pass."""
    tags = [OUTSIDE] * len(words)
    for span in spans:
        inside = [i for i, (start, end) in enumerate(words) if start < span.end and end > span.start]
        if inside and all(tags[i] == OUTSIDE for i in inside):
            label = span.label or _UNLABELLED
            tags[inside[0]] = f"B-{label}"
            for i in inside[1:]:
                tags[i] = f"I-{label}"
    return tags
