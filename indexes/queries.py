"""The vector that is searched for, from a mention in its context or from examples; and files of queries."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arguments import Texts
from nuner_embed.corpora.marked import as_marked_documents, marked_document
from nuner_embed.corpora.records import Reject
from nuner_embed.corpora.streams import read_lines
from nuner_embed.documents import Document
from nuner_embed.errors import CorpusError, IndexBundleError, NunerEmbedError, StoreMismatch
from nuner_embed.files import expand
from nuner_embed.indexes.index import Index
from nuner_embed.indexes.vectors import Floats, prepared
from nuner_embed.metadata import parse
from nuner_embed.tables import Granularity

if TYPE_CHECKING:
    from nuner_embed.encoders.base import Encoder

NEGATIVE = "-"
# From so many examples on, the covariance of the rows is taken into account: with 8 the centre is as good, with 16 no
# longer (benchmarks/centring.py, results/centring.md).
_LINEAR_FROM = 10
_BACKGROUND_ROWS = 20_000
# The mean of fewer rows may be that of the very kind that is looked for; the sets that were measured have more.
_FEWEST_ROWS = 1_000
# Vectors whose squared distance is at most this share of their squared length are equal within float16 rounding.
_ALIKE = 1e-6


def embed_mentions(index: Index, encoder: "Encoder", documents: Texts) -> Floats:
    """A vector for each span of the documents, in order, pooled as the index's rows are: (spans, dim) float32.

    For an index of words or tokens it is the mean of those that share characters with the span.

    Args:
        index: to search.
        encoder: the encoder of the index.
        documents: with spans; or texts, each with one mention in double brackets, see `marked_document`.

    Raises:
        StoreMismatch: the encoder is not the one that the index was made with.
        IndexBundleError: a span that no token stands for.
    """

    require_encoder(index, encoder)
    documents = as_marked_documents(documents)
    granularity: Granularity = next(name for name in get_args(Granularity) if name == index.bundle.granularity)
    table = encoder.tokenize(documents, granularity)
    embedded = encoder.encode_rows(table, granularity)
    rows = embedded.rows
    bounds = np.searchsorted(rows.document, np.arange(len(documents) + 1))
    vectors = []
    for document, a, b in zip(documents, bounds[:-1], bounds[1:], strict=True):
        for number, span in enumerate(document.spans):
            if granularity == "mention":
                here = rows.index[a:b] == number
            else:
                here = (rows.start[a:b] < span.end) & (rows.end[a:b] > span.start)
            if not here.any():
                raise IndexBundleError(
                    f"{document.id}: there is no token for {document.text[span.start : span.end]!r}; mark another "
                    "mention"
                )
            vectors.append(embedded.vectors[a:b][here].mean(axis=0))
    found = np.array(vectors, dtype=np.float32).reshape(-1, encoder.dim)
    return prepared(found, "cosine") if encoder.recipe.normalize else found


def require_encoder(index: Index, encoder: "Encoder") -> None:
    """Checks that an encoder is the one that made the vectors of an index.

    Raises:
        StoreMismatch: it is another one; the message names both.
    """
    if encoder.semantic_hash != index.bundle.semantic_hash:
        raise StoreMismatch(
            f"{index.path} was made with {index.bundle.model or 'another model'} ({index.bundle.semantic_hash[:12]}), "
            f"not with {encoder.source or 'this encoder'} ({encoder.semantic_hash[:12]}); vectors of two encoders or "
            "recipes cannot be compared"
        )


@dataclass(frozen=True, slots=True)
class Examples:
    """Mentions as examples of what a search is to find, and of what it is not to find.

    Attributes:
        positives: vectors of mentions to find more of, (p, dim), p at least 1.
        negatives: vectors of mentions not to find, (n, dim).
    """

    positives: Floats
    negatives: Floats

    def query(self, index: Index, seed: int = 0) -> tuple[Floats, str]:
        """The vector to search for, (dim,), and how it was made.

        Of one example: its own vector. Of two to nine examples: the centre of the positives, moved away from the centre
        of the negatives and, in an index of 1,000 rows or more whose metric is not l2, seen from the mean of the rows,
        since examples share with all rows what does not tell them apart (benchmarks/centring.py). From ten on, unless
        the metric is l2: the direction that separates the positives best from the rows, by linear discriminant
        analysis. Where the examples do not stand out from the rows, the centre itself.
        """
        metric = index.bundle.metric
        positives, negatives = prepared(self.positives, metric), prepared(self.negatives, metric)
        number = len(positives) + len(negatives)
        centre = positives.mean(axis=0)
        away = 0.25 * (negatives.mean(axis=0) - centre) if len(negatives) else 0
        centroid: Floats = (centre - away).astype(np.float32)
        if number == 1 or metric == "l2" or (number < _LINEAR_FROM and len(index) < _FEWEST_ROWS):
            return centroid, "centroid"
        ids = index.ids()
        chosen = np.random.default_rng(seed).choice(ids, min(len(ids), _BACKGROUND_ROWS), replace=False)
        discriminant = Discriminant(index.vectors(np.sort(chosen)))
        if number >= _LINEAR_FROM:
            direction = discriminant.direction(positives, negatives)
            return (centroid, "centroid") if direction is None else (direction, "linear scorer")
        return discriminant.seen_from_mean(centroid), "centroid"


def examples_of(index: Index, encoder: "Encoder", documents: Texts) -> Examples:
    """The spans of some documents as examples; those labelled "-" are negatives. Texts are read as by `embed_mentions`.

    Raises:
        IndexBundleError: there is no positive one.
        StoreMismatch: see `embed_mentions`.
    """
    documents = as_marked_documents(documents)
    labels = [span.label for document in documents for span in document.spans]
    negative = np.array([label == NEGATIVE for label in labels], bool)
    if not len(labels) or negative.all():
        raise IndexBundleError("the examples hold no span to look for; spans with the label '-' are counter-examples")
    vectors = embed_mentions(index, encoder, documents)
    return Examples(vectors[~negative], vectors[negative])


class Discriminant:
    """What tells examples from the rows of an index: their direction from the mean, and linear discriminant analysis.

    Args:
        background: rows of the index, (n, dim).
    """

    def __init__(self, background: Floats) -> None:
        self._background = background
        self._length = self._variance = 0.0
        if len(background) < 2:  # which do not vary
            return
        self._centre = background.mean(axis=0)
        self._length = float(np.square(background).sum(axis=1).mean())
        self._variance = float(background.var(axis=0, ddof=1, dtype=np.float64).sum())

    def seen_from_mean(self, centroid: Floats) -> Floats:
        """A vector less the mean of the rows, (dim,); the vector itself if nothing remains or the rows are alike."""
        if self._variance <= _ALIKE * self._length:
            return centroid
        apart = centroid - self._centre
        return centroid if float(np.square(apart).sum()) <= _ALIKE * self._length else apart

    def direction(self, positives: Floats, negatives: Floats) -> Floats | None:
        """The direction that separates positives from background and negatives, (dim,), by the covariance of the rows.

        None if the background has fewer than two different rows, or if the positives have the same centre as what they
        are to be told from.
        """
        if self._variance <= _ALIKE * self._length:
            return None
        other = (self._centre + negatives.mean(axis=0)) / 2 if len(negatives) else self._centre
        apart = positives.mean(axis=0) - other
        if float(np.square(apart).sum()) <= _ALIKE * self._length:
            return None
        return np.linalg.solve(self._shrunk, apart).astype(np.float32)

    @cached_property
    def _shrunk(self) -> NDArray[np.float64]:
        """The covariance, shrunk half-way to the mean variance: few examples say little about their covariance."""
        covariance: NDArray[np.float64] = np.cov(self._background, rowvar=False).astype(np.float64)
        return covariance + np.eye(len(covariance)) * self._variance / len(covariance)


@dataclass(frozen=True, slots=True)
class Query:
    """A query from a file.

    Attributes:
        id: of the record, or FILE:LINE if it has none.
        query: the text in the file, with brackets.
        document: the text without brackets, with the mention as its span.
    """

    id: str
    query: str
    document: Document


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a `.jsonl`."""

    query: str
    id: str | int | float | None = None


def read_queries(path: str | Path) -> Iterator[Query]:
    """Reads a `.txt` with a query a line, or a `.jsonl` with `{"id"?, "query"}` a line; blank lines are skipped.

    Raises:
        CorpusError: a line that is no query; the message names the line.
    """
    file = expand(path)
    if file.suffix not in (".txt", ".jsonl"):
        raise CorpusError(
            str(path), None, 'expected a .txt file with one query per line, or a .jsonl file with lines {"query": ...}'
        )
    try:
        stream = file.open("rb")
    except OSError as error:
        raise CorpusError(str(path), None, f"cannot be read: {error.strerror}") from None
    with stream:
        for number, line in read_lines(stream, str(path)):
            if isinstance(line, Reject):
                raise CorpusError(str(path), number, line.reason)
            if isinstance(line, str) and line.strip():
                yield _query(str(path), number, line, as_json=file.suffix == ".jsonl")


def _query(name: str, number: int, line: str, *, as_json: bool) -> Query:
    identity = f"{name}:{number}"
    text = line
    try:
        if as_json:
            record = parse(line, _Line)
            text, identity = record.query, identity if record.id is None else str(record.id)
        return Query(identity, text, marked_document(text, identity))
    except json.JSONDecodeError as error:
        raise CorpusError(name, number, f"broken JSON at character {error.colno}: {error.msg}") from None
    except ValueError as error:
        raise CorpusError(name, number, f'expected an object with "query", a string, and "id" ({error})') from None
    except NunerEmbedError as error:
        raise CorpusError(name, number, str(error)) from None
