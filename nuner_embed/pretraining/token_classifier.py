"""The text encoder under a linear layer: NER-BERT's way of pre-training, for comparison (section 4.1)."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from nuner_embed.pretraining.bi_encoder import Compared
from nuner_embed.pretraining.halves import Flat, Halves, Padded


class TokenClassifier(nn.Module):  # type: ignore[misc]
    """The first token of every word against the tags of a typed set, fitted by cross-entropy.

    Args:
        text: the text encoder.
        tags: how many there are.
    """

    def __init__(self, text: Halves, tags: int) -> None:
        super().__init__()
        self.text = text
        self.head = nn.Linear(text.network.config.hidden_size, tags)

    @property
    def outermost(self) -> list[nn.Parameter]:
        """No parameter learns at a rate of its own."""
        return []

    def set_training(self, training: bool) -> None:
        """Turns dropout on or off in the layers that are trained."""
        self.text.set_training(training)

    def forward(self, texts: Padded | Flat, token: torch.Tensor, tag: torch.Tensor) -> Compared:
        """Classifies tokens.

        Args:
            texts: of the batch, t tokens that are not special.
            token: those with a tag, (p,).
            tag: their tags, (p,).
        """
        logits = self.head(self.text.tokens(texts).index_select(0, token).float())
        loss = F.cross_entropy(logits, tag) if len(tag) else logits.sum() * 0
        correct = (logits.argmax(1) == tag).sum()
        return Compared(loss, correct, torch.tensor(len(tag), device=logits.device))

    def facts(self) -> dict[str, Any]:
        """Nothing is kept of the linear layer."""
        return {}
