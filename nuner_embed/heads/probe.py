"""Training a linear head on annotated documents, or making one of the names of types.

Words of texts without annotations are probable negatives for a head that is to find something rare. Sentences that were
chosen because they hold a type hold far more mentions of the type than other texts, and a head trained on them alone
finds the type everywhere. Most words of any other text are of no type; the few others hardly matter. How much a
background helps: benchmarks/background.py, results/background.md.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from nuner_embed.arguments import Progress, Texts, silent
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.encoders.base import Encoder
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import ProbeError
from nuner_embed.files import expand
from nuner_embed.heads import (
    AUTO_CLASS_WEIGHT,
    BACKGROUND_CLASS_WEIGHT,
    DEFAULT_C,
    DEFAULT_CLASS_WEIGHT,
    NAMED_C,
)
from nuner_embed.heads.classifier import LinearProbe
from nuner_embed.heads.features import FeatureCache, feature_folder
from nuner_embed.heads.labelled_words import WordLabels, count_mentions, shortened
from nuner_embed.heads.linear import Floats, LinearHead, ProbeFacts, ProbeWeights, Training
from nuner_embed.heads.names import NamedTypes
from nuner_embed.heads.support_set import ShortTypes, SupportSet, choose_support
from nuner_embed.heads.tagger import Tagger
from nuner_embed.store.layout import MANIFEST_FILE
from nuner_embed.store.reader import Store
from nuner_embed.tables import Ints

BACKGROUND_WORDS: Final = 4000


def fit_probe(
    support_set: SupportSet,
    encoder: TextEncoder,
    *,
    C: float | None = None,
    class_weight: dict[Any, float] | str | None = AUTO_CLASS_WEIGHT,
    tol: float = 1e-4,
    named: NamedTypes | None = None,
    background: str | Path | None = None,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Tagger[LinearHead]:
    """Trains a probe on a support set; see `train_probe` for the arguments.

    A type without a word to learn from, because each of its mentions overlaps an earlier one or holds no token, is left
    out and listed in `head.facts.training.left_out`.

    Raises:
        ProbeError: all words are of one class, or the background holds no words of this encoder.
        OutOfMemory: one window alone does not fit.
    """
    if named is not None:
        named.require_fitting(encoder)
        require_among(named.names, support_set)
    features = FeatureCache(cache or feature_folder(), encoder).features(support_set.documents, progress)
    types, labels = _learnable(support_set, features)
    if len(set(labels.codes.tolist())) < 2:
        raise ProbeError(f"{support_set.what} holds words of one class only; a probe needs words of a type and of none")
    others = np.empty((0, encoder.dim), np.float32)
    if background is not None:
        others = background_words(background, encoder, cache=cache, progress=progress)
    if class_weight == AUTO_CLASS_WEIGHT:
        class_weight = DEFAULT_CLASS_WEIGHT if background is None else BACKGROUND_CLASS_WEIGHT
    offset = named.offsets(types, features.vectors) if named is not None else {}
    if C is None:
        C = NAMED_C if offset else DEFAULT_C
    probe = LinearProbe(C=C, class_weight=class_weight, tol=tol, offset=offset or None).fit(
        np.concatenate([features.vectors, others]), np.append(labels.codes, np.zeros(len(others), labels.codes.dtype))
    )
    counts = count_mentions(support_set.documents)
    left_out = support_set.left_out | {name: counts[name] for name in support_set.types if name not in types}
    mentions = np.bincount(labels.mentions.code, minlength=len(types) + 1)[1:].tolist()
    training = Training(
        sentences=len(support_set.documents),
        words=len(labels.codes),
        mention_words=int(np.count_nonzero(labels.codes)),
        mentions=dict(zip(types, mentions, strict=True)),
        k=support_set.k,
        seed=support_set.seed,
        left_out=dict(sorted(left_out.items())),
        lost=labels.lost,
        gradient_norm=probe.gradient_norm_,
        iterations=probe.n_iter_,
        background_words=len(others),
    )
    weights = ProbeWeights(probe.classes_.astype(np.int64), probe.coef_, probe.intercept_)
    recipe, parameters = encoder.recipe.to_dict(), _parameters_of(probe, named if offset else None, types)
    facts = ProbeFacts(encoder.semantic_hash, encoder.source, recipe, types, parameters, training)
    return Tagger(encoder, LinearHead(weights, facts))


def _learnable(support_set: SupportSet, features: WordFeatures) -> tuple[tuple[str, ...], WordLabels]:
    """The types of a support set that have a word to learn from, and the words labelled with them."""
    labels = WordLabels.of(support_set.documents, features, support_set.types)
    held = np.bincount(labels.codes, minlength=len(support_set.types) + 1)[1:]
    types = tuple(name for name, count in zip(support_set.types, held, strict=True) if count)
    return types, labels if types == support_set.types else WordLabels.of(support_set.documents, features, types)


def _parameters_of(probe: LinearProbe, named: NamedTypes | None, types: Sequence[str]) -> dict[str, Any]:
    """The parameters of a fitted probe as `probe.json` keeps them; the offset itself is in the weights."""
    parameters: dict[str, Any] = probe.get_params()
    del parameters["offset"]
    if named is None:
        del parameters["offset_strength"]
        return parameters
    names = {label: list(named.names[label]) for label in types if label in named.names}
    return {**parameters, "names": names, "offset_weight": probe.offset_weight_}


def train_probe(
    documents: Texts,
    encoder: TextEncoder,
    *,
    types: str | Collection[str] | None = None,
    k: int | None = None,
    seed: int = 0,
    short_types: ShortTypes = "fail",
    C: float | None = None,
    class_weight: dict[Any, float] | str | None = AUTO_CLASS_WEIGHT,
    tol: float = 1e-4,
    named: NamedTypes | None = None,
    background: str | Path | None = None,
    cache: Path | None = None,
    what: str = "the data",
    progress: Progress = silent,
) -> Tagger[LinearHead]:
    """Trains a probe on annotated documents.

    Args:
        documents: with spans; overlapping ones count as far as their words are free, first come, first served.
        encoder: frozen.
        types: to tell apart, or one; words of other types count as words of none. None for all types of the documents.
        k: draw a support set with between k and 2k mentions of each type; None takes all documents.
        seed: of that draw.
        short_types: what becomes of types with fewer than k mentions.
        C: see `LinearProbe`; None for 0.03, or 0.01 with names.
        tol: see `LinearProbe`.
        named: names of all types or some, from which the fit starts: they help most where examples are few. None for
            none: the protocol of the paper.
        class_weight: see `LinearProbe`; "auto" is "sqrt", and "balanced" with a background.
        background: a store of words, or a corpus, such as that in which the types are to be looked for: words of it
            are learnt from as words of none; see `background_words`.
        cache: folder of the word embeddings; None for the user's cache folder.
        what: the data's name in messages.
        progress: is told `(what, done, total)` while texts are encoded.

    Raises:
        ProbeError: nothing to learn from, no support set, a background that is none, a name for a type that the data
            does not hold, or a concept encoder of another model.
        ModelError: names, and the concept encoder is not calibrated.
        ValueError: a name that is none.
        OutOfMemory: one window alone does not fit.
    """
    support_set = choose_support(documents, types=types, k=k, seed=seed, short=short_types, what=what)
    fitting: dict[str, Any] = {"C": C, "class_weight": class_weight, "tol": tol, "named": named}
    return fit_probe(support_set, encoder, background=background, cache=cache, progress=progress, **fitting)


def require_among(names: Collection[str], support_set: SupportSet) -> None:
    """Checks that the types that are named occur in the data; a name alone is no example.

    Raises:
        ProbeError: a named type does not occur.
    """
    missing = sorted(set(names) - set(support_set.types))
    if missing:
        raise ProbeError(
            f"{shortened(missing)} is named, and {support_set.what} holds no mention of it to learn from; its types "
            f"are {shortened(support_set.types)}"
        )


def background_words(
    source: str | Path, encoder: Encoder, *, seed: int = 0, cache: Path | None = None, progress: Progress = silent
) -> Floats:
    """Vectors of words of a store or of a corpus, at most 4,000, drawn at random: (n, dim).

    Args:
        source: a store of words that this encoder made, or a corpus, of which up to 512 documents, evenly spread, are
            encoded; their annotations, if there are any, are not looked at.
        encoder: of the probe.
        seed: of the draw.
        cache: folder of the word embeddings; None for the user's cache folder.
        progress: is told `(what, done, total)` while texts are encoded.

    Raises:
        ProbeError: the store holds other rows than words, was made with another encoder, or there is no word.
        CorpusError, StoreError: it cannot be read.
    """
    path = expand(source)
    random = np.random.default_rng(seed)
    if (path / MANIFEST_FILE).is_file():
        store = Store.open(path)
        granularity, made_with = store.manifest["granularity"], store.manifest["semantic_hash"]
        if granularity != "word" or made_with != encoder.semantic_hash:
            raise ProbeError(
                f"{path} holds {granularity}s of {store.manifest['model']} ({made_with[:12]}), and a background holds "
                f"words of {encoder.source} ({encoder.semantic_hash[:12]}): encode with --rows word, or name the corpus"
            )
        total = sum(shard["rows"] for shard in store.manifest["shards"])
        vectors = store.vectors(_drawn(random, total)) if total else np.empty((0, encoder.dim))
    else:
        with Corpus([source]) as corpus:
            sample = corpus.survey().sample
        words = FeatureCache(cache or feature_folder(), encoder).features(sample, progress).vectors
        vectors = words[_drawn(random, len(words))]
    if not len(vectors):
        raise ProbeError(f"{source} holds no word; name other texts as a background")
    return np.asarray(vectors, np.float32)


def _drawn(random: np.random.Generator, total: int) -> Ints:
    return np.sort(random.choice(total, min(total, BACKGROUND_WORDS), replace=False))
