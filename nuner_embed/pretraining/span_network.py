"""The span scorer as a network that is trained; see `nuner_embed.heads.span_scorer` for what it computes."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from nuner_embed.heads.span_scorer import PARTS, WIDTH, Metric, SpanScorer
from nuner_embed.pretraining.objectives import Compared

_HIDDEN = 512


@dataclass(frozen=True)
class SpanBatch:
    """The spans of some texts, with the concepts of those that are mentions.

    Attributes:
        rows: embeddings of the words as `Rows.vectors` lays them out, (r, dim).
        spans: numbers of the spans that there are, among those of one word from every row on, of two words, and so on.
        mention: which of these spans are mentions, (m,).
        first, length: first row and number of words of each mention, (m,) each.
        concepts: vectors of the concepts of the batch, (c, dim).
        holds: which mention is of which concept, (m, c).
    """

    rows: torch.Tensor
    spans: torch.Tensor
    mention: torch.Tensor
    first: torch.Tensor
    length: torch.Tensor
    concepts: torch.Tensor
    holds: torch.Tensor


class SpanNetwork(nn.Module):  # type: ignore[misc]
    """Scores spans as mentions, and mentions against concepts, both by binary cross-entropy.

    Args:
        dim: width of the embeddings of words and concepts.
        slope, intercept: of the calibration of the concept encoder, from which the weight of the mean begins.
        metric: of the concept encoder.
        dropout: in the hidden layer.
    """

    counts: ClassVar[str] = "top-1 concept"
    takes_flat: ClassVar[bool] = True  # nothing is padded

    def __init__(self, dim: int, slope: float, intercept: float, metric: Metric, dropout: float) -> None:
        super().__init__()
        self.words = nn.Linear(dim, PARTS * _HIDDEN, bias=False)
        self.widths = nn.Parameter(torch.zeros(WIDTH, _HIDDEN))
        self.output = nn.Linear(_HIDDEN, dim + 1)
        self.agreement = nn.Parameter(torch.tensor(slope))
        self.intercept = nn.Parameter(torch.tensor(intercept))
        self.dropout = nn.Dropout(dropout)
        self._metric = metric

    def forward(self, batch: SpanBatch) -> Compared:
        """Scores the spans of a batch."""
        mention, vectors = self.score(batch)
        target = torch.zeros_like(mention)
        target[batch.mention] = 1
        mentions = max(1, len(batch.mention))
        loss = F.binary_cross_entropy_with_logits(mention, target, reduction="sum") / mentions
        logits = vectors @ batch.concepts.T + self.intercept
        loss = loss + F.binary_cross_entropy_with_logits(logits, batch.holds, reduction="sum") / mentions
        with torch.no_grad():
            right = batch.holds.gather(1, logits.argmax(1, keepdim=True)).sum()
        return Compared(loss, right, torch.tensor(len(batch.mention), device=loss.device))

    def score(self, batch: SpanBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-odds of every span for being a mention, (s,), and the vectors of the mentions, (m, dim)."""
        hidden = self.dropout(F.gelu(self._hidden(batch.rows), approximate="tanh"))
        mention = F.linear(hidden, self.output.weight[-1:], self.output.bias[-1:]).squeeze(1)
        mention = mention.index_select(0, batch.spans)
        chosen = hidden.index_select(0, batch.spans[batch.mention])
        vectors = F.linear(chosen, self.output.weight[:-1], self.output.bias[:-1])
        sums = F.pad(batch.rows.double().cumsum(0), (0, 0, 1, 0))
        mean = ((sums[batch.first + batch.length] - sums[batch.first]) / batch.length.unsqueeze(1)).float()
        if self._metric == "cosine":
            mean = F.normalize(mean, dim=-1)
        return mention, vectors + self.agreement * mean

    def _hidden(self, rows: torch.Tensor) -> torch.Tensor:
        """The hidden layer of all spans, the shortest first, (WIDTH * (r - WIDTH), hidden), before its activation."""
        count = len(rows) - WIDTH
        as_first, as_last, before, after, in_mean = self.words(rows).chunk(PARTS, dim=1)
        edge = as_first[:count] + F.pad(before[: count - 1], (0, 0, 1, 0))
        total, found = torch.zeros_like(edge), []
        for length in range(1, WIDTH + 1):
            total = total + in_mean[length - 1 : length - 1 + count]
            around = as_last[length - 1 : length - 1 + count] + after[length : length + count]
            found.append(total / length + edge + around + self.widths[length - 1])
        return torch.cat(found)

    def scorer(self) -> SpanScorer:
        """The trained weights, rounded to 16 bits, in which they are saved."""

        def array(tensor: torch.Tensor) -> NDArray[np.float32]:
            return np.ascontiguousarray(tensor.detach().half().float().cpu().numpy())

        return SpanScorer(
            words=array(self.words.weight.T),
            widths=array(self.widths),
            output=array(self.output.weight.T),
            bias=array(self.output.bias),
            agreement=float(self.agreement.detach()),
            intercept=float(self.intercept.detach()),
            metric=self._metric,
        )

    @property
    def outermost(self) -> list[nn.Parameter]:
        """No parameter learns at a rate of its own."""
        return []

    def set_training(self, training: bool) -> None:
        """Turns dropout on or off."""
        self.train(training)

    def facts(self) -> dict[str, Any]:
        """Weight of the mean, and the intercept."""
        return {"scale": self.agreement.detach().item(), "bias": self.intercept.detach().item()}
