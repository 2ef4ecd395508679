"""The mentions that a detector finds in documents, embedded once, so that many typers can be scored on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy.special import expit

from nuner_embed.documents import Document
from nuner_embed.encoders.mentions import SpanFinder, WordFeatures, embed_detected
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.evaluation.metrics import Scores
from nuner_embed.heads.base import SpanTyper
from nuner_embed.heads.labelled_words import UNLABELLED, Runs, WordLabels


@dataclass(frozen=True, slots=True)
class DetectedMentions:
    """Mentions of documents.

    Attributes:
        runs: the words of each mention; the codes are all 1.
        vectors: of the mentions, the means of their tokens, (m, dim).
        documents: how many were looked at.
    """

    runs: Runs
    vectors: np.ndarray[Any, np.dtype[np.float32]]
    documents: int

    @classmethod
    def of(cls, encoder: TextEncoder, detector: SpanFinder, documents: Sequence[Document], words: WordFeatures) -> Self:
        """Finds and embeds the mentions; `words` are those of the documents."""
        embedded = embed_detected(encoder, encoder.tokenize(documents, "word"), detector)
        bounds = np.searchsorted(embedded.rows.document, np.arange(len(documents) + 1))
        spans = embedded.found or ()
        marked = [replace(one, spans=spans[bounds[i] : bounds[i + 1]]) for i, one in enumerate(documents)]
        labels = WordLabels.of(marked, words, [UNLABELLED])
        assert len(labels.mentions.first) == len(embedded.vectors)
        return cls(labels.mentions, np.asarray(embedded.vectors, np.float32), len(documents))

    def score(self, typer: SpanTyper, threshold: float, types: Sequence[str], annotated: WordLabels) -> Scores:
        """What `score_tagger` gives for a head of these mentions and the typer, on documents labelled with `types`."""
        odds = typer.score(self.vectors)
        kept = expit(odds.max(axis=1)) >= threshold
        code = np.array([1 + types.index(name) for name in typer.types])[odds[kept].argmax(axis=1)]
        runs = Runs(self.runs.first[kept], self.runs.last[kept], code)
        codes = np.zeros(len(annotated.codes), np.int64)
        for first, last, of_type in zip(runs.first.tolist(), runs.last.tolist(), runs.code.tolist(), strict=True):
            codes[first:last] = of_type
        return Scores.of(types, annotated, codes, runs, self.documents)
