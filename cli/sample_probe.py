"""The two probes of the demo, over the bundled sentences: from a few examples, and from names alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nuner_embed.documents import Document
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.loader import load_encoder
from nuner_embed.evaluation.metrics import Scores, score_tagger
from nuner_embed.heads.linear import LinearHead
from nuner_embed.heads.probe import train_probe, zero_shot_tagger
from nuner_embed.heads.tagger import Tagger

TYPES = ("bird", "city", "country")
SHOTS = 8
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of a probe.

    Attributes:
        tagger: the probe and its encoder.
        scores: on the sentences that no probe was trained on.
        shown: some of these with the mentions found: those that hold the most annotated ones.
    """

    tagger: Tagger[LinearHead]
    scores: Scores
    shown: list[Document]

    def __str__(self) -> str:
        """The figures, with their names."""
        return (
            f"on {self.scores.documents} sentences unseen, token macro-F1 with None left out "
            f"{self.scores.token_macro_f1:.1%}, span micro-F1 {self.scores.span_micro_f1:.1%}"
        )


def run_probes(documents: Sequence[Document], model: str, cache: Path) -> tuple[Probed, Probed]:
    """Trains on every other sentence, from eight to sixteen examples a type, or on none; looks at the rest."""
    unseen = documents[1::2]
    trained = train_probe(documents[::2], load_encoder(model), types=TYPES, k=SHOTS, cache=cache)
    named = zero_shot_tagger(
        dict(zip(TYPES, TYPES, strict=True)), load_encoder(model, normalize=True), ConceptEncoder.open(model)
    )
    by_mentions = sorted(unseen, key=lambda document: -sum(span.label in TYPES for span in document.spans))
    few, none = (
        Probed(tagger, score_tagger(tagger, unseen, types=TYPES, cache=cache), tagger.tag(by_mentions[:_SHOWN]))
        for tagger in (trained, named)
    )
    return few, none
