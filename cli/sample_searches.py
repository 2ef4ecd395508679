"""The searches of the demo, over the bundled corpus."""

from dataclasses import dataclass
from typing import Any

from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.indexes import Index, embed_mentions, examples_of, find, find_concepts, marked_document
from nuner_embed.indexes.vectors import Floats


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
