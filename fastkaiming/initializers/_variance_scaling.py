"""Variance scaling and its special cases: Xavier (Glorot), LeCun and He initialization.

All of them fill the weights of a layer and compute its fan as :func:`kaiming` does: ``layout``, ``groups`` and
``transposed`` describe the axes of the weights (:func:`fans`). If ``fan`` is given, it is used instead.
"""

import math
from collections.abc import Sequence

from fastkaiming import _core, _validation
from fastkaiming._fill.buffers import Target
from fastkaiming._fill.fill import fill_by_shape
from fastkaiming.distributions import Distribution
from fastkaiming.distributions._families import FAMILIES, centered
from fastkaiming.initializers import _fans, _gains
from fastkaiming.initializers._kaiming import kaiming_distribution
from fastkaiming.rng import Rng


def variance_scaling_(
    out: Target,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
    *,
    fan: float | None = None,
    layout: str | None = None,
    groups: int = 1,
    transposed: bool = False,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill ``out`` in place from a distribution with variance scale / fan.

    This corresponds to :func:`jax.nn.initializers.variance_scaling` and Keras' ``VarianceScaling``. LeCun, Glorot and
    He initialization are special cases. The mean is 0 and std = sqrt(scale / fan), in each of the distributions:

    - "truncated_normal": a normal distribution of standard deviation s = std / 0.87962566103423978, truncated at -2 s
      and 2 s, so that the values have standard deviation std. The constant is the standard deviation of N(0, 1)
      truncated at -2 and 2.
    - "normal": not truncated, as in JAX. Keras calls it "untruncated_normal", which is accepted here as well, and its
      "normal" is truncated.
    - "uniform": from -sqrt(3) std to sqrt(3) std.

    Parameters
    ----------
    out : numpy.ndarray
        The weights of a layer: an array, or another object that :func:`fill_` accepts.
    scale : float, default 1.0
        The product of the variance and the fan, at least 0.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        The fan to use: see :func:`kaiming`.
    distribution : {"truncated_normal", "normal", "untruncated_normal", "uniform"}
        The family of the distribution.
    fan, layout, groups, transposed
        The fan, or how it is computed from the shape: see :func:`kaiming`.
    rng, global_shape, index, threads
        The random values, the shard and the number of threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        If :func:`kaiming` or :func:`fill_` raises it. Nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> kernel = np.empty((3, 3, 16, 32), np.float32)  # the layout of JAX and Keras
    >>> fk.variance_scaling_(kernel, 2.0, distribution="uniform", layout="*IO", rng=42) is kernel  # he_uniform
    True
    >>> float(abs(kernel).max()) <= (6 / (3 * 3 * 16)) ** 0.5
    True
    """
    factory_args = (distribution, 1.0, scale, mode, fan, layout, groups, transposed)
    return fill_by_shape(out, scaled_distribution, factory_args, rng, global_shape, index, threads, "variance_scaling_")


def xavier_normal_(
    out: Target,
    gain: float = 1.0,
    *,
    fan: float | None = None,
    layout: str | None = None,
    groups: int = 1,
    transposed: bool = False,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill ``out`` in place from the normal Xavier (Glorot) distribution.

    The mean is 0 and the standard deviation is gain * sqrt(2 / (fan_in + fan_out)): Glorot & Bengio, "Understanding the
    difficulty of training deep feedforward neural networks", AISTATS 2010, equation 12. The distribution is not
    truncated, as in torch. ``glorot_normal`` of JAX and Keras is truncated: for that distribution, call
    :func:`variance_scaling_` with ``mode="fan_avg"``.

    Parameters
    ----------
    out : numpy.ndarray
        The weights of a layer: an array, or another object that :func:`fill_` accepts.
    gain : float, default 1.0
        The gain of the following nonlinearity, at least 0: see :func:`calculate_gain`.
    fan, layout, groups, transposed
        The mean of both fans, or how it is computed from the shape: see :func:`kaiming`.
    rng, global_shape, index, threads
        The random values, the shard and the number of threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        If :func:`kaiming` or :func:`fill_` raises it. Nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((512, 256), np.float32)
    >>> fk.xavier_normal_(weights, fk.calculate_gain("tanh"), rng=42) is weights
    True
    """
    factory_args = ("normal", gain, 1.0, "fan_avg", fan, layout, groups, transposed)
    return fill_by_shape(out, scaled_distribution, factory_args, rng, global_shape, index, threads, "xavier_normal_")


def xavier_uniform_(
    out: Target,
    gain: float = 1.0,
    *,
    fan: float | None = None,
    layout: str | None = None,
    groups: int = 1,
    transposed: bool = False,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill ``out`` in place from the uniform Xavier (Glorot) distribution.

    The bounds are -bound and bound = gain * sqrt(6 / (fan_in + fan_out)), as in torch and in ``glorot_uniform`` of JAX
    and Keras: Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS
    2010, equation 16.

    Parameters
    ----------
    out : numpy.ndarray
        The weights of a layer: an array, or another object that :func:`fill_` accepts.
    gain : float, default 1.0
        The gain of the following nonlinearity, at least 0: see :func:`calculate_gain`.
    fan, layout, groups, transposed
        The mean of both fans, or how it is computed from the shape: see :func:`kaiming`.
    rng, global_shape, index, threads
        The random values, the shard and the number of threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        If :func:`kaiming` or :func:`fill_` raises it. Nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((512, 256), np.float32)
    >>> fk.xavier_uniform_(weights, fk.calculate_gain("tanh"), rng=42) is weights
    True
    """
    factory_args = ("uniform", gain, 1.0, "fan_avg", fan, layout, groups, transposed)
    return fill_by_shape(out, scaled_distribution, factory_args, rng, global_shape, index, threads, "xavier_uniform_")


def lecun_normal_(
    out: Target,
    *,
    fan: float | None = None,
    layout: str | None = None,
    groups: int = 1,
    transposed: bool = False,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill ``out`` in place from the truncated normal LeCun distribution.

    The mean is 0 and the standard deviation is sqrt(1 / fan_in): LeCun et al., "Efficient BackProp", 1998, section 4.6.
    The distribution is truncated at two standard deviations of the untruncated distribution, as in ``lecun_normal`` of
    JAX and Keras; this is the default of :func:`variance_scaling_`. For values that are not truncated, call
    :func:`kaiming_normal_` with ``nonlinearity="linear"``.

    Parameters
    ----------
    out : numpy.ndarray
        The weights of a layer: an array, or another object that :func:`fill_` accepts.
    fan, layout, groups, transposed
        The fan, or how it is computed from the shape: see :func:`kaiming`.
    rng, global_shape, index, threads
        The random values, the shard and the number of threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        If :func:`kaiming` or :func:`fill_` raises it. Nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((512, 256), np.float32)
    >>> fk.lecun_normal_(weights, rng=42) is weights
    True
    """
    factory_args = ("truncated_normal", 1.0, 1.0, "fan_in", fan, layout, groups, transposed)
    return fill_by_shape(out, scaled_distribution, factory_args, rng, global_shape, index, threads, "lecun_normal_")


def lecun_uniform_(
    out: Target,
    *,
    fan: float | None = None,
    layout: str | None = None,
    groups: int = 1,
    transposed: bool = False,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill ``out`` in place from the uniform LeCun distribution.

    The bounds are -bound and bound = sqrt(3 / fan_in), as in ``lecun_uniform`` of JAX and Keras: LeCun et al.,
    "Efficient BackProp", 1998, section 4.6.

    Parameters
    ----------
    out : numpy.ndarray
        The weights of a layer: an array, or another object that :func:`fill_` accepts.
    fan, layout, groups, transposed
        The fan, or how it is computed from the shape: see :func:`kaiming`.
    rng, global_shape, index, threads
        The random values, the shard and the number of threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        If :func:`kaiming` or :func:`fill_` raises it. Nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((512, 256), np.float32)
    >>> fk.lecun_uniform_(weights, rng=42) is weights
    True
    """
    factory_args = ("uniform", 1.0, 1.0, "fan_in", fan, layout, groups, transposed)
    return fill_by_shape(out, scaled_distribution, factory_args, rng, global_shape, index, threads, "lecun_uniform_")


def he_normal_(
    out: Target,
    mode: str = "fan_in",
    *,
    fan: float | None = None,
    layout: str | None = None,
    groups: int = 1,
    transposed: bool = False,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill ``out`` in place from the normal He distribution for a layer before a ReLU.

    This is :func:`kaiming_normal_` with ``nonlinearity="relu"``: the mean is 0 and the standard deviation is
    sqrt(2 / fan). The distribution is not truncated. ``he_normal`` of JAX and Keras is truncated: for that
    distribution, call :func:`variance_scaling_` with ``scale=2.0``.

    Parameters
    ----------
    out : numpy.ndarray
        The weights of a layer: an array, or another object that :func:`fill_` accepts.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        The fan to use: see :func:`kaiming`.
    fan, layout, groups, transposed
        The fan, or how it is computed from the shape: see :func:`kaiming`.
    rng, global_shape, index, threads
        The random values, the shard and the number of threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        If :func:`kaiming` or :func:`fill_` raises it. Nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights, same = np.empty((512, 256), np.float32), np.empty((512, 256), np.float32)
    >>> fk.he_normal_(weights, rng=42) is weights
    True
    >>> bool((fk.kaiming_normal_(same, nonlinearity="relu", rng=42) == weights).all())
    True
    """
    factory_args = ("normal", 0.0, mode, "relu", None, fan, layout, groups, transposed)
    return fill_by_shape(out, kaiming_distribution, factory_args, rng, global_shape, index, threads, "he_normal_")


def he_uniform_(
    out: Target,
    mode: str = "fan_in",
    *,
    fan: float | None = None,
    layout: str | None = None,
    groups: int = 1,
    transposed: bool = False,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill ``out`` in place from the uniform He distribution for a layer before a ReLU.

    This is :func:`kaiming_uniform_` with ``nonlinearity="relu"``: the bounds are -bound and bound = sqrt(6 / fan), as
    in ``he_uniform`` of JAX and Keras.

    Parameters
    ----------
    out : numpy.ndarray
        The weights of a layer: an array, or another object that :func:`fill_` accepts.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        The fan to use: see :func:`kaiming`.
    fan, layout, groups, transposed
        The fan, or how it is computed from the shape: see :func:`kaiming`.
    rng, global_shape, index, threads
        The random values, the shard and the number of threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        If :func:`kaiming` or :func:`fill_` raises it. Nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights, same = np.empty((512, 256), np.float32), np.empty((512, 256), np.float32)
    >>> fk.he_uniform_(weights, rng=42) is weights
    True
    >>> bool((fk.kaiming_uniform_(same, nonlinearity="relu", rng=42) == weights).all())
    True
    """
    factory_args = ("uniform", 0.0, mode, "relu", None, fan, layout, groups, transposed)
    return fill_by_shape(out, kaiming_distribution, factory_args, rng, global_shape, index, threads, "he_uniform_")


@_core.in_default_environment
def scaled_distribution(
    shape: tuple[int, ...],
    family: str,
    gain: float,
    scale: float,
    mode: str,
    fan: float | None,
    layout: str | None,
    groups: int,
    transposed: bool,
) -> Distribution | None:
    """Return the distribution with mean 0 and standard deviation gain * sqrt(scale / fan), or None if the fan is 0."""
    _validation.choice("distribution", family, FAMILIES)
    _validation.reject_text("scale", scale, {"mode={!r}": _fans.MODES, "distribution={!r}": FAMILIES})
    gain, scale = _gains.given_gain(gain), _validation.not_negative("scale", scale)
    fan = _fans.select_fan(shape, mode, fan, layout, groups, transposed)
    if not fan:
        return None
    try:
        return centered(family, gain * math.sqrt(scale / fan))
    except ValueError:
        numbers = f"gain={gain}, scale={scale} and fan={fan}"
        raise ValueError(f"gain * sqrt(scale / fan) must not overflow {family}, got {numbers}") from None
