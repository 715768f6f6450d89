"""Distributions against closed forms and against tables computed at 40 digits (mpmath 1.3, ncdf and npdf)."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

import fastkaiming as fk
from fastkaiming.distributions._families import centered

# z, density and distribution function of the standard normal
STANDARD_NORMAL = [
    (-37.0, 2.1200065515246056e-298, 5.7255712225245768e-300),
    (-20.0, 5.5209483621597632e-88, 2.7536241186062337e-89),
    (-10.0, 7.6945986267064193e-23, 7.6198530241605261e-24),
    (-5.0, 1.4867195147342977e-06, 2.8665157187919391e-07),
    (-1.0, 0.24197072451914335, 0.15865525393145705),
    (0.0, 0.39894228040143268, 0.5),
    (1.959963984540054, 0.058445069805035388, 0.97499999999999999),
    (8.0, 5.0522710835368923e-15, 0.99999999999999938),
    (math.inf, 0.0, 1.0),
    (-math.inf, 0.0, 0.0),
]


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (3.0, 0.25), (-1e3, 64.0)])
@pytest.mark.parametrize(("z", "pdf", "cdf"), STANDARD_NORMAL)
def test_normal_curves(mean: float, std: float, z: float, pdf: float, cdf: float) -> None:
    normal = fk.Normal(mean, std)
    x = mean + std * z
    # Rounding x changes z by eps * |x| / std, which changes both curves by |z| times as much in the tails.
    tolerance = 4e-16 * (4 + z**2 + abs(z) * abs(mean) / std) if math.isfinite(z) else 0.0
    assert math.isclose(normal.pdf(x), pdf / std, rel_tol=tolerance)
    assert math.isclose(normal.cdf(x), cdf, rel_tol=tolerance)


@pytest.mark.parametrize(
    ("x", "pdf", "cdf"),
    [
        (-3.0, 0.0, 0.0),
        (-2.0, 0.25, 0.0),
        (-1.0, 0.25, 0.25),
        (0.5, 0.25, 0.625),
        (2.0, 0.25, 1.0),
        (math.inf, 0.0, 1.0),
    ],
)
def test_uniform_curves(x: float, pdf: float, cdf: float) -> None:
    uniform = fk.Uniform(-2.0, 2.0)
    assert uniform.pdf(x) == pdf
    assert uniform.cdf(x) == cdf


@pytest.mark.parametrize("point", [fk.Normal(1.5, 0.0), fk.Uniform(1.5, 1.5)])
def test_constant_has_all_its_probability_at_one_point(point: fk.Normal | fk.Uniform) -> None:
    x = [-math.inf, 1.0, 1.5, 2.0, math.inf]
    assert np.array_equal(point.pdf(x), [0.0, 0.0, math.inf, 0.0, 0.0])
    assert np.array_equal(point.cdf(x), [0.0, 0.0, 1.0, 1.0, 1.0])
    assert (point.mean, point.std, point.low, point.high) == (1.5, 0.0, 1.5, 1.5)


@pytest.mark.parametrize("distribution", [fk.Normal(), fk.Uniform(), fk.Normal(0.0, 0.0)])
def test_curves_accept_array_likes(distribution: fk.Normal | fk.Uniform) -> None:
    for curve in (distribution.pdf, distribution.cdf):
        at_half = curve(0.5)
        assert type(at_half) is float
        assert type(curve(np.float32(0.5))) is float
        grid = curve([[0.5, 0.25, 0.5]])
        assert isinstance(grid, np.ndarray)
        assert grid.shape == (1, 3)
        assert grid.dtype == np.float64
        assert grid[0, 0] == grid[0, 2] == at_half
        assert np.shape(curve([])) == (0,)


def test_moments_and_ends() -> None:
    normal, uniform = fk.Normal(2.0, 3.0), fk.Uniform(-3.0, 9.0)
    assert (normal.mean, normal.std, normal.low, normal.high) == (2.0, 3.0, -math.inf, math.inf)
    assert (uniform.low, uniform.high, uniform.mean) == (-3.0, 9.0, 3.0)
    assert math.isclose(uniform.std**2, 12.0, rel_tol=1e-15)  # (9 - -3)**2 / 12


def test_widest_uniform_does_not_overflow() -> None:
    largest = np.finfo(np.float64).max
    widest = fk.Uniform(-largest, largest)
    assert widest.mean == 0.0
    assert math.isclose(widest.std, largest / math.sqrt(3), rel_tol=1e-15)
    assert widest.cdf([-largest, 0.0, largest]).tolist() == [0.0, 0.5, 1.0]  # type: ignore[union-attr]
    assert widest.pdf(0.0) > 0.0


LEAST = 5e-324  # the smallest subnormal number


@pytest.mark.parametrize(
    ("distribution", "x", "pdf", "cdf"),
    [
        # 1 / 5e-324 overflows
        (fk.Uniform(0.0, LEAST), [-LEAST, 0.0, LEAST, 1.0], [0.0, math.inf, math.inf, 0.0], [0.0, 0.0, 1.0, 1.0]),
        (fk.Normal(), [-1e200, 1e200], [0.0, 0.0], [0.0, 1.0]),
        (fk.Normal(0.0, 1e-300), [-1e10, 1e10], [0.0, 0.0], [0.0, 1.0]),
        (fk.Normal(0.0, LEAST), [-1.0, 0.0, 1.0], [0.0, math.inf, 0.0], [0.0, 0.5, 1.0]),
        (fk.Normal(-1.7e308, 0.0), [1.7e308], [0.0], [1.0]),
    ],
)
def test_curves_at_the_limits_of_float64(
    distribution: fk.Normal | fk.Uniform, x: list[float], pdf: list[float], cdf: list[float]
) -> None:
    with np.errstate(all="raise"):
        assert [distribution.pdf(value) for value in x] == pdf
        assert [distribution.cdf(value) for value in x] == cdf
        assert np.array_equal(distribution.pdf(x), pdf)
        assert np.array_equal(distribution.cdf(x), cdf)


def test_distributions_with_equal_parameters_are_equal() -> None:
    assert fk.Normal(0, 1) == fk.Normal()
    assert hash(fk.Uniform(-1, 1)) == hash(fk.Uniform(-1.0, 1.0))
    half: Any = np.float32(0.5)
    assert repr(fk.Normal(half, 2)) == "Normal(mean=0.5, std=2.0)"
    assert repr(fk.Uniform(-0.0, 1)) == "Uniform(low=0.0, high=1.0)"


def test_distributions_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        fk.Normal().std = 2.0  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        fk.Uniform().low = 0.5  # type: ignore[misc]


def test_centered() -> None:
    assert centered("normal", 0.5) == fk.Normal(0.0, 0.5)
    uniform = centered("uniform", 0.5)
    assert uniform.low == -uniform.high
    assert math.isclose(uniform.high, 0.8660254037844386, rel_tol=1e-15)  # sqrt(3) / 2
    assert math.isclose(uniform.std, 0.5, rel_tol=1e-15)


@pytest.mark.parametrize(
    ("family", "arguments", "error", "message"),
    [
        (fk.Normal, {"mean": math.nan}, ValueError, "mean must be finite, got nan"),
        (fk.Normal, {"mean": "0"}, TypeError, "mean must be a real number, not str '0'"),
        (fk.Normal, {"std": math.inf}, ValueError, "std must be finite, got inf"),
        (fk.Normal, {"std": math.nan}, ValueError, "std must be finite, got nan"),
        (fk.Normal, {"std": -1e-9}, ValueError, "std must not be negative, got -1e-09"),
        (fk.Normal, {"std": True}, TypeError, "std must be a real number, not bool True"),
        (fk.Normal, {"std": 1j}, TypeError, "std must be a real number, not complex 1j"),
        (fk.Uniform, {"low": -math.inf}, ValueError, "low must be finite, got -inf"),
        (fk.Uniform, {"high": math.nan}, ValueError, "high must be finite, got nan"),
        (fk.Uniform, {"high": None}, TypeError, "high must be a real number, not NoneType None"),
        (fk.Uniform, {"low": 2, "high": 1}, ValueError, "low must not be above high, got low=2.0 and high=1.0"),
    ],
)
def test_invalid_arguments_raise(family: type, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as refusal:
        family(**arguments)
    assert str(refusal.value) == message
