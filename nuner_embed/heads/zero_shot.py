"""Taggers for types that are given by name alone, without an example.

Span by span, a model's span head scores all short runs of words: the default where the model has one. Otherwise the
model's detector finds mentions, and the concept encoder types them. Word by word, each word is compared with the names,
and adjacent words of a type are a mention. Which is better where: benchmarks/spans.py, results/spans.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from nuner_embed.arguments import Texts, as_documents, as_names
from nuner_embed.documents import Document, is_text
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.loader import load_encoder
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import ProbeError
from nuner_embed.heads import NAMED_THRESHOLD
from nuner_embed.heads.base import Head, require_probability
from nuner_embed.heads.detector import load_detector
from nuner_embed.heads.labelled_words import require_not_reserved
from nuner_embed.heads.linear import LinearHead, ProbeFacts, ProbeWeights, Training
from nuner_embed.heads.named import ConceptTyper, MentionHead
from nuner_embed.heads.names import require_different
from nuner_embed.heads.spans import load_span_head
from nuner_embed.heads.tagger import Tagger
from nuner_embed.models.known import DEFAULT_MODEL

Types = str | Sequence[str] | Mapping[str, str | Sequence[str]]
Decode = Literal["auto", "spans", "words"]
_AT_ONCE = 512


def named_tagger(
    types: Types,
    *,
    model: str = DEFAULT_MODEL,
    threshold: float = NAMED_THRESHOLD,
    decode: Decode = "auto",
    nested: bool = False,
    detector: str | None = None,
    threads: int = 0,
) -> Tagger[Head]:
    """A tagger for types given by name alone.

    Args:
        types: names of types in plain words: "city", "film director". The keys of a mapping are the labels of the
            types, and its values the names, one or several: `{"LOC": "location"}`.
        model: a Hugging Face or exported directory with a concept encoder, or a known name.
        threshold: least probability of a mention's type.
        decode: "spans" finds mentions and types them, by the model's span head, or its detector if the model has none;
            "words" types word by word; "auto" is "spans", which was better on five of six development parts.
        nested: let mentions lie within others, which takes a span head.
        detector: the directory of a probe that finds the mentions, in place of the model's span head or detector.
        threads: 0 for one a core.

    Raises:
        ProbeError: the model has no span head and no detector, or it reads another encoder; a type called "O"; or
            nested mentions without a span head.
        ModelError: there is no such model, or it has no concept encoder that is calibrated.
        RuntimeUnavailable: what runs the model is not installed.
        ValueError: no type, a name that is none, a threshold that is no probability, or another way to decode.
    """
    named = labelled_types(types)
    require_probability(threshold)
    if decode not in get_args(Decode):
        raise ValueError(f"decode is one of {', '.join(get_args(Decode))}, not {decode!r}")
    spans = load_span_head(model) if detector is None and decode != "words" else None
    if nested and spans is None:
        raise ProbeError(
            "nested mentions take a span head, and do not go with a detector or decode='words'"
            if detector is not None or decode == "words"
            else f"nested mentions take a span head, and {model} has none; nuner-mini has one, and nuner-embed "
            "pretrain --objective spans makes one"
        )
    if spans is None and decode != "words":
        return _by_detector(named, model, detector, threshold, threads)
    # the text encoder first: where it cannot be run, the message names the model
    encoder = load_encoder(model, threads=threads, layers=None if spans else (-1,))
    concepts = ConceptEncoder.open(model, threads=threads)
    if spans is None:
        recipe = encoder.recipe.replace(normalize=concepts.metric == "cosine")
        return zero_shot_tagger(named, replace(encoder, recipe=recipe), concepts, threshold)
    return Tagger(encoder, spans.named(named, concepts, threshold=threshold, nested=nested))


def _by_detector(
    named: Mapping[str, str | Sequence[str]], model: str, detector: str | None, threshold: float, threads: int
) -> Tagger[MentionHead]:
    """A tagger that types the mentions of a detector by their mean vectors."""
    finder = load_detector(detector or model)
    encoder = load_encoder(model, threads=threads)
    if encoder.recipe.layers != (-1,):
        raise ProbeError(f"concepts agree with the last layer alone; {model} has {list(encoder.recipe.layers)}")
    if finder.semantic_hash != encoder.semantic_hash:
        raise ProbeError(
            f"the mention detector of {detector or model} reads the words of another model or recipe "
            f"({finder.semantic_hash[:12]}) than {model} ({encoder.semantic_hash[:12]})"
        )
    concepts = ConceptEncoder.open(model, threads=threads)
    if concepts.semantic_hash_of_texts(encoder.recipe.to_dict()) != encoder.semantic_hash:
        raise ProbeError(f"the concept encoder of {model} does not belong to its text encoder")
    return Tagger(encoder, MentionHead.of(encoder, finder, ConceptTyper.of(named, concepts), threshold))


def zero_shot_tagger(
    types: Mapping[str, str | Sequence[str]],
    encoder: TextEncoder,
    concepts: ConceptEncoder,
    threshold: float = NAMED_THRESHOLD,
) -> Tagger[LinearHead]:
    """A tagger for types given by name alone: the linear layer is made of the names' vectors, see `LinearProbe`.

    Args:
        types: what the types are to be called, and the concept that each is, or several names of that concept.
        encoder: of the model that the concept encoder belongs to; its rows have unit length (`normalize=True`), unless
            training compared by inner product.
        concepts: the concept encoder, calibrated.
        threshold: how probable a type must be for a word to be of it.

    Raises:
        ProbeError: the encoder is another model's, or its rows are not of unit length.
        ModelError: the concept encoder is not calibrated.
        ValueError: no type, or a name that is none.
    """
    from nuner_embed.heads.classifier import LinearProbe  # needs scikit-learn, which the other ways do not

    of_unit_length = concepts.metric == "cosine"
    if encoder.recipe.normalize != of_unit_length or encoder.recipe.layers != (-1,):
        raise ProbeError(
            f"a probe made of concepts of {concepts.model} reads the last layer with normalize={of_unit_length}"
        )
    require_not_reserved(types)
    if concepts.semantic_hash_of_texts(encoder.recipe.to_dict()) != encoder.semantic_hash:
        raise ProbeError(f"the concept encoder of {concepts.model} does not belong to {encoder.source}")
    names = tuple(sorted(types))
    probe = LinearProbe.from_concepts([types[name] for name in names], concepts, threshold=threshold)
    given = {name: types[name] if isinstance(types[name], str) else list(types[name]) for name in names}
    parameters = {"concepts": given, "threshold": threshold}
    facts = ProbeFacts(
        encoder.semantic_hash, encoder.source, encoder.recipe.to_dict(), names, parameters, Training.none(names)
    )
    weights = ProbeWeights(np.arange(len(names) + 1), probe.coef_, probe.intercept_)
    return Tagger(encoder, LinearHead(weights, facts))


def extract(
    texts: Texts,
    types: Types,
    *,
    threshold: float = NAMED_THRESHOLD,
    model: str = DEFAULT_MODEL,
    detector: str | None = None,
    threads: int = 0,
) -> list[Document]:
    """Finds the mentions of named types in texts, without an example: texts and names in, spans out.

        for document in nuner_embed.extract(["Ines Varga flew to Oslo."], ["city", "person"]):
            print([(document.text[span.start : span.end], span.label, span.score) for span in document.spans])

    Args:
        texts: one, or several; documents are taken too, and their own spans are left out.
        types, threshold, model, detector, threads: see `named_tagger`.

    Returns:
        One document for each text, in order, with the spans found; the id of a plain string is its number, from 0.

    Raises:
        ValueError, NunerEmbedError: see `named_tagger`.
    """
    documents = as_documents(texts)
    tagger = named_tagger(types, model=model, threshold=threshold, detector=detector, threads=threads)
    return [
        document
        for first in range(0, len(documents), _AT_ONCE)
        for document in tagger.tag(documents[first : first + _AT_ONCE])
    ]


def labelled_types(types: Types) -> dict[str, str | Sequence[str]]:
    """The labels of the types, with the name or the names of each; see `named_tagger`.

    Raises:
        ProbeError: a type called "O".
        ValueError: no type, a name that is none, or one that stands twice.
    """
    types = types if isinstance(types, Mapping) else as_names(types)
    named: dict[str, str | Sequence[str]] = {}
    named.update(types if isinstance(types, Mapping) else {name: name for name in types})
    names = [name for several in named.values() for name in as_names(several)]
    if not named or len(named) < len(types) or not all(map(str.strip, [*named, *names])) or not all(named.values()):
        raise ValueError(f"types are one or more different names, not {list(types)}")
    for name in (*named, *names):
        if not is_text(name):
            raise ValueError(f"a type's name is text, and {name[:60]!r} holds a lone surrogate")
    require_different({label: as_names(several) for label, several in named.items()})
    require_not_reserved(named)
    return {label: several if len(as_names(several)) > 1 else as_names(several)[0] for label, several in named.items()}
