"""How much of a corpus is in mentions, and the threshold that this asks of a probe.

Sentences that were chosen because they hold a type hold more of it than other texts do, and a probe that learnt from
them expects as much everywhere. What it finds in a sample of the corpus says how far it is wrong. The threshold moves
less than the two shares would ask for if the probe's probabilities were calibrated, which they are not from a few
examples: moved all the way, hardly anything is found. Measured, with other ways: benchmarks/prevalence.py,
results/prevalence.md.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from nuner_embed.documents import Document
from nuner_embed.heads.defaults import EVEN_THRESHOLD
from nuner_embed.words import split_words

ALLOWED: Final = 0.2  # types of dense corpora are found this often, beside what the sentences drawn for them hold
POWER: Final = 0.5
HIGHEST: Final = 0.9
_LEAST_WORDS = 1000  # fewer say too little of a share of a percent
_CHARACTERS, _OF_A_DOCUMENT = 50_000, 2000  # some 8,000 words, a second or two


def rare_threshold(learnt: float, found: float, *, allowed: float = ALLOWED, power: float = POWER) -> float:
    """The threshold for a corpus that may hold far fewer mentions than what a probe learnt from.

    Args:
        learnt: share of the words in mentions, where the probe learnt.
        found: share of the words in which it finds mentions at a threshold of 0.5, in a sample of the corpus.
        allowed: how much of the former the latter may be and say nothing.
        power: of the ratio that is left.

    Returns:
        0.5 where at least a fifth of what was learnt from is found; else the odds are the square root of how many times
        less than that fifth is found. 0.9 at most.
    """
    odds = (allowed * learnt / found) ** power if found else float("inf")
    return HIGHEST if odds >= HIGHEST / (1 - HIGHEST) else max(EVEN_THRESHOLD, odds / (1 + odds))


def prevalence_sample(documents: Sequence[Document]) -> list[Document]:
    """Some of the documents, evenly spread, long ones cut: 50,000 characters or one document; none of too few words."""
    cut = [
        one if len(one.text) <= _OF_A_DOCUMENT else replace(one, text=one.text[:_OF_A_DOCUMENT], words=None, spans=())
        for one in documents
    ]
    sample = cut[:: -(-sum(len(one.text) for one in cut) // _CHARACTERS) or 1]
    words = sum(len(split_words(one.text)) if one.words is None else len(one.words) for one in sample)
    return sample if words >= _LEAST_WORDS else []
