"""Integrals by the rule of Gauss and Legendre: where there is no closed form, or one whose terms cancel."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _core, _validation

Points: TypeAlias = NDArray[np.float64]

_SQRT_2_PI = float.fromhex("0x1.40d931ff62706p+1")  # sqrt(2 * pi)
_REACH = 38  # sigmas; farther out the normal density is a subnormal float
_TOLERANCE = 1e-14  # of the whole integral, for each of some hundred pieces
_MAX_PIECES = 1 << 12  # at one length: smooth functions need some ten, a kink or jump adds one
_MIN_LENGTH = 2.0**-64


@lru_cache
@_core.in_default_environment
def gauss_legendre(panels: int) -> tuple[Points, Points]:
    """Return the nodes of the rule on (-1, 1), cut into panels, and their weights; all is symmetric to the last bit."""
    node, weight = np.array(_RULE).T
    nodes, weights = np.concatenate([-node[::-1], node]), np.concatenate([weight[::-1], weight])
    middles = (2.0 * np.arange(panels) + 1.0 - panels) / panels
    return np.add.outer(middles, nodes / panels).ravel(), np.tile(weights / panels, panels)


def expected_square(name: str, function: Callable[[Any], Any]) -> float:
    """Return E[f(z)**2] for z from the standard normal distribution, to 1e-10 of itself where f computes in double.

    Pieces of the line are halved until that changes their integral no more. So kinks and jumps may lie anywhere, as
    long as there are not too many of them.
    """
    length, starts = 1.0, np.arange(-_REACH, _REACH, 1.0)
    integrals, precision = _integrate_pieces(name, function, starts, length)
    tolerance = max(_TOLERANCE, precision)
    if max(integrals[0], integrals[-1]) > tolerance * integrals.sum():
        raise ValueError(f"{name} must have a finite E[f(z)**2] that comes from abs(z) < {_REACH}, got {function!r}")
    settled: list[float] = []
    while starts.size:
        length /= 2
        if starts.size > _MAX_PIECES or length < _MIN_LENGTH:
            raise ValueError(f"{name} must be smooth but for a few kinks and jumps, got {function!r}")
        halves = np.stack([starts, starts + length], axis=1)
        of_halves = _integrate_pieces(name, function, halves.ravel(), length)[0].reshape(halves.shape)
        better = of_halves.sum(axis=1)
        rough = abs(better - integrals) > tolerance * (better.sum() + math.fsum(settled))
        settled += better[~rough].tolist()
        starts, integrals = halves[rough].ravel(), of_halves[rough].ravel()
    return math.fsum(settled)


def _integrate_pieces(name: str, function: Callable[[Any], Any], starts: Points, length: float) -> tuple[Points, float]:
    """Return the integral of f**2 times the density over pieces of one length, and the precision that f computes in."""
    nodes, weights = gauss_legendre(1)
    z = starts[:, np.newaxis] + length / 2 * (1.0 + nodes)
    answers = _evaluate(name, function, z.ravel()).reshape(z.shape)
    precision = float(np.finfo(answers.dtype).eps) if answers.dtype.kind == "f" else 0.0
    # The root of the density goes into the factor, so that its square overflows only where the integrand does.
    factors = answers.astype(np.float64) * np.exp(-0.25 * z * z)
    return factors**2 @ weights * (length / 2 / _SQRT_2_PI), precision


@np.errstate(all="ignore")
def _evaluate(name: str, function: Callable[[Any], Any], z: Points) -> NDArray[Any]:
    """Return f(z), from one call where the function takes arrays, else from a call for each number."""
    try:
        answers = np.asarray(function(z.copy()))
    except Exception:  # whatever a function of scalars makes of an array; what is wrong with it shows below
        answers = np.empty(0)
    if answers.shape != z.shape:
        answers = np.array([function(number) for number in z.tolist()])
    if answers.shape != z.shape or answers.dtype.kind not in "fiub":
        raise TypeError(f"{name} must return a real number for a real number, not {_validation.shown(answers[0])}")
    if not np.isfinite(answers).all():
        wrong = ~np.isfinite(answers)
        raise ValueError(f"{name} must be finite everywhere, got {answers[wrong][0]} at {z[wrong][0]}")
    return answers


# The 24 points: nodes and weights of the positive half, from tests/generators/gauss_legendre.py.
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
