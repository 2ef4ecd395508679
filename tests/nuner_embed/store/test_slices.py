import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuner_embed.store import slices

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=5)


@settings(max_examples=200)
@given(texts=TEXTS, at_once=st.integers(1, 30), data=st.data())
def test_slices_are_those_of_python(texts, at_once, data):
    places = data.draw(
        st.lists(st.tuples(st.integers(0, len(texts) - 1), st.integers(0, 12), st.integers(0, 12)), max_size=12)
    )
    document = np.array([d for d, _, _ in places], np.int64)
    start = np.array([min(a, b, len(texts[d])) for d, a, b in places], np.int64)
    end = np.array([min(max(a, b), len(texts[d])) for d, a, b in places], np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "_BYTES_AT_ONCE", at_once)
        found = slices.slices_as_arrow(texts, document, start, end)
    found.validate(full=True)
    assert found.to_pylist() == [texts[d][a:b] for d, a, b in zip(document, start, end, strict=True)]
