"""The paper's protocol of section 4.1: probes on frozen features, from support sets of growing size, drawn repeatedly.

Every model gets the same support sets, so that differences between models can be compared draw by draw.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from nuner_embed.documents import Document
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.evaluation.metrics import Scores
from nuner_embed.files import hash_of
from nuner_embed.heads import DEFAULT_C, DEFAULT_CLASS_WEIGHT
from nuner_embed.heads.classifier import LinearProbe
from nuner_embed.heads.labelled_words import (
    Runs,
    Unit,
    WordLabels,
    count_matrix,
    count_mentions,
    runs_of,
    shortened,
    types_among,
)
from nuner_embed.heads.names import NamedTypes
from nuner_embed.heads.support_set import draw_k, draw_words, short_types
from nuner_embed.limits import DRAWS_MOST, SEED_MOST, SHOTS_MOST
from nuner_embed.metadata import Count, Positive
from nuner_embed.tables import Ints

ShortCells = Literal["blank", "drop", "keep"]


@dataclass(frozen=True, slots=True)
class FewShotProtocol:
    """What is measured.

    Attributes:
        k: sizes of the support sets.
        draws: support sets of each size.
        seed: of the draws.
        unit: k counts mentions, between k and 2k of each type, or words, exactly k of each type (section 6).
        short_types: what happens where a type has fewer than k: the cell stays blank, the type is dropped (its words
            count as none, in training and test), or kept with as many as there are.
        C, class_weight, tol: of the probes, see `LinearProbe`.

    Raises:
        ValueError: sizes, draws or seed are out of bounds.
    """

    k: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    draws: int = 10
    seed: int = 0
    unit: Unit = "mentions"
    short_types: ShortCells = "blank"
    C: float = DEFAULT_C
    class_weight: str | None = DEFAULT_CLASS_WEIGHT
    tol: float = 1e-4

    def __post_init__(self) -> None:
        for name, values, low, high in (
            ("k", self.k, 1, SHOTS_MOST), ("draws", (self.draws,), 1, DRAWS_MOST), ("seed", (self.seed,), 0, SEED_MOST),
        ):  # fmt: skip
            if not values or not all(low <= value <= high for value in values):
                raise ValueError(f"{name} must lie between {low:,} and {high:,}, not {str(list(values))[1:60]}")


@dataclass(frozen=True, slots=True)
class TypedSet:
    """An annotated set with its own training and test part.

    Attributes:
        name: for tables.
        train: support sets are drawn from it.
        test: all of it is measured.
        sha256: of both parts.
    """

    name: str
    train: tuple[Document, ...] = field(repr=False)
    test: tuple[Document, ...] = field(repr=False)
    sha256: str

    @property
    def types(self) -> list[str]:
        """The types of both parts, sorted."""
        return types_among(count_mentions(self.train) | count_mentions(self.test))

    def repeated(self) -> int:
        """Number of test texts that also occur in the training part."""
        seen = {document.text for document in self.train}
        return sum(document.text in seen for document in self.test)


@dataclass(frozen=True, slots=True)
class Draws:
    """The support sets of one size.

    Attributes:
        k: the size.
        types: the types that probes tell apart.
        left_out: types left out because they have too few mentions.
        sets: numbers of the training sentences of each draw; empty if the cell is blank.
        blank: why the cell is blank; else None.
    """

    k: int
    types: tuple[str, ...]
    left_out: tuple[str, ...]
    sets: tuple[NDArray[np.intp], ...]
    blank: str | None


def plan(typed: TypedSet, protocol: FewShotProtocol) -> list[Draws]:
    """Draws the support sets of every size: the same for every model."""
    types = typed.types
    counts = count_matrix(typed.train, types, protocol.unit)
    return [_plan(counts, types, k, protocol) for k in protocol.k]


def _plan(counts: Ints, types: list[str], k: int, protocol: FewShotProtocol) -> Draws:
    sample = draw_words if protocol.unit == "words" else draw_k
    lacking = short_types(counts, types, k)
    if lacking and protocol.short_types == "blank":
        return Draws(k, tuple(types), (), (), f"too few {protocol.unit}: {shortened([str(one) for one in lacking])}")
    left_out = {one.type for one in lacking if protocol.short_types == "drop" or not one.count}
    kept = [place for place, name in enumerate(types) if name not in left_out]
    names = tuple(types[place] for place in kept)
    if not kept:
        return Draws(k, names, tuple(sorted(left_out)), (), f"no type has {k} {protocol.unit}")
    sets = []
    for number in range(protocol.draws):
        chosen = sample(counts[:, kept], k, [protocol.seed, k, number])
        if chosen is None:
            bounds = f"{k}" if protocol.unit == "words" else f"{k} to {2 * k}"
            return Draws(
                k, names, tuple(sorted(left_out)), (), f"no sentences hold {bounds} {protocol.unit} of each type"
            )
        sets.append(chosen)
    return Draws(k, names, tuple(sorted(left_out)), tuple(sets), None)


def needed(draws: Sequence[Draws]) -> NDArray[np.intp]:
    """The numbers of all training sentences in the draws, ascending."""
    return np.unique(np.concatenate([np.empty(0, np.intp), *(one for size in draws for one in size.sets)]))


def key_of(typed: TypedSet, protocol: FewShotProtocol, encoder: tuple[str, str]) -> str:
    """A hash of all that decides the cells of a model on a set; `encoder` is its semantic and numeric hash."""
    return hash_of({"set": typed.sha256, "protocol": asdict(protocol), "encoder": encoder, "schema": 1})


METRICS = ("token_macro_f1", "token_macro_f1_with_none", "span_micro_f1")
_ROWS_AT_ONCE = 4096


@dataclass(slots=True)
class Cell:
    """The scores of one model on one set, from support sets of one size.

    Attributes:
        model, set, k: of the cell.
        scores: token macro-F1 of each draw, None left out, fractions of 1; none where the cell is blank.
        mean, std: of the scores; the standard deviation is of a sample, None with fewer than two scores.
        words: words of each support set.
        types: number of types that probes tell apart.
        left_out: types that were left out.
        blank: why there are no scores; else None.
        others: token macro-F1 with None, and span micro-F1, of each draw.
    """

    model: str
    set: str
    k: Positive
    scores: list[float]
    mean: float | None
    std: float | None
    words: list[Count]
    types: Count
    left_out: list[str]
    blank: str | None
    others: dict[str, list[float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def measure(
    model: str,
    typed: TypedSet,
    draws: Sequence[Draws],
    protocol: FewShotProtocol,
    train: WordFeatures,
    test: WordFeatures,
    *,
    named: NamedTypes | None = None,
    threads: int = 1,
    progress: Callable[[int], None] = lambda probes: None,
) -> list[Cell]:
    """Fits and measures all probes of one model on one set.

    Args:
        model: its name.
        typed: the set.
        draws: see `plan`.
        protocol: how to fit.
        train: features of the training sentences that `needed` lists, in its order.
        test: features of all test sentences.
        named: names of the types beside the examples, which the paper's protocol does not have.
        threads: probes fitted at a time, each on one thread: two threads in one small product take turns, not halves.
        progress: is told how many more probes are fitted.
    """
    cells = []
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        for size, probes, words in fit_probes(typed, draws, protocol, train, pool, named, progress):
            scores = score_probes(probes, typed.test, test, size.types, pool)
            cells.append(cell_of(model, typed.name, size, scores, words))
    return cells


def fit_probes(
    typed: TypedSet,
    draws: Sequence[Draws],
    protocol: FewShotProtocol,
    train: WordFeatures,
    pool: ThreadPoolExecutor,
    named: NamedTypes | None = None,
    progress: Callable[[int], None] = lambda probes: None,
) -> Iterator[tuple[Draws, list[LinearProbe], list[int]]]:
    """Of each size its support sets, a probe of each of them, and the number of words of each; see `measure`."""
    place = {int(sentence): i for i, sentence in enumerate(needed(draws))}
    chosen = [typed.train[sentence] for sentence in place]
    for size in draws:
        learnt = WordLabels.of(chosen, train, size.types)
        rows = [train.take(np.array([place[int(sentence)] for sentence in one])) for one in size.sets]

        def fit(words: NDArray[np.intp], codes: Ints = learnt.codes, types: Sequence[str] = size.types) -> LinearProbe:
            return fit_draw(train.vectors[words], codes[words], protocol, types, named)

        probes = []
        for probe in pool.map(fit, rows):
            probes.append(probe)
            progress(1)
        yield size, probes, [len(words) for words in rows]


def fit_draw(
    vectors: NDArray[np.floating[Any]],
    codes: Ints,
    protocol: FewShotProtocol,
    types: Sequence[str] = (),
    named: NamedTypes | None = None,
) -> LinearProbe:
    """A probe of one support set: features of its words, (n, dim), and their classes, (n,); with names, if there are.

    If all words are of one class, as when the mentions of a single type fill their sentences, the probe gives that
    class to every word.
    """
    offset = named.offsets(types, vectors) if named is not None else None
    probe = LinearProbe(C=protocol.C, class_weight=protocol.class_weight, tol=protocol.tol, offset=offset)
    classes = np.unique(codes)
    if len(classes) > 1:
        return probe.fit(vectors, codes)
    probe.classes_ = classes
    probe.coef_ = np.zeros((len(classes), vectors.shape[1]), np.float32)
    probe.intercept_ = np.zeros(len(classes), np.float32)
    return probe


def score_probes(
    probes: Sequence[LinearProbe],
    documents: Sequence[Document],
    features: WordFeatures,
    types: Sequence[str],
    pool: ThreadPoolExecutor,
) -> list[Scores]:
    """Scores of many probes on the same documents; all probes are applied in one pass."""
    labels = WordLabels.of(documents, features, types)
    if not probes:
        return []
    classes = len(types) + 1
    coef = np.zeros((len(probes), classes, features.vectors.shape[1]), dtype=np.float32)
    intercept = np.full((len(probes), classes), -np.inf, dtype=np.float32)  # a class that a probe never saw
    for number, probe in enumerate(probes):
        coef[number, probe.classes_], intercept[number, probe.classes_] = probe.coef_, probe.intercept_
    flat, bias = coef.reshape(len(probes) * classes, -1).T, intercept.ravel()
    predicted = np.empty((len(probes), len(labels.codes)), dtype=np.int64)

    def label(first: int) -> None:
        some = slice(first, first + _ROWS_AT_ONCE)
        scores = features.vectors[some] @ flat + bias
        predicted[:, some] = scores.reshape(-1, len(probes), classes).argmax(axis=2).T

    list(pool.map(label, range(0, len(labels.codes), _ROWS_AT_ONCE)))

    def score(codes: Ints) -> Scores:
        found: Runs = runs_of(codes, features.bounds)
        return Scores.of(types, labels, codes, found, len(documents))

    return list(pool.map(score, predicted))


def cell_of(model: str, name: str, size: Draws, found: Sequence[Scores], words: list[int]) -> Cell:
    """The cell of the scores of each draw; `words` has the number of words of each support set."""
    values = {metric: [float(getattr(scores, metric)) for scores in found] for metric in METRICS}
    main = values.pop(METRICS[0])
    mean = float(np.mean(main)) if main else None
    std = float(np.std(main, ddof=1)) if len(main) > 1 else None
    return Cell(
        model=model,
        set=name,
        k=size.k,
        scores=main,
        mean=mean,
        std=std,
        words=words,
        types=len(size.types),
        left_out=list(size.left_out),
        blank=size.blank,
        others=values,
    )
