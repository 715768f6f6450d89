"""How widely weights are spread: fans and gains made into a distribution for a shape.

A rule returns the distribution for a shape, or None where the fan is 0: a tensor of that shape has no elements.
"""

import math
from collections.abc import Sequence

from fastkaiming import _core, _validation
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
    """Return the Kaiming (He) distribution for weights of a shape; nothing is drawn.

    Its mean is 0 and its standard deviation gain / sqrt(fan), which keeps the variance of signals from layer to layer:
    He et al., "Delving Deep into Rectifiers", 2015 (arXiv:1502.01852), equation 10 forward (``fan_in``), equation 14
    backward (``fan_out``), equation 15 with a negative slope. The uniform one ends at -bound and bound = sqrt(3) * std.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the weights: at least two axes, unless ``fan`` is given.
    distribution : {"normal", "uniform", "truncated_normal"}
        Its family; :func:`variance_scaling_` tells what becomes of a truncated one.
    a : float, default 0.0
        The negative slope of the rectifier that follows. Only leaky_relu has one, but every call checks it. It is 0 by
        default, as in torch, where :func:`calculate_gain` has 0.01.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        Which fan: "fan_in" keeps the variance of activations, "fan_out" that of gradients, and the other two are their
        arithmetic and geometric mean.
    nonlinearity : str or callable, default "leaky_relu"
        What follows the layer: a name that :func:`calculate_gain` knows, or the function itself.
    gain : float, optional
        The gain itself, 0 or above, instead of the one of ``nonlinearity`` and ``a``.
    fan : float, optional
        The fan itself, above 0, instead of the one of ``shape``, which may then have any number of axes: ``mode``,
        ``layout``, ``groups`` and ``transposed`` must be valid in themselves, but nothing checks that the layout names
        every axis or that the groups divide one.
    layout, groups, transposed
        How the axes of ``shape`` are read: see :func:`fans`.

    Returns
    -------
    Normal, Uniform or TruncatedNormal
        The distribution.

    Raises
    ------
    TypeError
        An argument of the wrong kind.
    ValueError
        An argument out of range, fewer than two axes, or a fan of 0.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.kaiming((256, 128))
    Normal(mean=0.0, std=0.125)
    >>> fk.kaiming((4, 4, 3, 64), "uniform", nonlinearity="linear", layout="*IO")
    Uniform(low=-0.25, high=0.25)
    """
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
    """Return the distribution of standard deviation gain / sqrt(fan)."""
    _validation.choice("distribution", family, FAMILIES)
    tabled = _gains.gain_of(nonlinearity, "a", a)
    _gains.squared_slope("a", a)  # refused even where the nonlinearity has no slope
    gain = tabled if gain is None else _validation.not_negative("gain", gain)
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

    The mean is 0 and the standard deviation gain / sqrt(fan): He et al., "Delving Deep into Rectifiers", 2015
    (arXiv:1502.01852), equations 10, 14 and 15.

    Parameters
    ----------
    out : numpy.ndarray
        The weights, as :func:`fill_` takes them; at least two axes that ``layout`` and ``groups`` fit, unless ``fan``
        is given. Of a shard, it is ``global_shape`` that the fan is counted in.
    a, mode, nonlinearity, gain, fan, layout, groups, transposed
        What decides the standard deviation: see :func:`kaiming`.
    rng, global_shape, index, threads
        Which values are drawn and by how many threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        As :func:`kaiming` and :func:`fill_` do, before the first byte is written. Weights without elements are left
        alone, even where a fan is 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((512, 256), np.float32)
    >>> fk.kaiming_normal_(weights, mode="fan_out", nonlinearity="relu", rng=42) is weights
    True
    """
    settings = ("normal", a, mode, nonlinearity, gain, fan, layout, groups, transposed)
    return fill_by_shape(out, kaiming_distribution, settings, rng, global_shape, index, threads)


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

    The ends are -bound and bound = sqrt(3) * gain / sqrt(fan): He et al., "Delving Deep into Rectifiers", 2015
    (arXiv:1502.01852), equations 10, 14 and 15.

    Parameters
    ----------
    out : numpy.ndarray
        The weights, as :func:`fill_` takes them; at least two axes that ``layout`` and ``groups`` fit, unless ``fan``
        is given. Of a shard, it is ``global_shape`` that the fan is counted in.
    a, mode, nonlinearity, gain, fan, layout, groups, transposed
        What decides the bound: see :func:`kaiming`.
    rng, global_shape, index, threads
        Which values are drawn and by how many threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        As :func:`kaiming` and :func:`fill_` do, before the first byte is written. Weights without elements are left
        alone, even where a fan is 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((512, 256), np.float32)
    >>> fk.kaiming_uniform_(weights, a=5**0.5, rng=42) is weights  # as torch.nn.Linear does: to 1 / sqrt(256)
    True
    >>> float(abs(weights).max()) < 1 / 16
    True
    """
    settings = ("uniform", a, mode, nonlinearity, gain, fan, layout, groups, transposed)
    return fill_by_shape(out, kaiming_distribution, settings, rng, global_shape, index, threads)
