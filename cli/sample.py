"""A first look at an index of mentions."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from nuner_embed.indexes import Index

_QUERIES = 3
_NEIGHBOURS = 4


@dataclass(frozen=True, slots=True)
class Mention:
    """A row, for people.

    Attributes:
        row: its id in the index.
        text: of the mention.
        label: its concept.
        document: where it stands.
        score: cosine similarity to the query, 1 for the query itself.
    """

    row: int
    text: str
    label: str
    document: str
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen.

    Attributes:
        labels: number of mentions by label, most frequent first.
        examples: a mention and the nearest ones of other documents and other words, each.
        agreement: share of mentions whose nearest such neighbour carries the same label, a fraction of 1.
        chance: the same for a neighbour drawn at random.
    """

    labels: list[tuple[str, int]]
    examples: list[list[Mention]]
    agreement: float
    chance: float

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        yield "most frequent labels: " + ", ".join(f"{label} ({count})" for label, count in self.labels[:8])
        for query, *others in self.examples:
            yield f"\nnearest to [{query.text}] ({query.label}, {query.document}):"
            for other in others:
                yield f"  {other.score:.3f}  {other.text}  ({other.label}, {other.document})"
        yield (
            f"\nThe nearest other mention carries the same label in {self.agreement:.0%} of the cases; "
            f"by chance {self.chance:.1%} (toy data, sentence encoder)."
        )


def look(index: Index) -> Look:
    """Finds each mention's nearest ones in a new index, whose ids count from 0."""
    table = index.rows(index.ids(), ["document_id", "text", "label"])
    documents, texts, labels = (table.column(name).to_pylist() for name in ("document_id", "text", "label"))
    found = index.search(index.vectors(index.ids()), k=30)
    counts = Counter(labels).most_common()
    frequent = dict(counts[:_QUERIES])
    examples: dict[str, list[Mention]] = {}
    same = 0
    for row in range(len(index)):
        others = [
            Mention(int(other), texts[other], labels[other], documents[other], float(score))
            for other, score in zip(found.ids[row], found.scores[row], strict=True)
            if documents[other] != documents[row] and texts[other].lower() != texts[row].lower()
        ]
        same += bool(others) and others[0].label == labels[row]
        if labels[row] in frequent and labels[row] not in examples and len(others) >= _NEIGHBOURS:
            query = Mention(row, texts[row], labels[row], documents[row])
            examples[labels[row]] = [query, *others[:_NEIGHBOURS]]
    chance = sum((count / len(labels)) ** 2 for _, count in counts)
    return Look(counts, list(examples.values()), same / len(labels), chance)
