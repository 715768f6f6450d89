"""Distributions as immutable values, with their moments, densities and distribution functions.

The parameters are Python floats. ``_fill.kernel_params`` rounds them to the precision of an array.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastkaiming import _validation
from fastkaiming.distributions import _truncated_moments
from fastkaiming.distributions._quadrature import FloatArray

FloatOrArray: TypeAlias = float | NDArray[np.float64]

# In hexadecimal, which is parsed without rounding, whatever the rounding mode of the process is at import.
_SQRT_2 = float.fromhex("0x1.6a09e667f3bcdp+0")  # sqrt(2)
_SQRT_3 = float.fromhex("0x1.bb67ae8584caap+0")  # sqrt(3)
_SQRT_2_PI = float.fromhex("0x1.40d931ff62706p+1")  # sqrt(2 * pi)
_STD_AT_TWO_SIGMAS = float.fromhex("0x1.c25e4b6dba981p-1")  # 0.87962566103423978, the std of N(0, 1) between -2 and 2
_MAX_DISTANCE = 1e154  # in units of the scale; its square is finite

# Intermediate results may overflow although the final result is correct, as in exp(-z**2 / 2) = 0 for large z.
_ignore_float_errors = np.errstate(all="ignore")
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


@final
@dataclass(frozen=True, slots=True)
class Normal:
    """The normal distribution. With a standard deviation of 0, it is the constant ``mean``.

    Parameters
    ----------
    mean : float, default 0.0
        The mean.
    std : float, default 1.0
        The standard deviation, at least 0.

    Raises
    ------
    TypeError
        If ``mean`` or ``std`` is not a real number.
    ValueError
        If ``mean`` or ``std`` is not finite, or ``std`` is negative.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.Normal(std=0.125)
    Normal(mean=0.0, std=0.125)
    >>> fk.Normal().cdf([-1.0, 0.0, 1.0]).round(4)
    array([0.1587, 0.5   , 0.8413])
    """

    mean: float
    std: float

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        object.__setattr__(self, "mean", _validation.finite("mean", mean))
        object.__setattr__(self, "std", _validation.not_negative("std", std))

    @property
    def low(self) -> float:
        """The lower end of the support."""
        return -math.inf if self.std else self.mean

    @property
    def high(self) -> float:
        """The upper end of the support."""
        return math.inf if self.std else self.mean

    @_ignore_float_errors
    def pdf(self, x: ArrayLike) -> FloatOrArray:
        """Return the density at ``x``, exp(-z**2 / 2) / (std * sqrt(2 * pi)) with z = (x - mean) / std.

        Parameters
        ----------
        x : array_like
            The points to evaluate at, converted to float64.

        Returns
        -------
        float or numpy.ndarray
            A float if ``x`` is a scalar, otherwise a float64 array of the shape of ``x``.
        """
        if self.std == 0.0:
            return _point_pdf(x, self.mean)
        return _float_or_array(np.exp(-0.5 * self._z(x) ** 2) / _SQRT_2_PI / self.std)

    @_ignore_float_errors
    def cdf(self, x: ArrayLike) -> FloatOrArray:
        """Return the probability of a value of at most ``x``, erfc(-z / sqrt(2)) / 2 with z = (x - mean) / std.

        Parameters
        ----------
        x : array_like
            The points to evaluate at, converted to float64.

        Returns
        -------
        float or numpy.ndarray
            A float if ``x`` is a scalar, otherwise a float64 array of the shape of ``x``. The result is accurate
            far into the lower tail.
        """
        if self.std == 0.0:
            return _point_cdf(x, self.mean)
        return _float_or_array(0.5 * _erfc(-self._z(x) / _SQRT_2))

    def _z(self, x: ArrayLike) -> NDArray[np.float64]:
        return (np.asarray(x, np.float64) - self.mean) / self.std


@final
@dataclass(frozen=True, slots=True)
class Uniform:
    """The uniform distribution on [``low``, ``high``). If the bounds are equal, it is the constant ``low``.

    If ``low < high``, a fill never stores ``high``, whatever the dtype, and if the bounds are symmetric (-b, b), it
    stores neither bound. A fill raises ValueError if the dtype has fewer than two numbers to store between the bounds,
    because the result would be a constant.

    Parameters
    ----------
    low : float, default 0.0
        The lower bound.
    high : float, default 1.0
        The upper bound, at least ``low``.

    Raises
    ------
    TypeError
        If a bound is not a real number.
    ValueError
        If a bound is not finite, or ``low`` is greater than ``high``.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.Uniform(-1.0, 3.0)
    Uniform(low=-1.0, high=3.0)
    >>> fk.Uniform(-1.0, 3.0).cdf(0.0)
    0.25
    """

    low: float
    high: float

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        object.__setattr__(self, "low", _validation.finite("low", low))
        object.__setattr__(self, "high", _validation.finite("high", high))
        if self.low > self.high:
            raise ValueError(f"low must not be above high, got low={self.low} and high={self.high}")

    @property
    def mean(self) -> float:
        """The mean, (low + high) / 2."""
        return self.low / 2 + self.high / 2

    @property
    def std(self) -> float:
        """The standard deviation, (high - low) / sqrt(12)."""
        return (self.high / 2 - self.low / 2) / _SQRT_3

    @_ignore_float_errors
    def pdf(self, x: ArrayLike) -> FloatOrArray:
        """Return the density at ``x``: 1 / (high - low) between the bounds and 0 outside.

        Parameters
        ----------
        x : array_like
            The points to evaluate at, converted to float64.

        Returns
        -------
        float or numpy.ndarray
            A float if ``x`` is a scalar, otherwise a float64 array of the shape of ``x``.
        """
        if self.low == self.high:
            return _point_pdf(x, self.low)
        x = np.asarray(x, np.float64)
        inside = (self.low <= x) & (x <= self.high)
        return _float_or_array(
            np.where(
                inside,
                self._overflow_factor / (self.high * self._overflow_factor - self.low * self._overflow_factor),
                0.0,
            )
        )

    @_ignore_float_errors
    def cdf(self, x: ArrayLike) -> FloatOrArray:
        """Return the probability of a value of at most ``x``, (x - low) / (high - low) from low to high.

        Parameters
        ----------
        x : array_like
            The points to evaluate at, converted to float64.

        Returns
        -------
        float or numpy.ndarray
            A float if ``x`` is a scalar, otherwise a float64 array of the shape of ``x``.
        """
        if self.low == self.high:
            return _point_cdf(x, self.low)
        low, high = self.low * self._overflow_factor, self.high * self._overflow_factor
        inside = np.clip(np.asarray(x, np.float64) * self._overflow_factor, low, high)
        return _float_or_array((inside - low) / (high - low))

    @property
    def _overflow_factor(self) -> float:
        """The factor by which the bounds are multiplied, so that their difference does not overflow.

        It is 1 if possible, because halving rounds subnormal numbers.
        """
        return 1.0 if math.isfinite(self.high - self.low) else 0.5


@final
@dataclass(frozen=True, slots=True)
class TruncatedNormal:
    """The normal distribution with a location and a scale, truncated at two bounds.

    ``loc`` and ``scale`` are the mean and the standard deviation *before* the truncation, which
    :func:`torch.nn.init.trunc_normal_` calls mean and std. ``mean`` and ``std`` are, as in every distribution here,
    those of the values, so ``std`` is smaller than ``scale``. With a scale of 0, it is the constant ``loc``.

    Parameters
    ----------
    loc : float, default 0.0
        The mean before the truncation.
    scale : float, default 1.0
        The standard deviation before the truncation, at least 0.
    low : float, default -2.0
        The lower bound: a value, not a multiple of the scale. ``-math.inf`` means no bound.
    high : float, default 2.0
        The upper bound, greater than ``low``. ``math.inf`` means no bound.

    Raises
    ------
    TypeError
        If an argument is not a real number.
    ValueError
        If ``loc`` or ``scale`` is not finite, ``scale`` is negative, a bound is NaN, ``low`` is not less than ``high``,
        or the interval is 1e154 scales or farther from ``loc``. If ``scale`` is 0, the last
        two conditions do not apply, but ``loc`` must be within the bounds.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.TruncatedNormal(scale=0.5, low=-1.0, high=1.0)
    TruncatedNormal(loc=0.0, scale=0.5, low=-1.0, high=1.0)
    >>> round(fk.TruncatedNormal(scale=0.5, low=-1.0, high=1.0).std, 12)
    0.439812830517
    """

    loc: float
    scale: float
    low: float
    high: float

    def __init__(self, loc: float = 0.0, scale: float = 1.0, low: float = -2.0, high: float = 2.0) -> None:
        loc, scale, low, high = check_truncated_normal(("loc", "scale", "low", "high"), loc, scale, low, high)
        object.__setattr__(self, "loc", loc)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @property
    @_ignore_float_errors
    def mean(self) -> float:
        """The mean of the values."""
        if self.scale == 0.0:
            return self.loc
        mean = self._mode + self.scale * _truncated_moments.moments(*self._interval(self.high), self._tilt)[0]
        return min(max(mean, self.low), self.high)

    @property
    @_ignore_float_errors
    def std(self) -> float:
        """The standard deviation of the values."""
        return self.scale and self.scale * _truncated_moments.moments(*self._interval(self.high), self._tilt)[1]

    @_ignore_float_errors
    def pdf(self, x: ArrayLike) -> FloatOrArray:
        """Return the density at ``x``: the normal density divided by the mass between the bounds, and 0 outside.

        Parameters
        ----------
        x : array_like
            The points to evaluate at, converted to float64.

        Returns
        -------
        float or numpy.ndarray
            A float if ``x`` is a scalar, otherwise a float64 array of the shape of ``x``. The result is accurate
            however far the bounds are from the mean.
        """
        if self.scale == 0.0:
            return _point_pdf(x, self.loc)
        x = np.asarray(x, np.float64)
        mass = _truncated_moments.mass(*self._interval(self.high), self._tilt)
        density = _truncated_moments.density(self._sigmas(x, self._mode), self._tilt) / mass / self.scale
        return _float_or_array(np.where((self.low <= x) & (x <= self.high), density, 0.0))

    @_ignore_float_errors
    def cdf(self, x: ArrayLike) -> FloatOrArray:
        """Return the probability of a value of at most ``x``.

        It is the mass from ``low`` to ``x`` divided by the mass between the bounds.

        Parameters
        ----------
        x : array_like
            The points to evaluate at, converted to float64.

        Returns
        -------
        float or numpy.ndarray
            A float if ``x`` is a scalar, otherwise a float64 array of the shape of ``x``. The result is accurate
            down to ``low``.
        """
        if self.scale == 0.0:
            return _point_cdf(x, self.loc)
        x = np.asarray(x, np.float64)
        part, whole = (_truncated_moments.mass(*self._interval(end), self._tilt) for end in (x, self.high))
        return _float_or_array(np.select([x <= self.low, x >= self.high], [0.0, 1.0], np.minimum(part / whole, 1.0)))

    @property
    def _mode(self) -> float:
        """The point between the bounds with the greatest density."""
        return min(max(self.loc, self.low), self.high)

    @property
    def _tilt(self) -> float:
        return float(self._sigmas(self._mode, self.loc))

    def _interval(self, end: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the start and the end of the interval from low to ``end``, in sigmas from the mode, and its length."""
        return self._sigmas(self.low, self._mode), self._sigmas(end, self._mode), self._sigmas(end, self.low)

    @_ignore_float_errors
    def _sigmas(self, x: ArrayLike, origin: float) -> FloatArray:
        """Return the distance of x from the origin in units of the scale, computed from halves if it overflows."""
        x = np.asarray(x, np.float64)
        distance = x - origin
        return np.where(np.isinf(distance), (x / 2 - origin / 2) / (self.scale / 2), distance / self.scale)


Distribution: TypeAlias = Normal | Uniform | TruncatedNormal

FAMILIES: Mapping[str, Callable[[float], Distribution]] = {
    "normal": lambda std: Normal(0.0, std),
    "untruncated_normal": lambda std: Normal(0.0, std),  # the name in Keras
    "truncated_normal": lambda std: _truncated_at_two_sigmas(std / _STD_AT_TWO_SIGMAS),
    "uniform": lambda std: Uniform(-_SQRT_3 * std, _SQRT_3 * std),
}


def centered(family: str, std: float) -> Distribution:
    """Return the distribution of a family that has mean 0 and standard deviation ``std``."""
    return FAMILIES[family](std)


def _truncated_at_two_sigmas(scale: float) -> TruncatedNormal:
    bound = _validation.finite("2 * scale", 2.0 * scale)
    return TruncatedNormal(0.0, scale, -bound, bound)


def check_truncated_normal(
    names: tuple[str, str, str, str], loc: float, scale: float, low: float, high: float
) -> tuple[float, float, float, float]:
    """Check the parameters of a truncated normal distribution; ``names`` are their names in the caller's signature."""
    loc, scale = _validation.finite(names[0], loc), _validation.not_negative(names[1], scale)
    low, high = _validation.not_nan(names[2], low), _validation.not_nan(names[3], high)
    shown = ", ".join(f"{name}={number}" for name, number in zip(names, (loc, scale, low, high), strict=True))
    if scale == 0.0:
        if not low <= loc <= high:
            raise ValueError(f"{names[0]} must be within the bounds if {names[1]} is 0, got {shown}")
    elif low >= high:
        raise ValueError(f"{names[2]} must be below {names[3]}, got {shown}")
    elif not max(low - loc, loc - high) / scale < _MAX_DISTANCE:
        raise ValueError(f"the bounds must be less than {_MAX_DISTANCE} {names[1]} away from {names[0]}, got {shown}")
    return loc, scale, low, high


def _point_pdf(x: ArrayLike, point: float) -> FloatOrArray:
    return _float_or_array(np.where(np.asarray(x, np.float64) == point, math.inf, 0.0))


def _point_cdf(x: ArrayLike, point: float) -> FloatOrArray:
    return _float_or_array(np.heaviside(np.asarray(x, np.float64) - point, 1.0))


def _float_or_array(values: NDArray[np.float64]) -> FloatOrArray:
    return values if values.ndim else float(values)
