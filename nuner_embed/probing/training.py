"""From annotated documents to a probe."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

from nuner_embed.documents import Document
from nuner_embed.encoding.encoder import TextEncoder
from nuner_embed.errors import ProbeError
from nuner_embed.probing.bundle import ProbeFacts, Training
from nuner_embed.probing.defaults import DEFAULT_C, DEFAULT_CLASS_WEIGHT
from nuner_embed.probing.features import FeatureCache, Progress, feature_folder, silent
from nuner_embed.probing.linear import LinearProbe
from nuner_embed.probing.sampling import draw_k, short_types
from nuner_embed.probing.tagger import Tagger
from nuner_embed.probing.words import WordLabels, count_matrix, count_mentions, shortened

ShortTypes = Literal["fail", "drop", "keep"]


def chosen_types(documents: Sequence[Document], wanted: Collection[str] | None, what: str) -> list[str]:
    """The types to tell apart, sorted: those wanted, or all that the documents hold.

    Raises:
        ProbeError: there is none, or one that is wanted does not occur.
    """
    counts = count_mentions(documents)
    if not counts:
        raise ProbeError(f"{what} holds no annotated mention; a probe learns from spans or from BIO tags")
    missing = sorted(set(wanted or ()) - set(counts))
    if missing:
        raise ProbeError(f"{what} holds no mention of {shortened(missing)}; its types are {shortened(sorted(counts))}")
    return sorted(wanted or counts)


def support_set(
    documents: Sequence[Document], types: Sequence[str], k: int, seed: int, short: ShortTypes, what: str
) -> tuple[list[Document], list[str]]:
    """Draws between k and 2k mentions of each type; returns the sentences and the types that are left.

    Raises:
        ProbeError: a type is short of k, or no sentences lie within the bounds.
    """
    lacking = short_types(count_matrix(documents, types), types, k)
    if lacking and short == "fail":
        raise ProbeError(
            f"{what}: too few mentions for k = {k}: {shortened([str(one) for one in lacking])}; take a smaller k, or "
            "--short-types drop (without these types) or keep (with as many as there are)"
        )
    if short == "drop":
        types = [name for name in types if name not in {one.type for one in lacking}]
        if not types:
            raise ProbeError(f"{what}: no type has {k} mentions; take a smaller k")
    chosen = draw_k(count_matrix(documents, types), k, [seed, k])
    if chosen is None:
        raise ProbeError(
            f"{what}: no choice of its sentences holds between {k} and {2 * k} mentions of every type; take another k, "
            "or fewer --types"
        )
    return [documents[i] for i in chosen], list(types)


def train_probe(
    documents: Sequence[Document],
    encoder: TextEncoder,
    *,
    types: Collection[str] | None = None,
    k: int | None = None,
    seed: int = 0,
    short_types: ShortTypes = "fail",
    C: float = DEFAULT_C,
    class_weight: dict[Any, float] | str | None = DEFAULT_CLASS_WEIGHT,
    tol: float = 1e-4,
    cache: Path | None = None,
    what: str = "the data",
    progress: Progress = silent,
) -> Tagger:
    """Trains a probe on annotated documents.

    Args:
        documents: with spans; overlapping ones count as far as their words are free, first come, first served.
        encoder: frozen.
        types: to tell apart; words of other types count as words of none. None for all types of the documents.
        k: draw a support set with between k and 2k mentions of each type; None takes all documents.
        seed: of that draw.
        short_types: what becomes of types with fewer than k mentions.
        C, class_weight, tol: see `LinearProbe`.
        cache: folder of the word embeddings; None for the user's cache folder.
        what: the data's name in messages.
        progress: is told `(what, done, total)` while texts are encoded.

    Raises:
        ProbeError: nothing to learn from, or no support set.
        OutOfMemory: one window alone does not fit.
    """
    counts = count_mentions(documents)
    names = chosen_types(documents, types, what)
    chosen = list(documents)
    if k is not None:
        chosen, names = support_set(documents, names, k, seed, short_types, what)
    features = FeatureCache(cache or feature_folder(), encoder).features(chosen, progress)
    labels = WordLabels.of(chosen, features, names)
    if len(set(labels.codes.tolist())) < 2:
        raise ProbeError(f"{what} holds words of one class only; a probe needs words of a type and words of none")
    probe = LinearProbe(C=C, class_weight=class_weight, tol=tol).fit(features.vectors, labels.codes)
    held = count_mentions(chosen)
    training = Training(
        sentences=len(chosen),
        words=len(labels.codes),
        mentions={name: held[name] for name in names},
        k=k,
        seed=None if k is None else seed,
        left_out={name: count for name, count in sorted(counts.items()) if name not in names},
        lost=labels.lost,
        gradient_norm=probe.gradient_norm_,
        iterations=probe.n_iter_,
    )
    facts = ProbeFacts(encoder.semantic_hash, encoder.source, encoder.recipe.to_dict(), tuple(names), training)
    return Tagger(encoder, probe, facts)
