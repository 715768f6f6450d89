"""TruncatedNormal against the usual formulas with 1500 digits, and against distributions that it converges to."""

import dataclasses
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import ROOT

import fastkaiming as fk
from fastkaiming.distributions._families import centered
from fastkaiming.distributions._quadrature import gauss_legendre

TABLE = Path(__file__).parents[1] / "vectors" / "truncated_normals.txt"
ROWS = [line.split() for line in TABLE.read_text("utf-8").splitlines() if not line.startswith("#")]
EPSILON = 2.0**-52


@pytest.mark.parametrize("row", ROWS[:: len(ROWS) // 20], ids=lambda row: " ".join(row[:4]))
def test_moments(row: list[str]) -> None:
    loc, scale, low, high = map(float.fromhex, row[:4])
    mean, std = map(float, row[4:6])
    truncated = fk.TruncatedNormal(loc, scale, low, high)
    assert math.isclose(truncated.std, scale * std, rel_tol=6 * EPSILON)
    # The mean cannot be more accurate than loc and the bounds.
    tolerance = EPSILON * (abs(loc) + scale * (abs(mean) + 4 * std))
    assert math.isclose(truncated.mean, loc + scale * mean, rel_tol=0.0, abs_tol=tolerance)
    assert low <= truncated.mean <= high


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join([*row[:4], row[6]]))
def test_curves(row: list[str]) -> None:
    loc, scale, low, high, x = map(float.fromhex, [*row[:4], row[6]])
    truncated = fk.TruncatedNormal(loc, scale, low, high)
    for curve, expected in ((truncated.pdf, float(row[7])), (truncated.cdf, float(row[8]))):
        # Rounding the exponent of exp(-z * z / 2) changes the result by that many epsilons.
        exponent = abs(math.log(expected * (scale if curve == truncated.pdf else 1.0))) if expected else 0.0
        assert math.isclose(curve(x), expected, rel_tol=EPSILON * (8 + exponent), abs_tol=1e-300)


@pytest.mark.skipif(find_spec("mpmath") is None, reason="mpmath is not installed")
@pytest.mark.slow
def test_table_is_what_its_generator_computes() -> None:
    program = [sys.executable, str(ROOT / "tests" / "generators" / "truncated_normals.py")]
    assert subprocess.run(program, check=True, capture_output=True, text=True).stdout == TABLE.read_text("utf-8")


@pytest.mark.skipif(find_spec("mpmath") is None, reason="mpmath is not installed")
def test_gauss_legendre_rule_equals_the_output_of_its_generator() -> None:
    program = [sys.executable, str(ROOT / "tests" / "generators" / "gauss_legendre.py")]
    derived = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    nodes, weights = gauss_legendre(1)
    pairs = zip(nodes[12:], weights[12:], strict=True)
    assert [f"{float(node).hex()} {float(weight).hex()}" for node, weight in pairs] == derived.splitlines()


@pytest.mark.parametrize("panels", [1, 2, 3])
def test_gauss_legendre_rule_is_exact_for_polynomials(panels: int) -> None:
    nodes, weights = gauss_legendre(panels)
    assert np.array_equal(nodes, -nodes[::-1])
    for degree in range(48):  # 24 points integrate 2 * 24 powers exactly; the odd ones give 0
        integral = math.fsum(weights * nodes**degree)
        of_magnitudes = 2 / (degree + 1)
        # The absolute values of NumPy's powers of x and of -x can differ.
        assert math.isclose(integral, 0.0 if degree % 2 else of_magnitudes, rel_tol=0.0, abs_tol=1e-14 * of_magnitudes)


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (3.0, 0.25)])
def test_truncated_normal_without_bounds_is_normal(loc: float, scale: float) -> None:
    truncated, normal = fk.TruncatedNormal(loc, scale, -math.inf, math.inf), fk.Normal(loc, scale)
    x = loc + scale * np.linspace(-12, 12, 25)
    assert np.allclose(truncated.pdf(x), normal.pdf(x), rtol=1e-13, atol=0)
    assert np.allclose(truncated.cdf(x), normal.cdf(x), rtol=1e-13, atol=0)
    assert truncated.mean == loc
    assert math.isclose(truncated.std, scale, rel_tol=4 * EPSILON)
    assert truncated.cdf([-math.inf, math.inf]).tolist() == [0.0, 1.0]  # type: ignore[union-attr]


@pytest.mark.parametrize("low", [0.0, 3.0, -7.0])
def test_truncated_normal_with_narrow_bounds_is_uniform(low: float) -> None:
    high = low + 2.0**-45
    truncated, uniform = fk.TruncatedNormal(0.0, 1.0, low, high), fk.Uniform(low, high)
    x = low + np.array([0.0, 0.25, 0.5, 0.75, 1.0]) * 2.0**-45
    assert np.allclose(truncated.pdf(x), uniform.pdf(x), rtol=1e-12, atol=0)
    assert np.allclose(truncated.cdf(x), uniform.cdf(x), rtol=1e-12, atol=0)
    assert math.isclose(truncated.std, uniform.std, rel_tol=1e-12)


def test_truncated_normal_with_distant_bounds_is_exponential() -> None:
    truncated = fk.TruncatedNormal(0.0, 1.0, 1e9, math.inf)  # its rate is 1e9, so its median is 1e9 + ln(2) / 1e9
    assert math.isclose(truncated.std, 1e-9, rel_tol=1e-15)
    assert truncated.mean == 1e9
    assert math.isclose(fk.TruncatedNormal(-1e9, 1.0, 0.0, math.inf).cdf(math.log(2) / 1e9), 0.5, rel_tol=1e-15)
    assert math.isclose(fk.TruncatedNormal(-1e9, 1.0, 0.0, math.inf).mean, 1e-9, rel_tol=16 * EPSILON)


@given(st.floats(-9, 9), st.floats(1e-9, 20), st.floats(0, 1), st.floats(0, 1))
def test_distribution_function_is_monotonic_and_symmetric(
    low: float, width: float, first: float, second: float
) -> None:
    high = low + width
    truncated, mirrored = fk.TruncatedNormal(0.0, 1.0, low, high), fk.TruncatedNormal(0.0, 1.0, -high, -low)
    x, y = (min(low + width * place, high) for place in sorted((first, second)))
    assert 0.0 <= truncated.cdf(x) <= truncated.cdf(y) * (1 + 4 * EPSILON) <= 1 + 4 * EPSILON
    assert math.isclose(truncated.cdf(x), 1.0 - mirrored.cdf(-x), abs_tol=1e-15)
    assert math.isclose(truncated.pdf(x), mirrored.pdf(-x), rel_tol=1e-14)
    assert math.isclose(truncated.std, mirrored.std, rel_tol=1e-14)
    assert math.isclose(truncated.mean, -mirrored.mean, rel_tol=1e-14, abs_tol=1e-15)


def test_density_and_probability_outside_of_the_bounds() -> None:
    truncated = fk.TruncatedNormal(0.0, 1.0, -1.0, 3.0)
    x = [-math.inf, -1e300, -1.0000001, 3.0000001, math.inf]
    assert np.array_equal(truncated.pdf(x), [0.0] * 5)
    assert np.array_equal(truncated.cdf(x), [0.0, 0.0, 0.0, 1.0, 1.0])
    assert truncated.cdf([-1.0, 3.0]).tolist() == [0.0, 1.0]  # type: ignore[union-attr]
    assert math.isnan(truncated.cdf(math.nan))


def test_curves_accept_array_likes() -> None:
    truncated = fk.TruncatedNormal()
    for curve in (truncated.pdf, truncated.cdf):
        at_half = curve(0.5)
        assert type(at_half) is type(curve(np.float32(0.5))) is float
        grid: Any = curve([[0.5, 0.25, 0.5]])
        assert grid.shape == (1, 3)
        assert grid.dtype == np.float64
        assert grid[0, 0] == grid[0, 2] == at_half
        assert np.shape(curve([])) == (0,)


def test_scale_of_0_gives_a_constant() -> None:
    point = fk.TruncatedNormal(1.5, 0.0, 1.0, 2.0)
    x = [-math.inf, 1.0, 1.5, 2.0, math.inf]
    assert np.array_equal(point.pdf(x), [0.0, 0.0, math.inf, 0.0, 0.0])
    assert np.array_equal(point.cdf(x), [0.0, 0.0, 1.0, 1.0, 1.0])
    assert (point.mean, point.std, point.low, point.high) == (1.5, 0.0, 1.0, 2.0)
    assert fk.TruncatedNormal(1.5, 0.0, 1.5, 1.5).mean == 1.5


def test_moments_at_the_limits_of_float64() -> None:
    with np.errstate(all="raise"):
        widest = fk.TruncatedNormal(1e308, 1e308, -1.7e308, 1.7e308)
        assert math.isclose(widest.cdf(0.0), fk.TruncatedNormal(1.0, 1.0, -1.7, 1.7).cdf(0.0), rel_tol=1e-14)
        narrowest = fk.TruncatedNormal(0.0, 1.0, 1e-300, 3e-300)
        assert math.isclose(narrowest.mean, 2e-300, rel_tol=1e-15)
        assert math.isclose(narrowest.std, 2e-300 / math.sqrt(12), rel_tol=1e-15)
        assert fk.TruncatedNormal(0.0, 5e-324).pdf([0.0, 1.0]).tolist() == [math.inf, 0.0]  # type: ignore[union-attr]


def test_value() -> None:
    half: Any = np.float32(0.5)
    assert repr(fk.TruncatedNormal(-0.0, half, -1)) == "TruncatedNormal(loc=0.0, scale=0.5, low=-1.0, high=2.0)"
    assert fk.TruncatedNormal() == fk.TruncatedNormal(0, 1, -2, 2)
    assert hash(fk.TruncatedNormal()) == hash(fk.TruncatedNormal(0, 1, -2, 2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        fk.TruncatedNormal().scale = 2.0  # type: ignore[misc]


@pytest.mark.parametrize("std", [1.0, 0.5, 1e-30])
def test_centered(std: float) -> None:
    truncated = centered("truncated_normal", std)
    assert isinstance(truncated, fk.TruncatedNormal)
    assert (truncated.loc, truncated.scale) == (0.0, std / 0.87962566103423978)
    assert (truncated.low, truncated.high) == (-2 * truncated.scale, 2 * truncated.scale)
    assert truncated.mean == 0.0
    assert math.isclose(truncated.std, std, rel_tol=4 * EPSILON)
    assert centered("untruncated_normal", std) == centered("normal", std) == fk.Normal(0.0, std)


def test_centered_without_spread() -> None:
    assert centered("truncated_normal", 0.0) == fk.TruncatedNormal(0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"loc": math.inf}, ValueError, "loc must be finite, got inf"),
        ({"loc": "0"}, TypeError, "loc must be a real number, not str '0'"),
        ({"scale": math.nan}, ValueError, "scale must be finite, got nan"),
        ({"scale": -1.0}, ValueError, "scale must not be negative, got -1.0"),
        ({"scale": True}, TypeError, "scale must be a real number, not bool True"),
        ({"low": math.nan}, ValueError, "low must not be NaN, got nan"),
        ({"high": None}, TypeError, "high must be a real number, not NoneType None"),
        ({"low": 2}, ValueError, "low must be below high, got loc=0.0, scale=1.0, low=2.0, high=2.0"),
        ({"high": -math.inf}, ValueError, "low must be below high, got loc=0.0, scale=1.0, low=-2.0, high=-inf"),
        ({"low": math.inf, "high": math.inf}, ValueError, "low must be below high, got "),
        (
            {"scale": 0, "loc": 3},
            ValueError,
            "loc must be within the bounds if scale is 0, got loc=3.0, ",
        ),
        ({"scale": 0, "low": 1, "high": -1}, ValueError, "loc must be within the bounds if scale is 0, got "),
        ({"loc": 5, "scale": 1e-160}, ValueError, "the bounds must be less than 1e+154 scale away from loc, got "),
        ({"loc": -1e300, "scale": 1e-300}, ValueError, "the bounds must be less than 1e+154 scale away from loc, got "),
    ],
)
def test_invalid_arguments_raise(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as refusal:
        fk.TruncatedNormal(**arguments)
    assert str(refusal.value).startswith(message)
