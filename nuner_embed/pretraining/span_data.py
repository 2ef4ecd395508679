"""The data of the objective spans: embedded words, the spans that are mentions, and the concepts of each.

The pieces of `Examples` are whole documents here, and their tokens are words, numbered through all documents.
"""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nuner_embed.arguments import Paths, Progress, as_paths
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.documents import Document
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import PretrainingError
from nuner_embed.heads.features import FeatureCache
from nuner_embed.heads.span_scorer import WIDTH, Floats, Rows
from nuner_embed.pretraining.data import Prepared, drawn, select
from nuner_embed.pretraining.examples import Batch, Examples
from nuner_embed.pretraining.folder import FEATURES
from nuner_embed.pretraining.settings import PretrainSettings
from nuner_embed.pretraining.span_network import SpanBatch
from nuner_embed.pretraining.thesaurus import Thesaurus
from nuner_embed.tables import Ints

_NAMES_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class Concepts:
    """The concepts of a corpus, and those that a thesaurus adds.

    Attributes:
        vectors: of all concepts, (c, dim); those of the labels of the corpus come first, in their order.
        related: for each label, the concepts that hold for its mentions, its own among them.
    """

    vectors: Floats
    related: Sequence[Ints]

    @classmethod
    def of(
        cls, labels: Sequence[str], thesaurus: Thesaurus | None, encoder: ConceptEncoder, progress: Progress
    ) -> "Concepts":
        """Encodes the labels of a corpus and what the thesaurus has for them; names that are none are left out."""
        others = [thesaurus.others(label) if thesaurus else () for label in labels]
        place = {label: number for number, label in enumerate(labels)}
        further = dict.fromkeys(name for names in others for name in names if encoder.takes(name))
        for name in further:
            place.setdefault(name, len(place))
        related = [
            np.array(sorted({number, *(place[name] for name in those if name in place)}), np.int64)
            for number, those in enumerate(others)
        ]
        names, parts = list(place), []
        for first in range(0, len(names), _NAMES_AT_ONCE):
            parts.append(encoder.encode(names[first : first + _NAMES_AT_ONCE]))
            progress("encoding concepts", min(first + _NAMES_AT_ONCE, len(names)), len(names))
        return cls(np.concatenate(parts), related)


@dataclass(frozen=True, slots=True)
class SpanSource:
    """Makes the batches of the objective spans.

    Attributes:
        examples: documents with their mentions.
        words: embeddings of the words, (n, dim).
        concepts: of the mentions.
        device: of the tensors.
    """

    examples: Examples
    words: Floats
    concepts: Concepts
    device: torch.device

    def feed(self, batch: Batch) -> tuple[SpanBatch]:
        """The spans of some documents."""
        pieces = batch.pieces
        bounds = np.concatenate([[0], np.cumsum(self.examples.lengths[pieces])])
        words = [self.words[self.examples.bounds[i] : self.examples.bounds[i + 1]] for i in pieces]
        rows = Rows.of(np.concatenate(words), bounds)
        first, length = rows.spans()
        mention, of_each = self._mentions(pieces, bounds, rows, first, length)
        columns = np.unique(np.concatenate([self.concepts.related[label] for label in batch.labels]))
        holds = np.zeros((len(mention), len(columns)), np.float32)
        for row, labels in enumerate(of_each):
            for label in labels:
                holds[row, np.searchsorted(columns, self.concepts.related[label])] = 1
        numbers = (length - 1) * len(rows.room) + first
        arrays = (
            rows.vectors,
            numbers,
            mention,
            first[mention],
            length[mention],
            self.concepts.vectors[columns],
            holds,
        )
        return (SpanBatch(*(torch.from_numpy(one).to(self.device) for one in arrays)),)

    def _mentions(
        self, pieces: Ints, bounds: Ints, rows: Rows, first: Ints, length: Ints
    ) -> tuple[Ints, list[list[int]]]:
        """Which of the spans are mentions, and the labels of each of these."""
        examples, labels = self.examples, dict[int, list[int]]()
        size = len(rows.room)
        for begin, piece in zip(bounds[:-1].tolist(), pieces.tolist(), strict=True):
            here = examples.ranges_of(piece)
            for a, b, label in zip(examples.first[here], examples.last[here], examples.label[here], strict=True):
                labels.setdefault(int((b - a) * size + rows.row[begin + a]), []).append(int(label))
        wanted = np.array(sorted(labels), np.int64)
        return np.searchsorted(length * size + first, wanted), [labels[code] for code in wanted.tolist()]


@dataclass(frozen=True, slots=True)
class AnnotatedCorpus:
    """What a span head is trained on.

    Attributes:
        data: files or directories of the corpus.
        reading: further options of `Corpus`.
        thesaurus: further names of the concepts; None for none.
        work: the folder of the run, for the embeddings of words.
    """

    data: Paths
    reading: Mapping[str, Any]
    thesaurus: Thesaurus | None
    work: Path

    def prepare(
        self, encoder: TextEncoder, concepts: ConceptEncoder, settings: PretrainSettings, progress: Progress
    ) -> tuple[Prepared, Floats]:
        """Reads the corpus, and embeds its words.

        Args:
            encoder: of the words.
            concepts: of the labels; mentions whose label is no name to it are left out.
            settings: all values.
            progress: is told `(what, done, total)`.

        Returns:
            The data, and the embeddings of the words, (n, dim).

        Raises:
            CorpusError: the corpus cannot be read.
            PretrainingError: the corpus holds nothing to learn from.
        """
        what = ", ".join(map(str, as_paths(self.data)))
        with Corpus(self.data, **self.reading) as corpus:
            survey = corpus.survey()
            if not survey.spans:
                raise PretrainingError(
                    f"{what} holds no annotated mention; nuner-embed annotate makes such a corpus, or give one with "
                    "spans"
                )
            documents = [one for one in corpus if isinstance(one, Document)]
            files = tuple(file.name for file in corpus.files)
        if settings.sample is not None:  # before the texts are embedded
            kept = drawn(_hashes(documents), settings.sample, settings.seed)
            documents = list(compress(documents, kept))
        words = FeatureCache(self.work / FEATURES, encoder).features(documents, progress)
        prepared = select(_examples(documents, words, concepts), settings, files, survey.sha256, what)
        return prepared, np.asarray(words.vectors, np.float32)[prepared.examples.ids]


def _examples(documents: Sequence[Document], words: WordFeatures, concepts: ConceptEncoder) -> Examples:
    labels: dict[str, int] = {}
    takes = functools.cache(concepts.takes)
    rows: list[tuple[int, int, int, int]] = []
    lost = 0
    for number, document in enumerate(documents):
        here = slice(words.bounds[number], words.bounds[number + 1])
        start, end = words.start[here], words.end[here]
        for span in document.spans:
            if not span.label:
                continue
            first = int(np.searchsorted(end, span.start, side="right"))
            last = int(np.searchsorted(start, span.end, side="left"))
            if 0 < last - first <= WIDTH and takes(span.label):
                rows.append((number, first, last, labels.setdefault(span.label, len(labels))))
            else:
                lost += 1
    piece, first_word, last_word, label = np.array(rows, np.int64).reshape(-1, 4).T
    return Examples(
        ids=np.arange(len(words.start), dtype=np.int32),
        bounds=words.bounds,
        text=_hashes(documents),
        piece=piece,
        first=first_word,
        last=last_word,
        label=label,
        labels=tuple(labels),
        specials=(0, 0),
        documents=len(documents),
        lost=lost,
    )


def _hashes(documents: Sequence[Document]) -> NDArray[np.uint64]:
    hashes = [int.from_bytes(hashlib.sha256(one.text.encode()).digest()[:8], "little") for one in documents]
    return np.array(hashes, np.uint64)
