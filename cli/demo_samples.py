"""What the demo does with the bundled corpus: texts with their mentions, searches, and two probes."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nuner_embed.documents import Document, Span
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.loader import load_encoder
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.evaluation.metrics import Scores, score_tagger
from nuner_embed.heads.linear import LinearHead
from nuner_embed.heads.probe import train_probe
from nuner_embed.heads.tagger import Tagger
from nuner_embed.heads.zero_shot import zero_shot_tagger
from nuner_embed.indexes import Index, embed_mentions, examples_of, find, find_concepts, marked_document
from nuner_embed.indexes.vectors import Floats
from nuner_embed.store.reader import Store

_SHOWN_TEXTS = ("medicine-002", "football-004", "software-003", "birdwatching-005")


def found_in(store: Store, documents: Sequence[Document]) -> list[Document]:
    """A sentence of some fields each, with the mentions of the store."""
    spans: dict[str, list[Span]] = defaultdict(list)
    for row in store.table(["document_id", "start", "end", "score"]).to_pylist():
        spans[row["document_id"]].append(Span(row["start"], row["end"], None, row["score"]))
    return [replace(one, spans=tuple(spans[one.id])) for one in documents if one.id in _SHOWN_TEXTS]


@dataclass(frozen=True, slots=True)
class Search:
    """A search, as the command line would have it.

    Attributes:
        command: what one would type.
        mention: in its context.
        examples: of one kind of thing, in theirs.
        concepts: names of types.
        unwanted: names of types that are not meant.
        filter: an SQL condition over the rows.
    """

    command: str
    mention: str = ""
    examples: tuple[str, ...] = ()
    concepts: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    filter: str | None = None

    def run(self, index: Index, encoder: TextEncoder, concepts: ConceptEncoder) -> list[dict[str, Any]]:
        """Its hits."""
        if self.concepts:
            hits = find_concepts(
                index, concepts, self.concepts, self.unwanted, HITS, unique="surface", filter=self.filter
            )
        else:
            hits = find(index, self._vector(index, encoder), HITS, unique="surface", filter=self.filter)
        found: list[dict[str, Any]] = hits.to_pylist()
        return found

    def _vector(self, index: Index, encoder: TextEncoder) -> Floats:
        vector: Floats
        if self.examples:
            vector, _ = examples_of(index, encoder, [marked_document(one) for one in self.examples]).query(index)
            return vector
        vector = embed_mentions(index, encoder, [marked_document(self.mention)])[0]
        return vector


HITS = 5
SEARCHES = (
    Search(
        'nuner-embed search index "We saw the rings of [[Saturn]] through the telescope." --unique surface -k 5',
        mention="We saw the rings of [[Saturn]] through the telescope.",
    ),
    Search(
        'nuner-embed search index "She moved to [[Antwerp]] for the job." --unique surface -k 5 '
        "--filter \"document_id LIKE 'football%' OR document_id LIKE 'finance%'\"",
        mention="She moved to [[Antwerp]] for the job.",
        filter="document_id LIKE 'football%' OR document_id LIKE 'finance%'",
    ),
    Search(
        "nuner-embed search index --like medicines.jsonl --unique surface -k 5",
        examples=(
            "Take one tablet of [[ibuprofen]] after a meal.",
            "The doctor stopped the [[antibiotic]] on the third day.",
            "She has been on [[insulin]] since she was nine.",
            "[[Aspirin]] thins the blood.",
            "He was given [[morphine]] for the pain.",
        ),
    ),
    Search(
        'nuner-embed search index --concept "programming language" --unique surface -k 5',
        concepts=("programming language",),
    ),
    Search(
        "nuner-embed search index --concept animal --not bird --unique surface -k 5",
        concepts=("animal",),
        unwanted=("bird",),
    ),
)

TYPES = ("bird", "city", "country")
SHOTS = 8
_SHOWN_SENTENCES = 6


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
        Probed(
            tagger, score_tagger(tagger, unseen, types=TYPES, cache=cache), tagger.tag(by_mentions[:_SHOWN_SENTENCES])
        )
        for tagger in (trained, named)
    )
    return few, none
