"""Convert a distribution to the parameters of a kernel, rounded to the precision of an array."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastkaiming import _core, _validation
from fastkaiming._fill.dtypes import Format
from fastkaiming.distributions import Distribution, Normal, TruncatedNormal, Uniform, _normal_cdf

_MAX_SIGMAS = 9.5  # the largest normal value in double precision is sqrt(-2 ln(2**-65)) = 9.493


class KernelParams(NamedTuple):
    """An operation of the core, the rounding of its results, and its parameters in the order of ``fk_params``."""

    operation: int
    rounding: int
    params: tuple[float, ...]


def kernel_params(distribution: Distribution, stored_format: Format) -> KernelParams:
    """Return the kernel parameters of a distribution for elements of a format.

    Raise ValueError if the values of the distribution would overflow or underflow the format.
    """
    if type(distribution) not in _KERNEL_PARAMS_OF:
        raise TypeError(
            f"distribution must be a Normal, Uniform or TruncatedNormal, not {_validation.describe(distribution)}"
        )
    return _cached_kernel_params(distribution, stored_format)


@lru_cache(maxsize=1024)
@_core.in_default_environment
def _cached_kernel_params(distribution: Distribution, stored_format: Format) -> KernelParams:
    return _KERNEL_PARAMS_OF[type(distribution)](distribution, stored_format)


def _normal(normal: Normal, stored_format: Format) -> KernelParams:
    mean = _rounded("mean", normal.mean, stored_format)
    std = _rounded("std", normal.std, stored_format)
    if abs(mean) + _MAX_SIGMAS * std > stored_format.largest:
        raise ValueError(f"abs(mean) + {_MAX_SIGMAS} * std must not overflow {stored_format.name}, got {normal}")
    if normal.std:
        _check_underflow("std", std, stored_format, normal)
    return KernelParams(_OPERATIONS[Normal, stored_format.precision], stored_format.rounding, (std, mean))


def _uniform(uniform: Uniform, stored_format: Format) -> KernelParams:
    if uniform.low == uniform.high:
        return _constant(_rounded("the value of all elements", uniform.low, stored_format), stored_format)
    low = _rounded("low", uniform.low, stored_format)
    high = _rounded("high", uniform.high, stored_format)
    if low == high != 0.0:  # if both are 0, the underflow check below raises ValueError
        name = np.dtype(stored_format.precision).name
        raise ValueError(f"low and high must differ after they are rounded to {name}, got {uniform}")
    scale = float(stored_format.precision(high / 2 - low / 2))
    center = float(stored_format.precision(low / 2 + high / 2))
    _check_underflow("(high - low) / 2", scale, stored_format, uniform)
    least, most = uniform_limits(uniform, stored_format)
    if least >= most:
        raise ValueError(
            f"low and high must have at least two numbers of {stored_format.name} between them, got {uniform}"
        )
    return KernelParams(
        _OPERATIONS[Uniform, stored_format.precision], stored_format.rounding, (scale, center, least, most)
    )


def uniform_limits(uniform: Uniform, stored_format: Format) -> tuple[float, float]:
    """Return the smallest and the largest number of a format that a fill stores if ``low < high``.

    The interval is half-open. If the bounds are symmetric, the lower bound is not stored either, so that the
    distribution stays symmetric.
    """
    low, high = _in_precision(uniform.low, stored_format), _in_precision(uniform.high, stored_format)
    most = stored_format.largest_below(high)
    return -most if low == -high else stored_format.round_up(low), most


def _truncated_normal(truncated: TruncatedNormal, stored_format: Format) -> KernelParams:
    loc, scale, low, high = (
        _in_precision(number, stored_format)
        for number in (truncated.loc, truncated.scale, truncated.low, truncated.high)
    )
    farthest = max(abs(_clip(loc + sign * _MAX_SIGMAS * scale, low, high)) for sign in (-1, 1))
    largest = stored_format.largest
    if not farthest <= largest or math.isinf(scale) or math.isinf(loc):
        raise ValueError(
            f"bounds, or loc + {_MAX_SIGMAS} * scale, must not overflow {stored_format.name}, got {truncated}"
        )
    bounds = _limits_within(max(low, -largest), min(high, largest), stored_format, truncated)
    if truncated.scale == 0 or low == high:
        return _constant(_clip(loc, *bounds), stored_format)
    _check_underflow("scale", scale, stored_format, truncated)
    params = _normal_cdf.truncated_params(loc, scale, low, high, np.finfo(stored_format.precision).nmant + 1)
    is_rounded = params.operation == "truncated_f64" and stored_format.name == "float32"
    rounding = _core.FLOAT32 if is_rounded else stored_format.rounding
    return KernelParams(_TRUNCATED[params.operation], rounding, (scale, loc, *bounds, *params[5:]))


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _constant(value: float, stored_format: Format) -> KernelParams:
    return KernelParams(_CONSTANTS[stored_format.precision], stored_format.rounding, (0.0, value))


def _limits_within(low: float, high: float, stored_format: Format, distribution: Distribution) -> tuple[float, float]:
    """Return the smallest and the largest number of the format within the bounds; all values lie between them.

    If the bounds are equal, they are returned as they are, and the value is rounded like any other constant.
    """
    if low == high:
        return low, high
    least, most = stored_format.round_up(low), stored_format.round_down(high)
    if least >= most:
        raise ValueError(
            f"low and high must have at least two numbers of {stored_format.name} between them, got {distribution}"
        )
    return least, most


def _rounded(name: str, value: float, stored_format: Format) -> float:
    """Return a number rounded to the working precision, or raise ValueError if it overflows the format."""
    rounded = _in_precision(value, stored_format)
    if abs(rounded) > stored_format.largest:
        raise ValueError(f"{name} must not overflow {stored_format.name}, got {value}")
    return rounded


def _in_precision(value: float, stored_format: Format) -> float:
    with np.errstate(over="ignore"):
        # Adding 0.0 turns -0.0 into 0.0, as docs/stream-v1.md requires.
        return float(stored_format.precision(value)) + 0.0


def _check_underflow(name: str, scale: float, stored_format: Format, distribution: Distribution) -> None:
    if scale < stored_format.min_scale:
        raise ValueError(
            f"{name} must be 0 or at least {stored_format.min_scale} to avoid underflow in {stored_format.name}, "
            f"got {distribution}"
        )


_KERNEL_PARAMS_OF: Mapping[type, Callable[[Any, Format], KernelParams]] = {
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
