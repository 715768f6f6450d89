"""The initializers that set the variance of a layer's weights: variance scaling, and its special cases by name.

All of them take the weights of a layer, and count its fan as the ``kaiming`` ones do: ``layout``, ``groups`` and
``transposed`` say how their axes are read (:func:`fans`), and ``fan`` is the fan itself, instead.
"""

import math
from collections.abc import Sequence

from fastkaiming import _core, _validation
from fastkaiming._fill.buffers import Target
from fastkaiming._fill.fill import fill_by_shape
from fastkaiming.distributions import Distribution
from fastkaiming.distributions._families import FAMILIES, centered
from fastkaiming.initializers import _fans
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
    """Fill ``out`` in place so that the variance of the values is scale / fan.

    This is :func:`jax.nn.initializers.variance_scaling` and Keras' ``VarianceScaling``, whose special cases by name are
    LeCun's, Glorot's and He's initializers. The mean is 0 and std = sqrt(scale / fan), in each of the distributions:

    - "truncated_normal": a normal distribution of standard deviation s = std / 0.87962566103423978, cut off at -2 s and
      2 s, which leaves std. The constant is the standard deviation of N(0, 1) between -2 and 2.
    - "normal": not cut off, as in JAX. Keras says "untruncated_normal" for it, which is known here too, and takes
      "normal" for a truncated one.
    - "uniform": from -sqrt(3) std to sqrt(3) std.

    Parameters
    ----------
    out : numpy.ndarray
        The weights of a layer, as :func:`fill_` takes them.
    scale : float, default 1.0
        What the variance is, times the fan; 0 or above.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        Which fan.
    distribution : {"truncated_normal", "normal", "untruncated_normal", "uniform"}
        What is drawn.
    fan, layout, groups, transposed
        How the fan is counted, or what it is: see :func:`kaiming`.
    rng, global_shape, index, threads
        Which values are drawn and by how many threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        As :func:`kaiming` and :func:`fill_` do, before the first byte is written.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> kernel = np.empty((3, 3, 16, 32), np.float32)  # as JAX and Keras lay it out
    >>> fk.variance_scaling_(kernel, 2.0, distribution="uniform", layout="*IO", rng=42) is kernel  # he_uniform
    True
    >>> float(abs(kernel).max()) <= (6 / (3 * 3 * 16)) ** 0.5
    True
    """
    settings = (distribution, 1.0, scale, mode, fan, layout, groups, transposed)
    return fill_by_shape(out, variance_scaling_distribution, settings, rng, global_shape, index, threads)


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

    The mean is 0 and the standard deviation is gain * sqrt(2 / (fan_in + fan_out)), not cut off, as in torch. JAX's and
    Keras' ``glorot_normal`` is: for theirs, call :func:`variance_scaling_` with ``mode="fan_avg"``. Glorot & Bengio,
    "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010, equation 12.

    Parameters
    ----------
    out : numpy.ndarray
        The weights of a layer, as :func:`fill_` takes them.
    gain : float, default 1.0
        The gain of what follows, 0 or above: see :func:`calculate_gain`.
    fan, layout, groups, transposed
        How the mean of both fans is counted, or what it is: see :func:`kaiming`.
    rng, global_shape, index, threads
        Which values are drawn and by how many threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        As :func:`kaiming` and :func:`fill_` do, before the first byte is written.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((512, 256), np.float32)
    >>> fk.xavier_normal_(weights, fk.calculate_gain("tanh"), rng=42) is weights
    True
    """
    settings = ("normal", gain, 1.0, "fan_avg", fan, layout, groups, transposed)
    return fill_by_shape(out, variance_scaling_distribution, settings, rng, global_shape, index, threads)


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

    The ends are -bound and bound = gain * sqrt(6 / (fan_in + fan_out)): torch's, and JAX's and Keras'
    ``glorot_uniform``. Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010, equation 16.

    Parameters
    ----------
    out : numpy.ndarray
        The weights of a layer, as :func:`fill_` takes them.
    gain : float, default 1.0
        The gain of what follows, 0 or above: see :func:`calculate_gain`.
    fan, layout, groups, transposed
        How the mean of both fans is counted, or what it is: see :func:`kaiming`.
    rng, global_shape, index, threads
        Which values are drawn and by how many threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        As :func:`kaiming` and :func:`fill_` do, before the first byte is written.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((512, 256), np.float32)
    >>> fk.xavier_uniform_(weights, fk.calculate_gain("tanh"), rng=42) is weights
    True
    """
    settings = ("uniform", gain, 1.0, "fan_avg", fan, layout, groups, transposed)
    return fill_by_shape(out, variance_scaling_distribution, settings, rng, global_shape, index, threads)


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
    """Fill ``out`` in place from the LeCun distribution, a truncated normal one.

    The mean is 0 and the standard deviation sqrt(1 / fan_in), after a cut at two standard deviations of the normal that
    is cut: JAX's and Keras' ``lecun_normal``, and what :func:`variance_scaling_` does by default. Not cut off, it is
    :func:`kaiming_normal_` with ``nonlinearity="linear"``. LeCun et al., "Efficient BackProp", 1998, section 4.6.

    Parameters
    ----------
    out : numpy.ndarray
        The weights of a layer, as :func:`fill_` takes them.
    fan, layout, groups, transposed
        How the fan is counted, or what it is: see :func:`kaiming`.
    rng, global_shape, index, threads
        Which values are drawn and by how many threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        As :func:`kaiming` and :func:`fill_` do, before the first byte is written.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((512, 256), np.float32)
    >>> fk.lecun_normal_(weights, rng=42) is weights
    True
    """
    settings = ("truncated_normal", 1.0, 1.0, "fan_in", fan, layout, groups, transposed)
    return fill_by_shape(out, variance_scaling_distribution, settings, rng, global_shape, index, threads)


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

    The ends are -bound and bound = sqrt(3 / fan_in): JAX's and Keras' ``lecun_uniform``. LeCun et al., "Efficient
    BackProp", 1998, section 4.6.

    Parameters
    ----------
    out : numpy.ndarray
        The weights of a layer, as :func:`fill_` takes them.
    fan, layout, groups, transposed
        How the fan is counted, or what it is: see :func:`kaiming`.
    rng, global_shape, index, threads
        Which values are drawn and by how many threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        As :func:`kaiming` and :func:`fill_` do, before the first byte is written.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((512, 256), np.float32)
    >>> fk.lecun_uniform_(weights, rng=42) is weights
    True
    """
    settings = ("uniform", 1.0, 1.0, "fan_in", fan, layout, groups, transposed)
    return fill_by_shape(out, variance_scaling_distribution, settings, rng, global_shape, index, threads)


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

    It is :func:`kaiming_normal_` with ``nonlinearity="relu"``: the mean is 0 and the standard deviation sqrt(2 / fan),
    not cut off. JAX's and Keras' ``he_normal`` is: for theirs, call :func:`variance_scaling_` with ``scale=2.0``.

    Parameters
    ----------
    out : numpy.ndarray
        The weights of a layer, as :func:`fill_` takes them.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        Which fan.
    fan, layout, groups, transposed
        How the fan is counted, or what it is: see :func:`kaiming`.
    rng, global_shape, index, threads
        Which values are drawn and by how many threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        As :func:`kaiming` and :func:`fill_` do, before the first byte is written.

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
    settings = ("normal", 0.0, mode, "relu", None, fan, layout, groups, transposed)
    return fill_by_shape(out, kaiming_distribution, settings, rng, global_shape, index, threads)


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

    It is :func:`kaiming_uniform_` with ``nonlinearity="relu"``: the ends are -bound and bound = sqrt(6 / fan), as of
    JAX's and Keras' ``he_uniform``.

    Parameters
    ----------
    out : numpy.ndarray
        The weights of a layer, as :func:`fill_` takes them.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        Which fan.
    fan, layout, groups, transposed
        How the fan is counted, or what it is: see :func:`kaiming`.
    rng, global_shape, index, threads
        Which values are drawn and by how many threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        As :func:`kaiming` and :func:`fill_` do, before the first byte is written.

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
    settings = ("uniform", 0.0, mode, "relu", None, fan, layout, groups, transposed)
    return fill_by_shape(out, kaiming_distribution, settings, rng, global_shape, index, threads)


@_core.in_default_environment
def variance_scaling_distribution(
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
    """Return the distribution of standard deviation gain * sqrt(scale / fan)."""
    _validation.choice("distribution", family, FAMILIES)
    gain, scale = _validation.not_negative("gain", gain), _validation.not_negative("scale", scale)
    fan = _fans.select_fan(shape, mode, fan, layout, groups, transposed)
    if not fan:
        return None
    try:
        return centered(family, gain * math.sqrt(scale / fan))
    except ValueError:
        numbers = f"gain={gain}, scale={scale} and fan={fan}"
        raise ValueError(f"gain * sqrt(scale / fan) must not overflow {family}, got {numbers}") from None
