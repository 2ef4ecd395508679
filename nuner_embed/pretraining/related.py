"""What a thesaurus adds to the objective contrastive: related names that hold too, in batches and beyond them.

A synonym of a concept holds for the mentions of the concept, a broader type holds with a weight, and a narrower type is
left out of the loss: a politician may be a mayor, or not. So is what follows from two lines of the file, such as a
synonym of a broader type. All other names of a batch are negatives, as without a thesaurus.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.pretraining.examples import Batch, within
from nuner_embed.pretraining.thesaurus import Thesaurus
from nuner_embed.tables import Ints

RELATED_DRAWS: Final = 1.0
BROADER_WEIGHT: Final = 0.5
_Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Related:
    """The names that are related to the labels of a run, each label to itself among them.

    Attributes:
        names: all names: the labels of the corpus, in their order, and what the thesaurus adds to them.
        bounds: name i has the relations `bounds[i]` to `bounds[i + 1]`, (names + 1,); an added name has none.
        other: number of the related name, (r,).
        weight: how much the related name counts as a positive for mentions of the label; 0: it does not count, nor does
            it count as a negative, (r,).
        drawable: whether the related name may be drawn into a batch: a synonym or a broader type, (r,).
        draws: names to draw for each label of a batch, on average.
    """

    names: tuple[str, ...]
    bounds: Ints
    other: Ints
    weight: NDArray[np.float32]
    drawable: NDArray[np.bool_]
    draws: float

    @classmethod
    def of(
        cls, labels: Sequence[str], thesaurus: Thesaurus, tokenizer: TextTokenizer, draws: float, broader_weight: float
    ) -> "Related":
        """Finds what the thesaurus has for the labels of a corpus.

        Args:
            labels: of the corpus, no two of them of the same tokens.
            thesaurus: further names; one with the tokens of a label is the label, one without tokens is none.
            tokenizer: of the concept encoder.
            draws: see `draws`.
            broader_weight: weight of a broader type, between 0 and 1.
        """
        tokens_of = _tokens(labels, thesaurus, tokenizer)
        place = {tokens_of[label]: number for number, label in enumerate(labels)}
        names, found = list(labels), dict[tuple[int, int], tuple[float, bool]]()
        relations = list(_relations(thesaurus, broader_weight))
        for drawable in (True, False):  # a narrower type matters only if it is a name for another reason
            for one, other, weight in ((a, b, w) for a, b, w, may_be_drawn in relations if may_be_drawn == drawable):
                a = place.get(tokens_of[one], len(labels))
                if a >= len(labels) or not tokens_of[other]:
                    continue
                if drawable and place.setdefault(tokens_of[other], len(names)) == len(names):
                    names.append(other)
                b = place.get(tokens_of[other], a)
                if a != b:
                    before = found.get((a, b), (0.0, False))
                    found[a, b] = max(before[0], weight), before[1] or drawable
        found.update({(i, i): (1.0, False) for i in range(len(labels))})
        pairs = sorted(found)
        rows = np.array([a for a, _ in pairs], np.int64)
        return cls(
            names=tuple(names),
            bounds=np.searchsorted(rows, np.arange(len(names) + 1)),
            other=np.array([b for _, b in pairs], np.int64),
            weight=np.array([found[pair][0] for pair in pairs], np.float32),
            drawable=np.array([found[pair][1] for pair in pairs], np.bool_),
            draws=draws,
        )

    def extended(self, batch: Batch, random: np.random.Generator | None) -> Batch:
        """A batch with the pairs that the thesaurus adds.

        Args:
            batch: as `make_batch` makes it.
            random: draws further names into the batch; None to draw none.
        """
        if random is not None:
            batch = replace(batch, labels=np.concatenate([batch.labels, self._drawn(batch.labels, random)]))
        return self._with_pairs(batch)

    def _drawn(self, labels: Ints, random: np.random.Generator) -> Ints:
        """Names that are related to labels of a batch and not among them; a name without a further one draws none."""
        entry, row = self._relations_of(labels)
        may_be_drawn = self.drawable[entry] & ~np.isin(self.other[entry], labels)
        entry, row = entry[may_be_drawn], row[may_be_drawn]
        whole = int(self.draws)
        wanted = whole + (random.random(len(labels)) < self.draws - whole)
        order = np.lexsort((random.random(len(row)), row))  # a random order within each label
        rank = within(np.bincount(row, minlength=len(labels)))
        drawn: Ints = np.unique(self.other[entry[order[rank < wanted[row]]]])
        return drawn

    def _with_pairs(self, batch: Batch) -> Batch:
        """Adds the pairs of tokens and related columns; of several weights of a pair, the greatest holds."""
        entry, row = self._relations_of(batch.labels)
        column = np.full(len(self.names), -1)
        column[batch.labels] = np.arange(len(batch.labels))
        column = column[self.other[entry]]
        there = column >= 0
        entry, row, column = entry[there], row[there], column[there]
        count = np.bincount(row, minlength=len(batch.labels))
        times = count[batch.column]  # pairs that come of each annotated one
        at = np.repeat((np.cumsum(count) - count)[batch.column], times) + within(times)
        token, weight = np.repeat(batch.token, times), self.weight[entry[at]]
        pair = token * len(batch.labels) + column[at]
        order = np.lexsort((-weight, pair))
        pair, first = np.unique(pair[order], return_index=True)
        token, place = np.divmod(pair, len(batch.labels))
        return replace(batch, token=token, column=place, weight=weight[order[first]])

    def _relations_of(self, names: Ints) -> tuple[Ints, Ints]:
        """The relations of some names, and for each relation the place of its name among them."""
        count = self.bounds[names + 1] - self.bounds[names]
        return np.repeat(self.bounds[names], count) + within(count), np.repeat(np.arange(len(names)), count)


def _relations(thesaurus: Thesaurus, broader_weight: float) -> Iterator[tuple[str, str, float, bool]]:
    """Of all relations: two names, the weight of the second for mentions of the first, and whether it may be drawn."""
    alike, above = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for concept in thesaurus.synonyms:
        above[concept].update(thesaurus.broader[concept])
        for synonym in thesaurus.synonyms[concept]:
            alike[concept].add(synonym)
            alike[synonym].add(concept)
    for one in [*above, *(name for name in alike if name not in above)]:
        synonyms, broader = alike.get(one, set()), above.get(one, set())
        for other in sorted(synonyms):
            yield one, other, 1.0, True
        for other in sorted(broader):
            yield one, other, broader_weight, True
            yield other, one, 0.0, False
        for step in sorted(synonyms | broader):
            for other in sorted(alike.get(step, set()) | above.get(step, set())):
                yield one, other, 0.0, False
                yield other, one, 0.0, False


def _tokens(labels: Sequence[str], thesaurus: Thesaurus, tokenizer: TextTokenizer) -> Mapping[str, _Tokens]:
    """The tokens of the labels and of all names of the thesaurus."""
    names = dict.fromkeys(labels)
    for concept in thesaurus.synonyms:
        names.update(dict.fromkeys((concept, *thesaurus.others(concept))))
    encoded = tokenizer.encode(list(names))
    return {name: tuple(ids.tolist()) for name, (ids, _) in zip(names, encoded, strict=True)}


Extend = Callable[[Batch, np.random.Generator | None], Batch]
