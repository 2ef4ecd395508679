"""The part of a model's `config.json` that transformers gets: sizes and switches of the network, but no choice of code.

A key is passed on if the code of the network or of its configuration contains its name, unless the key chooses an
implementation, a file or another model.
"""

import inspect
import re
import sys
from typing import Any, Final

import transformers

from nuner_embed.errors import ModelError
from nuner_embed.files import read_json
from nuner_embed.limits import CONFIG_BYTES
from nuner_embed.models.resolver import Model
from nuner_embed.printable import one_line

# Keys that begin with an underscore, such as `_attn_implementation`, or that name code, kernels, files or models.
_REFUSED: Final = re.compile(
    r"_.*|auto_map|architectures|.*attn_implementation.*|.*experts_implementation.*|trust_remote_code|.*kernels?"
    r"|(use_)?kernel_config|quantization.*|base_model.*|name_or_path|.*backbone.*|(torch_)?dtype|transformers_weights"
    r"|configuration_files|adapter.*|custom_.*|.*_path|.*_plan"
)
_MODELS: Final = "transformers.models."


def network_config(model: Model) -> tuple[Any, Any]:
    """The configuration of a model's network, and the class of the network.

    Raises:
        ModelError: `config.json` cannot be read, or describes no text encoder that transformers knows.
    """
    try:
        values = read_json(model.directory / "config.json", CONFIG_BYTES)
        kind = transformers.CONFIG_MAPPING[model.config.model_type]
        architecture = transformers.AutoModel._model_mapping[kind]
        if not isinstance(architecture, type):  # several, as of a Funnel Transformer
            raise KeyError
    except KeyError:
        raise ModelError(
            f"{model.name} is a {model.config.model_type}, which is not a text encoder known to transformers"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{model.name}: transformers cannot read its config.json: {one_line(error)}") from None
    if any("model_type" in value for value in values.values() if isinstance(value, dict)):
        raise ModelError(f"{model.name}: config.json describes several networks; a text encoder is one")
    words = _words(architecture, kind)
    known = {key: _without_refused(value) for key, value in values.items() if key in words and _is_allowed(key)}
    try:
        config = kind.from_dict(known)
    except Exception as error:  # each configuration checks its values in its own way
        raise ModelError(f"{model.name}: transformers cannot read its config.json: {one_line(error)}") from None
    return config, architecture


def _is_allowed(key: str) -> bool:
    return not _REFUSED.fullmatch(key)


def _without_refused(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_refused(inner) for key, inner in value.items() if _is_allowed(key)}
    return [_without_refused(inner) for inner in value] if isinstance(value, list) else value


def _words(architecture: Any, kind: Any) -> frozenset[str]:
    """All words in the code of a network and its parts, and the keys of every configuration."""
    modules = {part.__module__ for part in (*architecture.__mro__, *kind.__mro__)}
    used = vars(sys.modules[architecture.__module__]).values()
    modules |= {getattr(value, "__module__", None) or "" for value in used}
    own = [sys.modules[name] for name in modules if name.startswith(_MODELS) and name in sys.modules]
    words = {word for module in own for word in re.findall(r"\w+", inspect.getsource(module))}
    base = inspect.signature(transformers.PretrainedConfig.__init__).parameters
    return frozenset(words | set(base) | _OF_EVERY_NETWORK)


# Keys that transformers itself reads from the configuration of any text encoder.
_OF_EVERY_NETWORK: Final = frozenset(
    {
        "pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "is_decoder", "is_encoder_decoder",
        "add_cross_attention", "tie_word_embeddings", "chunk_size_feed_forward", "pruned_heads", "output_hidden_states",
        "output_attentions", "return_dict", "torchscript", "position_embedding_type", "hidden_act", "rope_scaling",
        "rope_theta", "rope_parameters", "layer_types", "initializer_range",
    }
)  # fmt: skip
