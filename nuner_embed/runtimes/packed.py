"""Networks of the BERT family over packed windows: tokens one after the other, without padding, for inference.

Nine tenths of the arithmetic are operations on single tokens, which run on all tokens of a batch at once. Attention
runs over the windows as they lie, with FlashAttention, where torch has a kernel for windows of varying length;
elsewhere over groups of windows of similar length. `pretraining/flat.py` runs the same layers with gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from nuner_embed.runtimes.base import WindowBatch
from nuner_embed.runtimes.transfer import upload

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # an older torch
    varlen_attn = None

Attention = Literal["varlen", "grouped"]
_LAYERS = ("BertLayer", "RobertaLayer", "XLMRobertaLayer", "CamembertLayer")
_EMBEDDINGS = ("BertEmbeddings", "RobertaEmbeddings", "XLMRobertaEmbeddings", "CamembertEmbeddings")
# The longest window of a group is at most this many times as long as the shortest.
_ALIKE = 1.25
_FLASH_DTYPES = (torch.float16, torch.bfloat16)
_FLASH_CAPABILITY = (8, 0)  # Ampere
_FLASH_HEAD_STEP, _FLASH_HEAD_SIZE = 8, 256


def has_bert_layers(layers: Sequence[torch.nn.Module]) -> bool:
    """Whether these are layers of the BERT family without relative positions."""
    return all(
        type(layer).__name__ in _LAYERS
        and getattr(layer.attention.self, "position_embedding_type", "absolute") == "absolute"
        for layer in layers
    )


def is_packable(network: Any) -> bool:
    """Whether `PackedNetwork` can run a text encoder of transformers."""
    embeddings = getattr(network, "embeddings", None)
    layers = getattr(getattr(network, "encoder", None), "layer", ())
    return (
        type(embeddings).__name__ in _EMBEDDINGS
        and getattr(embeddings, "position_embedding_type", "absolute") == "absolute"
        and len(layers) > 0
        and has_bert_layers(layers)
        and not getattr(network.config, "is_decoder", False)
    )


def attention_for(device: torch.device, dtype: torch.dtype, head_size: int) -> Attention:
    """Whether torch has FlashAttention over windows of varying length for these numbers: "varlen", else "grouped"."""
    able = (
        varlen_attn is not None
        and device.type == "cuda"
        and dtype in _FLASH_DTYPES
        and torch.cuda.get_device_capability(device) >= _FLASH_CAPABILITY
        and head_size % _FLASH_HEAD_STEP == 0
        and head_size <= _FLASH_HEAD_SIZE
    )
    return "varlen" if able else "grouped"


class PackedNetwork:
    """A text encoder of the BERT family that takes packed windows.

    The weights are shared with the network, but for those of queries, keys and values, which are copied into one matrix
    a layer. So the network must already have its dtype and its device.

    Args:
        network: see `is_packable`.
        layers: the hidden states to give, counted as in `Recipe.layers`.
        attention: see `attention_for`.
    """

    def __init__(self, network: Any, layers: tuple[int, ...], attention: Attention) -> None:
        self.attention = attention
        self._embeddings = network.embeddings
        count = len(network.encoder.layer)
        self._chosen = [range(count + 1)[layer] for layer in layers]
        self._layers = [_Layer(layer) for layer in network.encoder.layer[: max(self._chosen)]]
        # RoBERTa's positions count from the padding's id + 1
        self._padding = getattr(network.embeddings, "padding_idx", None)
        self._device = network.embeddings.word_embeddings.weight.device

    def states(self, batch: WindowBatch) -> list[torch.Tensor]:
        """The hidden states of all tokens, (t, dim) for each chosen layer, without a copy to the host."""
        windows = _Windows(batch.bounds, self.attention)
        ids, positions, *parts = upload(
            [batch.ids, _positions(batch.ids, batch.bounds, self._padding), *windows.arrays()], self._device
        )
        windows.receive(parts)
        states = self._embed(ids, positions)
        found = {0: states}
        for number, layer in enumerate(self._layers, start=1):
            states = layer(states, windows)
            if number in self._chosen:
                found[number] = states
        return [found[number] for number in self._chosen]

    def _embed(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        parts = self._embeddings
        tokens = parts.word_embeddings(ids) + parts.token_type_embeddings.weight[0]
        embedded: torch.Tensor = parts.LayerNorm(tokens + parts.position_embeddings(positions))
        return embedded


class _Layer:
    """A layer of the network, with one matrix for queries, keys and values."""

    def __init__(self, layer: Any) -> None:
        own = layer.attention.self
        projections = (own.query, own.key, own.value)
        self._weight = torch.cat([one.weight for one in projections]).detach()
        self._bias = torch.cat([one.bias for one in projections]).detach()
        self._shape = (3, own.num_attention_heads, own.attention_head_size)
        self._attended = layer.attention.output
        self._inner, self._output = layer.intermediate, layer.output

    def __call__(self, states: torch.Tensor, windows: "_Windows") -> torch.Tensor:
        projected = functional.linear(states, self._weight, self._bias).view(len(states), *self._shape)
        attended = self._attended(windows.attend(projected), states)
        done: torch.Tensor = self._output(self._inner(attended), attended)
        return done


@dataclass(frozen=True, slots=True)
class _Group:
    """Neighbouring windows of similar length, which attention takes as one rectangle.

    Attributes:
        first, last: the first window, and one past the last.
        begin, end: their tokens.
        length: of the longest window.
        even: whether all are that long.
    """

    first: int
    last: int
    begin: int
    end: int
    length: int
    even: bool

    @property
    def windows(self) -> int:
        """The number of windows."""
        return self.last - self.first


class _Windows:
    """The bounds of packed windows, and attention within each of them.

    Args:
        bounds: as in `WindowBatch`.
        attention: see `attention_for`.
    """

    def __init__(self, bounds: NDArray[np.int64], attention: Attention) -> None:
        self._bounds = bounds
        self._longest = int(np.diff(bounds).max())
        self._groups = _groups(bounds) if attention == "grouped" else []
        self._parts: list[torch.Tensor] = []
        self._masks: list[torch.Tensor | None] = []

    def arrays(self) -> list[NDArray[np.integer[Any]]]:
        """What attention needs on the device, as int32 or to be cast to it."""
        if not self._groups:
            return [self._bounds]
        return [array for group in self._groups if not group.even for array in self._rectangle(group)]

    def receive(self, parts: Sequence[torch.Tensor]) -> None:
        """Takes the tensors of `arrays`, on the device."""
        remaining = iter(parts)
        if not self._groups:
            self._parts = list(remaining)
        for group in self._groups:
            if group.even:
                self._masks.append(None)
                continue
            tokens, places, inside = (next(remaining) for _ in range(3))
            self._parts += [tokens, places]
            self._masks.append(inside.bool().view(group.windows, 1, 1, group.length))

    def attend(self, projected: torch.Tensor) -> torch.Tensor:
        """Contexts (t, heads * size) of queries, keys and values, (t, 3, heads, size)."""
        if not self._groups:
            return self._attend_as_they_lie(projected)
        contexts, parts = [], iter(self._parts)
        for group, mask in zip(self._groups, self._masks, strict=True):
            if mask is None:
                contexts.append(_attend(projected[group.begin : group.end], group, None))
            else:
                tokens, places = next(parts), next(parts)
                contexts.append(_attend(projected.index_select(0, tokens), group, mask).index_select(0, places))
        return contexts[0] if len(contexts) == 1 else torch.cat(contexts)

    def _attend_as_they_lie(self, projected: torch.Tensor) -> torch.Tensor:
        (bounds,) = self._parts
        queries, keys, values = projected.unbind(1)
        # torch's own kernel, FlashAttention 2, takes the keys of a window in one go, whatever else the batch holds, and
        # refuses to be told so with `num_splits`
        contexts: torch.Tensor = varlen_attn(queries, keys, values, bounds, bounds, self._longest, self._longest)
        return contexts.flatten(1)

    def _rectangle(self, group: _Group) -> list[NDArray[np.int64]]:
        """The token at each place of a rectangle, the place of each token, and whether a place holds a token.

        At padding stands the first token of the window; attention leaves it out.
        """
        bounds, columns = self._bounds[group.first : group.last + 1], np.arange(group.length)
        inside = columns < np.diff(bounds)[:, None]
        tokens = bounds[:-1, None] + np.where(inside, columns, 0)
        return [tokens.ravel(), np.flatnonzero(inside), inside.ravel().astype(np.int64)]


def _attend(projected: torch.Tensor, group: _Group, mask: torch.Tensor | None) -> torch.Tensor:
    """Contexts (windows * length, heads * size) of a rectangle, from (windows * length, 3, heads, size)."""
    rectangle = projected.view(group.windows, group.length, *projected.shape[1:])
    queries, keys, values = rectangle.permute(2, 0, 3, 1, 4).unbind(0)
    contexts = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    return contexts.transpose(1, 2).reshape(len(projected), -1)


def _groups(bounds: NDArray[np.int64]) -> list[_Group]:
    """Neighbouring windows in groups, of which none is more than `_ALIKE` times as long as another of its group."""
    lengths = np.diff(bounds).tolist()
    groups, begin = [], 0
    while begin < len(lengths):
        end, longest, shortest = begin, 0, lengths[begin]
        while end < len(lengths):
            longer, shorter = max(longest, lengths[end]), min(shortest, lengths[end])
            if longer > _ALIKE * shorter:
                break
            end, longest, shortest = end + 1, longer, shorter
        even = longest == shortest
        groups.append(_Group(begin, end, int(bounds[begin]), int(bounds[end]), longest, even))
        begin = end
    return groups


def _positions(
    ids: NDArray[np.integer[Any]], bounds: NDArray[np.int64], padding: int | None
) -> NDArray[np.integer[Any]]:
    """The number of each token's position embedding, (t,).

    BERT counts from 0. RoBERTa counts from the padding's id + 1, leaves out tokens that are the padding, should a text
    hold any, and gives them the position of the padding's id.
    """
    lengths = np.diff(bounds)
    if padding is None:
        return np.arange(len(ids)) - np.repeat(bounds[:-1], lengths)
    real = ids != padding
    counted = np.concatenate([[0], np.cumsum(real)])
    numbers: NDArray[np.integer[Any]] = (counted[1:] - np.repeat(counted[bounds[:-1]], lengths)) * real + padding
    return numbers
