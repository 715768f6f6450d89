"""Names of the same memory are distinguished from overlapping arrays and from interleaved views."""

from contextlib import nullcontext
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastkaiming.initializers._shared_memory import find_shared

CUTS = st.builds(slice, st.integers(0, 5), st.integers(3, 8), st.integers(1, 4)) | st.integers(0, 7).map(
    lambda i: slice(i, i + 1)
)
VIEWS = st.tuples(CUTS, CUTS, st.sampled_from([slice(None), slice(None, None, -1)]), st.booleans())


@given(st.lists(VIEWS, min_size=2, max_size=4))
def test_views_of_one_array(cuts: list[tuple[slice, slice, slice, bool]]) -> None:
    memory, numbers = np.zeros((8, 8), np.float16), np.arange(64).reshape(8, 8)
    views, elements = {}, {}
    for i, (rows, columns, direction, transposed) in enumerate(cuts):
        view, its_elements = (whole[rows, columns][direction] for whole in (memory, numbers))
        views[str(i)], elements[str(i)] = (view.T, its_elements.T) if transposed else (view, its_elements)
    expected: dict[str, str] = {}
    overlap = False
    for first, second in combinations(elements, 2):
        if np.array_equal(elements[first], elements[second]) and elements[first].size:
            expected.setdefault(second, first)
        elif np.intersect1d(elements[first], elements[second]).size:
            overlap = True
    with pytest.raises(ValueError, match="arrays must not overlap") if overlap else nullcontext():
        assert find_shared(views) == expected


def test_many_columns_and_blocks_of_one_matrix() -> None:
    matrix = np.zeros((64, 600), np.float32)
    assert find_shared({f"{i}": matrix[:, i] for i in range(600)}) == {}
    assert find_shared({f"{i}": matrix[:, 3 * i : 3 * i + 3] for i in range(200)}) == {}


def test_blocks_that_extend_into_the_next_gap() -> None:
    memory = np.zeros(1024, np.uint8)
    pairs = memory[:1000].reshape(100, 10)[:, :8].view(np.float32)
    for start, apart in ((8, True), (7, False), (1, False), (9, False), (18, True)):
        between = np.ndarray((50,), np.uint16, memory, offset=start, strides=(10,))
        with nullcontext() if apart else pytest.raises(ValueError, match="got 'a' and 'b'"):
            assert find_shared({"a": pairs, "b": between}) == {}
