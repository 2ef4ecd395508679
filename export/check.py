"""Is the file equal to its source?"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nuner_embed.errors import ExportError
from nuner_embed.models import TextTokenizer
from nuner_embed.runtimes import Runtime
from nuner_embed.runtimes.base import Batch, pad

MIN_COSINE = 0.9999
MAX_RELATIVE = 1e-3
_TEXTS = (
    "Rain.",
    "The harbour master of Port Ellery signed the lease on Tuesday.",
    "Who wrote the second symphony, and in which year was it first played in Vienna?",
    "El café ☕ de la esquina abre a las 7:30; naïve façade, 東京, שלום.",
)


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two runtimes are apart over every real token of the check.

    Attributes:
        min_cosine: of two vectors of one token.
        mean_cosine: over all tokens.
        max_abs: largest difference of one number.
        max_relative: the same over the largest number of the source.
        tokens: how many were compared.
    """

    min_cosine: float
    mean_cosine: float
    max_abs: float
    max_relative: float
    tokens: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def compare(source: Runtime, exported: Runtime, tokenizer: TextTokenizer, max_length: int, pad_id: int) -> Difference:
    """Runs both over batches of different sizes, lengths and paddings.

    Raises:
        ExportError: they differ by more than fp32 arithmetic explains.
    """
    cosines, worst, largest = [], 0.0, 0.0
    for ids, mask in _batches(tokenizer, max_length, pad_id):
        real = mask.astype(bool)
        expected, found = source.run(ids, mask)[real], exported.run(ids, mask)[real]
        if expected.shape != found.shape:
            raise ExportError(f"the graph gives {found.shape[-1]} dimensions, its source {expected.shape[-1]}")
        norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
        cosines.append((expected * found).sum(axis=1) / norms)
        worst = max(worst, float(np.abs(expected - found).max()))
        largest = max(largest, float(np.abs(expected).max()))
    cosine = np.concatenate(cosines)
    result = Difference(float(cosine.min()), float(cosine.mean()), worst, worst / largest, len(cosine))
    if not (result.min_cosine >= MIN_COSINE and result.max_relative <= MAX_RELATIVE):
        raise ExportError(
            f"the exported graph is not its source: minimum cosine {result.min_cosine:.6f} (at least {MIN_COSINE}), "
            f"largest relative difference {result.max_relative:.2e} (at most {MAX_RELATIVE}); nothing was written"
        )
    return result


def _batches(tokenizer: TextTokenizer, max_length: int, pad_id: int) -> Iterator[Batch]:
    """Single texts, all together, two tokens, a full window beside a short one."""
    room = max_length - tokenizer.specials
    texts = [list(map(int, ids))[:room] for ids, _ in tokenizer.encode(_TEXTS)]
    texts = [ids for ids in texts if ids]
    full = ([token for ids in texts for token in ids] * (room // sum(map(len, texts)) + 1))[:room]
    for group in (texts[:1], texts, [texts[0][:1]], [full], [full, *texts, full[: room // 2]]):
        yield pad([[*tokenizer.prefix, *ids, *tokenizer.suffix] for ids in group], pad_id)
