"""Compute statistics of an array, and compare them with a distribution."""

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
from fastkaiming.distributions._quadrature import FloatArray, gauss_legendre

_BLOCK_SIZE = 1 << 18  # elements; as float64, a block fits in the cache
_MAX_Z, _PANELS = 40.0, 64  # the integration limits of a fourth moment, and the panels between them
_ROUNDING_ERROR = 1e-14  # times the standard deviation: a mean of 0 may differ from 0 by this much after rounding
_MAX_SIGMAS, _MAX_SIGMAS_FLOAT64 = 7.55, 9.5  # sqrt(2 * ln(2**41)) and sqrt(2 * ln(2**65)), rounded up


@dataclass(frozen=True)
class Statistics:
    """The result of :func:`statistics`. Attributes that need a distribution are None if none was given.

    Attributes
    ----------
    count : int
        The number of elements.
    mean, std : float
        The mean and the standard deviation of the elements (the root of the mean square deviation from the mean). Both
        are NaN if the array is empty.
    minimum, maximum : float
        The minimum and the maximum. Both are NaN if the array is empty or contains NaN.
    zeros : int
        The number of elements that are 0.
    dead_rows : int or None
        The number of indices of axis 0 at which every element is 0. None if the array has fewer than two axes.
    outliers : int or None
        The number of values that cannot occur in the distribution, including NaN.
    expected_mean, expected_std : float or None
        The mean and the standard deviation of the distribution after its values are rounded to the dtype.
    z_mean, z_std : float or None
        The differences between ``mean`` and ``expected_mean`` and between ``std`` and ``expected_std``, in standard
        errors.
    """

    count: int
    mean: float
    std: float
    minimum: float
    maximum: float
    zeros: int
    dead_rows: int | None
    outliers: int | None
    expected_mean: float | None = None
    expected_std: float | None = None
    z_mean: float | None = None
    z_std: float | None = None


def statistics(array: NDArray[Any], distribution: Distribution | None = None) -> Statistics:
    """Compute statistics of an array, and compare them with the distribution that its values should have.

    The array is read once, in blocks, so it may be a memory map of a file that is larger than memory. The computation
    is in float64. The moments of the blocks are combined by the method of Chan, Golub and LeVeque, "Algorithms for
    Computing the Sample Variance", The American Statistician 37 (1983).

    Parameters
    ----------
    array : numpy.ndarray
        An array of real numbers of any shape, memory layout and byte order. The dtypes of ml_dtypes are supported.
    distribution : Normal, Uniform or TruncatedNormal, optional
        The distribution that the values should have; :func:`fastkaiming.kaiming` returns the distribution of a layer.
        If it is given, the dtype of the array must be one that :func:`fastkaiming.fill_` supports.

    Returns
    -------
    Statistics
        The statistics. The standard error of the mean of n values is std / sqrt(n), and the standard error of their
        standard deviation is std * sqrt((kurtosis - 1) / (4 * n)) for large n. The kurtosis is 3 for a normal
        distribution and 9/5 for a uniform distribution; for a truncated normal distribution it is computed by
        quadrature. If the dtype is float16, bfloat16 or a float8 dtype, the expected mean, standard deviation and
        kurtosis account for rounding to the dtype. A value is an outlier if it is outside the bounds of the
        distribution. For a normal distribution, it is an outlier if it is more than 7.55 standard deviations from the
        mean (9.5 in float64); :func:`fastkaiming.normal_` never produces such a value.

    Raises
    ------
    TypeError
        If the array is not a NumPy array, if its dtype is not supported, or if the distribution has the wrong type.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> from fastkaiming import diagnostics
    >>> weights = fk.kaiming_normal((512, 512), nonlinearity="relu", rng=1)
    >>> found = diagnostics.statistics(weights, fk.kaiming((512, 512), nonlinearity="relu"))
    >>> found.expected_std, round(found.std, 4), abs(found.z_std) < 4, found.outliers
    (0.0625, 0.0625, True, 0)
    """
    check_arguments(array, distribution)
    if distribution is None:
        return replace(_describe(array, -math.inf, math.inf), outliers=None)
    found = _describe(array, *_value_limits(distribution, array.dtype))
    mean, std, kurtosis = _moments(distribution, array.dtype)
    return replace(
        found,
        expected_mean=mean,
        expected_std=std,
        z_mean=_in_standard_errors(found.mean - mean, std, found.count),
        z_std=_in_standard_errors(found.std - std, std * math.sqrt((kurtosis - 1.0) / 4.0), found.count),
    )


def check_arguments(array: Any, distribution: Any) -> None:
    """Raise TypeError if the arguments of :func:`statistics` have the wrong type or dtype."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"array must be a NumPy array, not {_validation.describe(array)}")
    if not np.can_cast(array.dtype, np.float64, "same_kind"):
        raise TypeError(f"array must hold real numbers, not {array.dtype}")
    if distribution is None:
        return
    if not isinstance(distribution, Normal | Uniform | TruncatedNormal):
        raise TypeError(
            f"distribution must be a Normal, Uniform or TruncatedNormal, not {_validation.describe(distribution)}"
        )
    if dtypes.format_of_dtype(array.dtype) is None:
        raise TypeError(f"array must be of dtype {dtypes.NAMES} if a distribution is given, not {array.dtype}")


@np.errstate(all="ignore")
def _describe(array: NDArray[Any], low: float, high: float) -> Statistics:
    """Return the statistics that need no distribution, and count the values outside [low, high] as outliers."""
    count, mean, squares, minimum, maximum = 0, 0.0, 0.0, math.inf, -math.inf
    zeros, dead_rows, outliers = 0, 0, 0
    for rows in _iter_blocks(np.atleast_1d(array), (0,)) if array.size else ():
        has_nonzero = np.zeros(len(rows), bool)
        for block in _iter_blocks(rows, range(1, rows.ndim)):
            values = np.asarray(block, np.float64)
            previous_count, count = count, count + values.size
            center = float(values.mean())
            delta = center - mean
            squares += float(np.sum((values - center) ** 2)) + delta * delta * previous_count * values.size / count
            mean += delta * values.size / count
            # np.minimum and np.maximum propagate NaN.
            minimum, maximum = np.minimum(minimum, values.min()), np.maximum(maximum, values.max())
            zeros += values.size - int(np.count_nonzero(values))
            outliers += values.size - int(np.count_nonzero((low <= values) & (values <= high)))
            has_nonzero |= values.any(axis=tuple(range(1, values.ndim)))
        dead_rows += int(np.count_nonzero(~has_nonzero))
    if minimum == maximum:  # rounding in the loop could change the mean of equal values
        mean, squares = minimum, 0.0
    if not count:
        mean = minimum = maximum = math.nan
    std = math.sqrt(squares / count) if count else math.nan
    reported_dead_rows = dead_rows if array.ndim >= 2 else None
    return Statistics(count, mean, std, float(minimum), float(maximum), zeros, reported_dead_rows, outliers)


def _iter_blocks(array: NDArray[Any], axes: Iterable[int]) -> Iterator[NDArray[Any]]:
    """Split an array into blocks by repeatedly halving it along the first of the axes that is longer than 1."""
    axis = next((axis for axis in axes if array.shape[axis] > 1), None)
    if array.size <= _BLOCK_SIZE or axis is None:
        yield array
    else:
        for half in np.array_split(array, 2, axis):
            yield from _iter_blocks(half, axes)


@np.errstate(all="ignore")
def _value_limits(distribution: Distribution, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the smallest and the largest value that the distribution allows, rounded to the dtype like the values.

    A normal distribution is unbounded; its limits are just beyond the extreme values of :func:`fastkaiming.normal_`.
    """
    ends = np.array([distribution.low, distribution.high])
    if isinstance(distribution, Normal):
        sigmas = _MAX_SIGMAS if dtype.itemsize < 8 else _MAX_SIGMAS_FLOAT64
        ends = distribution.mean + np.array([-sigmas, sigmas]) * distribution.std
    rounded = _round_to_dtype(ends, dtype)
    low, high = np.where(np.isfinite(rounded), rounded, ends).tolist()
    return low, high


def _round_to_dtype(values: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
    return values.astype(dtype).astype(np.float64)


@lru_cache(maxsize=1024)
@np.errstate(all="ignore")
def _moments(distribution: Distribution, dtype: np.dtype[Any]) -> tuple[float, float, float]:
    """Return the mean, standard deviation and kurtosis of a distribution after rounding to a dtype."""
    if distribution.std == 0.0:
        return float(_round_to_dtype(np.array(distribution.mean), dtype)), 0.0, 1.0
    if dtype.itemsize > 2:  # rounding to float32 or float64 has no measurable effect on the moments
        return distribution.mean, distribution.std, _kurtosis(distribution)
    numbers = dtypes.finite_values(dtype)
    low, high = distribution.low, distribution.high
    if isinstance(distribution, Uniform):
        storage = dtypes.format_of_dtype(dtype)
        assert storage is not None
        low, high = uniform_limits(distribution, storage)
    in_range = numbers[(low <= numbers) & (numbers <= high)]
    numbers = in_range if in_range.size else numbers
    cumulative = np.asarray(distribution.cdf((numbers[:-1] + numbers[1:]) / 2))
    probabilities = np.diff(cumulative, prepend=0.0, append=1.0)
    mean = float(probabilities @ numbers)
    variance, fourth = (float(probabilities @ (numbers - mean) ** power) for power in (2, 4))
    std = math.sqrt(variance)
    return mean if abs(mean) > _ROUNDING_ERROR * std else 0.0, std, fourth / variance**2 if variance else 1.0


def _kurtosis(distribution: Distribution) -> float:
    """Return the integral of z**4 times the density, where z is (value - mean) / std."""
    mean, std = distribution.mean, distribution.std
    low, high = max((distribution.low - mean) / std, -_MAX_Z), min((distribution.high - mean) / std, _MAX_Z)
    nodes, weights = gauss_legendre(_PANELS)
    z = (low + high) / 2 + (high - low) / 2 * nodes
    return float(z**4 * distribution.pdf(mean + std * z) @ weights) * std * (high - low) / 2


def _in_standard_errors(difference: float, deviation: float, count: int) -> float:
    """Return a difference divided by its standard error, which is deviation / sqrt(count)."""
    if not count or difference == 0.0:
        return difference
    return difference / deviation * math.sqrt(count) if deviation else math.copysign(math.inf, difference)
