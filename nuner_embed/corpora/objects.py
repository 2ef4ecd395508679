"""Objects (JSON lines or rows of a table) read as documents, with mentions under the keys of common tools."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, Literal

from nuner_embed.corpora.base import ReadOptions
from nuner_embed.corpora.records import Item, reject, shown
from nuner_embed.corpora.span_lists import (
    LABELS,
    Counting,
    find_counting,
    is_span_list,
    parse_spans,
    to_characters,
    unread_labels,
)
from nuner_embed.documents import Document, Span, join_words
from nuner_embed.errors import CorpusError
from nuner_embed.tags import OUTSIDE, PLAIN, TagScheme, find_scheme, tags_to_spans

TOKEN_KEYS = ("tokens", "words", "tokenized_text")
ANNOTATION_KEYS = ("spans", "entities", "ents", "ner_tags", "ner", "label", "labels", "tags")  # the first is read
_SPAN_KEYS = frozenset({"spans", "entities", "ents", "label", "labels"})
_TAG_KEYS = frozenset({"ner_tags", "ner", "label", "labels", "tags"})
_MEAN_NOTHING_ELSE = frozenset({"spans", "entities", "ents", "ner_tags", "ner"})
_LOOKED_AT = 100  # records of a file, until some hold tags
_CHARACTERS_LOOKED_AT = 32_000_000
_SET_ASIDE = ("reject", "ignore")  # Prodigy's answers besides "accept"
_REMARK = "examples that were rejected or ignored in Prodigy are left out"
_NO_NAMES: Final[Mapping[str, Sequence[str]]] = MappingProxyType({})
Form = Literal["spans", "tags"]


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file.

    Attributes:
        number: 1-based line or row.
        value: its JSON value.
        raw: its text or value, for the list of rejects.
        place: the beginning of messages about it.
    """

    number: int
    value: Any
    raw: Any
    place: str = ""


def read_objects(
    records: Iterator[Record | Item], name: str, options: ReadOptions, names: Mapping[str, Sequence[str]] = _NO_NAMES
) -> Iterator[Item]:
    """The records of one file as documents; rejects among the records are passed on.

    Args:
        records: of the file.
        name: of the file.
        options: of the corpus.
        names: the names of numeric tags or labels that the file itself defines, by key.

    Raises:
        CorpusError: the tags can be read in more than one way.
    """
    reader = _Reader(name, options, names)
    records = _accepted(records, name, options)
    while not reader.schemes and (some := list(_some(records))):
        try:
            reader.look_at([record.value for record in some if isinstance(record, Record)])
        except ValueError as error:
            raise CorpusError(name, None, str(error)) from None
        yield from map(reader.item, some)
    yield from map(reader.item, records)


def _accepted(records: Iterator[Record | Item], name: str, options: ReadOptions) -> Iterator[Record | Item]:
    """The records without those that an annotator set aside in Prodigy."""
    for record in records:
        value = record.value if isinstance(record, Record) else None
        if isinstance(value, dict) and "_task_hash" in value and value.get("answer") in _SET_ASIDE:
            options.remarks.setdefault(_REMARK, f"{name}:{record.number}" if isinstance(record, Record) else name)
        else:
            yield record


def _some(records: Iterator[Record | Item]) -> Iterator[Record | Item]:
    """The next hundred records, or fewer if they are long."""
    characters = 0
    for record in islice(records, _LOOKED_AT):
        yield record
        characters += len(record.raw) if isinstance(record, Record) and isinstance(record.raw, str) else 0
        if characters > _CHARACTERS_LOOKED_AT:
            return


class _Reader:
    """Reads the records of one file; a key with annotations in one record must hold valid annotations in all."""

    def __init__(self, name: str, options: ReadOptions, names: Mapping[str, Sequence[str]]) -> None:
        self.schemes: dict[str, TagScheme] = {}
        self._name = name
        self._tag_names, self._own_names, self._unread = options.tag_names, names, options.unread
        self._forms: dict[str, Form] = {}
        self._counting: dict[str, Counting] = {"ner": "tokens"}
        self._judged: set[str] = set()

    def look_at(self, values: Sequence[Any]) -> None:
        """Finds the scheme of the tags in some records, if there are tags besides "O", and what their spans count.

        Raises:
            ValueError: the tags or spans can be read in more than one way.
        """
        sequences: dict[str, list[list[str]]] = {}
        spans: dict[str, list[tuple[Sequence[Span], Sequence[tuple[int, int]]]]] = {}
        for value in values:
            try:
                key, form = self._chosen(value)
                if key is not None and form == "tags":
                    sequences.setdefault(key, []).append(self._tags(value, key))
                elif key is not None and "text" not in value and key not in self._counting:
                    spans.setdefault(key, []).append((self._spans(value, key), join_words(_tokens(value))[1]))
            except ValueError:  # reported when the record is read
                continue
        for key, some in spans.items():
            self._counting[key] = find_counting(some, key)
        for key, found in sequences.items():
            names = self._names(key) if self._is_numbered(values, key) else None
            scheme = find_scheme([names] if names else found)
            if scheme:
                self.schemes[key] = scheme

    def item(self, record: Record | Item) -> Item:
        """A record as a document, or as a reject."""
        if not isinstance(record, Record):
            return record
        where = f"{self._name}:{record.number}"
        try:
            return record.number, self._document(record.value, where)
        except (ValueError, RecursionError) as error:
            reason = record.place + (str(error) or "JSON nested too deeply")
            raw = record.raw if isinstance(record.raw, str) else repr(record.raw)
            return reject(self._name, record.number, reason, raw)

    def _document(self, value: Any, where: str) -> Document:
        if not isinstance(value, dict):
            raise ValueError(f'expected an object with "text", found {shown(value)}')
        identity = value.get("id", where)
        if isinstance(identity, bool) or not isinstance(identity, str | int):
            raise ValueError(f'"id" must be a string or a whole number, not {shown(identity)}')
        words = None
        if "text" in value:
            text = value["text"]
            if not isinstance(text, str):
                raise ValueError(f'"text" must be a string, not {shown(text)}')
        elif _token_key(value):
            text, words = join_words(_tokens(value))
        else:
            raise ValueError(f'expected "text" or "tokens", found {shown(sorted(value))}')
        key, form = self._chosen(value)
        self._judge(value, key, where)
        if key is None or form is None:
            return Document(str(identity), text, words)
        self._forms[key] = form
        joined = words is not None
        if words is None and (form == "tags" or key == "ner"):
            words = _places(_tokens(value), text)
        if form == "tags":
            spans = self._from_tags(value, key, words or ())
        else:
            spans = self._of_words(self._spans(value, key), words or (), key, joined=joined)
        return Document(str(identity), text, words, spans)

    def _chosen(self, value: dict[str, Any]) -> tuple[str | None, Form | None]:
        """The key of the annotations, and their form."""
        for key in ANNOTATION_KEYS if isinstance(value, dict) else ():
            form = self._form(key, value) if value.get(key) else None
            if form:
                return key, form
        return None, None

    def _form(self, key: str, value: dict[str, Any]) -> Form | None:
        if key in self._forms:
            return self._forms[key]
        held = value[key]
        if key in _SPAN_KEYS and (key == "spans" or is_span_list(held)):
            return "spans"
        tokens = value.get(_token_key(value))
        if key not in _TAG_KEYS or not isinstance(tokens, list):
            return None
        if _are_tags(held) and (key == "ner_tags" or len(held) == len(tokens)):
            return "tags"
        return "spans" if key == "ner" and is_span_list(held) else None  # GLiNER's, which count tokens

    def _judge(self, value: dict[str, Any], read: str | None, where: str) -> None:
        """Records the keys that look like annotations and are not read, at the first value of each."""
        unread = []
        for key, held in value.items():
            if not held or key in self._judged or key in ("id", "text", *TOKEN_KEYS):
                continue
            self._judged.add(key)
            if key == read:
                unread += [f"{key}: {label}" for label in unread_labels(held)]
            elif key not in self._forms and _look_like_annotations(key, held, value):
                unread.append(key)
        for key in unread:
            self._unread.setdefault(key, where)

    def _from_tags(self, value: dict[str, Any], key: str, words: Sequence[tuple[int, int]]) -> tuple[Span, ...]:
        tags = self._tags(value, key)
        try:
            scheme = self.schemes.get(key) or find_scheme([tags]) or PLAIN
            return tags_to_spans(tags, words, scheme)
        except ValueError as error:
            raise ValueError(f'"{key}": {error}') from None

    def _of_words(
        self, spans: Sequence[Span], words: Sequence[tuple[int, int]], key: str, *, joined: bool
    ) -> tuple[Span, ...]:
        """Spans in characters; in a record without a text, spans may count tokens."""
        if not joined and key != "ner":
            return tuple(spans)
        if key not in self._counting:
            self._counting[key] = find_counting([(spans, words)], key)
        return to_characters(spans, words, self._counting[key], key)

    def _spans(self, value: dict[str, Any], key: str) -> tuple[Span, ...]:
        return parse_spans(value[key], key, lambda label: self._named(label, key))

    def _tags(self, value: dict[str, Any], key: str) -> list[str]:
        held = value[key]
        if not _are_tags(held):
            raise ValueError(f'"{key}" must be a list of tags, all names or all numbers, not {shown(held)}')
        return [self._named(tag, key) for tag in held]

    def _is_numbered(self, values: Sequence[Any], key: str) -> bool:
        held = [value.get(key) for value in values if isinstance(value, dict)]
        return any(type(tags[0]) is int for tags in held if tags and _are_tags(tags))

    def _names(self, key: str) -> Sequence[str]:
        return self._tag_names or self._own_names.get(key, ())

    def _named(self, label: Any, key: str) -> Any:
        if type(label) is not int:
            return label
        names = self._names(key)
        if not names:
            raise ValueError(
                f'"{key}" holds numbers such as {label}, and nothing says what they mean: give their names in order '
                "with --tag-names O,B-person,I-person (or a file with one name per line)"
            )
        if not 0 <= label < len(names):
            raise ValueError(f'"{key}" holds the number {label}; there are names for 0 to {len(names) - 1}')
        return names[label]


def _token_key(value: dict[str, Any]) -> str:
    """The key of the tokens; "" without tokens."""
    return next((key for key in TOKEN_KEYS if isinstance(value.get(key), list)), "tokens" if "tokens" in value else "")


def _tokens(value: dict[str, Any]) -> list[str]:
    key = _token_key(value)
    held = value.get(key)
    if isinstance(held, list):
        words = [token.get("text") if isinstance(token, dict) else token for token in held]  # prodigy's are objects
        good = [word for word in words if isinstance(word, str) and word]
        if len(good) == len(held):
            return good
    raise ValueError(f'"{key or "tokens"}" must be a list of words, none of them empty, not {shown(held)}')


def _places(words: Sequence[str], text: str) -> tuple[tuple[int, int], ...]:
    """The `(start, end)` of each token in the text."""
    places, end = [], 0
    for word in words:
        start = text.find(word, end)
        if start < 0:
            raise ValueError(
                f'the tokens must stand in "text", one after the other; {shown(word)} does not; correct one of them, '
                'or leave "text" out'
            )
        end = start + len(word)
        places.append((start, end))
    return tuple(places)


def _are_tags(value: Any) -> bool:
    return isinstance(value, list) and {type(tag) for tag in value} in ({str}, {int})


def _look_like_annotations(key: str, value: Any, record: dict[str, Any]) -> bool:
    if key in _MEAN_NOTHING_ELSE:
        return True
    if is_span_list(value):
        item = value[0] if isinstance(value, list) else value
        return any(name in item for name in LABELS) if isinstance(item, dict) else isinstance(item[-1], str)
    if not _are_tags(value):
        return False
    if type(value[0]) is str and OUTSIDE in value:
        return True
    tokens = record.get(_token_key(record))
    return isinstance(tokens, list) and len(tokens) == len(value) and is_tag_name(key)


def is_tag_name(key: str) -> bool:
    """Whether the name of a key or column is one that tags usually have."""
    return any(part in key.lower() for part in ("tag", "label", "ner"))
