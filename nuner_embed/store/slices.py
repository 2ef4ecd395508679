"""Slices of texts as Arrow strings, without a Python string for each slice."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nuner_embed.tables import Ints

_BYTES_AT_ONCE = 1 << 22  # each takes an index of eight bytes while it is copied


def slices_as_arrow(texts: Sequence[str], document: Ints, start: Ints, end: Ints) -> pa.ChunkedArray:
    """The strings `texts[document][start:end]`, (m,).

    Args:
        texts: d of them.
        document: the text of each slice, (m,).
        start: first character, (m,).
        end: one past the last character, (m,).
    """
    whole = "".join(texts)
    data = np.frombuffer(whole.encode(), np.uint8)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    base = (np.cumsum(lengths) - lengths)[document]
    first, last = start + base, end + base
    if len(data) > len(whole):  # some characters take several bytes; each begins with a byte that is not 10xxxxxx
        places = np.append(np.flatnonzero((data & 0xC0) != 0x80), len(data))
        first, last = places[first], places[last]
    sizes = last - first
    sums = np.cumsum(sizes)
    cuts = np.searchsorted(sums, np.arange(_BYTES_AT_ONCE, int(sizes.sum()), _BYTES_AT_ONCE)).tolist()
    edges = [0, *(cut for cut in dict.fromkeys(cuts) if 0 < cut < len(sizes)), len(sizes)]
    parts = [_copied(data, first[a:b], sizes[a:b]) for a, b in pairwise(edges)]
    return pa.chunked_array(parts, pa.string())


def _copied(data: NDArray[np.uint8], first: Ints, sizes: Ints) -> pa.Array:
    ends = np.cumsum(sizes)
    index = np.arange(int(sizes.sum())) + np.repeat(first - (ends - sizes), sizes)
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    return pa.StringArray.from_buffers(len(sizes), pa.py_buffer(offsets), pa.py_buffer(data[index]))
