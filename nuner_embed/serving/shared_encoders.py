"""The encoders of one model, for all recipes that indexes and heads need; requests to all of them share a thread."""

from dataclasses import replace
from typing import Any

from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.loader import ModelSpec, recipe_keywords
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.models.directories import CONCEPT_FOLDER
from nuner_embed.models.recipe import Recipe
from nuner_embed.models.resolver import locate
from nuner_embed.serving.shared_runtime import ComputeThread, SharedRuntime


class SharedEncoders:
    """Loads a model once for each set of layers; encoders that differ in the rest of the recipe share the network.

    Args:
        spec: the model, with the recipe of the first encoder.
        compute: the thread that computes.

    Attributes:
        first: the encoder that was asked for.
        concepts: the concept encoder of the model; None if the model has none.

    Raises:
        ModelError: the model cannot be found or loaded.
        RuntimeUnavailable: the runtime or device is not available.
    """

    def __init__(self, spec: ModelSpec, compute: ComputeThread) -> None:
        self._spec = spec
        self._compute = compute
        self.first = self._load(spec)
        self._loaded = [self.first]
        self.concepts = self._concepts()

    def of(self, recipe: dict[str, Any], semantic_hash: str) -> TextEncoder:
        """The encoder of the model with another recipe; whether it is the wanted one, its semantic hash says.

        Args:
            recipe: as in the file of a head or an index.
            semantic_hash: of the wanted encoder, as in that file.

        Raises:
            ModelError: the model cannot follow the recipe.
        """
        wanted = Recipe(**recipe_keywords(recipe))
        for one in self._loaded:
            if one.recipe.layers == wanted.layers and wanted.max_length <= one.recipe.max_length:
                return replace(one, recipe=wanted)
        named = None if self._spec.semantic_hash is None else semantic_hash  # a file gave the model's name
        loaded = self._load(replace(self._spec, recipe=wanted.to_dict(), semantic_hash=named))
        self._loaded.append(loaded)
        return loaded

    def _load(self, spec: ModelSpec) -> TextEncoder:
        encoder = spec.load()
        return replace(encoder, runtime=SharedRuntime(encoder.runtime, self._compute))

    def _concepts(self) -> ConceptEncoder | None:
        spec = self._spec
        texts = None if spec.semantic_hash is None else (spec.recipe, spec.semantic_hash)
        if not (locate(spec.model, fetch=texts is None).directory / CONCEPT_FOLDER).is_dir():
            return None
        concepts = ConceptEncoder.open(spec.model, device=spec.device, threads=spec.threads, texts=texts)
        runtime = SharedRuntime(concepts.encoder.runtime, self._compute)
        return replace(concepts, encoder=replace(concepts.encoder, runtime=runtime))
