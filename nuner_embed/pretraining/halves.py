"""A network cut in two: a frozen bottom half, whose output is computed once, and a top half that is trained."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nuner_embed.errors import PretrainingError
from nuner_embed.models.concept_facts import ConceptPooling
from nuner_embed.pretraining.flat import Run, can_run, relative_of, run_layers

_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Padded:
    """Pieces in a rectangle.

    Attributes:
        given: ids (b, length), or the frozen bottom's states (b, length, dim).
        mask: 1 for tokens, 0 for padding, (b, length).
        inner: which of them are neither padding nor special, in order, as indices into (b * length), (t,).
    """

    given: torch.Tensor
    mask: torch.Tensor
    inner: torch.Tensor


@dataclass(frozen=True)
class Flat:
    """Pieces one after the other; pieces of the same length stand together.

    Attributes:
        given: the frozen bottom's states, (n, dim).
        runs: of pieces of one length; tokens that are neither padding nor special are asked for.
    """

    given: torch.Tensor
    runs: tuple[Run, ...]


class Halves(nn.Module):  # type: ignore[misc]
    """The layers of a text encoder below and above a cut.

    The bottom never changes and has no dropout. With a cut of 0 there is no bottom: the top is the whole network and
    takes token ids.

    Args:
        network: a transformers model of one stack of layers.
        cut: layers below the cut.
        dropout: in the layers above it; None for the network's own.

    Raises:
        PretrainingError: the network has fewer layers, or cannot be cut: its halves together compute something else.
    """

    def __init__(self, network: Any, cut: int, dropout: float | None = None) -> None:
        super().__init__()
        self.network = network.eval()
        self.cut = cut
        path, layers = _layers_of(network)
        if not 0 <= cut < len(layers):
            raise PretrainingError(
                f"this network has {len(layers)} layers; {cut} cannot be frozen, at least one must be trained"
            )
        if dropout is not None:
            _set_dropout(layers[cut:] if cut else network, dropout)
        for parameter in network.parameters():
            parameter.requires_grad_(not cut)
        if not cut:
            return
        for part in (*layers[cut:], getattr(network, "final_norm", None)):
            for parameter in part.parameters() if part is not None else ():
                parameter.requires_grad_(True)
        # Set past nn.Module, which would otherwise list the parameters twice.
        self.__dict__["_bottom"] = _with_layers(network, path, layers[:cut])
        top = _with_layers(network, path, layers[cut:])
        top.embeddings = _Given()
        self.__dict__["_top"] = top
        self._require_whole()

    @property
    def trained(self) -> nn.ModuleList:
        """The layers above the cut."""
        return nn.ModuleList(_layers_of(self.network)[1][self.cut :])

    def set_training(self, training: bool) -> None:
        """Turns dropout above the cut on or off."""
        (self.trained if self.cut else self.network).train(training)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def bottom(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Hidden states (b, length, dim) below the cut of padded ids (b, length)."""
        # The output of the last layer below the cut is taken from that layer itself: the network may normalise it once
        # more, and only transformers 5 calls the normalised output the last hidden state.
        handed_on: list[Any] = []
        last = _layers_of(self.network)[1][self.cut - 1]
        hook = last.register_forward_hook(lambda _layer, _given, output: handed_on.append(output))
        try:
            self._bottom(input_ids=ids, attention_mask=mask, return_dict=True)
        finally:
            hook.remove()
        states: torch.Tensor = handed_on[0][0] if isinstance(handed_on[0], tuple) else handed_on[0]
        return states

    def forward(self, given: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Last hidden states (b, length, dim) from the bottom's output, or from ids (b, length) if none is frozen."""
        if self.cut:
            output = self._top(inputs_embeds=given, attention_mask=mask, return_dict=True)
        else:
            output = self.network(input_ids=given, attention_mask=mask, return_dict=True)
        states: torch.Tensor = output.last_hidden_state
        return states

    @property
    def takes_flat(self) -> bool:
        """Whether the top takes pieces without padding: much faster on a CPU, but many small kernels on a GPU."""
        on_cpu = next(self.network.parameters()).device.type == "cpu"
        return bool(self.cut) and on_cpu and can_run(list(self.trained))

    def tokens(self, pieces: Padded | Flat) -> torch.Tensor:
        """Last hidden states (t, dim) of all tokens that are not special, in order."""
        if isinstance(pieces, Flat):
            return self._flat(pieces.given, pieces.runs)
        states = self(pieces.given, pieces.mask)
        return states.reshape(-1, states.shape[-1]).index_select(0, pieces.inner)

    def _flat(self, given: torch.Tensor, runs: Sequence[Run]) -> torch.Tensor:
        return run_layers(list(self.trained), given, runs, relative_of(self.network))

    def pooled(self, pieces: Padded | Flat, pooling: ConceptPooling) -> torch.Tensor:
        """A vector for each piece, (b, dim): the mean of its tokens that are not special, or its first token."""
        if isinstance(pieces, Flat):
            runs = [_pooled_run(run, pooling) for run in pieces.runs]
            states = self._flat(pieces.given, runs)
            parts = states.split([run.rows * (run.last - run.first) for run in runs])
            return torch.cat(
                [part.view(run.rows, -1, part.shape[1]).mean(1) for part, run in zip(parts, runs, strict=True)]
            )
        states = self(pieces.given, pieces.mask)
        if pooling == "first":
            return states[:, 0]
        weights = torch.zeros_like(pieces.mask, dtype=states.dtype).reshape(-1)
        weights[pieces.inner] = 1
        weights = weights.view(pieces.mask.shape)
        return (weights.unsqueeze(1) @ states).squeeze(1) / weights.sum(1, keepdim=True).clamp(min=1)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _require_whole(self) -> None:
        ids = torch.randint(0, self.network.config.vocab_size, (2, 7), generator=torch.Generator().manual_seed(0))
        mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
        try:
            halves = self(self.bottom(ids, mask), mask)
            whole = self.network(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state
            same = torch.allclose(halves[mask > 0], whole[mask > 0], atol=_TOLERANCE, rtol=_TOLERANCE)
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise PretrainingError(f"a {self.network.config.model_type} cannot be split: {error}") from error
        if not same:
            raise PretrainingError(
                f"a {self.network.config.model_type} cannot be split: its halves do not give what the whole gives; "
                "freeze nothing"
            )


def _pooled_run(run: Run, pooling: ConceptPooling) -> Run:
    """The run with the tokens of which a piece's vector is made; the first special token, if a piece has no other."""
    if pooling == "first" or run.first == run.last:
        return Run(run.rows, run.length, 0, 1)
    return run


class _Given(nn.Module):  # type: ignore[misc]
    """Replaces the embedding layer, and returns its input."""

    def forward(self, *others: Any, inputs_embeds: torch.Tensor | None = None, **_: Any) -> torch.Tensor:
        given = inputs_embeds if inputs_embeds is not None else next(one for one in others if one is not None)
        assert isinstance(given, torch.Tensor)
        return given


class FastDropout(nn.Module):  # type: ignore[misc]
    """Dropout with a mask of 16-bit random numbers; on a CPU, torch's own dropout takes a large share of a step."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._limit = round(p * 65536) - 32768
        self._scale = 1 / (1 - p)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Drops elements at random while training."""
        if not self.training or self.p == 0:
            return values
        if values.device.type != "cpu":
            return nn.functional.dropout(values, self.p)
        words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        numbers = words.view(torch.int16)[: values.numel()].view(values.shape)
        return values * (numbers >= self._limit).to(values.dtype).mul_(self._scale)


def _layers_of(network: Any) -> tuple[list[str], nn.ModuleList]:
    """The list of layers, and the names that lead to it."""
    number = network.config.num_hidden_layers
    for name, module in network.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == number:
            return name.split("."), module
    raise PretrainingError(f"a {network.config.model_type} has no list of {number} layers; it cannot be trained here")


def _with_layers(network: Any, path: list[str], layers: nn.ModuleList) -> Any:
    """The network with other layers, sharing everything else."""
    clone = copy.copy(network)
    clone._modules = dict(network._modules)
    name, *rest = path
    setattr(clone, name, _with_layers(getattr(network, name), rest, layers) if rest else nn.ModuleList(layers))
    return clone


def _set_dropout(part: nn.Module, p: float) -> None:
    for module in part.modules():
        if isinstance(module, nn.Dropout):
            module.p = p
        for name in ("dropout_prob", "attention_dropout"):  # read by fused attention
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, p)


def use_fast_dropout(part: nn.Module) -> None:
    """Replaces every dropout module by `FastDropout`."""
    for module in part.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, FastDropout(child.p).train(child.training))
