"""From annotated documents to a probe."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from nuner_embed.arguments import Texts
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import ProbeError
from nuner_embed.heads.background import background_words
from nuner_embed.heads.classifier import LinearProbe
from nuner_embed.heads.defaults import (
    AUTO_CLASS_WEIGHT,
    BACKGROUND_CLASS_WEIGHT,
    DEFAULT_C,
    DEFAULT_CLASS_WEIGHT,
)
from nuner_embed.heads.features import FeatureCache, Progress, feature_folder, silent
from nuner_embed.heads.io import ProbeFacts, Training
from nuner_embed.heads.labelled_words import WordLabels, count_mentions
from nuner_embed.heads.linear import ProbeWeights
from nuner_embed.heads.support_set import ShortTypes, SupportSet, choose_support
from nuner_embed.heads.tagger import Tagger


def fit_probe(
    support: SupportSet,
    encoder: TextEncoder,
    *,
    C: float = DEFAULT_C,
    class_weight: dict[Any, float] | str | None = AUTO_CLASS_WEIGHT,
    tol: float = 1e-4,
    background: str | Path | None = None,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Tagger:
    """Trains a probe on a support set; see `train_probe` for the arguments.

    A type of which no word can be learnt, since each of its mentions overlaps an earlier one or holds no token, is
    left out, and stands in `facts.training.left_out`.

    Raises:
        ProbeError: all words are of one class, or a background that is none.
        OutOfMemory: one window alone does not fit.
    """
    features = FeatureCache(cache or feature_folder(), encoder).features(support.documents, progress)
    labels = WordLabels.of(support.documents, features, support.types)
    held = np.bincount(labels.codes, minlength=len(support.types) + 1)[1:]
    types = tuple(name for name, count in zip(support.types, held, strict=True) if count)
    left_out = dict(support.left_out)
    if types != support.types:
        counts = count_mentions(support.documents)
        left_out |= {name: counts[name] for name, count in zip(support.types, held, strict=True) if not count}
        labels = WordLabels.of(support.documents, features, types)
    if len(set(labels.codes.tolist())) < 2:
        raise ProbeError(f"{support.what} holds words of one class only; a probe needs words of a type and of none")
    others = np.empty((0, encoder.dim), np.float32)
    if background is not None:
        others = background_words(background, encoder, cache=cache, progress=progress)
    if class_weight == AUTO_CLASS_WEIGHT:
        class_weight = DEFAULT_CLASS_WEIGHT if background is None else BACKGROUND_CLASS_WEIGHT
    probe = LinearProbe(C=C, class_weight=class_weight, tol=tol).fit(
        np.concatenate([features.vectors, others]), np.append(labels.codes, np.zeros(len(others), labels.codes.dtype))
    )
    mentions = np.bincount(labels.mentions.code, minlength=len(types) + 1)[1:].tolist()
    training = Training(
        sentences=len(support.documents),
        words=len(labels.codes),
        mention_words=int(np.count_nonzero(labels.codes)),
        mentions=dict(zip(types, mentions, strict=True)),
        k=support.k,
        seed=support.seed,
        left_out=dict(sorted(left_out.items())),
        lost=labels.lost,
        gradient_norm=probe.gradient_norm_,
        iterations=probe.n_iter_,
        background_words=len(others),
    )
    weights = ProbeWeights(probe.classes_.astype(np.int64), probe.coef_, probe.intercept_)
    recipe = encoder.recipe.to_dict()
    facts = ProbeFacts(encoder.semantic_hash, encoder.source, recipe, types, probe.get_params(), training)
    return Tagger(encoder, weights, facts)


def train_probe(
    documents: Texts,
    encoder: TextEncoder,
    *,
    types: str | Collection[str] | None = None,
    k: int | None = None,
    seed: int = 0,
    short_types: ShortTypes = "fail",
    C: float = DEFAULT_C,
    class_weight: dict[Any, float] | str | None = AUTO_CLASS_WEIGHT,
    tol: float = 1e-4,
    background: str | Path | None = None,
    cache: Path | None = None,
    what: str = "the data",
    progress: Progress = silent,
) -> Tagger:
    """Trains a probe on annotated documents.

    Args:
        documents: with spans; overlapping ones count as far as their words are free, first come, first served.
        encoder: frozen.
        types: to tell apart, or one; words of other types count as words of none. None for all types of the documents.
        k: draw a support set with between k and 2k mentions of each type; None takes all documents.
        seed: of that draw.
        short_types: what becomes of types with fewer than k mentions.
        C, tol: see `LinearProbe`.
        class_weight: see `LinearProbe`; "auto" is "sqrt", and "balanced" with a background.
        background: a store of words, or a corpus, such as that in which the types are to be looked for: words of it
            are learnt from as words of none; see `background_words`.
        cache: folder of the word embeddings; None for the user's cache folder.
        what: the data's name in messages.
        progress: is told `(what, done, total)` while texts are encoded.

    Raises:
        ProbeError: nothing to learn from, no support set, or a background that is none.
        OutOfMemory: one window alone does not fit.
    """
    support = choose_support(documents, types=types, k=k, seed=seed, short=short_types, what=what)
    fitting: dict[str, Any] = {"C": C, "class_weight": class_weight, "tol": tol, "background": background}
    return fit_probe(support, encoder, cache=cache, progress=progress, **fitting)
