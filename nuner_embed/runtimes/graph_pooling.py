"""Rows made on the device where ONNX Runtime has computed the hidden states, by a second, small graph.

The graphs, one for each dtype of the states, are files beside this module; `export/pooling_graph.py` makes them.
"""

import importlib.resources
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nuner_embed.runtimes.base import RowFormat, WindowBatch

StatesDtype = Literal["float16", "float32"]
Ints = NDArray[np.int64]
# Places for tokens in one run of the graph; nested mentions may need far more than there are states.
_PLACES_AT_ONCE = 65536


def graph_path(states: StatesDtype) -> Traversable:
    """The file with the graph for hidden states of a dtype."""
    return importlib.resources.files("nuner_embed.runtimes") / f"pooling-{states}.onnx"


class GraphPooling:
    """The mean of each row's tokens, scaled and cast on the device; only the rows go to the host.

    Args:
        session: of the graph for the dtype of the states, on the device of the states. The graph takes `states` (batch,
            length, dim); the window and place of the tokens of each row, `tokens` (rows, places, 2); whether a place
            holds a token of the row, `inside` (rows, places, 1); the number of the row's tokens, `sizes` (rows, 1); and
            whether rows are scaled to length 1, `normalize` (1,). It gives the rows as `float32` and as `float16`.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    def rows(self, states: Any, batch: WindowBatch, form: RowFormat) -> NDArray[np.floating[Any]]:
        """The rows of a batch, (m, dim).

        Args:
            states: of the padded windows, (w, longest, dim), an OrtValue on the device.
            batch: the windows and the rows.
            form: of the rows.
        """
        rows = np.empty((len(batch.window), states.shape()[2]), form.dtype)
        for part in _parts(batch.last - batch.first):
            rows[part] = self._run(states, batch.window[part], batch.first[part], batch.last[part], form)
        return rows

    def _run(self, states: Any, window: Ints, first: Ints, last: Ints, form: RowFormat) -> NDArray[Any]:
        sizes = last - first
        places = np.arange(int(sizes.max()))
        inside = places < sizes[:, None]
        tokens = np.stack(
            np.broadcast_arrays(window[:, None], first[:, None] + np.where(inside, places, 0)), axis=2
        )  # a place beyond the row's size holds its first token, which `inside` leaves out
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("states", states)
        binding.bind_cpu_input("tokens", np.ascontiguousarray(tokens))
        binding.bind_cpu_input("inside", inside[:, :, None].astype(np.float32))
        binding.bind_cpu_input("sizes", sizes[:, None].astype(np.float32))
        binding.bind_cpu_input("normalize", np.array([form.normalize]))
        binding.bind_output(form.dtype, "cpu")
        self._session.run_with_iobinding(binding)
        rows: NDArray[Any] = binding.copy_outputs_to_cpu()[0]
        return rows


def _parts(sizes: Ints) -> Iterator[Ints]:
    """Rows of similar size that are made together, as indices: the largest at most twice the smallest."""
    order = np.argsort(-sizes, kind="stable")
    falling, begin = sizes[order], 0
    while begin < len(order):
        largest = int(falling[begin])
        alike = int(np.searchsorted(-falling, -largest / 2, side="left"))
        end = max(begin + 1, min(alike, begin + _PLACES_AT_ONCE // largest))
        yield order[begin:end]
        begin = end
