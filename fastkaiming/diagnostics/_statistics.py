"""Whether an initialization does what it should: signals through deep random networks, and the values of an array."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _validation
from fastkaiming._fill import dtypes
from fastkaiming._fill.kernel_params import uniform_limits
from fastkaiming.distributions import Distribution, Normal, TruncatedNormal, Uniform
from fastkaiming.distributions._quadrature import Points, gauss_legendre

_MOST = 1 << 20  # layers, networks and so on: what is more is a typing error
_PIECE = 1 << 18  # elements: as float64 they stay in the cache
_REACH, _PANELS = 40.0, 64  # standard deviations on either side that a fourth moment comes from, and their panels
_CANCELLED = 1e-14  # of the standard deviation: what rounding leaves of a mean of 0
_MAX_SIGMAS, _MAX_SIGMAS_OF_DOUBLE = 7.55, 9.5  # sqrt(2 * ln(2**41)) and sqrt(2 * ln(2**65)), rounded up


@dataclass(frozen=True)
class Statistics:
    """What :func:`statistics` found in an array; what needs a distribution is None without one.

    Attributes
    ----------
    count : int
        The number of elements.
    mean, std : float
        Their mean and standard deviation (the root of the mean square deviation from the mean); NaN for no elements.
    least, greatest : float
        The least and the greatest value; NaN for no elements, or where one is NaN.
    zeros : int
        The number of elements that are 0.
    dead_rows : int or None
        The number of indices of axis 0 at which all is 0; None for an array of less than two axes.
    outliers : int or None
        The number of values that the distribution cannot give, NaN among them.
    expected_mean, expected_std : float or None
        Those of the distribution, rounded to the numbers that the dtype has.
    z_mean, z_std : float or None
        How many standard errors ``mean`` and ``std`` are off.
    """

    count: int
    mean: float
    std: float
    least: float
    greatest: float
    zeros: int
    dead_rows: int | None
    outliers: int | None
    expected_mean: float | None = None
    expected_std: float | None = None
    z_mean: float | None = None
    z_std: float | None = None


def statistics(array: NDArray[Any], distribution: Distribution | None = None) -> Statistics:
    """Measure the values of an array, and compare them with what they should have been drawn from.

    The array is read once, piece by piece: it may be mapped from a file that is larger than memory. All is worked out
    in float64; moments of pieces are put together as by Chan, Golub and LeVeque, "Algorithms for Computing the Sample
    Variance", The American Statistician 37 (1983).

    Parameters
    ----------
    array : numpy.ndarray
        Real numbers in any shape, layout and byte order, ml_dtypes' among them.
    distribution : Normal, Uniform or TruncatedNormal, optional
        What the values should come from; :func:`fastkaiming.kaiming` gives that of a layer. The array is then of a
        dtype that :func:`fastkaiming.fill_` takes.

    Returns
    -------
    Statistics
        The statistics. The standard error of the mean of n values is std / sqrt(n), and that of their std is
        std * sqrt((kurtosis - 1) / (4 * n)) for large n; the kurtosis is 3 for a normal, 9/5 for a uniform
        distribution, and found by quadrature for a truncated one. Mean, std and kurtosis of float16, bfloat16 and the
        float8 are those of the distribution rounded to the numbers of the dtype. Outliers are beyond its bounds, or
        7.55 (in float64 9.5) standard deviations from the mean of a normal, which is as far as
        :func:`fastkaiming.normal_` goes.

    Raises
    ------
    TypeError
        An array of the wrong kind or dtype, a distribution that is none.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> from fastkaiming import diagnostics
    >>> weights = fk.kaiming_normal((512, 512), nonlinearity="relu", rng=1)
    >>> found = diagnostics.statistics(weights, fk.kaiming((512, 512), nonlinearity="relu"))
    >>> found.expected_std, round(found.std, 4), abs(found.z_std) < 4, found.outliers
    (0.0625, 0.0625, True, 0)
    """
    check(array, distribution)
    if distribution is None:
        return replace(_measured(array, -math.inf, math.inf), outliers=None)
    found = _measured(array, *_limits(distribution, array.dtype))
    mean, std, kurtosis = _moments(distribution, array.dtype)
    return replace(
        found,
        expected_mean=mean,
        expected_std=std,
        z_mean=_in_errors(found.mean - mean, std, found.count),
        z_std=_in_errors(found.std - std, std * math.sqrt((kurtosis - 1.0) / 4.0), found.count),
    )


def check(array: Any, distribution: Any) -> None:
    """Refuse what is no array of real numbers, and one that cannot come from the distribution given."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"array must be a NumPy array, not {_validation.shown(array)}")
    if not np.can_cast(array.dtype, np.float64, "same_kind"):
        raise TypeError(f"array must hold real numbers, not {array.dtype}")
    if distribution is None:
        return
    if not isinstance(distribution, Normal | Uniform | TruncatedNormal):
        raise TypeError(
            f"distribution must be a Normal, Uniform or TruncatedNormal, not {_validation.shown(distribution)}"
        )
    if dtypes.format_of_dtype(array.dtype) is None:
        raise TypeError(f"array must be of dtype {dtypes.NAMES} where a distribution is given, not {array.dtype}")


@np.errstate(all="ignore")
def _measured(array: NDArray[Any], low: float, high: float) -> Statistics:
    """Return the statistics of the values themselves, with those that are not within the limits as outliers."""
    count, mean, squares, least, greatest = 0, 0.0, 0.0, math.inf, -math.inf
    zeros, dead_rows, outliers = 0, 0, 0
    for rows in _pieces(np.atleast_1d(array), (0,)) if array.size else ():
        alive = np.zeros(len(rows), bool)
        for piece in _pieces(rows, range(1, rows.ndim)):
            values = np.asarray(piece, np.float64)
            before, count = count, count + values.size
            center = float(values.mean())
            step = center - mean
            squares += float(np.sum((values - center) ** 2)) + step * step * before * values.size / count
            mean += step * values.size / count
            least, greatest = np.minimum(least, values.min()), np.maximum(greatest, values.max())  # which keep NaN
            zeros += values.size - int(np.count_nonzero(values))
            outliers += values.size - int(np.count_nonzero((low <= values) & (values <= high)))
            alive |= values.any(axis=tuple(range(1, values.ndim)))
        dead_rows += int(np.count_nonzero(~alive))
    if least == greatest:  # of which the mean of some is rounded
        mean, squares = least, 0.0
    if not count:
        mean = least = greatest = math.nan
    std = math.sqrt(squares / count) if count else math.nan
    rows_told = dead_rows if array.ndim >= 2 else None
    return Statistics(count, mean, std, float(least), float(greatest), zeros, rows_told, outliers)


def _pieces(array: NDArray[Any], axes: Iterable[int]) -> Iterator[NDArray[Any]]:
    """Halve an array along the first of the axes that is longer than 1, and its halves, down to pieces."""
    axis = next((axis for axis in axes if array.shape[axis] > 1), None)
    if array.size <= _PIECE or axis is None:
        yield array
    else:
        for half in np.array_split(array, 2, axis):
            yield from _pieces(half, axes)


@np.errstate(all="ignore")
def _limits(distribution: Distribution, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the bounds of a distribution, rounded to a dtype as values are; of a normal, how far its values reach."""
    ends = np.array([distribution.low, distribution.high])
    if isinstance(distribution, Normal):
        sigmas = _MAX_SIGMAS if dtype.itemsize < 8 else _MAX_SIGMAS_OF_DOUBLE
        ends = distribution.mean + np.array([-sigmas, sigmas]) * distribution.std
    rounded = _rounded(ends, dtype)
    low, high = np.where(np.isfinite(rounded), rounded, ends).tolist()
    return low, high


def _rounded(values: Points, dtype: np.dtype[Any]) -> Points:
    return values.astype(dtype).astype(np.float64)


@lru_cache(maxsize=1024)
@np.errstate(all="ignore")
def _moments(distribution: Distribution, dtype: np.dtype[Any]) -> tuple[float, float, float]:
    """Return mean, standard deviation and kurtosis of a distribution rounded to a dtype."""
    if distribution.std == 0.0:
        return float(_rounded(np.array(distribution.mean), dtype)), 0.0, 1.0
    if dtype.itemsize > 2:  # which rounds too finely to tell
        return distribution.mean, distribution.std, _kurtosis(distribution)
    numbers = dtypes.finite_values(dtype)
    low, high = distribution.low, distribution.high
    if isinstance(distribution, Uniform):
        storage = dtypes.format_of_dtype(dtype)
        assert storage is not None
        low, high = uniform_limits(distribution, storage)
    inside = numbers[(low <= numbers) & (numbers <= high)]
    numbers = inside if inside.size else numbers
    up_to = np.asarray(distribution.cdf((numbers[:-1] + numbers[1:]) / 2))
    probabilities = np.diff(up_to, prepend=0.0, append=1.0)
    mean = float(probabilities @ numbers)
    variance, fourth = (float(probabilities @ (numbers - mean) ** power) for power in (2, 4))
    std = math.sqrt(variance)
    return mean if abs(mean) > _CANCELLED * std else 0.0, std, fourth / variance**2 if variance else 1.0


def _kurtosis(distribution: Distribution) -> float:
    """Integrate z**4 times the density, z being how many standard deviations a value is from the mean."""
    mean, std = distribution.mean, distribution.std
    low, high = max((distribution.low - mean) / std, -_REACH), min((distribution.high - mean) / std, _REACH)
    nodes, weights = gauss_legendre(_PANELS)
    z = (low + high) / 2 + (high - low) / 2 * nodes
    return float(z**4 * distribution.pdf(mean + std * z) @ weights) * std * (high - low) / 2


def _in_errors(difference: float, deviation: float, count: int) -> float:
    """Return a difference in units of its standard error, deviation / sqrt(count)."""
    if not count or difference == 0.0:
        return difference
    return difference / deviation * math.sqrt(count) if deviation else math.copysign(math.inf, difference)
