"""How mentions come of a trained probe: from words, or from the mentions that a detector finds.

Word by word, adjacent words of a type are a mention: right where mentions are phrases of the user's own kind ("cheap",
"near the harbour"). Mention by mention, the detector draws the bounds and the probe types the mean of the tokens: right
where mentions are names and noun phrases, as the detector's own are. Which of the two a corpus asks for is seen from
its examples: from the share of them that the detector finds with the same bounds (benchmarks/decoding.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from nuner_embed.documents import Document
from nuner_embed.heads.detector import ProbeDetector
from nuner_embed.heads.features import FeatureCache, feature_folder
from nuner_embed.heads.labelled_words import Runs, WordLabels
from nuner_embed.heads.linear import LinearHead
from nuner_embed.heads.named import LinearTyper, MentionHead
from nuner_embed.heads.tagger import Tagger

# Both from development parts: benchmarks/decoding.py, results/decoding.md.
LEAST_FOUND: Final = 0.6
SPAN_THRESHOLD: Final = 0.3  # a mention's type competes with the other types, a word's only with none


def share_found(
    tagger: Tagger[LinearHead], detector: ProbeDetector, documents: Sequence[Document], cache: Path | None = None
) -> float:
    """The share of the mentions of the head's types that a detector finds with the same bounds; 0 without a mention.

    Args:
        tagger: the head and its encoder.
        detector: for the same encoder.
        documents: annotated, such as the support set.
        cache: folder of the word embeddings; None for the user's cache folder.
    """
    words = FeatureCache(cache or feature_folder(), tagger.encoder).features(documents)
    annotated = _bounds(WordLabels.of(documents, words, tagger.types).mentions)
    return len(annotated & _bounds(detector.runs(documents, words)[0])) / max(1, len(annotated))


def by_mentions(tagger: Tagger[LinearHead], detector: ProbeDetector) -> Tagger[MentionHead]:
    """A tagger that types a detector's mentions with the weights of a trained probe.

    Raises:
        ProbeError: the detector reads another encoder.
    """
    typer = LinearTyper(tagger.types, tagger.head.weights)
    return Tagger(tagger.encoder, MentionHead.of(tagger.encoder, detector, typer, SPAN_THRESHOLD))


def _bounds(runs: Runs) -> set[Any]:
    return set(zip(runs.first.tolist(), runs.last.tolist(), strict=True))
