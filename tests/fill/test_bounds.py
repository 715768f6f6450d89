"""Bounds of uniform and truncated normal distributions: which values a fill stores, and which bounds raise."""

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastkaiming as fk


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("low", [1.0, -3.0])
def test_uniform_fills_store_the_lower_bound_but_not_the_upper_bound(dtype: Any, low: float) -> None:
    """With bounds two or four numbers apart, rounding alone would give high in at least an eighth of all cases."""
    for steps in (2, 4):
        numbers = [dtype(low)]
        for _ in range(steps):
            numbers.append(np.nextafter(numbers[-1], dtype(np.inf)))
        values = fk.uniform_(np.empty((64, 64), dtype), float(low), float(numbers[-1]), rng=1)
        assert np.unique(values).tolist() == numbers[:-1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_fills_store_neither_of_symmetric_bounds(dtype: Any) -> None:
    """The extreme values, of the first and the last word, are one number inside of the bounds, and both occur."""
    for bound in (1.0, 0.3, float(np.finfo(dtype).max) / 2):
        uniform = fk.Uniform(-bound, bound)
        values = np.abs(fk.fill_(np.empty(1 << 20, dtype), uniform, rng=3))
        assert 0.999 * bound < values.max() < dtype(bound)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_with_a_single_storable_number_raises(dtype: Any) -> None:
    above = float(np.nextafter(dtype(1), dtype(2)))
    message = f"low and high must have at least two numbers of {np.dtype(dtype).name} between them, got Uniform"
    assert fk.uniform(5, dtype, low=1.0, high=1.0).tolist() == [1.0] * 5
    with pytest.raises(ValueError, match=message):
        fk.uniform(5, dtype, low=1.0, high=above)


def test_uniform_bounds_that_are_equal_only_after_rounding_raise() -> None:
    with pytest.raises(ValueError, match=r"low and high must differ after they are rounded to float32, got Uniform"):
        fk.uniform(5, low=1.0, high=1.0 + 1e-12)
    assert np.ptp(fk.uniform(5, np.float64, low=1.0, high=1.0 + 1e-12, rng=1)) > 0


NARROW = pytest.mark.parametrize(("dtype", "eps"), [(np.float16, 2.0**-10), (ml_dtypes.bfloat16, 2.0**-7)])


@NARROW
def test_constants_are_rounded_to_float32_and_then_to_the_format(dtype: Any, eps: float) -> None:
    """Constants are rounded like other values. A single rounding would give the next number, 1 + eps."""
    value = 1.0 + eps / 2 + 2.0**-40
    for constant in (fk.Normal(value, 0.0), fk.Uniform(value, value), fk.TruncatedNormal(value, 0.0, 0.0, 2.0)):
        assert fk.fill_(np.empty(3, dtype), constant, rng=1).astype(np.float64).tolist() == [1.0] * 3


@NARROW
def test_truncated_normal_with_scale_0_stays_within_its_bounds(dtype: Any, eps: float) -> None:
    truncated = fk.TruncatedNormal(1.0 + 0.4 * eps, 0.0, 1.0 + 0.3 * eps, 2.0)  # rounding to nearest would give 1
    assert fk.fill_(np.empty(3, dtype), truncated, rng=1).astype(np.float64).tolist() == [1.0 + eps] * 3


@pytest.mark.parametrize(
    "bounds",
    [(0.5, 1.0, -2.0, 2.0), (0.0, 1.0, 0.0, math.inf), (0.0, 0.5, 2.5, 3.0), (0.0, 1.0, -(2.0**-70), 2.0**-70)],
)
def test_float32_values_between_asymmetric_bounds_are_rounded_float64_values(
    bounds: tuple[float, float, float, float],
) -> None:
    truncated = fk.TruncatedNormal(*bounds)
    single, double = (fk.fill_(np.empty((33, 65), dtype), truncated, rng=8) for dtype in (np.float32, np.float64))
    assert single.tobytes() == double.astype(np.float32).tobytes()
