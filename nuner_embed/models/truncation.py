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
from nuner_embed.models.resolver import TransformersModel
from nuner_embed.models.weights import Tensors, read_tensors, weight_files, write_tensors

_DEPTH_KEYS: Final = ("num_hidden_layers", "n_layers")  # DistilBERT's is the second
_OF_EACH_LAYER: Final = ("layer_types",)  # keys of config.json whose list has an entry for each layer
_NUMBERED: Final = re.compile(r"(?P<list>(?:.*?\.)?)(?P<number>\d+)\.")  # the outermost list
_POOLER: Final = re.compile(r"(^|\.)pooler\.")  # it reads the last layer


def write_first_layers(model: TransformersModel, kept: int, directory: Path) -> None:
    """Writes configuration and weights of the first layers of a model into a folder without them.

    The pooler is left out, since it was trained on the last layer. A final normalisation stays.

    Args:
        model: a Hugging Face directory with weights in safetensors.
        kept: number of layers.
        directory: the folder.

    Raises:
        ModelError: the model has no more layers than that, or its layers cannot be told apart.
        OSError: a file cannot be written.
    """
    depth = model.config.layers
    if not 1 <= kept < depth:
        raise ModelError(f"{model.name} has {depth} layers; keep 1 to {depth - 1} of them, not {kept}")
    paths = weight_files(model.name, model.directory)
    if any(path.suffix != ".safetensors" for path in paths):
        raise ModelError(
            f"{model.name} has weights in {paths[0].name}; only safetensors can be cut: load and save the model with "
            "transformers first"
        )
    tensors = {name: tensor for path in paths for name, tensor in read_tensors(path).items()}
    write_config(model.directory / "config.json", kept, directory / "config.json")
    write_tensors(first_layers(model.name, tensors, depth, kept), directory / "model.safetensors", {"format": "pt"})


def first_layers(name: str, tensors: Tensors, depth: int, kept: int) -> Tensors:
    """The tensors without those of the upper layers and of the pooler.

    Args:
        name: of the model, for messages.
        tensors: of the whole network.
        depth: number of its layers.
        kept: number of layers to keep.

    Raises:
        ModelError: there is not exactly one list of so many numbered layers.
    """
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
