"""The concept encoder, the other half of the bi-encoder: vectors of the names of entity types."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arguments import as_names
from nuner_embed.documents import is_text
from nuner_embed.encoders.loader import load_encoder, require_named
from nuner_embed.encoders.text import TextEncoder, unit
from nuner_embed.errors import ModelError
from nuner_embed.models.concept_facts import Calibration, ConceptFacts
from nuner_embed.models.directories import CONCEPT_FOLDER
from nuner_embed.models.recipe import semantic_hash
from nuner_embed.models.resolver import locate
from nuner_embed.runtimes.base import Precision, WindowBatch

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class ConceptEncoder:
    """Turns the names of entity types into vectors.

    Attributes:
        model: the model that the concept encoder belongs to.
        directory: of the concept encoder.
        encoder: the network with its tokenizer.
        facts: what the vectors mean.
    """

    model: str
    directory: Path
    encoder: TextEncoder
    facts: ConceptFacts

    @classmethod
    def open(
        cls, model: str, *, device: str = "auto", threads: int = 0, texts: tuple[dict[str, Any], str] | None = None
    ) -> Self:
        """Loads the concept encoder that belongs to a model.

        Args:
            model: see `ModelSpec`.
            device: "auto", "cpu" or "cuda".
            threads: 0 for one for each core.
            texts: the recipe and the semantic hash of the expected text encoder, where a file such as an index's
                manifest gives the model's name. The name then starts no download, and no other model is run.

        Raises:
            ModelError: there is no such model, or it has no concept encoder.
            RuntimeUnavailable: it cannot be run here.
        """
        found = locate(model, fetch=texts is None)
        if texts is not None:
            require_named(found, *texts)
        directory = found.directory / CONCEPT_FOLDER
        if not directory.is_dir():
            raise ModelError(
                f"{model} has no concept encoder. nuner-mini has one, and so have models of nuner-embed pretrain, "
                "except with --objective token-classification; published NuNER checkpoints have none. Search by "
                "examples with --like FILE instead"
            )
        facts = ConceptFacts.read(directory)
        if facts.text_weights_sha256 != found.weights_sha256:
            raise ModelError(
                f"{directory} belongs to another text encoder ({facts.text_weights_sha256[:12]}) than {model} "
                f"({found.weights_sha256[:12]}); pre-train or export the model again"
            )
        # names are few: to measure which precision is faster would take longer than all of them
        precision: Precision = "f32" if found.files == "weights" else "auto"
        encoder = load_encoder(str(directory), device=device, precision=precision, threads=threads, layers=(-1,))
        return cls(model, directory, encoder, facts)

    @property
    def metric(self) -> Literal["cosine", "dot"]:
        """The similarity used in training: the cosine, or the inner product with the paper's loss."""
        return "dot" if "temperature" in self.facts.similarity else "cosine"

    def takes(self, name: str) -> bool:
        """Whether a name has at least one token and not too many."""
        ((ids, _),) = self.encoder.tokenizer.encode([name])
        return 0 < len(ids) <= self.encoder.capacity

    def encode(self, names: str | Sequence[str]) -> NDArray[np.float32]:
        """A vector for each name, (n, dim); of length 1, unless training compared by inner product.

        Raises:
            ValueError: a name without tokens, with more tokens than a window holds, or with a lone surrogate.
        """
        tokenizer, room = self.encoder.tokenizer, self.encoder.capacity
        names = as_names(names)
        for name in names:
            if not is_text(name):
                raise ValueError(f"a concept is text, and {name[:60]!r} holds a lone surrogate")
        pieces = [ids for ids, _ in tokenizer.encode(names)]
        for name, ids in zip(names, pieces, strict=True):
            if not 0 < len(ids) <= room:
                raise ValueError(f"a concept is the name of an entity type of 1 to {room} tokens, not {name[:60]!r}")
        vectors = self._embed(pieces)
        return unit(vectors) if self.metric == "cosine" else vectors

    def _embed(self, pieces: Sequence[NDArray[np.integer[Any]]]) -> NDArray[np.float32]:
        """The mean of each name's tokens, or its first special token: (n, dim)."""
        tokenizer = self.encoder.tokenizer
        sizes = np.array([len(ids) for ids in pieces], np.int64)
        parts = [np.array([*tokenizer.prefix, *ids, *tokenizer.suffix], np.int64) for ids in pieces]
        first = np.full(len(pieces), len(tokenizer.prefix) if self.facts.pooling == "mean" else 0)
        batch = WindowBatch(
            ids=np.concatenate([np.empty(0, np.int64), *parts]),
            bounds=np.concatenate([[0], np.cumsum(sizes + tokenizer.specials)]),
            window=np.arange(len(pieces)),
            first=first,
            last=first + (sizes if self.facts.pooling == "mean" else np.ones_like(sizes)),
        )
        return self.encoder.runtime.rows(batch, self.encoder.batch_tokens)

    def semantic_hash_of_texts(self, recipe: dict[str, Any]) -> str:
        """The semantic hash of the text encoder that this concept encoder belongs to, for a given recipe."""
        encoder = self.encoder  # both encoders have the same base and tokenizer
        return semantic_hash(self.facts.text_weights_sha256, encoder.config_sha256, encoder.tokenizer.sha256, recipe)

    def calibrated(self, calibration: Calibration) -> Self:
        """The same encoder with another calibration."""
        return replace(self, facts=replace(self.facts, calibration=calibration))

    @property
    def calibration(self) -> Calibration:
        """The calibration.

        Raises:
            ModelError: the model was never calibrated.
        """
        if self.facts.calibration is None:
            raise ModelError(
                f"{self.model} is not calibrated; nuner-embed concepts calibrate {self.model} DATA calibrates it "
                "on annotated data"
            )
        return self.facts.calibration

    def probabilities(self, cosines: Floats) -> Floats:
        """The probability that a mention is of a type, from their cosine; any shape.

        Raises:
            ModelError: the model was never calibrated.
        """
        from scipy.special import expit  # imported late: indexes need SciPy for nothing else

        probabilities: Floats = expit(self.calibration.slope * cosines + self.calibration.intercept)
        return probabilities
