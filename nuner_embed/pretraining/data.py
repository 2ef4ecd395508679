"""From an annotated corpus to the pieces for training and the held-out pieces.

Samples of texts and the most frequent concepts are selected here too.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arguments import Paths, Progress, as_paths
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.documents import Document
from nuner_embed.errors import PretrainingError
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.pretraining.examples import Examples, concepts_of, make_examples, tags_of
from nuner_embed.pretraining.settings import PretrainSettings
from nuner_embed.tables import Ints

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads seeds over all bits


def draw_texts(examples: Examples, number: int, seed: int) -> Examples:
    """Draws a number of texts at random, as in section 5.3 of the paper; all texts if there are no more.

    A text that occurs twice in the corpus counts once.
    """
    return _of_pieces(examples, drawn(examples.text, number, seed))


def drawn(text: NDArray[np.uint64], number: int, seed: int) -> NDArray[np.bool_]:
    """Which pieces, or texts, belong to the texts that are drawn, (e,); see `Examples.text`."""
    return np.isin(text, _shuffled(text, seed)[:number])


def keep_top_concepts(examples: Examples, number: int) -> Examples:
    """The same texts with the annotations of the most frequent concepts alone, as in section 5.2."""
    counts = np.bincount(examples.label, minlength=len(examples.labels))
    # the more frequent first; among equals, by name
    order = sorted(range(len(examples.labels)), key=lambda i: (-counts[i], examples.labels[i]))[:number]
    kept = np.isin(examples.label, order)
    place = np.zeros(len(examples.labels), np.int64)
    place[order] = np.arange(len(order))
    return replace(
        examples,
        piece=examples.piece[kept],
        first=examples.first[kept],
        last=examples.last[kept],
        label=place[examples.label[kept]],
        labels=tuple(examples.labels[i] for i in order),
    )


def merge_labels(examples: Examples, same: Sequence[Hashable]) -> Examples:
    """Merges labels that the concept encoder cannot tell apart, such as "Person" and "person" for an uncased model.

    Unmerged, each would be a negative of the other.

    Args:
        examples: with all labels.
        same: the encoder's input for each label; of labels with equal inputs the first is kept.
    """
    place: dict[Hashable, int] = {}
    number = np.array([place.setdefault(one, len(place)) for one in same], np.int64)
    if len(place) == len(same):
        return examples
    names = [""] * len(place)
    for name, i in zip(reversed(examples.labels), reversed(number.tolist()), strict=True):
        names[i] = name
    return replace(examples, label=number[examples.label], labels=tuple(names))


def hold_out(examples: Examples, share: float, seed: int) -> tuple[Ints, Ints]:
    """Splits pieces into a training and a held-out part by text: no text is in both parts.

    Returns:
        Numbers of the pieces of each part. With a share above 0, at least one text is held out, if there are two.
    """
    order = _shuffled(examples.text, seed)
    number = min(max(1, round(share * len(order))), len(order) - 1) if share else 0
    out = np.isin(examples.text, order[:number])
    return np.flatnonzero(~out), np.flatnonzero(out)


def _shuffled(text: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """The numbers of the texts, each once, in a random order that depends on the numbers and the seed alone."""
    unique = np.unique(text)
    with np.errstate(over="ignore"):
        mixed = (unique ^ (np.uint64(seed) * _MIX)) * _MIX
    mixed ^= mixed >> np.uint64(32)
    return unique[np.argsort(mixed, kind="stable")]


def _of_pieces(examples: Examples, kept: NDArray[np.bool_]) -> Examples:
    """The kept pieces with their ranges, and only the labels that are still used."""
    lengths = examples.lengths
    place = np.cumsum(kept) - 1
    ranges = kept[examples.piece]
    used, label = np.unique(examples.label[ranges], return_inverse=True)
    return replace(
        examples,
        ids=examples.ids[np.repeat(kept, lengths)],
        bounds=np.concatenate([[0], np.cumsum(lengths[kept])]),
        text=examples.text[kept],
        piece=place[examples.piece[ranges]],
        first=examples.first[ranges],
        last=examples.last[ranges],
        label=label.astype(np.int64),
        labels=tuple(examples.labels[i] for i in used),
        documents=len(np.unique(examples.text[kept])),
    )


# Longest concept name; the longest of the 34,470 in our data has 16 tokens.
_CONCEPT_TOKENS = 64


@dataclass(frozen=True)
class Prepared:
    """The data of a run.

    Attributes:
        examples: all pieces.
        train, held_out: numbers of the pieces of each part.
        files: names of the corpus's files.
        sha256: of the corpus's contents.
    """

    examples: Examples
    train: Ints
    held_out: Ints
    files: tuple[str, ...]
    sha256: str

    def facts(self, kind: str) -> dict[str, Any]:
        """Facts about the data as JSON values; `kind` names what the labels are."""
        return {
            "files": list(self.files),
            "sha256": self.sha256,
            "texts": self.examples.documents,
            "pieces": len(self.examples),
            "mentions": len(self.examples.label),
            "mentions_lost": self.examples.lost,
            "labels": len(self.examples.labels),
            "kind": kind,
            "held_out": len(self.held_out),
        }


def prepare(
    data: Paths,
    reading: Mapping[str, Any],
    tokenizer: TextTokenizer,
    settings: PretrainSettings,
    max_length: int,
    progress: Progress,
) -> Prepared:
    """Reads an annotated corpus, as the options of `Corpus` in `reading` say, and tokenizes it.

    Raises:
        CorpusError: the corpus cannot be read.
        PretrainingError: the corpus holds nothing to learn from.
    """
    tags = settings.objective == "token-classification"
    with Corpus(data, **reading) as corpus:
        survey = corpus.survey()
        what = ", ".join(map(str, as_paths(data)))
        if not survey.spans:
            raise PretrainingError(
                f"{what} holds no annotated mention; nuner-embed annotate makes such a corpus, or give one with spans"
            )
        documents: Iterator[Document] = (item for item in corpus if isinstance(item, Document))
        examples = make_examples(
            documents,
            tokenizer,
            max_length,
            tags_of if tags else concepts_of,
            first_token_only=tags,
            progress=lambda done: progress("tokenizing", done, survey.documents),
        )
        files = tuple(file.name for file in corpus.files)
    if not tags:
        seen = [tuple(ids.tolist()) for ids, _ in tokenizer.encode(list(examples.labels))]
        examples = merge_labels(examples, seen)
    return select(examples, settings, files, survey.sha256, what)


def select(examples: Examples, settings: PretrainSettings, files: tuple[str, ...], sha256: str, what: str) -> Prepared:
    """Takes the sample and the concepts that the settings ask for, and splits off the held-out part.

    Args:
        examples: of the whole corpus.
        settings: all values.
        files: names of the corpus's files.
        sha256: of the corpus's contents.
        what: the corpus, for messages.

    Raises:
        PretrainingError: there is nothing to learn from.
    """
    if settings.sample is not None:
        examples = draw_texts(examples, settings.sample, settings.seed)
    if settings.top_concepts is not None:
        examples = keep_top_concepts(examples, settings.top_concepts)
    train, held_out = hold_out(examples, settings.validation, settings.seed)
    if not np.isin(examples.piece, train).any():
        raise PretrainingError(
            f"{what} holds no mention with a concept in its training part; there is nothing to learn"
        )
    return Prepared(examples, train, held_out, files, sha256)


def tokenized_names(names: Sequence[str], tokenizer: TextTokenizer) -> tuple[NDArray[np.int32], Ints, list[str]]:
    """Token ids of concept names one after the other, (n,), their bounds, (c + 1,), and names too long to be whole."""
    room = _CONCEPT_TOKENS - tokenizer.specials
    encoded = [ids for ids, _ in tokenizer.encode(list(names))]
    cut = [name for name, ids in zip(names, encoded, strict=True) if len(ids) > room]
    whole = [np.concatenate([tokenizer.prefix, ids[:room], tokenizer.suffix]).astype(np.int32) for ids in encoded]
    return np.concatenate(whole), np.cumsum([0, *map(len, whole)], dtype=np.int64), cut
