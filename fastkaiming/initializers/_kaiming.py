"""Kaiming (He) initialization: the distribution for a shape, and the initializers.

A function that computes a distribution returns None if the fan is 0, because such a tensor has no elements.
"""

import math
from collections.abc import Sequence

from fastkaiming import _core, _validation
from fastkaiming._errors import named
from fastkaiming._fill.buffers import Target
from fastkaiming._fill.fill import fill_by_shape
from fastkaiming.distributions import Distribution
from fastkaiming.distributions._families import FAMILIES, centered
from fastkaiming.initializers import _fans, _gains
from fastkaiming.initializers._gains import Nonlinearity
from fastkaiming.rng import Rng


def kaiming(
    shape: int | Sequence[int],
    distribution: str = "normal",
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    *,
    gain: float | None = None,
    fan: float | None = None,
    layout: str | None = None,
    groups: int = 1,
    transposed: bool = False,
) -> Distribution:
    """Return the Kaiming (He) distribution for weights of a shape, without sampling.

    Its mean is 0 and its standard deviation is gain / sqrt(fan), which preserves the variance of signals from layer to
    layer: He et al., "Delving Deep into Rectifiers", 2015 (arXiv:1502.01852), equation 10 for the forward pass
    (``fan_in``), equation 14 for the backward pass (``fan_out``), and equation 15 with a negative slope. The bounds of
    the uniform distribution are -bound and bound = sqrt(3) * std.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the weights, with at least two axes unless ``fan`` is given.
    distribution : {"normal", "uniform", "truncated_normal"}
        The family of the distribution. :func:`variance_scaling_` documents the truncated normal distribution.
    a : float, default 0.0
        The negative slope of the following rectifier. Only leaky_relu uses it, but every call checks it. The default is
        0, as in torch, while the default of :func:`calculate_gain` is 0.01.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        The fan to use: "fan_in" preserves the variance of activations and "fan_out" preserves that of gradients. The
        other two are the arithmetic and the geometric mean of both fans.
    nonlinearity : str or callable, default "leaky_relu"
        The nonlinearity after the layer: a name from the table of :func:`calculate_gain`, or a function.
    gain : float, optional
        The gain, at least 0, to use instead of the gain of ``nonlinearity`` and ``a``.
    fan : float, optional
        The fan, greater than 0, to use instead of the fan of ``shape``, which may then have any number of axes.
        ``mode``, ``layout``, ``groups`` and ``transposed`` must still have valid values, but need not fit the shape.
    layout, groups, transposed
        The meaning of the axes of ``shape``: see :func:`fans`.

    Returns
    -------
    Normal, Uniform or TruncatedNormal
        The distribution.

    Raises
    ------
    TypeError
        If an argument is of the wrong type.
    ValueError
        If an argument is out of range, the shape has fewer than two axes, or the fan is 0.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.kaiming((256, 128))
    Normal(mean=0.0, std=0.125)
    >>> fk.kaiming((4, 4, 3, 64), "uniform", nonlinearity="linear", layout="*IO")
    Uniform(low=-0.25, high=0.25)
    """
    with named("kaiming"):
        shape = _validation.shape("shape", shape)
        chosen = kaiming_distribution(shape, distribution, a, mode, nonlinearity, gain, fan, layout, groups, transposed)
        if chosen is None:
            raise ValueError(f"{mode} must not be 0, got shape {shape}")
        return chosen


@_core.in_default_environment
def kaiming_distribution(
    shape: tuple[int, ...],
    family: str,
    a: float,
    mode: str,
    nonlinearity: Nonlinearity,
    gain: float | None,
    fan: float | None,
    layout: str | None,
    groups: int,
    transposed: bool,
) -> Distribution | None:
    """Return the distribution with mean 0 and standard deviation gain / sqrt(fan), or None if the fan is 0."""
    _validation.choice("distribution", family, FAMILIES)
    _gains.reject_text_as_slope(a)
    default_gain = _gains.gain_of(nonlinearity, "a", a)
    _gains.squared_slope("a", a)  # checked even if the nonlinearity has no slope
    gain = default_gain if gain is None else _gains.given_gain(gain)
    fan = _fans.select_fan(shape, mode, fan, layout, groups, transposed)
    if not fan:
        return None
    try:
        return centered(family, gain / math.sqrt(fan))
    except ValueError:
        raise ValueError(f"gain / sqrt(fan) must not overflow {family}, got gain={gain} and fan={fan}") from None


def kaiming_normal_(
    out: Target,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    *,
    gain: float | None = None,
    fan: float | None = None,
    layout: str | None = None,
    groups: int = 1,
    transposed: bool = False,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill ``out`` in place from the normal Kaiming (He) distribution.

    The mean is 0 and the standard deviation is gain / sqrt(fan): He et al., "Delving Deep into Rectifiers", 2015
    (arXiv:1502.01852), equations 10, 14 and 15.

    Parameters
    ----------
    out : numpy.ndarray
        The weights: an array, or another object that :func:`fill_` accepts. Unless ``fan`` is given, it must
        have at least two axes, and ``layout`` and ``groups`` must fit its shape. The fan of a shard is that of
        ``global_shape``.
    a, mode, nonlinearity, gain, fan, layout, groups, transposed
        The parameters of the standard deviation: see :func:`kaiming`.
    rng, global_shape, index, threads
        The random values, the shard and the number of threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        If :func:`kaiming` or :func:`fill_` raises it. Nothing is written then. Weights without elements are left
        unchanged, even if a fan is 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((512, 256), np.float32)
    >>> fk.kaiming_normal_(weights, mode="fan_out", nonlinearity="relu", rng=42) is weights
    True
    """
    factory_args = ("normal", a, mode, nonlinearity, gain, fan, layout, groups, transposed)
    return fill_by_shape(out, kaiming_distribution, factory_args, rng, global_shape, index, threads, "kaiming_normal_")


def kaiming_uniform_(
    out: Target,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    *,
    gain: float | None = None,
    fan: float | None = None,
    layout: str | None = None,
    groups: int = 1,
    transposed: bool = False,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill ``out`` in place from the uniform Kaiming (He) distribution.

    The bounds are -bound and bound = sqrt(3) * gain / sqrt(fan): He et al., "Delving Deep into Rectifiers", 2015
    (arXiv:1502.01852), equations 10, 14 and 15.

    Parameters
    ----------
    out : numpy.ndarray
        The weights: an array, or another object that :func:`fill_` accepts. Unless ``fan`` is given, it must
        have at least two axes, and ``layout`` and ``groups`` must fit its shape. The fan of a shard is that of
        ``global_shape``.
    a, mode, nonlinearity, gain, fan, layout, groups, transposed
        The parameters of the bound: see :func:`kaiming`.
    rng, global_shape, index, threads
        The random values, the shard and the number of threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        If :func:`kaiming` or :func:`fill_` raises it. Nothing is written then. Weights without elements are left
        unchanged, even if a fan is 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((512, 256), np.float32)
    >>> fk.kaiming_uniform_(weights, a=5**0.5, rng=42) is weights  # as torch.nn.Linear does: the bound is 1 / 16
    True
    >>> float(abs(weights).max()) < 1 / 16
    True
    """
    factory_args = ("uniform", a, mode, nonlinearity, gain, fan, layout, groups, transposed)
    return fill_by_shape(out, kaiming_distribution, factory_args, rng, global_shape, index, threads, "kaiming_uniform_")
