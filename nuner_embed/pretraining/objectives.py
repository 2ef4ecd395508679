"""The training objectives: a text encoder against a concept encoder, or under a linear layer.

The first is the bi-encoder of sections 3.2 and 3.3 of the paper. The linear layer is how NER-BERT is pre-trained, for
comparison (section 4.1).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from nuner_embed.pretraining.halves import Flat, Halves, Padded
from nuner_embed.pretraining.settings import PretrainSettings


@dataclass(frozen=True)
class Compared:
    """The result of a batch.

    Attributes:
        loss: to be minimised, ().
        correct: number of labelled tokens whose best concept in the batch is right, ().
        labelled: number of tokens with a label, ().
    """

    loss: torch.Tensor
    correct: torch.Tensor
    labelled: torch.Tensor


class BiEncoder(nn.Module):  # type: ignore[misc]
    """Tokens against concepts: a probability for each pair, fitted by binary cross-entropy.

    Args:
        text: the text encoder.
        concept: the concept encoder.
        settings: loss, pooling, temperature, scale.
        prior: share of positive pairs; the bias starts at its log-odds, as in SigLIP.
        taught: width of a teacher's vectors, if there is a teacher.
    """

    counts: ClassVar[str] = "top-1 concept"  # the share that `Compared` counts, for people

    def __init__(
        self, text: Halves, concept: Halves, settings: PretrainSettings, prior: float, taught: int | None = None
    ) -> None:
        super().__init__()
        self.text, self.concept = text, concept
        self._loss, self._temperature, self._pooling = settings.loss, settings.temperature, settings.concept_pooling
        if self._loss == "sigmoid":
            prior = min(max(prior, 1e-6), 0.5)
            self.log_scale = nn.Parameter(torch.tensor(math.log(settings.scale)))
            self.bias = nn.Parameter(torch.tensor(math.log(prior / (1 - prior))))
        self.to_teacher = None if taught is None else nn.Linear(text.network.config.hidden_size, taught)
        self._teacher_weight, self._is_training = settings.teacher_weight or 0.0, False

    @property
    def outermost(self) -> list[nn.Parameter]:
        """Scale and bias, which learn at a rate of their own."""
        return [self.log_scale, self.bias] if self._loss == "sigmoid" else []

    @property
    def takes_flat(self) -> bool:
        """See `Halves.takes_flat`."""
        return self.text.takes_flat

    def set_training(self, training: bool) -> None:
        """Turns dropout on or off in the layers that are trained."""
        self.text.set_training(training)
        self.concept.set_training(training)
        self._is_training = training

    def forward(
        self,
        texts: Padded | Flat,
        groups: list[Padded | Flat],
        token: torch.Tensor,
        column: torch.Tensor,
        weight: torch.Tensor | None = None,
        taught: torch.Tensor | None = None,
    ) -> Compared:
        """Compares the tokens of a batch with its concepts.

        Args:
            texts: of the batch, t tokens that are not special.
            groups: the batch's concepts, c in all.
            token, column: the positive pairs, (p,) each, no pair twice: rows and columns of the (t, c) logits.
            weight: see `Batch`, (p,); a token is right if its best concept is one of weight 1.
            taught: the teacher's vectors of the tokens, (t, dim of the teacher), which count while training.
        """
        tokens = self.text.tokens(texts)
        concepts = torch.cat([self.concept.pooled(group, self._pooling) for group in groups])
        with torch.autocast(tokens.device.type, enabled=False):  # the encoders may run in bf16, the loss does not
            compared = self._compare(tokens.float(), concepts.float(), token, column, weight)
            if self.to_teacher is None or taught is None or not self._is_training:
                return compared
            distance = 1 - F.cosine_similarity(self.to_teacher(tokens.float()), taught, dim=-1).mean()
            return replace(compared, loss=compared.loss + self._teacher_weight * distance)

    def _compare(
        self,
        tokens: torch.Tensor,
        concepts: torch.Tensor,
        token: torch.Tensor,
        column: torch.Tensor,
        weight: torch.Tensor | None,
    ) -> Compared:
        logits = self.logits(tokens, concepts)
        positive = logits[token, column]
        # binary cross-entropy with logits x: softplus(x) - x where the pair holds, softplus(x) where it does not
        loss = F.softplus(logits).sum()
        if weight is None:
            loss = loss - positive.sum()
        else:  # weight w: w times what a pair that holds has, and nothing else
            loss = loss - (weight * positive + (1 - weight) * F.softplus(positive)).sum()
            positive = positive.masked_fill(weight < 1, -math.inf)
        # over the concepts of the batch: summed, as in SigLIP; or the mean, as the paper's formula reads
        loss = loss / max(1, logits.shape[0] if self._loss == "sigmoid" else logits.numel())
        return Compared(loss, *top_1(logits, token, positive))

    def logits(self, tokens: torch.Tensor, concepts: torch.Tensor) -> torch.Tensor:
        """The logits before the sigmoid, (t, c)."""
        if self._loss == "paper":
            return tokens @ concepts.T / self._temperature
        tokens, concepts = F.normalize(tokens, dim=-1), F.normalize(concepts, dim=-1)
        return torch.addmm(self.bias, tokens, concepts.T * self.log_scale.exp())

    def facts(self) -> dict[str, Any]:
        """The parameters of the similarity besides the two encoders, as JSON values."""
        if self._loss == "paper":
            return {"temperature": self._temperature}
        return {"scale": self.log_scale.detach().exp().item(), "bias": self.bias.detach().item()}


@torch.no_grad()  # type: ignore[untyped-decorator]
def top_1(logits: torch.Tensor, token: torch.Tensor, positive: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The number of labelled tokens whose best concept is one of their own, and the number of labelled tokens."""
    best = logits.max(dim=1).values if logits.shape[1] else logits.new_zeros(len(logits))
    own = torch.full_like(best, -math.inf).scatter_reduce(0, token, positive.detach(), "amax")
    labelled = own > -math.inf
    return (labelled & (own >= best)).sum(), labelled.sum()


class TokenClassifier(nn.Module):  # type: ignore[misc]
    """The first token of every word against the tags of a typed set, fitted by cross-entropy.

    Args:
        text: the text encoder.
        tags: number of tags.
        dropout: of the vectors before the linear layer, while training.
    """

    counts: ClassVar[str] = "words right"

    def __init__(self, text: Halves, tags: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.text = text
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(text.network.config.hidden_size, tags)

    @property
    def outermost(self) -> list[nn.Parameter]:
        """No parameter learns at a rate of its own."""
        return []

    @property
    def takes_flat(self) -> bool:
        """See `Halves.takes_flat`."""
        return self.text.takes_flat

    def set_training(self, training: bool) -> None:
        """Turns dropout on or off in the layers that are trained."""
        self.text.set_training(training)
        self.dropout.train(training)

    def forward(self, texts: Padded | Flat, token: torch.Tensor, tag: torch.Tensor) -> Compared:
        """Classifies tokens.

        Args:
            texts: of the batch, t tokens that are not special.
            token: the tokens with a tag, (p,).
            tag: the tag of each of them, (p,).
        """
        logits = self.head(self.dropout(self.text.tokens(texts).index_select(0, token).float()))
        loss = F.cross_entropy(logits, tag) if len(tag) else logits.sum() * 0
        correct = (logits.argmax(1) == tag).sum()
        return Compared(loss, correct, torch.tensor(len(tag), device=logits.device))

    def facts(self) -> dict[str, Any]:
        """Empty: there is nothing but the linear layer."""
        return {}
