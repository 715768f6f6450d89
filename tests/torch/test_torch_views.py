"""The part of a view that a process stores: compared with the elements themselves, one by one."""

import math
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
views = pytest.importorskip("fastkaiming.torch._views")

SEEDS = range(300)
IRREGULAR = object()


def random_view(whole: Any, rng: np.random.Generator) -> Any:
    """Return a view of a tensor by random slices, permutations and reshapes."""
    view = whole
    for _ in range(rng.integers(0, 4)):
        kind = rng.integers(0, 4)
        if kind == 0 and view.dim():
            axis = int(rng.integers(view.dim()))
            start, stop = sorted(rng.integers(0, view.shape[axis] + 1, 2))
            view = view[(slice(None),) * axis + (slice(int(start), int(stop), int(rng.integers(1, 3))),)]
        elif kind == 1 and view.numel() and view.dim():
            view = view.select(int(rng.integers(view.dim())), -1)
        elif kind == 2:
            view = view.permute(rng.permutation(view.dim()).tolist())
        elif view.is_contiguous() and view.dim() > 1:
            view = view.flatten(0, 1)
    return view


@pytest.mark.parametrize("seed", SEEDS)
def test_part_has_the_elements_of_the_view_that_the_region_stores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(size) for size in rng.integers(1, 6, rng.integers(0, 4)))
    whole = torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)
    is_divided = bool(shape) and bool(rng.integers(2))
    slices = [slice(0, size) for size in shape]
    if is_divided:
        axis = int(rng.integers(len(shape)))
        start, stop = sorted(rng.integers(0, shape[axis] + 1, 2))
        slices[axis] = slice(int(start), int(stop))
    region = whole[tuple(slices)].clone()
    begin = int(is_divided)  # the local tensor of a divided parameter may contain other regions, too
    local = torch.full([size + begin for size in region.shape], -1.0, dtype=torch.float64)
    local_slices = tuple(slice(begin, begin + size) for size in region.shape)
    local[local_slices] = region
    view = random_view(whole, rng)
    stored = set(region.flatten().tolist())
    expected = np.array([value in stored for value in view.flatten().tolist()], bool).reshape(view.shape)
    # Only a view of a parameter that is divided may have no regularly spaced part.
    expect_error = suppress(ValueError) if is_divided else nullcontext()
    part = IRREGULAR
    with expect_error:
        part = views.find_part(view, whole, local, (local_slices, slices))
    if part is IRREGULAR:
        return
    if part is None:
        assert not expected.any()
        return
    selected = view[part.slices] if part.slices else view
    assert torch.equal(part.memory, selected)
    inside = np.zeros(view.shape, bool)
    inside[part.slices] = True
    assert np.array_equal(inside, expected)
    steps = np.zeros(selected.shape) + part.offset.first
    for axis, step in enumerate(part.offset.steps):
        steps += step * np.arange(selected.shape[axis]).reshape([-1 if k == axis else 1 for k in range(selected.dim())])
    assert np.array_equal(steps, selected.numpy())


def test_parts_were_found_and_not_only_errors() -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    part = views.find_part(
        whole.T[1:, ::2], whole, whole[1:3], ([slice(0, 2), slice(0, 6)], [slice(1, 3), slice(0, 6)])
    )
    assert part.slices == (slice(0, 5), slice(1, 2))
    assert part.memory.tolist() == [[13.0], [14.0], [15.0], [16.0], [17.0]]
    assert part.offset.first == 13
