"""Arrays in `.npy` files."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.lib import format as npy

from nuner_embed.arrays import all_finite, map_array, parse_array


def test_headers_are_parsed_one_at_a_time(tmp_path, monkeypatch):
    """Python 3.11's parser raises SystemError, now and then, where two threads are in it."""
    path = tmp_path / "a.npy"
    np.save(path, np.arange(33))
    read, inside, most = npy.read_array_header_1_0, [], []

    def slow(*args, **options):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.002)
        inside.pop()
        return read(*args, **options)

    monkeypatch.setattr(npy, "read_array_header_1_0", slow)
    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(lambda _: map_array(path).sum() + parse_array(path.read_bytes()).sum(), range(12)))
    assert sums == [2 * 528] * 12
    assert set(most) == {1}


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x93NUMPY\x01\x00v\x00{'descr': '|O', }"])
def test_what_is_no_array(tmp_path, data):
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises((ValueError, EOFError)):
        map_array(tmp_path / "a.npy")
    with pytest.raises((ValueError, EOFError)):
        parse_array(data)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_number_that_is_not_finite_is_seen_wherever_it_is(dtype):
    most = np.finfo(dtype).max
    vectors = np.array([[most, -most, 0, -0.0, np.finfo(dtype).tiny]] * 40_000, dtype)
    assert all(map(all_finite, (vectors, vectors[:0], vectors[:, :0], vectors[::2])))
    for row, bad in ((0, np.nan), (39_999, np.inf), (26_215, -np.inf), (20_000, -np.nan)):
        damaged = vectors.copy()
        damaged[row, row % 5] = bad
        assert not all_finite(damaged)
