"""What is drawn: distributions as frozen values that say their numbers and compute their density, and draw nothing.

A distribution is exact, in Python's floats; what rounding to an array's dtype makes of it is for filling.py to say.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastkaiming import _validation
from fastkaiming.distributions import _truncated_moments
from fastkaiming.distributions._quadrature import Points

Curve: TypeAlias = float | NDArray[np.float64]

# In hexadecimal, whose reading rounds nothing, whatever rounding mode the process is in at import.
_SQRT_2 = float.fromhex("0x1.6a09e667f3bcdp+0")  # sqrt(2)
_SQRT_3 = float.fromhex("0x1.bb67ae8584caap+0")  # sqrt(3)
_SQRT_2_PI = float.fromhex("0x1.40d931ff62706p+1")  # sqrt(2 * pi)
_STD_CUT_AT_TWO = float.fromhex("0x1.c25e4b6dba981p-1")  # 0.87962566103423978, the std of N(0, 1) between -2 and 2
_FARTHEST = 1e154  # whose square is finite

# Curves overflow on the way to answers that are right: exp(-z**2 / 2) to 0, say, or the density of a subnormal width.
_silently = np.errstate(all="ignore")
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


@final
@dataclass(frozen=True, slots=True)
class Normal:
    """The normal distribution; a standard deviation of 0 makes it the constant ``mean``.

    Parameters
    ----------
    mean : float, default 0.0
        The mean.
    std : float, default 1.0
        The standard deviation, 0 or above.

    Raises
    ------
    TypeError
        A mean or std that is no real number.
    ValueError
        A mean or std that is not finite, a negative std.

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

    @_silently
    def pdf(self, x: ArrayLike) -> Curve:
        """Return the density at ``x``, exp(-z**2 / 2) / (std * sqrt(2 * pi)) with z = (x - mean) / std.

        Parameters
        ----------
        x : array_like
            Where, in float64.

        Returns
        -------
        float or numpy.ndarray
            A float where ``x`` is a scalar, a float64 array of its shape else.
        """
        if self.std == 0.0:
            return _point_pdf(x, self.mean)
        return _curve(np.exp(-0.5 * self._z(x) ** 2) / _SQRT_2_PI / self.std)

    @_silently
    def cdf(self, x: ArrayLike) -> Curve:
        """Return the probability of values up to ``x``, erfc(-z / sqrt(2)) / 2 with z = (x - mean) / std.

        Parameters
        ----------
        x : array_like
            Where, in float64.

        Returns
        -------
        float or numpy.ndarray
            A float where ``x`` is a scalar, a float64 array of its shape else; accurate far into the lower tail.
        """
        if self.std == 0.0:
            return _point_cdf(x, self.mean)
        return _curve(0.5 * _erfc(-self._z(x) / _SQRT_2))

    def _z(self, x: ArrayLike) -> NDArray[np.float64]:
        return (np.asarray(x, np.float64) - self.mean) / self.std


@final
@dataclass(frozen=True, slots=True)
class Uniform:
    """The uniform distribution on [``low``, ``high``); where the two are equal, that constant.

    A fill never stores ``high`` where ``low < high``, whatever the dtype, and for symmetric bounds (-b, b) it stores
    neither bound. A fill raises ValueError if the dtype has fewer than two numbers to store between the bounds, because
    the result would be a constant.

    Parameters
    ----------
    low : float, default 0.0
        The lower bound.
    high : float, default 1.0
        The upper bound, not below ``low``.

    Raises
    ------
    TypeError
        A bound that is not a real number.
    ValueError
        A bound that is not finite, or ``low`` above ``high``.

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

    @_silently
    def pdf(self, x: ArrayLike) -> Curve:
        """Return the density at ``x``, 1 / (high - low) from low to high and 0 outside.

        Parameters
        ----------
        x : array_like
            Where, in float64.

        Returns
        -------
        float or numpy.ndarray
            A float where ``x`` is a scalar, a float64 array of its shape else.
        """
        if self.low == self.high:
            return _point_pdf(x, self.low)
        x = np.asarray(x, np.float64)
        inside = (self.low <= x) & (x <= self.high)
        return _curve(np.where(inside, self._unit / (self.high * self._unit - self.low * self._unit), 0.0))

    @_silently
    def cdf(self, x: ArrayLike) -> Curve:
        """Return the probability of values up to ``x``, (x - low) / (high - low) from low to high.

        Parameters
        ----------
        x : array_like
            Where, in float64.

        Returns
        -------
        float or numpy.ndarray
            A float where ``x`` is a scalar, a float64 array of its shape else.
        """
        if self.low == self.high:
            return _point_cdf(x, self.low)
        low, high = self.low * self._unit, self.high * self._unit
        inside = np.clip(np.asarray(x, np.float64) * self._unit, low, high)
        return _curve((inside - low) / (high - low))

    @property
    def _unit(self) -> float:
        """What to measure the width in that it does not overflow; 1 where it can be, as halving rounds subnormals."""
        return 1.0 if math.isfinite(self.high - self.low) else 0.5


@final
@dataclass(frozen=True, slots=True)
class TruncatedNormal:
    """The normal distribution of a location and a scale, cut off at two bounds.

    ``loc`` and ``scale`` are the mean and the standard deviation *before* the cut, which
    :func:`torch.nn.init.trunc_normal_` calls mean and std. ``mean`` and ``std`` are, as in every distribution here,
    those of the values drawn: ``std`` is below ``scale``. A scale of 0 makes it the constant ``loc``.

    Parameters
    ----------
    loc : float, default 0.0
        The mean before the cut.
    scale : float, default 1.0
        The standard deviation before the cut, 0 or above.
    low : float, default -2.0
        The lower bound: a value, not a number of scales. ``-math.inf`` is none.
    high : float, default 2.0
        The upper bound, above ``low``. ``math.inf`` is none.

    Raises
    ------
    TypeError
        An argument that is no real number.
    ValueError
        A loc or scale that is not finite, a negative scale, a bound that is NaN, ``low`` not below ``high``, bounds
        1e154 scales from loc or farther; for a scale of 0, a loc out of bounds.

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
        loc, scale, low, high = truncated_normal_numbers(("loc", "scale", "low", "high"), loc, scale, low, high)
        object.__setattr__(self, "loc", loc)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @property
    @_silently
    def mean(self) -> float:
        """The mean of the values drawn."""
        if self.scale == 0.0:
            return self.loc
        mean = self._mode + self.scale * _truncated_moments.moments(*self._part(self.high), self._tilt)[0]
        return min(max(mean, self.low), self.high)

    @property
    @_silently
    def std(self) -> float:
        """The standard deviation of the values drawn."""
        return self.scale and self.scale * _truncated_moments.moments(*self._part(self.high), self._tilt)[1]

    @_silently
    def pdf(self, x: ArrayLike) -> Curve:
        """Return the density at ``x``: the normal one over the mass between the bounds, and 0 outside.

        Parameters
        ----------
        x : array_like
            Where, in float64.

        Returns
        -------
        float or numpy.ndarray
            A float where ``x`` is a scalar, a float64 array of its shape else; accurate however far out the bounds are.
        """
        if self.scale == 0.0:
            return _point_pdf(x, self.loc)
        x = np.asarray(x, np.float64)
        mass = _truncated_moments.mass(*self._part(self.high), self._tilt)
        density = _truncated_moments.density(self._sigmas(x, self._mode), self._tilt) / mass / self.scale
        return _curve(np.where((self.low <= x) & (x <= self.high), density, 0.0))

    @_silently
    def cdf(self, x: ArrayLike) -> Curve:
        """Return the probability of values up to ``x``: the mass from ``low`` to ``x`` over that between the bounds.

        Parameters
        ----------
        x : array_like
            Where, in float64.

        Returns
        -------
        float or numpy.ndarray
            A float where ``x`` is a scalar, a float64 array of its shape else; accurate down to ``low``.
        """
        if self.scale == 0.0:
            return _point_cdf(x, self.loc)
        x = np.asarray(x, np.float64)
        part, whole = (_truncated_moments.mass(*self._part(end), self._tilt) for end in (x, self.high))
        return _curve(np.select([x <= self.low, x >= self.high], [0.0, 1.0], np.minimum(part / whole, 1.0)))

    @property
    def _mode(self) -> float:
        """Where the density is greatest."""
        return min(max(self.loc, self.low), self.high)

    @property
    def _tilt(self) -> float:
        return float(self._sigmas(self._mode, self.loc))

    def _part(self, end: ArrayLike) -> tuple[Points, Points, Points]:
        """Return where the part from low to some end starts and ends, in sigmas from the mode, and its length."""
        return self._sigmas(self.low, self._mode), self._sigmas(end, self._mode), self._sigmas(end, self.low)

    @_silently
    def _sigmas(self, x: ArrayLike, origin: float) -> Points:
        """Return the distance of x from a place in units of the scale, through halves where it overflows."""
        x = np.asarray(x, np.float64)
        distance = x - origin
        return np.where(np.isinf(distance), (x / 2 - origin / 2) / (self.scale / 2), distance / self.scale)


Distribution: TypeAlias = Normal | Uniform | TruncatedNormal

FAMILIES: Mapping[str, Callable[[float], Distribution]] = {
    "normal": lambda std: Normal(0.0, std),
    "untruncated_normal": lambda std: Normal(0.0, std),  # as Keras has it
    "truncated_normal": lambda std: _cut_at_two(std / _STD_CUT_AT_TWO),
    "uniform": lambda std: Uniform(-_SQRT_3 * std, _SQRT_3 * std),
}


def centered(family: str, std: float) -> Distribution:
    """Return the distribution of mean 0 and standard deviation ``std`` from the family of that name."""
    return FAMILIES[family](std)


def _cut_at_two(scale: float) -> TruncatedNormal:
    bound = _validation.finite("2 * scale", 2.0 * scale)
    return TruncatedNormal(0.0, scale, -bound, bound)


def truncated_normal_numbers(
    names: tuple[str, str, str, str], loc: float, scale: float, low: float, high: float
) -> tuple[float, float, float, float]:
    """Check the numbers of a truncated normal distribution; ``names`` are those of the caller's signature."""
    loc, scale = _validation.finite(names[0], loc), _validation.not_negative(names[1], scale)
    low, high = _validation.not_nan(names[2], low), _validation.not_nan(names[3], high)
    shown = ", ".join(f"{name}={number}" for name, number in zip(names, (loc, scale, low, high), strict=True))
    if scale == 0.0:
        if not low <= loc <= high:
            raise ValueError(f"{names[0]} must be within the bounds where {names[1]} is 0, got {shown}")
    elif low >= high:
        raise ValueError(f"{names[2]} must be below {names[3]}, got {shown}")
    elif not max(low - loc, loc - high) / scale < _FARTHEST:
        raise ValueError(f"the bounds must be less than {_FARTHEST} {names[1]} away from {names[0]}, got {shown}")
    return loc, scale, low, high


def _point_pdf(x: ArrayLike, point: float) -> Curve:
    return _curve(np.where(np.asarray(x, np.float64) == point, math.inf, 0.0))


def _point_cdf(x: ArrayLike, point: float) -> Curve:
    return _curve(np.heaviside(np.asarray(x, np.float64) - point, 1.0))


def _curve(values: NDArray[np.float64]) -> Curve:
    return values if values.ndim else float(values)
