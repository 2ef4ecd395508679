"""A quick probe while training: few draws, few test sentences, the text encoder as it is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import PretrainingError
from nuner_embed.evaluation.fewshot import Draws, Protocol, TypedSet, measure, needed, plan
from nuner_embed.heads.features import embed_words
from nuner_embed.models.recipe import Recipe
from nuner_embed.models.resolver import Model
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.pretraining.halves import Halves

_K, _DRAWS, _TEST_SENTENCES = 4, 4, 300


class _Unfinished:
    """A network in training as a `Runtime`."""

    name, streams = "torch", 1

    def __init__(self, halves: Halves, device: torch.device) -> None:
        self._halves, self._device = halves, device
        self.device = device.type
        self.dim = int(halves.network.config.hidden_size)
        self.description = "a network in training"
        self.numerics: dict[str, Any] = {}

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Runtime.run`."""
        ids, mask = (torch.from_numpy(one).to(self._device) for one in (input_ids, attention_mask))
        given = self._halves.bottom(ids, mask) if self._halves.cut else ids
        states: NDArray[np.float32] = self._halves(given, mask).float().cpu().numpy()
        return states


@dataclass(frozen=True)
class PlannedProbe:
    """A typed set with its support sets.

    Attributes:
        typed: the set, the first 300 sentences of its test part.
        protocol: k = 4, four draws.
        draws: the support sets.
    """

    typed: TypedSet
    protocol: Protocol
    draws: list[Draws]


def plan_quick_probe(typed: TypedSet) -> PlannedProbe:
    """Draws the support sets.

    Raises:
        PretrainingError: there are none.
    """
    protocol = Protocol(k=(_K,), draws=_DRAWS, short_types="keep")
    draws = plan(typed, protocol)
    if draws[0].blank:
        raise PretrainingError(f"no probe on {typed.name}: {draws[0].blank}")
    return PlannedProbe(replace(typed, test=typed.test[:_TEST_SENTENCES]), protocol, draws)


def make_quick_probe(
    planned: PlannedProbe, halves: Halves, model: Model, tokenizer: TextTokenizer, recipe: Recipe, device: torch.device
) -> Callable[[], float]:
    """A function that measures the network: token macro-F1 with None left out, mean of four draws of k = 4.

    It takes the first 300 sentences of the test part: a sign of progress, not a figure to report.
    """
    typed, draws = planned.typed, planned.draws
    chosen = needed(draws)
    encoder = TextEncoder(
        tokenizer=tokenizer,
        runtime=_Unfinished(halves, device),
        recipe=recipe,
        weights_sha256="",
        batch_tokens=1024,
        pad_id=model.config.pad_id,
    )

    def probe() -> float:
        halves.set_training(False)
        train = embed_words(encoder, [typed.train[i] for i in chosen])
        test = embed_words(encoder, typed.test)
        (cell,) = measure("", typed, draws, planned.protocol, train, test)
        return float(cell.mean or 0.0)

    return probe
