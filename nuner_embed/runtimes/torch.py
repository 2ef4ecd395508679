"""PyTorch and transformers: runs a Hugging Face directory as it is."""

import contextlib
import inspect
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

from nuner_embed.errors import ModelError, OutOfMemory, RuntimeUnavailable
from nuner_embed.machine import cpu_name
from nuner_embed.models.recipe import Recipe
from nuner_embed.models.resolver import Model, TransformersModel
from nuner_embed.models.weights import require_plausible
from nuner_embed.printable import one_line
from nuner_embed.runtimes.base import CUDA_BATCH_TOKENS, RowFormat, RuntimeOptions, WindowBatch, memory_errors
from nuner_embed.runtimes.device_pooling import finished, pool_on_device
from nuner_embed.runtimes.network_config import network_config
from nuner_embed.runtimes.packed import PackedNetwork, attention_for, is_packable
from nuner_embed.runtimes.padding import ONE_LENGTH, Ints, PaddedRuntime, padded, takes_padding
from nuner_embed.runtimes.transfer import in_flight, to_device

# Measured by benchmarks/encode.py: small batches stay in a CPU's cache.
_BATCH_TOKENS = {"cpu": 1024, "cuda": CUDA_BATCH_TOKENS}
_BF16_CPU_BATCH_TOKENS = 4096  # the fastest for all-MiniLM-L6-v2 with AMX; measured by benchmarks/encode.py
_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_ON_DEVICE = 2  # batches at a time
_DeviceRows = Callable[[WindowBatch], torch.Tensor]
_LOADING = threading.Lock()  # transformers changes torch while it loads, for all threads


class TorchRuntime(PaddedRuntime):
    """A transformer of the Hugging Face library; see `Runtime`.

    Attributes:
        network: the transformer.

    Raises:
        RuntimeUnavailable: CUDA was requested and is not available, or fp16 was requested on a CPU.
        ModelError: the weights do not fit the configuration, or vectors depend on the other texts of a batch.
    """

    name = "torch"
    _device_rows: _DeviceRows | None = None
    _packed_network: PackedNetwork

    def __init__(self, model: TransformersModel, recipe: Recipe, options: RuntimeOptions) -> None:
        self.device = _choose_device(options.device)
        self.precision = "f32" if options.precision == "auto" else options.precision
        if self.precision not in _DTYPES:
            raise RuntimeUnavailable(
                f"torch runs in {', '.join(_DTYPES)}, not in {self.precision}, which takes an exported model "
                "(nuner-embed export)"
            )
        if self.precision == "fp16" and self.device == "cpu":
            raise RuntimeUnavailable("fp16 runs on a GPU only; on a CPU use --precision bf16 or f32")
        if self.device == "cpu":
            torch.set_num_threads(options.thread_count)
        self._torch_device = torch.device(self.device)
        self.network = SelectedLayers(load_network(model).to(self.device), recipe.layers).eval()
        self.dim = model.config.hidden_size * len(recipe.layers)
        self.batch_tokens = _BATCH_TOKENS[self.device]
        if self.device == "cpu" and self.precision == "bf16":
            self.batch_tokens = _BF16_CPU_BATCH_TOKENS
        self.pad_id = model.config.pad_id
        versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
        kept = {"layers": recipe.layers, "versions": versions, "device": self.device}
        self.padding = takes_padding(model, self.states, recipe.max_length, kept)  # in float32: little noise
        self.network.to(_DTYPES[self.precision])
        self.description = f"torch {torch.__version__}, {self.device}, {self.precision}, {options.thread_count} threads"
        if not self.padding:
            self.description += ONE_LENGTH
        self.numerics = {
            "runtime": self.name,
            "version": versions,
            "file": model.weights_sha256,
            "device": torch.cuda.get_device_name() if self.device == "cuda" else "cpu",
            "cpu": cpu_name(),
            "precision": self.precision,
            "threads": options.thread_count,
        }
        if self.device == "cuda":
            self.make_rows_on_device()

    def states(self, input_ids: Ints, attention_mask: Ints) -> NDArray[np.float32]:
        """See `PaddedRuntime.states`."""
        with self._running():
            states: NDArray[np.float32] = self._run(input_ids, attention_mask).float().cpu().numpy()
        return states

    def make_rows_on_device(self) -> None:
        """Has rows made where the hidden states are, from packed windows where the network allows it.

        Two batches are on the device at a time: while one computes, the rows of the other are copied to the host. On a
        CPU, tests alone ask for this: there the rows of all stores so far are those of padded matrices that NumPy
        averages, and another order of summation would change their bits.
        """
        weight = next(self.network.parameters())
        self.streams = _ON_DEVICE
        self._device_rows = self._padded_rows
        if is_packable(self.network.network):
            head_size = self.network.network.encoder.layer[0].attention.self.attention_head_size
            attention = attention_for(weight.device, weight.dtype, head_size)
            self._packed_network = PackedNetwork(self.network.network, self.network.layers, attention)
            self._device_rows = self._packed_rows
            self.packed = True
        how = f"packed with {self._packed_network.attention} attention" if self.packed else "padded"
        self.numerics["batches"] = f"{how}, rows made on the device"
        self.description += f", {how}"

    def results(
        self, batches: Iterable[WindowBatch], form: RowFormat, streams: int
    ) -> Iterator[NDArray[np.floating[Any]]]:
        """See `PaddedRuntime.results`."""
        make = self._device_rows
        if make is None:
            return super().results(batches, form, streams)
        return in_flight((partial(self._finished, make, one, form) for one in batches), self._torch_device, streams)

    def _finished(self, make: _DeviceRows, batch: WindowBatch, form: RowFormat) -> torch.Tensor:
        with self._running():
            return finished(make(batch), form)

    def _packed_rows(self, batch: WindowBatch) -> torch.Tensor:
        begins = batch.bounds[batch.window]
        return pool_on_device(self._packed_network.states(batch), begins + batch.first, begins + batch.last)

    def _padded_rows(self, batch: WindowBatch) -> torch.Tensor:
        states = self._run(*padded(batch, self.pad_id))
        begins = batch.window * states.shape[1]
        return pool_on_device([states.flatten(0, 1)], begins + batch.first, begins + batch.last)

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        try:
            with torch.inference_mode(), memory_errors():
                yield
        except OutOfMemory:
            if self.device == "cuda":
                torch.cuda.empty_cache()
            raise

    def _run(self, input_ids: Ints, attention_mask: Ints) -> Any:
        return self.network(*(to_device(given, self._torch_device) for given in (input_ids, attention_mask)))


class SelectedLayers(torch.nn.Module):  # type: ignore[misc]
    """A network whose output is the concatenation of some of its hidden states, (batch, length, dim).

    Layers count from the last, -1, which is the output of the network, with its final normalisation if there is one.
    """

    def __init__(self, network: Any, layers: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.layers = layers
        self.masked = "attention_mask" in inspect.signature(network.forward).parameters  # FNet has no mask

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Runs the network on (batch, length) ids and mask."""
        mask = {"attention_mask": attention_mask} if self.masked else {}
        output = self.network(input_ids=input_ids, **mask, output_hidden_states=True, return_dict=True)
        states = (*output.hidden_states[:-1], output.last_hidden_state)
        chosen = [states[layer] for layer in self.layers]
        return chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=-1)


def load_network(model: Model, *, attention: str | None = None) -> Any:
    """The text encoder in fp32 and evaluation mode, without a pooler, every weight of it read from the files.

    Args:
        model: a Hugging Face directory.
        attention: transformers' name of an attention implementation; None for the default.

    Raises:
        ModelError: an unknown architecture, or weights that are missing or of other shapes.
    """
    require_plausible(model.name, model.directory, model.config)
    config, architecture = network_config(model)
    if config.model_type == "big_bird":
        config.attention_type = "original_full"  # as transformers chooses for texts up to `positions`, with a warning
    keywords: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    if "add_pooling_layer" in inspect.signature(architecture.__init__).parameters:
        keywords["add_pooling_layer"] = False
    try:
        with _LOADING, quiet_transformers():  # hides warnings about the pooler; missing weights are raised below
            network, report = architecture.from_pretrained(
                model.directory,
                config=config,
                dtype=torch.float32,  # otherwise transformers 5 follows the config
                local_files_only=True,
                weights_only=True,
                output_loading_info=True,
                **keywords,
            )
    except Exception as error:  # safetensors, torch and transformers raise their own errors for a broken file
        raise ModelError(f"{model.name} cannot be loaded: {one_line(error)}") from None
    wanting = [*report["missing_keys"], *(str(key[0]) for key in report["mismatched_keys"])]
    if wanting:
        raise ModelError(
            f"{model.name}: {len(wanting)} weights of the {config.model_type} are not in its files "
            f"({sorted(wanting)[0]}, ...) and would be random"
        )
    return network.eval()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Turns warnings and progress bars of transformers off within the block; problems that matter are raised as errors.

    Both settings are restored when the block ends.
    """
    log = logging.getLogger("transformers")
    level = log.level
    bars = transformers_logging.is_progress_bar_enabled()
    log.setLevel(logging.ERROR)
    if bars:
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        log.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _choose_device(asked: str) -> str:
    available = torch.cuda.is_available()
    if asked == "auto":
        return "cuda" if available else "cpu"
    if asked == "cuda" and not available:
        raise RuntimeUnavailable(
            f"asked for CUDA, but this torch ({torch.__version__}) finds none; "
            "install a CUDA build of torch and the driver, or use --device cpu"
        )
    return asked
