"""A distribution in the precision of an array: which operation of the core draws it, and from which numbers."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastkaiming import _core, _validation
from fastkaiming._fill.dtypes import Format
from fastkaiming.distributions import Distribution, Normal, TruncatedNormal, Uniform, _normal_cdf

_MAX_SIGMAS = 9.5  # no double precision draw is farther out: sqrt(-2 ln(2**-65)) = 9.493


class Draw(NamedTuple):
    """An operation of the core, what it rounds to, and the numbers that it takes in the order of its ``fk_params``."""

    operation: int
    rounding: int
    numbers: tuple[float, ...]


def draw(distribution: Distribution, storage: Format) -> Draw:
    """Return what draws a distribution for elements of a format; refuse one whose values it could not hold."""
    if type(distribution) not in _DRAWS:
        raise TypeError(
            f"distribution must be a Normal, Uniform or TruncatedNormal, not {_validation.shown(distribution)}"
        )
    return _draw(distribution, storage)


@lru_cache(maxsize=1024)
@_core.in_default_environment
def _draw(distribution: Distribution, storage: Format) -> Draw:
    return _DRAWS[type(distribution)](distribution, storage)


def _normal(normal: Normal, storage: Format) -> Draw:
    mean = _rounded("mean", normal.mean, storage)
    std = _rounded("std", normal.std, storage)
    if abs(mean) + _MAX_SIGMAS * std > storage.greatest:
        raise ValueError(f"abs(mean) + {_MAX_SIGMAS} * std must not overflow {storage.name}, got {normal}")
    if normal.std:
        _check_underflow("std", std, storage, normal)
    return Draw(_OPERATIONS[Normal, storage.precision], storage.rounding, (std, mean))


def _uniform(uniform: Uniform, storage: Format) -> Draw:
    low = _rounded("low", uniform.low, storage)
    high = _rounded("high", uniform.high, storage)
    if uniform.low == uniform.high:
        return _constant(low, storage)
    if low == high != 0.0:  # where both are 0, they underflow
        name = np.dtype(storage.precision).name
        raise ValueError(f"low and high must differ after they are rounded to {name}, got {uniform}")
    scale = float(storage.precision(high / 2 - low / 2))
    center = float(storage.precision(low / 2 + high / 2))
    _check_underflow("(high - low) / 2", scale, storage, uniform)
    least, most = uniform_limits(uniform, storage)
    if least >= most:
        raise ValueError(f"low and high must leave two or more numbers of {storage.name} to store, got {uniform}")
    return Draw(_OPERATIONS[Uniform, storage.precision], storage.rounding, (scale, center, least, most))


def uniform_limits(uniform: Uniform, storage: Format) -> tuple[float, float]:
    """Return the least and the greatest number of a format that a fill stores where ``low < high``.

    The interval is half-open. Where the bounds are symmetric, the lower one is not stored either, so that the
    distribution stays symmetric.
    """
    low, high = _in_precision(uniform.low, storage), _in_precision(uniform.high, storage)
    most = storage.below(high)
    return -most if low == -high else storage.up(low), most


def _truncated_normal(truncated: TruncatedNormal, storage: Format) -> Draw:
    loc, scale, low, high = (
        _in_precision(number, storage) for number in (truncated.loc, truncated.scale, truncated.low, truncated.high)
    )
    farthest = max(abs(_between(loc + sign * _MAX_SIGMAS * scale, low, high)) for sign in (-1, 1))
    if not farthest <= storage.greatest or math.isinf(scale) or math.isinf(loc):
        raise ValueError(f"bounds, or loc + {_MAX_SIGMAS} * scale, must not overflow {storage.name}, got {truncated}")
    bounds = _limits_within(max(low, -storage.greatest), min(high, storage.greatest), storage, truncated)
    if truncated.scale == 0 or low == high:
        return _constant(_between(loc, *bounds), storage)
    _check_underflow("scale", scale, storage, truncated)
    numbers = _normal_cdf.truncated(loc, scale, low, high, np.finfo(storage.precision).nmant + 1)
    is_rounded = numbers.operation == "truncated_f64" and storage.name == "float32"
    rounding = _core.FLOAT32 if is_rounded else storage.rounding
    return Draw(_TRUNCATED[numbers.operation], rounding, (scale, loc, *bounds, *numbers[5:]))


def _between(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _constant(value: float, storage: Format) -> Draw:
    return Draw(_CONSTANTS[storage.precision], storage.rounding, (0.0, value))


def _limits_within(low: float, high: float, storage: Format, distribution: Distribution) -> tuple[float, float]:
    """Return the outermost numbers of the format within the bounds: no value is rounded to one beyond them.

    Where the bounds are equal, the value is rounded like any constant.
    """
    if low == high:
        return low, high
    least, most = storage.up(low), storage.down(high)
    if least >= most:
        raise ValueError(f"low and high must have two numbers of {storage.name} between them, got {distribution}")
    return least, most


def _rounded(name: str, value: float, storage: Format) -> float:
    """Return a number rounded to the precision that is drawn in; the storage could hold it."""
    rounded = _in_precision(value, storage)
    if abs(rounded) > storage.greatest:
        raise ValueError(f"{name} must not overflow {storage.name}, got {value}")
    return rounded


def _in_precision(value: float, storage: Format) -> float:
    with np.errstate(over="ignore"):
        return float(storage.precision(value)) + 0.0  # of -0.0 that makes 0.0, as the stream has it


def _check_underflow(name: str, scale: float, storage: Format, distribution: Distribution) -> None:
    if scale < storage.least_scale:
        raise ValueError(
            f"{name} must be 0 or at least {storage.least_scale} not to underflow {storage.name}, got {distribution}"
        )


_DRAWS: Mapping[type, Callable[[Any, Format], Draw]] = {
    Normal: _normal,
    Uniform: _uniform,
    TruncatedNormal: _truncated_normal,
}
_CONSTANTS: Mapping[type, int] = {np.float32: _core.CONSTANT_F32, np.float64: _core.CONSTANT_F64}
_TRUNCATED: Mapping[str, int] = {
    "truncated_f32": _core.TRUNCATED_F32,
    "truncated_f64": _core.TRUNCATED_F64,
}
_OPERATIONS: Mapping[tuple[type, type], int] = {
    (Normal, np.float32): _core.NORMAL_F32,
    (Normal, np.float64): _core.NORMAL_F64,
    (Uniform, np.float32): _core.UNIFORM_F32,
    (Uniform, np.float64): _core.UNIFORM_F64,
}
