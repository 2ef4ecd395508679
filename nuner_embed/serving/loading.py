"""Loads everything that a server answers with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nuner_embed.encoders.loader import ModelSpec
from nuner_embed.errors import ProbeError
from nuner_embed.files import expand
from nuner_embed.heads.base import Head, require_encoder
from nuner_embed.heads.detector import load_detector
from nuner_embed.heads.spans import load_span_head
from nuner_embed.heads.tagger import Tagger
from nuner_embed.models.directories import DETECTOR_FOLDER
from nuner_embed.models.resolver import locate
from nuner_embed.serving.contracts import SearchIndex, Served
from nuner_embed.serving.name_tagger import NameTagger
from nuner_embed.serving.shared_encoders import SharedEncoders
from nuner_embed.serving.shared_runtime import ComputeThread

# from the encoders of the model to an index that was opened for the server
IndexOpener = Callable[[SharedEncoders], SearchIndex]


@dataclass(frozen=True, slots=True)
class Order:
    """What a server is to answer with.

    Attributes:
        spec: the model.
        heads: by name.
        indexes: by name.
    """

    spec: ModelSpec
    heads: Mapping[str, Head] = field(default_factory=dict)
    indexes: Mapping[str, IndexOpener] = field(default_factory=dict)

    def load(self, compute: ComputeThread) -> Served:
        """Loads the model, and fits heads and indexes to it.

        Args:
            compute: the thread that computes.

        Raises:
            ModelError: the model cannot be found or loaded.
            ProbeError: a head was made for another model; the message names both.
            StoreMismatch: an index was made with another model; the message names both.
            RuntimeUnavailable: the runtime or device is not available.
        """
        encoders = SharedEncoders(self.spec, compute)
        heads = {name: _tagger(name, head, encoders) for name, head in self.heads.items()}
        indexes = {name: open_index(encoders) for name, open_index in self.indexes.items()}
        return Served(name_of(self.spec.model), encoders.first, _names(encoders, self.spec.model), heads, indexes)


def name_of(model: str) -> str:
    """What clients call a model: its name, or that of its directory, which does not say where the directory lies."""
    path = expand(model)
    return path.resolve().name if path.exists() else model


def _tagger(name: str, head: Head, encoders: SharedEncoders) -> Tagger[Head]:
    encoder = encoders.of(head.facts.recipe, head.semantic_hash)
    try:
        require_encoder(head, encoder)
    except ProbeError as error:
        raise ProbeError(f"the head {name}: {error}; name its model with --model") from None
    return Tagger(encoder, head)


def _names(encoders: SharedEncoders, model: str) -> NameTagger | str:
    """What tags mentions of named types, or why nothing does."""
    concepts, name = encoders.concepts, name_of(model)
    if concepts is None:
        return f"{name} has no concept encoder, so it cannot find types by their names; name a head"
    span_head = load_span_head(model)
    if span_head is not None:
        encoder = encoders.of(span_head.facts.recipe, span_head.semantic_hash)
        require_encoder(span_head, encoder)
        return NameTagger(encoder, concepts, span_head)
    found = locate(model)
    if not (found.directory / DETECTOR_FOLDER).is_dir():
        return f"{name} has neither a span head nor a mention detector; name a head"
    detector = load_detector(model)
    encoder = encoders.of(found.recipe.to_dict(), detector.semantic_hash)
    if encoder.semantic_hash != detector.semantic_hash or encoder.recipe.layers != (-1,):
        raise ProbeError(f"the mention detector of {model} reads the words of another model or recipe")
    return NameTagger(encoder, concepts, detector)
