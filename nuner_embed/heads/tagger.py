"""An encoder and a probe on it: texts in, mentions out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from nuner_embed.arguments import Texts, as_documents
from nuner_embed.documents import Document, Span
from nuner_embed.encoders.loader import load_encoder, load_named_encoder
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import ModelError, ProbeError
from nuner_embed.files import expand
from nuner_embed.heads.defaults import EVEN_THRESHOLD
from nuner_embed.heads.features import Progress, embed_words, silent
from nuner_embed.heads.io import ProbeFacts, read_probe, save_probe
from nuner_embed.heads.labelled_words import WordFeatures, runs_of, shortened
from nuner_embed.heads.linear import Floats, ProbeWeights
from nuner_embed.heads.prevalence import prevalence_sample, rare_threshold
from nuner_embed.tables import Ints

_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Tagger:
    """Finds mentions of the types that a probe was trained on.

    Attributes:
        encoder: frozen; embeds the words.
        weights: of the probe, which says of each word which type it belongs to, or none.
        facts: what the probe is and what it was trained on.
    """

    encoder: TextEncoder
    weights: ProbeWeights
    facts: ProbeFacts

    @classmethod
    def open(cls, path: str | Path, *, model: str | None = None, threads: int = 0) -> Self:
        """Reads a probe and loads the encoder that it was trained on.

        Args:
            path: the probe's directory.
            model: where the encoder is, in place of where it was.
            threads: 0 for one a core.

        Raises:
            ProbeError: there is no probe, it is damaged, or the encoder is another one.
            ModelError: the encoder cannot be loaded.
        """
        directory = expand(path)
        weights, facts = read_probe(directory)
        try:
            if model is None:  # the probe's word is a stranger's
                encoder = load_named_encoder(facts.model, facts.recipe, facts.semantic_hash, threads=threads)
            else:
                encoder = load_encoder(model, threads=threads, **facts.recipe)
        except ModelError as error:
            if model is not None:
                raise
            raise ModelError(
                f"the probe was trained on {facts.model!r}: {error}; name that model's place with --model"
            ) from None
        if encoder.semantic_hash != facts.semantic_hash:
            raise ProbeError(
                f"{directory} was trained on {facts.model} ({facts.semantic_hash[:12]}), not on "
                f"{encoder.source or 'this encoder'} ({encoder.semantic_hash[:12]}); a probe reads the embeddings of "
                "its own encoder and recipe only"
            )
        return cls(encoder, weights, facts)

    def save(self, path: str | Path) -> None:
        """Writes the probe, not the encoder, as a directory, in place of a probe that is there.

        Raises:
            ProbeError: something else is there.
        """
        save_probe(expand(path), self.weights, self.facts)

    def __repr__(self) -> str:
        return f"Tagger({len(self.types)} types: {shortened(self.types)}; {self.encoder!r})"

    @property
    def types(self) -> tuple[str, ...]:
        """The types it knows."""
        return self.facts.types

    def label(self, features: WordFeatures, types: Sequence[str] | None = None, threshold: float | None = None) -> Ints:
        """The class of each word, (n,): 0 for none, else 1 + the place of its type in `types`, which is the probe's own
        list unless another is given; words of types that stand in the probe's list alone become none. The threshold is
        as in `tag`.
        """
        if threshold is None:
            codes = self.weights.predict(features.vectors)
        else:
            codes = self.weights.classes[self._best(self.weights.probabilities(features.vectors), threshold)]
        if types is None:
            return codes
        place = {name: 1 + i for i, name in enumerate(types)}
        renumbered: Ints = np.array([0, *(place.get(name, 0) for name in self.types)], dtype=np.int64)[codes]
        return renumbered

    def tag(self, documents: Texts, threshold: float | None = None) -> list[Document]:
        """Copies of documents whose spans are the mentions found, scored with the mean probability of their words.

        Args:
            documents: texts or documents, or one; the ids of texts are their places in the list. The documents' own
                spans are not looked at.
            threshold: how probable the best type of a word must be, beside no type at all; None for that which the
                probe was made with: 0.5 of a trained one. Lower finds more, higher is more often right; `threshold_for`
                finds the right one where mentions are rare.

        Raises:
            OutOfMemory: one window alone does not fit.
            ValueError: a threshold that is no probability.
        """
        documents = as_documents(documents)
        features = embed_words(self.encoder, documents)
        probabilities = self.weights.probabilities(features.vectors)
        best = self._best(probabilities, threshold)
        runs = runs_of(self.weights.classes[best], features.bounds)
        sums = np.concatenate([[0.0], np.cumsum(probabilities[np.arange(len(best)), best], dtype=np.float64)])
        scores = (sums[runs.last] - sums[runs.first]) / (runs.last - runs.first)
        spans: list[list[Span]] = [[] for _ in documents]
        owners = np.searchsorted(features.bounds, runs.first, side="right") - 1
        for owner, first, last, code, score in zip(
            owners.tolist(), runs.first, runs.last, runs.code, scores.tolist(), strict=True
        ):
            span = Span(int(features.start[first]), int(features.end[last - 1]), self.types[code - 1], score)
            spans[owner].append(span)
        return [replace(document, spans=tuple(found)) for document, found in zip(documents, spans, strict=True)]

    def threshold_for(self, documents: Texts, progress: Progress = silent) -> float:
        """The threshold for texts that may hold far fewer mentions than those that the probe learnt from.

        Examples of a rare type come from sentences that were chosen because they hold the type, and a probe that learnt
        from them alone finds the type too often elsewhere. How often, in some 8,000 words of the texts, decides: see
        `nuner_embed.heads.prevalence.rare_threshold`.

        Args:
            documents: texts or documents, or one; the more there are, the better.
            progress: is told `(what, done, total)` while texts are encoded.

        Returns:
            What `tag` is to be given: from 0.5, where the texts hold as much as that or fewer than 1,000 words, to 0.9.
            Of a probe that learnt from a background too, or was made of names, it is the probe's own threshold.

        Raises:
            OutOfMemory: one window alone does not fit.
        """
        training = self.facts.training
        sample: list[Document] = []
        if training.mention_words and not training.background_words:
            sample = prevalence_sample(as_documents(documents))
        if not sample:
            return self._own_threshold
        words = found = 0
        for first in range(0, len(sample), _AT_ONCE):
            progress("counting mentions", first, len(sample))
            codes = self.weights.predict(embed_words(self.encoder, sample[first : first + _AT_ONCE]).vectors)
            words += len(codes)
            found += int(np.count_nonzero(codes))
        progress("counting mentions", len(sample), len(sample))
        return rare_threshold(training.mention_words / training.words, found / max(1, words))

    def _best(self, probabilities: Floats, threshold: float | None) -> Ints:
        """Which column of the probabilities each word gets, (n,)."""
        weighed = probabilities.copy()
        weighed[:, self.weights.classes == 0] *= self._odds_asked_for(threshold)
        best: Ints = weighed.argmax(axis=1)
        return best

    @property
    def _own_threshold(self) -> float:
        return float(self.facts.parameters.get("threshold", EVEN_THRESHOLD))  # of a probe that was made of names

    def _odds_asked_for(self, threshold: float | None) -> float:
        """How many times as probable as no type a type must be, over what the probe's weights ask for already."""
        if threshold is None:
            return 1.0
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, not {threshold!r}")
        return threshold / (1 - threshold) / (self._own_threshold / (1 - self._own_threshold))
