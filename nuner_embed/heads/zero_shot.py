"""A probe without a single example: the names of types through the concept encoder."""

from collections.abc import Mapping

import numpy as np

from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import ProbeError
from nuner_embed.heads.classifier import LinearProbe
from nuner_embed.heads.defaults import NAMED_THRESHOLD
from nuner_embed.heads.io import ProbeFacts, Training
from nuner_embed.heads.labelled_words import require_not_reserved
from nuner_embed.heads.linear import ProbeWeights
from nuner_embed.heads.tagger import Tagger


def zero_shot_tagger(
    types: Mapping[str, str], encoder: TextEncoder, concepts: ConceptEncoder, threshold: float = NAMED_THRESHOLD
) -> Tagger:
    """A tagger for types that are only named: the linear layer is made of their vectors, `LinearProbe.from_concepts`.

    Args:
        types: what the types are to be called, and the concept that each is.
        encoder: of the model that the concept encoder belongs to; its rows have unit length (`normalize=True`), unless
            training compared by inner product.
        concepts: the concept encoder, calibrated.
        threshold: how probable a type must be for a word to be of it.

    Raises:
        ProbeError: the encoder is another model's, or its rows are not of unit length.
        ModelError: the concept encoder is not calibrated.
        ValueError: no type, or a name that is none.
    """
    unit = concepts.metric == "cosine"
    if encoder.recipe.normalize != unit or encoder.recipe.layers != (-1,):
        raise ProbeError(f"a probe made of concepts of {concepts.model} reads the last layer with normalize={unit}")
    require_not_reserved(types)
    if concepts.semantic_hash_of_texts(encoder.recipe.to_dict()) != encoder.semantic_hash:
        raise ProbeError(f"the concept encoder of {concepts.model} does not belong to {encoder.source}")
    names = tuple(sorted(types))
    probe = LinearProbe.from_concepts([types[name] for name in names], concepts, threshold=threshold)
    parameters = {"concepts": dict(sorted(types.items())), "threshold": threshold}
    facts = ProbeFacts(
        encoder.semantic_hash, encoder.source, encoder.recipe.to_dict(), names, parameters, Training.none(names)
    )
    return Tagger(encoder, ProbeWeights(np.arange(len(names) + 1), probe.coef_, probe.intercept_), facts)
