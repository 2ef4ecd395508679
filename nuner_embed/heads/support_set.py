"""What a probe is to learn from: all of a corpus, or sentences drawn from it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nuner_embed.arguments import Texts, as_documents, as_names
from nuner_embed.documents import Document
from nuner_embed.errors import ProbeError
from nuner_embed.heads.labelled_words import comma_hint, count_matrix, count_mentions, shortened, types_among
from nuner_embed.heads.sampling import draw_k, short_types
from nuner_embed.tables import Ints

ShortTypes = Literal["fail", "drop", "keep"]


@dataclass(frozen=True, slots=True)
class SupportSet:
    """What a probe is to learn from.

    Attributes:
        documents: annotated.
        types: to tell apart, sorted.
        left_out: other types of the data, with their mentions.
        k: mentions of each type that were asked for, None where all the data was taken.
        seed: of the draw, None where there was none.
        what: the data's name in messages.
    """

    documents: tuple[Document, ...] = field(repr=False)
    types: tuple[str, ...]
    left_out: dict[str, int]
    k: int | None
    seed: int | None
    what: str


def choose_support(
    documents: Texts,
    *,
    types: str | Collection[str] | None = None,
    k: int | None = None,
    seed: int = 0,
    short: ShortTypes = "fail",
    what: str = "the data",
) -> SupportSet:
    """Chooses types, and draws a support set if `k` is given; the arguments are `train_probe`'s.

    Raises:
        ProbeError: no mention, a type that is wanted and does not occur or is short of k, or no sentences within the
            bounds.
    """
    documents = as_documents(documents)
    types = None if types is None else as_names(types)
    counts = count_mentions(documents)
    known = types_among(counts)
    if not known:
        raise ProbeError(f"{what} holds no annotated mention; a probe learns from spans or from BIO tags")
    missing = sorted(set(types or ()) - set(known))
    if missing:
        raise ProbeError(
            f"{what} holds no mention of {shortened(missing)}; its types are {shortened(known)}{comma_hint(known)}"
        )
    names = sorted(types or known)
    chosen = tuple(documents)
    if k is not None:
        names, held = _long_enough(documents, names, k, short, what)
        drawn = draw_k(held, k, [seed, k])
        if drawn is None:
            raise ProbeError(
                f"{what}: no choice of its sentences holds between {k} and {2 * k} mentions of every type; take "
                "another k, or fewer --types"
            )
        chosen = tuple(documents[i] for i in drawn)
    wanted = set(names)
    left_out = {name: count for name, count in sorted(counts.items()) if name not in wanted}
    return SupportSet(chosen, tuple(names), left_out, k, None if k is None else seed, what)


def _long_enough(
    documents: Sequence[Document], types: list[str], k: int, short: ShortTypes, what: str
) -> tuple[list[str], Ints]:
    """The types that are left where some have fewer than k mentions, and how often each document holds them."""
    counts = count_matrix(documents, types)
    lacking = short_types(counts, types, k)
    if lacking and short == "fail":
        raise ProbeError(
            f"{what}: too few mentions for k = {k}: {shortened([str(one) for one in lacking])}; take a smaller k, or "
            "--short-types drop (without these types) or keep (with as many as there are)"
        )
    if lacking and short == "drop":
        short_ones = {one.type for one in lacking}
        types = [name for name in types if name not in short_ones]
        if not types:
            raise ProbeError(f"{what}: no type has {k} mentions; take a smaller k")
        counts = count_matrix(documents, types)  # without the others fewer mentions overlap an earlier one
    return types, counts
