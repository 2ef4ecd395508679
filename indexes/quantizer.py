"""Teaching an empty FAISS index what the vectors are like."""

from typing import Any

import faiss
import numpy as np

from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes.vectors import Vectors
from nuner_embed.installation import install_command

# FAISS's type stubs do not know what its Python layer adds.
_FAISS: Any = faiss
# Rows that a list of an inverted file is trained with; more move its centre by little and take long.
_TRAINED_A_LIST = 50
_TRAINED = 65_536


class Untrainable(ValueError):
    """FAISS cannot train what was asked for on the rows that there are, mostly because these are too few."""


def train(index: Any, matrix: Vectors, end: int, *, gpu: bool = False) -> Any:
    """Trains an empty index, where it needs that, on rows spread over the places before `end`.

    Raises:
        Untrainable: there are too few.
        IndexBundleError: a GPU was asked for, and there are no lists.
    """
    lists = _FAISS.try_extract_index_ivf(index)
    helper = _on_gpu(lists) if gpu else None  # held while FAISS points to it
    if not index.is_trained:
        wanted = max(_TRAINED, _TRAINED_A_LIST * lists.nlist) if lists else _TRAINED
        sample = np.linspace(0, end - 1, min(end, wanted)).astype(np.int64)
        try:
            index.train(matrix.take(sample))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise Untrainable(f"FAISS cannot train on {end:,} rows: {reason}; use --kind flat") from None
    if helper is not None:
        lists.clustering_index = None
    return index


def require_gpu() -> None:
    """Looks for a GPU.

    Raises:
        IndexBundleError: FAISS has none.
    """
    if not hasattr(_FAISS, "StandardGpuResources") or not _FAISS.get_num_gpus():
        raise IndexBundleError(
            "no GPU that FAISS can use; pip uninstall onnxruntime faiss-cpu, then "
            f"{install_command('gpu')}; or leave out --gpu"
        )


def _on_gpu(lists: Any) -> Any:
    """Lets a GPU find the centres of the lists, which is most of the training; searching stays on the CPU."""
    if lists is None:
        raise IndexBundleError("--gpu trains inverted lists, and this kind has none; use --kind ivf or ivf_pq")
    helper = _FAISS.index_cpu_to_all_gpus(_FAISS.IndexFlatL2(lists.d))
    lists.clustering_index = helper
    return helper
