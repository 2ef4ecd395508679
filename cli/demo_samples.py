"""What the demo does with the bundled texts: texts with their mentions, searches, and types of one's own."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from threadpoolctl import threadpool_limits

from nuner_embed.bundled import LOGBOOK, UNSEEN_LOGBOOK
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.documents import Document, Span
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.loader import load_encoder
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.evaluation.metrics import Scores, score_tagger
from nuner_embed.heads.base import Head
from nuner_embed.heads.names import NamedTypes
from nuner_embed.heads.probe import train_probe
from nuner_embed.heads.tagger import Tagger
from nuner_embed.heads.zero_shot import named_tagger
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

# Of the logbook: nobody else's types, under names that may well mean something else to the model.
TYPES = ("ferry line", "part number", "fault")
SHOTS = (3, 12)
DRAWS = 5
_SHOWN_SENTENCES = 5


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the names of the types find in sentences that were not learnt from, alone or with some examples.

    Attributes:
        title: how many examples.
        folder: of the saved head, in the demo's.
        command: what one would type.
        tagger: by names, or from the first support set.
        scores: of each support set; one where there is no example.
        shown: some sentences with the mentions found: those that hold the most annotated ones.
    """

    title: str
    folder: str
    command: str
    tagger: Tagger[Head]
    scores: list[Scores]
    shown: list[Document]

    @classmethod
    def of(cls, title: str, folder: str, command: str, taggers: Sequence[Tagger[Head]], cache: Path) -> Self:
        """Looks at the unseen part of the logbook with each tagger."""
        unseen = read_annotated([UNSEEN_LOGBOOK])[0]
        most = sorted(unseen, key=lambda document: -len(document.spans))[:_SHOWN_SENTENCES]
        scores = [score_tagger(tagger, unseen, types=TYPES, cache=cache) for tagger in taggers]
        return cls(title, folder, command, taggers[0], scores, taggers[0].tag(most))

    def figures(self) -> list[float]:
        """Token macro-F1, span micro-F1, and the span F1 of each of `TYPES`: means over the support sets."""
        places = [1 + self.scores[0].types.index(name) for name in TYPES]
        rows = [(one.token_macro_f1, one.span_micro_f1, *one.spans.f1()[places]) for one in self.scores]
        return [float(value) for value in np.mean(rows, axis=0)]

    def __str__(self) -> str:
        """The figures, with their names."""
        token, span, *_ = self.figures()
        of = f", mean of {len(self.scores)} support sets" if len(self.scores) > 1 else ""
        return (
            f"{self.title}: on {self.scores[0].documents} sentences unseen, token macro-F1 with None left out "
            f"{token:.1%}, span micro-F1 {span:.1%}{of}"
        )


def learn(model: str, cache: Path) -> list[Learnt]:
    """Three types of the logbook: by their names alone, then with a few examples of each, then with more."""
    named = NamedTypes({name: (name,) for name in TYPES}, ConceptEncoder.open(model))
    encoder, sentences = load_encoder(model), read_annotated([LOGBOOK])[0]
    command = f'nuner-embed tag {UNSEEN_LOGBOOK.name} --types "{",".join(TYPES)}"'
    found = [Learnt.of("names alone", "names", command, [named_tagger(TYPES, model=model)], cache)]
    for k in SHOTS:
        with threadpool_limits(1):  # two threads in one small product wait for each other
            taggers = [
                train_probe(sentences, encoder, k=k, seed=seed, named=named, cache=cache) for seed in range(DRAWS)
            ]
        title, folder = f"names, and {k} to {2 * k} examples of each type", f"probe-{k}"
        command = f"nuner-embed probe train {LOGBOOK.name} -o {folder} --k {k}"
        found.append(Learnt.of(title, folder, command, taggers, cache))
    return found
