"""The configuration of a network, read without any framework."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nuner_embed.errors import ModelError
from nuner_embed.files import hash_of, read_json
from nuner_embed.limits import CONFIG_BYTES, HIDDEN_SIZE, LAYERS, POSITIONS, VOCABULARY

# RoBERTa and its relatives number positions from padding_idx + 1: a table of 514 positions takes 512 tokens.
_OFFSET_POSITIONS = frozenset(
    {
        "roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "data2vec-text",
        "longformer", "ibert", "luke", "xmod", "esm", "markuplm", "lilt", "layoutlmv3",
    }
)  # fmt: skip
_POSITIONS_FROM_TWO = frozenset({"mpnet", "ernie_m"})  # whatever the padding's id
# Keys about the making and the training of a model, which do not change what the network computes.
_NOT_THE_NETWORK = re.compile(
    r"_.*|architectures|transformers_version|(torch_)?dtype|output_.*|return_dict|use_cache|id2label|label2id"
    r"|problem_type|initializer_.*|gradient_checkpointing|.*dropout.*"
)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a text encoder.

    Attributes:
        model_type: Hugging Face's name of the architecture.
        hidden_size: dimensions of one hidden state.
        layers: transformer layers; there are `layers + 1` hidden states.
        positions: longest input in tokens, special tokens included.
        vocabulary: rows of the embedding table.
        pad_id: token id used for padding.
        sha256: of all values that decide what the network computes with its weights: activation, heads, epsilons, ...
    """

    model_type: str
    hidden_size: int
    layers: int
    positions: int
    vocabulary: int
    pad_id: int
    sha256: str


def read_settings(path: Path, called: str | None = None) -> dict[str, Any]:
    """The object of a JSON file; empty where there is no such file.

    Args:
        path: of the file.
        called: what messages call the file; None for the path.

    Raises:
        ModelError: the file cannot be read, or holds no JSON object.
    """
    called = called or str(path)
    try:
        values = read_json(path, CONFIG_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ModelError(f"{called} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ModelError(f"{called} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{called} is not a JSON object")
    return values


def read_config(name: str, directory: Path) -> ModelConfig:
    """Reads `config.json`.

    Raises:
        ModelError: the file is missing or incomplete, or needs code of its own.
    """
    path = directory / "config.json"
    values = read_settings(path, f"{name}: config.json")
    if not values and not path.exists():
        raise ModelError(f"{name} holds no config.json; expected a Hugging Face model directory")
    if "auto_map" in values:
        raise ModelError(f"{name} needs Python code of its own (auto_map in config.json), which nuner-embed never runs")
    if "quantization_config" in values:
        raise ModelError(
            f"{name} holds weights in a format of another program (quantization_config in config.json); name the model "
            "that it was made from"
        )
    try:
        return _described(values)
    except KeyError as error:
        reason = f"it has no {error.args[0]}"
    except ValueError as error:
        reason = str(error)
    raise ModelError(f"{name}: config.json does not describe a text encoder: {reason}")


def _described(values: dict[str, Any]) -> ModelConfig:
    model_type = values["model_type"]
    if not isinstance(model_type, str):
        raise ValueError(f"its model_type is {model_type!r:.40}, expected a name")
    vocabulary = _whole(values, "vocab_size", 1, VOCABULARY)
    pad_id = 0 if values.get("pad_token_id") is None else _whole(values, "pad_token_id", -VOCABULARY, VOCABULARY)
    distilbert = model_type == "distilbert"
    return ModelConfig(
        model_type=model_type,
        hidden_size=_whole(values, "dim" if distilbert else "hidden_size", 1, HIDDEN_SIZE),
        layers=_whole(values, "n_layers" if distilbert else "num_hidden_layers", 1, LAYERS),
        positions=_positions(model_type, values, pad_id),
        vocabulary=vocabulary,
        pad_id=pad_id if 0 <= pad_id < vocabulary else 0,  # -1 means none; masked tokens may have any id
        sha256=hash_of({key: value for key, value in values.items() if not _NOT_THE_NETWORK.fullmatch(key)}),
    )


def _whole(values: dict[str, Any], key: str, least: int, most: int, default: int | None = None) -> int:
    value = values[key] if default is None else values.get(key, default)
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"its {key} is {value!r:.40}, expected a whole number from {least:,} to {most:,}")
    return value


def _positions(model_type: str, values: dict[str, Any], pad_id: int) -> int:
    """Tokens of the longest input that the network treats like shorter ones."""
    positions = _whole(values, "max_position_embeddings", 1, POSITIONS)
    if model_type in _OFFSET_POSITIONS and values.get("position_embedding_type") != "rotary":
        positions -= pad_id + 1
    if model_type in _POSITIONS_FROM_TWO:
        positions -= 2
    if model_type == "big_bird" and values.get("attention_type", "block_sparse") == "block_sparse":
        # Up to this length every token attends to all others; beyond it, only to blocks, until a shorter text is run.
        blocks = 5 + 2 * _whole(values, "num_random_blocks", 0, POSITIONS, 3)
        positions = min(positions, blocks * _whole(values, "block_size", 1, POSITIONS, 64))
    if positions < 3:
        raise ValueError(f"it takes {positions} tokens at a time, too few for a text")
    return positions
