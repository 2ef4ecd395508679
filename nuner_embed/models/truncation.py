"""A text encoder cut after some of its layers: the lower layers of a deep network, as a model of its own.

Only names and sizes are looked at, so torch is not needed, and any network works whose layers are one numbered list.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from nuner_embed.errors import ModelError
from nuner_embed.files import read_json, write_json
from nuner_embed.limits import CONFIG_BYTES
from nuner_embed.models.weights import Tensors, read_tensors

_DEPTH_KEYS: Final = ("num_hidden_layers", "n_layers")  # DistilBERT's is the second
_OF_EACH_LAYER: Final = ("layer_types",)  # keys of config.json whose list has an entry for each layer
_NUMBERED: Final = re.compile(r"(?P<list>(?:.*?\.)?)(?P<number>\d+)\.")  # the outermost list
_POOLER: Final = re.compile(r"(^|\.)pooler\.")  # it reads the last layer


def read_first_layers(name: str, weights: list[Path], depth: int, kept: int) -> Tensors:
    """The tensors of the first layers of a network, and those outside of the layers.

    The pooler is left out, since it was trained on the last layer. A final normalisation stays.

    Args:
        name: of the model, for messages.
        weights: its files.
        depth: number of its layers.
        kept: number of layers to keep.

    Raises:
        ModelError: the network has no more layers than that, its layers cannot be told apart, or its weights are not in
            safetensors.
    """
    if not 1 <= kept < depth:
        raise ModelError(f"{name} has {depth} layers; keep 1 to {depth - 1} of them, not {kept}")
    if any(path.suffix != ".safetensors" for path in weights):
        raise ModelError(
            f"{name} has weights in {weights[0].name}; only safetensors can be cut: load and save the model with "
            "transformers first"
        )
    tensors = {tensor: value for path in weights for tensor, value in read_tensors(path).items()}
    numbers = defaultdict(set)
    for tensor in tensors:
        if found := _layer(tensor):
            numbers[found[0]].add(found[1])
    lists = [one for one, found in numbers.items() if found == set(range(depth))]
    if len(lists) != 1:
        raise ModelError(
            f"{name} cannot be cut: its weights have {len(lists)} lists of {depth} numbered layers, expected one"
        )

    def is_kept(tensor: str) -> bool:
        found = _layer(tensor)
        above = found is not None and found[0] == lists[0] and found[1] >= kept
        return not above and not _POOLER.search(tensor)

    return {tensor: value for tensor, value in tensors.items() if is_kept(tensor)}


def _layer(tensor: str) -> tuple[str, int] | None:
    """The list and the number of the layer of a tensor: of `encoder.layer.3.output.bias`, `encoder.layer.` and 3."""
    found = _NUMBERED.match(tensor)
    return (found["list"], int(found["number"])) if found else None


def write_config(source: Path, kept: int, target: Path) -> None:
    """Writes a `config.json` for the first layers of a network.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the source is not JSON.
    """
    values: dict[str, Any] = read_json(source, CONFIG_BYTES)
    changes: dict[str, Any] = {key: kept for key in _DEPTH_KEYS if key in values}
    changes |= {key: values[key][:kept] for key in _OF_EACH_LAYER if isinstance(values.get(key), list)}
    write_json(target, values | changes)
