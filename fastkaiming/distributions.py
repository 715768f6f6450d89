"""What is drawn: distributions as frozen values that say their numbers and compute their density, and draw nothing.

A distribution is exact, in Python's floats; what rounding to an array's dtype makes of it is for filling.py to say.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastkaiming import checks

Curve: TypeAlias = float | NDArray[np.float64]

# In hexadecimal, whose reading rounds nothing, whatever rounding mode the process is in at import.
_SQRT_2 = float.fromhex("0x1.6a09e667f3bcdp+0")  # sqrt(2)
_SQRT_3 = float.fromhex("0x1.bb67ae8584caap+0")  # sqrt(3)
_SQRT_2_PI = float.fromhex("0x1.40d931ff62706p+1")  # sqrt(2 * pi)

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
        object.__setattr__(self, "mean", checks.finite("mean", mean))
        object.__setattr__(self, "std", checks.not_negative("std", std))

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
    """The uniform distribution from ``low`` to ``high``; where the two are equal, that constant.

    Parameters
    ----------
    low : float, default 0.0
        The lower end.
    high : float, default 1.0
        The upper end, not below ``low``.

    Raises
    ------
    TypeError
        An end that is no real number.
    ValueError
        An end that is not finite, or ``low`` above ``high``.

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
        object.__setattr__(self, "low", checks.finite("low", low))
        object.__setattr__(self, "high", checks.finite("high", high))
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


Distribution: TypeAlias = Normal | Uniform

FAMILIES: Mapping[str, Callable[[float], Distribution]] = {
    "normal": lambda std: Normal(0.0, std),
    "uniform": lambda std: Uniform(-_SQRT_3 * std, _SQRT_3 * std),
}


def centered(family: str, std: float) -> Distribution:
    """Return the distribution of mean 0 and standard deviation ``std`` from the family of that name."""
    return FAMILIES[family](std)


def _point_pdf(x: ArrayLike, point: float) -> Curve:
    return _curve(np.where(np.asarray(x, np.float64) == point, math.inf, 0.0))


def _point_cdf(x: ArrayLike, point: float) -> Curve:
    return _curve(np.heaviside(np.asarray(x, np.float64) - point, 1.0))


def _curve(values: NDArray[np.float64]) -> Curve:
    return values if values.ndim else float(values)
