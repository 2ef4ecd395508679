"""Whether a text's vectors are the same alone and beside a longer one, which pads it.

Most networks mask the padding out. Those that mix neighbours before they look at the mask (convolutions, Fourier
transforms, sketched attention) do not, and get batches of texts of one length. A network that gives the same text other
vectors the second time, as one that draws at random does, is refused.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuner_embed.cache import cached
from nuner_embed.errors import ModelError, NunerEmbedError
from nuner_embed.files import hash_of, read_json, write_json
from nuner_embed.metadata import convert
from nuner_embed.models.resolver import Model
from nuner_embed.runtimes.base import Runtime, pad

_SCHEMA_VERSION = 1
_SHORT = 7  # tokens
# How far a vector may move, as a share of its length. In float32 that is far above what another order of adding does,
# and a cosine of 1 - 5e-7; padding moves ConvBERT's vectors by 0.15 (cosine 0.988), MobileBERT's by 0.02 (0.9997).
# int8 has no entry: its scales are those of the whole batch, so that a vector moves with its neighbours by design.
NOISE = {"f32": 1e-3, "bf16": 0.05, "fp16": 0.05}
Run = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]


def takes_padding(model: Model, run: Run, longest: int, key: dict[str, Any], noise: float = NOISE["f32"]) -> bool:
    """Whether texts of different lengths may share a batch; found out once and remembered in the user's cache folder.

    Args:
        model: whose weights and configuration name what is remembered.
        run: the network; see `Runtime.run`.
        longest: tokens of the longest window that will be run, so that what the network does only above some length
            is seen.
        key: what else decides, as JSON values: layers, versions, device.
        noise: how far a vector may move, as a share of its length.

    Raises:
        ModelError: the network does not run, or the same text gets other vectors the second time.
        OutOfMemory: a window of the longest kind does not fit.
    """
    path = _memory(model, {**key, "longest": longest})
    with contextlib.suppress(OSError, ValueError):  # not found out yet, or damaged: found out anew
        return convert(read_json(path), _Remembered).padding
    padding = _find_out(model, run, longest, noise)
    with contextlib.suppress(OSError):  # found out again, then
        write_json(path, {"padding": padding})
    return padding


@dataclass(frozen=True, slots=True)
class _Remembered:
    padding: bool


def _memory(model: Model, key: dict[str, Any]) -> Path:
    whose = {"schema_version": _SCHEMA_VERSION, "weights": model.weights_sha256, "config": model.config.sha256}
    return cached("padding", f"{hash_of({**whose, **key})}.json")


def _find_out(model: Model, run: Run, longest: int, noise: float) -> bool:
    def close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
        moved = np.linalg.norm(found - expected, axis=-1)
        return bool((moved <= noise * np.linalg.norm(expected, axis=-1)).all())  # what is no number has moved

    random = np.random.default_rng(0)
    vocabulary, pad_id = model.config.vocabulary, model.config.pad_id
    texts = [random.integers(vocabulary, size=length) for length in (longest, min(_SHORT, longest), longest - 1)]
    long, short, other = (np.where(ids == pad_id, (pad_id + 1) % vocabulary, ids) for ids in texts)
    other = other[: len(short)]
    first_long = _first_run(model, run, long)  # before a shorter one: some change for good when they see one
    first_short = _first_run(model, run, short)
    together = run(*pad([long, short], pad_id))
    abreast = run(*pad([short, other], pad_id))[0] if len(other) == len(short) else first_short
    again_short, again_long = run(*pad([short], pad_id))[0], run(*pad([long], pad_id))[0]
    same = close(again_short, first_short) and close(again_long, first_long)
    if not same or not close(abreast, first_short):
        raise ModelError(
            f"{model.name} is a {model.config.model_type} that gives a text other vectors the second time, or beside "
            "another of the same length; vectors that depend on what else is run cannot be compared"
        )
    return close(together[0], first_long) and close(together[1, : len(short)], first_short)


def _first_run(model: Model, run: Run, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    try:
        states: NDArray[np.float32] = run(*pad([ids], model.config.pad_id))[0]
    except NunerEmbedError:
        raise
    except Exception as error:  # of each architecture its own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(
            f"{model.name} is a {model.config.model_type} that does not run as a text encoder on {len(ids)} tokens "
            f"({reason})"
        ) from None
    return states


class ByLength:
    """A runtime that runs the texts of a batch by their lengths, so that none is padded; see `Runtime`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.name = runtime.name
        self.device = runtime.device
        self.streams = runtime.streams
        self.dim = runtime.dim
        self.description = f"{runtime.description}, texts of one length at a time"
        self.numerics = runtime.numerics

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Runtime.run`; padding's rows are zero."""
        lengths = attention_mask.sum(axis=1)
        states = np.zeros((*input_ids.shape, self.dim), np.float32)
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            states[rows, :length] = self._runtime.run(input_ids[rows, :length], attention_mask[rows, :length])
        return states
