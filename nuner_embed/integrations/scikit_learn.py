"""Texts and mentions as features, by transformers that fit into scikit-learn's pipelines and searches."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from nuner_embed.arguments import as_documents
from nuner_embed.corpora.txt import unmark
from nuner_embed.documents import Document, Span
from nuner_embed.encoders.loader import load_encoder
from nuner_embed.encoders.mentions import EmbeddedTokens
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.models.known import DEFAULT_MODEL

_AT_ONCE = 512  # documents, whose token embeddings are held at a time
_LOADED = 2  # encoders that stay in memory


@functools.lru_cache(maxsize=_LOADED)
def _encoder(model: str, normalize: bool | None, threads: int) -> TextEncoder:
    """A search clones its pipeline for every fit; the clones share one encoder."""
    return load_encoder(model, threads=threads, normalize=normalize)


class _Vectorizer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What both vectorizers share: parameters, and an encoder that is neither fitted nor pickled."""

    def __init__(self, *, model: str = DEFAULT_MODEL, normalize: bool | None = None, threads: int = 0) -> None:
        self.model = model
        self.normalize = normalize
        self.threads = threads

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Loads the encoder, which is frozen: nothing is learnt.

        Raises:
            NunerEmbedError: the model cannot be loaded.
        """
        self._encoder()
        return self

    def transform(self, X: Iterable[str | Document]) -> NDArray[np.float32]:
        """The features of texts, (n, dim) float32.

        Raises:
            TypeError: X is one string, or holds something else than texts and documents.
            ValueError: see the class.
            OutOfMemory: one window alone does not fit.
        """
        if isinstance(X, str | Document):
            raise TypeError(f"expected a list of texts, found one {type(X).__name__}; write [text]")
        encoder = self._encoder()
        parts = [self._rows(encoder, self._documents(some)) for some in _groups(X)]
        return np.concatenate([np.empty((0, encoder.dim), np.float32), *parts])

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.requires_fit = False
        return tags

    @property
    def _n_features_out(self) -> int:
        return self._encoder().dim

    def _encoder(self) -> TextEncoder:
        return _encoder(self.model, self.normalize, self.threads)

    def _documents(self, texts: Sequence[str | Document]) -> list[Document]:
        return as_documents(texts)

    def _rows(self, encoder: TextEncoder, documents: Sequence[Document]) -> NDArray[np.float32]:
        raise NotImplementedError


class TextVectorizer(_Vectorizer):
    """A vector for each text: the mean of the embeddings of all its tokens; zeros for a text without any.

        make_pipeline(TextVectorizer(), LogisticRegression()).fit(texts, labels)

    Args:
        model: a Hugging Face or exported directory, a known name, or a hub name.
        normalize: scale vectors to unit length; None for what the model's recipe says.
        threads: 0 for one for each core.
    """

    def _rows(self, encoder: TextEncoder, documents: Sequence[Document]) -> NDArray[np.float32]:
        table = encoder.tokenize(documents, "token")
        tokens = EmbeddedTokens.of(encoder, table, "window", lambda count: None)
        rows = np.zeros((len(documents), encoder.dim), np.float32)
        inked = table.counts > 0
        rows[inked] = tokens.means(table.bounds[:-1][inked], table.bounds[1:][inked])
        return rows


class MentionVectorizer(_Vectorizer):
    """A vector for one mention in each text: the mean of the embeddings of the mention's tokens, in their context.

    Double brackets mark the mention, as in a query of `nuner-embed search`: "A ferry to [[Oslo]] at noon"; without
    brackets the whole text is the mention. A document has the mention as its only span. The vectors are those of a
    store with rows of mentions; a mention without any token has zeros.

        make_pipeline(MentionVectorizer(), LogisticRegression()).fit(["A ferry to [[Oslo]]", ...], ["city", ...])

    Args:
        model: a Hugging Face or exported directory, a known name, or a hub name.
        normalize: scale vectors to unit length; None for what the model's recipe says.
        threads: 0 for one for each core.

    Raises:
        ValueError: by `transform`: brackets that are not closed, several mentions in a text, or none.
    """

    def _documents(self, texts: Sequence[str | Document]) -> list[Document]:
        documents = as_documents(texts, _marked)
        for document in documents:
            if len(document.spans) != 1:
                raise ValueError(
                    f"each text has one mention, as in 'A ferry to [[Oslo]]'; {document.text[:60]!r} has "
                    f"{len(document.spans)}"
                )
        return documents

    def _rows(self, encoder: TextEncoder, documents: Sequence[Document]) -> NDArray[np.float32]:
        embedded = encoder.encode_rows(encoder.tokenize(documents, "mention"), "mention")
        rows = np.zeros((len(documents), encoder.dim), np.float32)
        rows[embedded.rows.document] = embedded.vectors
        return rows


def _groups(texts: Iterable[str | Document]) -> Iterator[list[str | Document]]:
    left = iter(texts)
    while some := list(islice(left, _AT_ONCE)):
        yield some


def _marked(identity: str, text: str) -> Document:
    plain, spans = unmark(text, labelled=False)
    whole = plain.strip()
    if not spans and whole:
        start = plain.index(whole)
        spans = (Span(start, start + len(whole)),)
    return Document(identity, plain, spans=spans)
