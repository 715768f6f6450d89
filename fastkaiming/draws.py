"""A distribution in the precision of an array: which operation of the core draws it, and from which numbers."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastkaiming import _core, checks
from fastkaiming.distributions import Distribution, Normal, Uniform
from fastkaiming.formats import Format

_MOST_SIGMAS = 9.5  # no double precision draw is farther out: sqrt(-2 ln(2**-65)) = 9.493


class Draw(NamedTuple):
    """An operation of the core, and the numbers that it takes."""

    operation: int
    scale: float
    center: float
    low: float = 0.0
    high: float = 0.0


def draw(distribution: Distribution, storage: Format) -> Draw:
    """Return what draws a distribution for elements of a format; refuse one whose values it could not hold."""
    if type(distribution) not in _DRAWS:
        raise TypeError(f"distribution must be a Normal or a Uniform, not {checks.shown(distribution)}")
    return _draw(distribution, storage)


@lru_cache(maxsize=1024)
@_core.in_default_environment
def _draw(distribution: Distribution, storage: Format) -> Draw:
    return _DRAWS[type(distribution)](distribution, storage)


def _normal(normal: Normal, storage: Format) -> Draw:
    mean = _rounded("mean", normal.mean, storage)
    std = _rounded("std", normal.std, storage)
    if abs(mean) + _MOST_SIGMAS * std > storage.greatest:
        raise ValueError(f"abs(mean) + {_MOST_SIGMAS} * std must not overflow {storage.name}, got {normal}")
    if normal.std:
        _check_underflow("std", std, storage, normal)
    return Draw(_OPERATIONS[Normal, storage.precision], std, mean)


def _uniform(uniform: Uniform, storage: Format) -> Draw:
    low = _rounded("low", uniform.low, storage)
    high = _rounded("high", uniform.high, storage)
    scale = float(storage.precision(high / 2 - low / 2))
    center = low if low == high else float(storage.precision(low / 2 + high / 2))
    if uniform.low != uniform.high:
        _check_underflow("(high - low) / 2", scale, storage, uniform)
    return Draw(_OPERATIONS[Uniform, storage.precision], scale, center, *_kept_inside(low, high, storage, uniform))


def _kept_inside(low: float, high: float, storage: Format, distribution: Distribution) -> tuple[float, float]:
    """Return the outermost numbers of the format within the bounds: no value is rounded to one beyond them."""
    if low == high:
        return low, high
    least, most = storage.up(low), storage.down(high)
    if least > most:
        raise ValueError(f"low and high must have a {storage.name} between them, got {distribution}")
    return least, most


def _rounded(name: str, value: float, storage: Format) -> float:
    with np.errstate(over="ignore"):
        rounded = float(storage.precision(value))
    if abs(rounded) > storage.greatest:
        raise ValueError(f"{name} must not overflow {storage.name}, got {value}")
    return rounded + 0.0  # of -0.0 that makes 0.0, as the stream has it


def _check_underflow(name: str, scale: float, storage: Format, distribution: Distribution) -> None:
    if scale < storage.least_scale:
        raise ValueError(
            f"{name} must be 0 or at least {storage.least_scale} not to underflow {storage.name}, got {distribution}"
        )


_DRAWS: Mapping[type, Callable[[Any, Format], Draw]] = {Normal: _normal, Uniform: _uniform}
_OPERATIONS: Mapping[tuple[type, type], int] = {
    (Normal, np.float32): _core.NORMAL_F32,
    (Normal, np.float64): _core.NORMAL_F64,
    (Uniform, np.float32): _core.UNIFORM_F32,
    (Uniform, np.float64): _core.UNIFORM_F64,
}
