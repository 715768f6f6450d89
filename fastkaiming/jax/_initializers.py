"""The random initializers, with the names and signatures of :mod:`jax.nn.initializers`."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from fastkaiming import _validation

try:
    import jax
    from jax.nn import initializers
except ModuleNotFoundError as error:
    raise _validation.missing_dependency_error("jax", "jax", error) from error

from fastkaiming.distributions import Distribution, Normal, TruncatedNormal, Uniform
from fastkaiming.initializers._fans import MODES
from fastkaiming.initializers._variance_scaling import scaled_distribution
from fastkaiming.jax._arrays import Initializer

Axes: TypeAlias = int | Sequence[int]


def variance_scaling(
    scale: float,
    mode: str,
    distribution: str,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = None,
) -> Initializer:
    """Return an initializer whose values have mean 0 and variance scale / fan.

    The arguments are those of :func:`jax.nn.initializers.variance_scaling`. See :func:`fastkaiming.variance_scaling_`
    for the formulas.

    Parameters
    ----------
    scale : float
        The variance multiplied by the fan. It must not be negative.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        The fan: that of the inputs, that of the outputs, or their arithmetic or geometric mean.
    distribution : {"truncated_normal", "normal", "uniform"}
        The distribution of the values.
    in_axis, out_axis, batch_axis : int or sequence of int
        The axes of inputs, of outputs and of a batch, which counts towards neither fan. All other axes are the
        receptive field, which counts towards both fans.
    dtype : dtype, optional
        The dtype of arrays if a call does not pass one.

    Returns
    -------
    Initializer
        Call it as ``init(key, shape, dtype)``. A wrong mode, distribution or axis raises an error at that call, as in
        JAX.

    Examples
    --------
    >>> import jax
    >>> from fastkaiming.jax import variance_scaling
    >>> init = variance_scaling(1.0, "fan_avg", "uniform", batch_axis=0)
    >>> experts = init(jax.random.key(42), (8, 64, 32))
    >>> float(abs(experts).max()) <= (3 / 48) ** 0.5
    True
    """
    axes = {"in_axis": in_axis, "out_axis": out_axis, "batch_axis": batch_axis}
    settings = {"scale": scale, "mode": mode, "distribution": distribution, **axes}
    return _initializer(_variance, initializers.variance_scaling, settings, dtype)


def _variance(
    shape: tuple[int, ...], scale: float, mode: str, distribution: str, in_axis: Axes, out_axis: Axes, batch_axis: Axes
) -> Distribution:
    if 0 in shape:  # there are no values, and fans can be 0
        _validation.not_negative("scale", float(scale))
        return Normal(0.0, 0.0)
    inputs, outputs, batch = (_size(shape, axes) for axes in (in_axis, out_axis, batch_axis))
    field = math.prod(shape) / inputs / outputs / batch
    fan = MODES[mode]({"I": inputs * field, "O": outputs * field}.__getitem__)
    chosen = scaled_distribution(shape, distribution, 1.0, float(scale), "fan_in", fan, None, 1, False)
    return cast("Distribution", chosen)  # it is None only for a fan of 0


def _size(shape: tuple[int, ...], axes: Axes) -> int:
    return shape[axes] if isinstance(axes, int) else math.prod(shape[axis] for axis in axes)


def _initializer(
    make_distribution: Callable[..., Distribution],
    jax_function: Callable[..., Any],
    settings: dict[str, Any],
    dtype: Any,
) -> Initializer:
    """Return an initializer with its settings converted to types that can be compared and hashed."""
    hashable = tuple((name, _hashable(value)) for name, value in settings.items())
    return Initializer(make_distribution, jax_function, hashable, dtype)


def _hashable(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return value.item() if isinstance(value, jax.Array | np.ndarray | np.generic) else value


def glorot_uniform(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """Return Glorot's uniform initializer; see :func:`jax.nn.initializers.glorot_uniform`.

    The values lie between -bound and bound, where bound = sqrt(6 / (fan_in + fan_out)).

    Parameters
    ----------
    in_axis, out_axis, batch_axis, dtype
        See :func:`variance_scaling`.

    Returns
    -------
    Initializer
        Call it as ``init(key, shape, dtype)``.

    Examples
    --------
    >>> import jax
    >>> from fastkaiming.jax import glorot_uniform
    >>> float(abs(glorot_uniform()(jax.random.key(42), (64, 32))).max()) <= (6 / (64 + 32)) ** 0.5
    True
    """
    return variance_scaling(1.0, "fan_avg", "uniform", in_axis, out_axis, batch_axis, dtype)


def glorot_normal(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """Return Glorot's truncated normal initializer; see :func:`jax.nn.initializers.glorot_normal`.

    The standard deviation of the values is sqrt(2 / (fan_in + fan_out)).
    They are truncated at two standard deviations of the untruncated distribution.

    Parameters
    ----------
    in_axis, out_axis, batch_axis, dtype
        See :func:`variance_scaling`.

    Returns
    -------
    Initializer
        Call it as ``init(key, shape, dtype)``.

    Examples
    --------
    >>> import jax
    >>> from fastkaiming.jax import glorot_normal
    >>> float(abs(glorot_normal()(jax.random.key(42), (64, 32))).max()) <= 2 * (2 / (64 + 32)) ** 0.5 / 0.8796
    True
    """
    return variance_scaling(1.0, "fan_avg", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


def lecun_uniform(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """Return LeCun's uniform initializer; see :func:`jax.nn.initializers.lecun_uniform`.

    The values lie between -bound and bound, where bound = sqrt(3 / fan_in).

    Parameters
    ----------
    in_axis, out_axis, batch_axis, dtype
        See :func:`variance_scaling`.

    Returns
    -------
    Initializer
        Call it as ``init(key, shape, dtype)``.

    Examples
    --------
    >>> import jax
    >>> from fastkaiming.jax import lecun_uniform
    >>> float(abs(lecun_uniform()(jax.random.key(42), (64, 32))).max()) <= (3 / 64) ** 0.5
    True
    """
    return variance_scaling(1.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def lecun_normal(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """Return LeCun's truncated normal initializer; see :func:`jax.nn.initializers.lecun_normal`.

    The standard deviation of the values is sqrt(1 / fan_in).
    They are truncated at two standard deviations of the untruncated distribution.

    Parameters
    ----------
    in_axis, out_axis, batch_axis, dtype
        See :func:`variance_scaling`.

    Returns
    -------
    Initializer
        Call it as ``init(key, shape, dtype)``.

    Examples
    --------
    >>> import jax
    >>> from fastkaiming.jax import lecun_normal
    >>> float(abs(lecun_normal()(jax.random.key(42), (64, 32))).max()) <= 2 * (1 / 64) ** 0.5 / 0.8796
    True
    """
    return variance_scaling(1.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


def he_uniform(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """Return He's (Kaiming's) uniform initializer; see :func:`jax.nn.initializers.he_uniform`.

    The values lie between -bound and bound, where bound = sqrt(6 / fan_in).

    Parameters
    ----------
    in_axis, out_axis, batch_axis, dtype
        See :func:`variance_scaling`.

    Returns
    -------
    Initializer
        Call it as ``init(key, shape, dtype)``.

    Examples
    --------
    >>> import jax
    >>> from fastkaiming.jax import he_uniform
    >>> float(abs(he_uniform()(jax.random.key(42), (64, 32))).max()) <= (6 / 64) ** 0.5
    True
    """
    return variance_scaling(2.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def he_normal(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """Return He's (Kaiming's) truncated normal initializer; see :func:`jax.nn.initializers.he_normal`.

    The standard deviation of the values is sqrt(2 / fan_in).
    They are truncated at two standard deviations of the untruncated distribution.

    Parameters
    ----------
    in_axis, out_axis, batch_axis, dtype
        See :func:`variance_scaling`.

    Returns
    -------
    Initializer
        Call it as ``init(key, shape, dtype)``.

    Examples
    --------
    >>> import jax
    >>> from fastkaiming.jax import he_normal
    >>> float(abs(he_normal()(jax.random.key(42), (64, 32))).max()) <= 2 * (2 / 64) ** 0.5 / 0.8796
    True
    """
    return variance_scaling(2.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


xavier_uniform, xavier_normal = glorot_uniform, glorot_normal
kaiming_uniform, kaiming_normal = he_uniform, he_normal


def normal(stddev: float = 1e-2, dtype: Any = None) -> Initializer:
    """Return an initializer of normal values with mean 0; see :func:`jax.nn.initializers.normal`.

    Parameters
    ----------
    stddev : float, default 0.01
        The standard deviation. It must not be negative.
    dtype : dtype, optional
        The dtype of arrays if a call does not pass one.

    Returns
    -------
    Initializer
        Call it as ``init(key, shape, dtype)``.

    Examples
    --------
    >>> import jax
    >>> from fastkaiming.jax import normal
    >>> normal(0.02)(jax.random.key(42), (1000, 64)).std().round(3)
    Array(0.02, dtype=float32)
    """
    return _initializer(_normal, initializers.normal, {"stddev": stddev}, dtype)


def _normal(_: tuple[int, ...], stddev: float) -> Distribution:
    return Normal(0.0, float(stddev))


def uniform(scale: float = 1e-2, dtype: Any = None) -> Initializer:
    """Return an initializer of uniform values in [0, ``scale``); see :func:`jax.nn.initializers.uniform`.

    Parameters
    ----------
    scale : float, default 0.01
        The upper bound, which is excluded. If it is negative, the values lie in [``scale``, 0).
    dtype : dtype, optional
        The dtype of arrays if a call does not pass one.

    Returns
    -------
    Initializer
        Call it as ``init(key, shape, dtype)``.

    Examples
    --------
    >>> import jax
    >>> from fastkaiming.jax import uniform
    >>> uniform(4.0)(jax.random.key(42), (1000, 64)).mean().round(1)
    Array(2., dtype=float32)
    """
    return _initializer(_uniform, initializers.uniform, {"scale": scale}, dtype)


def _uniform(_: tuple[int, ...], scale: float) -> Distribution:
    return Uniform(*sorted((0.0, float(scale))))


def truncated_normal(stddev: float = 1e-2, dtype: Any = None, lower: float = -2.0, upper: float = 2.0) -> Initializer:
    """Return an initializer of truncated normal values; see :func:`jax.nn.initializers.truncated_normal`.

    Parameters
    ----------
    stddev : float, default 0.01
        The standard deviation before truncation, which must not be negative. Truncation makes that of the values
        smaller.
    dtype : dtype, optional
        The dtype of arrays if a call does not pass one.
    lower, upper : float
        The bounds of the values, in units of ``stddev``.

    Returns
    -------
    Initializer
        Call it as ``init(key, shape, dtype)``.

    Examples
    --------
    >>> import jax
    >>> from fastkaiming.jax import truncated_normal
    >>> float(abs(truncated_normal(0.5)(jax.random.key(42), (1000, 64))).max()) <= 1.0
    True
    """
    settings = {"stddev": stddev, "lower": lower, "upper": upper}
    return _initializer(_truncated, initializers.truncated_normal, settings, dtype)


def _truncated(_: tuple[int, ...], stddev: float, lower: float, upper: float) -> Distribution:
    std = float(stddev)
    return TruncatedNormal(0.0, std, float(lower) * std, float(upper) * std)
