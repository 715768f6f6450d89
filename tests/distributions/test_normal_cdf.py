"""The kernel parameters of truncated normals: correctly rounded for any bounds, or ValueError."""

import math
from importlib.util import find_spec
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from reference_arithmetic import Precision
from reference_truncated import truncation

from fastkaiming.distributions._normal_cdf import MAX_SIGMAS, truncated_params

INF = math.inf
PRECISIONS: dict[int, Precision] = {24: np.float32, 53: np.float64}

BOUNDS = [
    (-2.0, 2.0),
    (-100.0, 100.0),
    (-INF, INF),
    (-INF, 1.5),
    (2.0, INF),
    (0.0, INF),
    (-3.0625, 0.0),
    (-1.0, 0.0),
    (5.0, 6.0),
    (-6.0, -5.5),
    (-0.125, 30.0),
    (MAX_SIGMAS, INF),
    (-INF, -MAX_SIGMAS),
    (35.875, 36.5),
    (-1e-18, 3e-19),
    (-1e-250, 1e-250),
    (0.25, 0.25 + 2.0**-22),
    (-1e300, 38.0),
]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_parameters_equal_those_of_another_series(low: float, high: float, precision: int) -> None:
    with np.errstate(over="ignore", under="ignore"):
        low, high = (float(PRECISIONS[precision](bound)) for bound in (low, high))
    assume_an_interval = low < high
    if assume_an_interval:
        name, numbers = truncation(0, 1, low, high, PRECISIONS[precision])
        assert truncated_params(0.0, 1.0, low, high, precision) == (name.partition(">")[0], *vars(numbers).values())


@pytest.mark.skipif(find_spec("mpmath") is None, reason="mpmath is not installed")
@given(st.floats(-36, 36), st.floats(-36, 36), st.sampled_from([24, 53]))
def test_parameters_are_correctly_rounded(alpha: float, beta: float, precision: int) -> None:
    """The reference is mpmath's complementary error function with 2000 bits, far more than rounding can need."""
    from mpmath import erfc, mp, mpf, sqrt

    single = PRECISIONS[precision]
    low, high = sorted((float(single(alpha)), float(single(beta))))
    assume(high - low > 1e-6 and (low < 30) and (high > -30))
    found = truncated_params(0.0, 1.0, low, high, precision)

    in_single = found.operation == "truncated_f32"
    if in_single and high >= 9:
        low, high = -INF, INF

    def rounded(number: mpf) -> float:
        with mp.workprec(24 if in_single else 53):
            return float(+number)

    with mp.workprec(2000):
        tails = [erfc(mpf(x) / sqrt(mpf(2))) / 2 for x in (low, -low, high, -high)]
        above_low, below_low, above_high, below_high = tails
        slope = (below_high - below_low) / 2 ** (32 if in_single else 64)
        lower_sign, upper_sign = (-1 if low >= 0 else 1), (-1 if high <= 0 else 1)
        lower = above_low if lower_sign < 0 else below_low
        upper = below_high if upper_sign < 0 else above_high
        middle = (below_low + below_high - 1 + slope) / 2
        factor = 3 if in_single else 1
        exact = [factor * middle, lower_sign * slope, lower + lower_sign * slope / 2]
        exact += [upper_sign * slope, upper + upper_sign * slope / 2]
        assert list(found[6:]) == [rounded(number) for number in exact]
        with mp.workprec(53):
            assert found.slope == float(+(factor * slope))


@pytest.mark.parametrize(
    ("mean", "std", "low", "high", "precision", "operation"),
    [
        (0.0, 1.0, -2.0, 2.0, 24, "truncated_f32"),
        (0.0, 1.0, -INF, INF, 24, "truncated_f32"),
        (3.0, 0.5, 2.5, 3.5, 24, "truncated_f32"),
        (0.0, 1.0, -(2.0**-64), 2.0**-64, 24, "truncated_f32"),
        (0.0, 1.0, -(2.0**-65), 2.0**-65, 24, "truncated_f64"),
        (0.0, 1.0, -2.0, 2.0 + 2.0**-20, 24, "truncated_f64"),
        (0.5, 1.0, -2.0, 2.0, 24, "truncated_f64"),
        (0.0, 1.0, 0.0, INF, 24, "truncated_f64"),
        (0.0, 1.0, 2.0, INF, 24, "truncated_f64"),
        (0.0, 1.0, -9.0, 20.0, 24, "truncated_f32"),
        (0.0, 1.0, -INF, 9.0, 24, "truncated_f32"),
        (0.0, 1.0, -8.75, 9.0, 24, "truncated_f64"),
        (0.0, 1.0, -8.75, 8.75, 24, "truncated_f32"),
        (0.0, 1.0, 9.0, 20.0, 24, "truncated_f64"),
        (0.0, 1.0, -2.0, 2.0, 53, "truncated_f64"),
        (0.0, 1.0, -9.0, 20.0, 53, "truncated_f64"),
    ],
)
def test_operation_follows_from_the_bounds(
    mean: float, std: float, low: float, high: float, precision: int, operation: str
) -> None:
    found = truncated_params(mean, std, low, high, precision)
    assert found.operation == operation
    assert found[1:5] == (std, mean, low, high)


def test_bounds_are_standardized_exactly() -> None:
    """(low - mean) / std is rounded once. In floating point, 1 - 2**-60 would be rounded to 1 before the division."""
    mean, std, low = 2.0**-60, 3.0, 1.0
    alpha = (2**60 - 1) / (3 * 2**60)
    assert (
        truncated_params(mean, std, low, 3.0 + 2.0**-60, 53)[5:] != truncated_params(0.0, std, low, 3.0, 53)[5:]
        or alpha == 1 / 3
    )
    wanted = truncated_params(0.0, 1.0, alpha, 1.0, 53).lower_intercept
    assert truncated_params(mean, std, low, 3.0, 53).lower_intercept == pytest.approx(wanted, rel=2.0**-50)


def test_bounds_that_overflow_count_as_infinite() -> None:
    """(high - mean) / std overflows, so the distribution is not truncated there."""
    assert truncated_params(0.0, 1e-200, -1.0, 1e300, 53)[5:] == truncated_params(0.0, 1.0, -INF, INF, 53)[5:]


def test_in_single_precision_bounds_from_9_sigmas_on_count_as_infinite() -> None:
    infinite = truncated_params(0.0, 1.0, -INF, INF, 24)[5:]
    assert truncated_params(0.0, 1.0, -9.0, 9.5, 24)[5:] == infinite
    assert truncated_params(0.0, 1.0, -9.0, 8.75, 24)[5:] != infinite
    # The quantile z changes by the neglected tail probability divided by the density at z, most for the last word.
    normal = NormalDist()
    z = -normal.inv_cdf(2.0**-33)
    ulp = 2.0**-21  # between 4 and 8
    assert 4 < z < 8
    assert normal.cdf(-9.0) / normal.pdf(z) <= 2.0**-11 * ulp


@pytest.mark.parametrize(
    ("low", "high", "sigmas"),
    [(36.5, 40.0, "36.5"), (37.0, INF, "37"), (-INF, -50.0, "50"), (-1e300, -1e299, "1e[+]299")],
)
def test_distant_bound_raises(low: float, high: float, sigmas: str) -> None:
    with pytest.raises(ValueError, match=rf"the nearer bound must be at most 36 std from the mean, got {sigmas} std"):
        truncated_params(0.0, 1.0, low, high, 53)


@pytest.mark.parametrize(("low", "high"), [(36.0, math.nextafter(36.0, 37)), (-1e-300, 1e-300), (0.0, 5e-324)])
def test_interval_of_negligible_probability_raises(low: float, high: float) -> None:
    with pytest.raises(
        ValueError, match=r"probability between the bounds must be at least 2\*\*-950, got less from bounds "
    ):
        truncated_params(0.0, 1.0, low, high, 53)


@pytest.mark.parametrize("significand", [24, 53])
def test_bounds_that_round_to_the_same_number_of_sigmas_raise(significand: int) -> None:
    """Found by tests/fuzz/entry_points.py: (-2 - 2**63) / 2**63 and (2 - 2**63) / 2**63 are both rounded to -1."""
    with pytest.raises(ValueError, match="probability between the bounds must be at least"):
        truncated_params(2.0**63, 2.0**63, -2.0, 2.0, significand)
