"""How well a trained probe does on annotated documents."""

from collections.abc import Collection, Sequence
from pathlib import Path

from nuner_embed.arguments import Texts, as_documents, as_names
from nuner_embed.documents import Document
from nuner_embed.errors import ProbeError
from nuner_embed.evaluation.metrics import Scores
from nuner_embed.heads.base import Head
from nuner_embed.heads.features import FeatureCache, Progress, feature_folder, silent
from nuner_embed.heads.labelled_words import WordLabels, count_mentions, require_known, runs_of, types_among
from nuner_embed.heads.linear import LinearHead
from nuner_embed.heads.tagger import Tagger

_DOCUMENTS_AT_ONCE = 4096


def comparable_types(
    head: Head, documents: Sequence[Document], types: str | Collection[str] | None = None, what: str = "the data"
) -> list[str]:
    """The types on which a head can be compared with annotated documents: those asked for, or all that it knows.

    Raises:
        ProbeError: no annotated mention, or types that the probe does not know.
    """
    types = None if types is None else as_names(types)
    found = types_among(count_mentions(documents))
    if not found:
        raise ProbeError(f"{what} holds no annotated mention; there is nothing to compare with")
    if types is None:
        require_known(set(found) - set(head.facts.ignored), head.types, what)
    else:
        require_known(types, head.types, "--types")
    wanted = set(head.types if types is None else types)
    return [name for name in head.types if name in wanted]


def score_tagger(
    tagger: Tagger[Head],
    documents: Texts,
    *,
    types: str | Collection[str] | None = None,
    threshold: float | None = None,
    cache: Path | None = None,
    what: str = "the data",
    progress: Progress = silent,
) -> Scores:
    """Compares what a head finds with what is annotated.

    Args:
        tagger: the head and its encoder.
        documents: annotated.
        types: to look at; words of other types count as words of none, in the annotation and the prediction. None for
            all that the head knows.
        threshold: as in `Tagger.tag`.
        cache: folder of the word embeddings; None for the user's cache folder.
        what: the data's name in messages.
        progress: is told `(what, done, total)` while texts are encoded.

    Raises:
        ProbeError: no annotated mention, or types that the probe does not know.
        OutOfMemory: one window alone does not fit.
        ValueError: a threshold that is no probability.
    """
    documents = as_documents(documents)
    wanted = comparable_types(tagger.head, documents, types, what)
    features = FeatureCache(cache or feature_folder(), tagger.encoder)
    total = None
    for first in range(0, len(documents), _DOCUMENTS_AT_ONCE):
        some = documents[first : first + _DOCUMENTS_AT_ONCE]
        words = features.features(some, progress)
        labels = WordLabels.of(some, words, wanted)
        if isinstance(tagger.head, LinearHead):
            codes = tagger.head.label(words, wanted, threshold)
            runs = runs_of(codes, words.bounds)
        else:
            found = WordLabels.of(tagger.tag(some, threshold), words, wanted)
            codes, runs = found.codes, found.mentions
        scores = Scores.of(wanted, labels, codes, runs, len(some))
        total = scores if total is None else total + scores
    assert total is not None
    return total
