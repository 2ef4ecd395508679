"""An encoder with a head: finds mentions in texts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from nuner_embed.arguments import Progress, Texts, as_documents, silent
from nuner_embed.documents import Document
from nuner_embed.encoders.loader import load_encoder, load_named_encoder
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import ModelError, ProbeError
from nuner_embed.files import expand
from nuner_embed.heads.base import Head, require_encoder
from nuner_embed.heads.io import head_folder, open_head
from nuner_embed.heads.labelled_words import shortened

H = TypeVar("H", bound=Head, covariant=True)


@dataclass(frozen=True, slots=True)
class Tagger(Generic[H]):
    """Finds mentions of the types that a head tells apart.

    Attributes:
        encoder: frozen; embeds the texts.
        head: of any kind; see `nuner_embed.heads.base`.
    """

    encoder: TextEncoder
    head: H

    @staticmethod
    def open(path: str | Path, *, model: str | None = None, threads: int = 0) -> "Tagger[Head]":
        """Reads a saved head and loads its encoder.

        Args:
            path: the head's directory, or that of a fine-tuned model.
            model: the encoder's name or directory, in place of the one in the head; a fine-tuned model has its own.
            threads: 0 for one a core.

        Raises:
            ProbeError: there is no head, it is damaged, or the encoder is another one.
            ModelError: the encoder cannot be loaded.
        """
        head = open_head(path)
        facts = head.facts
        if model is None and head_folder(path) != expand(path):
            model = str(path)
        try:
            if model is None:  # the name comes from a file, which may come from somebody else
                encoder = load_named_encoder(facts.model, facts.recipe, facts.semantic_hash, threads=threads)
            else:
                encoder = load_encoder(model, threads=threads, **facts.recipe)
        except ModelError as error:
            if model is not None:
                raise
            raise ModelError(
                f"the probe was trained on {facts.model!r}: {error}; name that model's place with --model"
            ) from None
        try:
            require_encoder(head, encoder)
        except ProbeError as error:
            raise ProbeError(f"{path}: {error}") from None
        return Tagger(encoder, head)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Writes the head, without the encoder, as a directory; see `Head.save`."""
        self.head.save(path, force=force)

    def __repr__(self) -> str:
        return f"Tagger({len(self.types)} types: {shortened(self.types)}; {self.encoder!r})"

    @property
    def types(self) -> tuple[str, ...]:
        """The types that the head tells apart."""
        return self.head.types

    def tag(self, documents: Texts, threshold: float | None = None, *, scores: bool = False) -> list[Document]:
        """Copies of documents whose spans are the mentions found, each with its type and a probability.

        Args:
            documents: texts or documents, or one; the ids of texts are their places in the list.
            threshold: how probable a type must be; None for the head's own, which is 0.5 for a trained probe. A lower
                threshold finds more, a higher one is more often right; `threshold_for` gives the threshold for texts in
                which mentions are rare.
            scores: also give each span the probability of every type, as `Span.scores`. Those of a linear head are
                means over the words of the mention, add up to 1, and include "O" for no type; those of a head that
                finds mentions first are without "O", and need not add up to 1.

        Raises:
            OutOfMemory: one window alone does not fit.
            ValueError: a threshold that is not a probability.
        """
        return self.head.tag(self.encoder, as_documents(documents), threshold, scores=scores)

    def threshold_for(self, documents: Texts, progress: Progress = silent) -> float:
        """The threshold for texts that may hold far fewer mentions than the training texts of the head.

        Examples of a rare type come from sentences that were chosen because they hold the type, and a head that was
        trained on them alone finds the type too often elsewhere.

        Args:
            documents: texts or documents, or one; the more there are, the better.
            progress: is told `(what, done, total)` while texts are encoded.

        Returns:
            A threshold for `tag`.

        Raises:
            OutOfMemory: one window alone does not fit.
        """
        return self.head.threshold_for(self.encoder, as_documents(documents), progress)
