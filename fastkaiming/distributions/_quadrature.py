"""Gauss-Legendre quadrature, for integrals without a closed form or with one that suffers from cancellation."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _core, _validation

FloatArray: TypeAlias = NDArray[np.float64]

_SQRT_2_PI = float.fromhex("0x1.40d931ff62706p+1")  # sqrt(2 * pi)
_MAX_SIGMAS = 38  # farther out, the normal density is a subnormal float
_TOLERANCE = 1e-14  # the error of each of about a hundred intervals, relative to the whole integral
_MAX_INTERVALS = 1 << 12  # of the same length; a smooth function needs about ten, and each kink or jump adds one
_MIN_LENGTH = 2.0**-64


@lru_cache
@_core.in_default_environment
def gauss_legendre(panels: int) -> tuple[FloatArray, FloatArray]:
    """Return the nodes and weights of the composite rule on (-1, 1), which are exactly symmetric."""
    node, weight = np.array(_RULE).T
    nodes, weights = np.concatenate([-node[::-1], node]), np.concatenate([weight[::-1], weight])
    middles = (2.0 * np.arange(panels) + 1.0 - panels) / panels
    return np.add.outer(middles, nodes / panels).ravel(), np.tile(weights / panels, panels)


def expected_square(name: str, function: Callable[[Any], Any]) -> float:
    """Return E[f(z)**2] for z from N(0, 1), with a relative error of at most 1e-10 if f computes in double precision.

    Intervals are halved until their integrals converge. Kinks and jumps may therefore lie anywhere, as long as there
    are not too many.
    """
    length, starts = 1.0, np.arange(-_MAX_SIGMAS, _MAX_SIGMAS, 1.0)
    integrals, precision = _integrate_intervals(name, function, starts, length)
    tolerance = max(_TOLERANCE, precision)
    if max(integrals[0], integrals[-1]) > tolerance * integrals.sum():
        raise ValueError(
            f"{name} must have a finite E[f(z)**2] without a contribution from abs(z) > {_MAX_SIGMAS}, got {function!r}"
        )
    settled: list[float] = []
    while starts.size:
        length /= 2
        if starts.size > _MAX_INTERVALS or length < _MIN_LENGTH:
            raise ValueError(f"{name} must be smooth except for a few kinks and jumps, got {function!r}")
        halves = np.stack([starts, starts + length], axis=1)
        half_integrals = _integrate_intervals(name, function, halves.ravel(), length)[0].reshape(halves.shape)
        better = half_integrals.sum(axis=1)
        rough = abs(better - integrals) > tolerance * (better.sum() + math.fsum(settled))
        settled += better[~rough].tolist()
        starts, integrals = halves[rough].ravel(), half_integrals[rough].ravel()
    return math.fsum(settled)


def _integrate_intervals(
    name: str, function: Callable[[Any], Any], starts: FloatArray, length: float
) -> tuple[FloatArray, float]:
    """Return the integrals of f**2 times the density over intervals of one length, and the precision of f's results."""
    nodes, weights = gauss_legendre(1)
    z = starts[:, np.newaxis] + length / 2 * (1.0 + nodes)
    results = _evaluate(name, function, z.ravel()).reshape(z.shape)
    precision = float(np.finfo(results.dtype).eps) if results.dtype.kind == "f" else 0.0
    # f is multiplied by the square root of the density, so that the square overflows only if the integrand does.
    factors = results.astype(np.float64) * np.exp(-0.25 * z * z)
    return factors**2 @ weights * (length / 2 / _SQRT_2_PI), precision


@np.errstate(all="ignore")
def _evaluate(name: str, function: Callable[[Any], Any], z: FloatArray) -> NDArray[Any]:
    """Return f(z), from one call if the function accepts arrays, otherwise from a call for each number."""
    try:
        results = np.asarray(function(z.copy()))
    except Exception:  # a function of scalars can raise anything for an array; other errors are raised below
        results = np.empty(0)
    if results.shape != z.shape:
        results = np.array([function(number) for number in z.tolist()])
    if results.shape != z.shape or results.dtype.kind not in "fiub":
        raise TypeError(f"{name} must return a real number for a real number, not {_validation.describe(results[0])}")
    if not np.isfinite(results).all():
        wrong = ~np.isfinite(results)
        raise ValueError(f"{name} must be finite everywhere, got {results[wrong][0]} at {z[wrong][0]}")
    return results


# The 24-point rule: the positive nodes and their weights, computed by tests/generators/gauss_legendre.py.
_RULE = [
    (float.fromhex("0x1.0660853eda2e8p-4"), float.fromhex("0x1.060475e763736p-3")),
    (float.fromhex("0x1.8769542b94f8dp-3"), float.fromhex("0x1.01b7117cf8bd8p-3")),
    (float.fromhex("0x1.429a8c588e910p-2"), float.fromhex("0x1.f25cbce1d1ff6p-4")),
    (float.fromhex("0x1.bc345d81e24b5p-2"), float.fromhex("0x1.d91c78acb1b2dp-4")),
    (float.fromhex("0x1.17417bac4d72bp-1"), float.fromhex("0x1.b8177ba4a68dcp-4")),
    (float.fromhex("0x1.4bd2ee5fa1086p-1"), float.fromhex("0x1.8fd8936444b16p-4")),
    (float.fromhex("0x1.7af18edb9ddd6p-1"), float.fromhex("0x1.6108ef504463ap-4")),
    (float.fromhex("0x1.a3d74ce0d3700p-1"), float.fromhex("0x1.2c6d5c2eff064p-4")),
    (float.fromhex("0x1.c5d841864d0f5p-1"), float.fromhex("0x1.e5c6255d25edap-5")),
    (float.fromhex("0x1.e06585a70aa4dp-1"), float.fromhex("0x1.6ab884f57c979p-5")),
    (float.fromhex("0x1.f30f9f0cbf876p-1"), float.fromhex("0x1.d375514486f1dp-6")),
    (float.fromhex("0x1.fd892de691982p-1"), float.fromhex("0x1.9465bd3112202p-7")),
]
