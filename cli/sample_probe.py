"""The few-shot probe of the demo, over the bundled sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nuner_embed.documents import Document
from nuner_embed.encoding.encoder import TextEncoder
from nuner_embed.evaluation.metrics import Scores
from nuner_embed.evaluation.tagging import score_tagger
from nuner_embed.probing.tagger import Tagger
from nuner_embed.probing.training import train_probe

TYPES = ("bird", "city", "country")
SHOTS = 8
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of it.

    Attributes:
        tagger: the probe and its encoder.
        scores: on the sentences that it was not trained on.
        shown: some of these with the mentions found: those that hold the most annotated ones.
    """

    tagger: Tagger
    scores: Scores
    shown: list[Document]


def run_probe(documents: Sequence[Document], encoder: TextEncoder, cache: Path) -> Probed:
    """Trains on every other sentence, from eight to sixteen examples a type, and looks at the rest."""
    unseen = documents[1::2]
    tagger = train_probe(documents[::2], encoder, types=TYPES, k=SHOTS, cache=cache)
    scores = score_tagger(tagger, unseen, types=TYPES, cache=cache)
    by_mentions = sorted(unseen, key=lambda document: -sum(span.label in TYPES for span in document.spans))
    return Probed(tagger, scores, tagger.tag(by_mentions[:_SHOWN]))
