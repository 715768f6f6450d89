"""The initializers by name: each turns its arguments into a distribution and leaves the filling to :func:`fill_`.

Names, order and defaults are those of :mod:`torch.nn.init`. A name that ends in an underscore fills ``out`` in place
and returns it; its twin without one takes ``shape, dtype`` instead and returns a new array.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from inspect import Signature, signature
from typing import Any, Concatenate, ParamSpec, Protocol, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastkaiming import _core, checks, scaling
from fastkaiming.distributions import FAMILIES, Distribution, Normal, Uniform, centered
from fastkaiming.filling import Array, array, empty, fill_
from fastkaiming.generator import Rng
from fastkaiming.scaling import Nonlinearity

P = ParamSpec("P")


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
    distribution : {"normal", "uniform"}
        Its family.
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
    Normal or Uniform
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
    shape = checks.shape("shape", shape)
    chosen = _kaiming(shape, distribution, a, mode, nonlinearity, gain, fan, layout, groups, transposed)
    if chosen is None:
        raise ValueError(f"{mode} must not be 0, got shape {shape}")
    return chosen


def uniform_(
    out: Array,
    low: float = 0.0,
    high: float = 1.0,
    *,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Array:
    """Fill ``out`` in place from the uniform distribution from ``low`` to ``high``.

    Parameters
    ----------
    out : numpy.ndarray
        The array, as :func:`fill_` takes it.
    low : float, default 0.0
        The lower end.
    high : float, default 1.0
        The upper end, not below ``low``. Rounding can reach it: in float32, the uniform from 0 to 1 takes the value 1
        with probability 2**-24, and never 0.
    rng, global_shape, index, threads
        Which values are drawn and by how many threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As :class:`Uniform` and :func:`fill_` do, before the first byte is written.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> noise = fk.uniform_(np.empty(1000, np.float32), -1.0, 1.0, rng=42)
    >>> bool((abs(noise) <= 1.0).all())
    True
    """
    return fill_(out, Uniform(low, high), rng=rng, global_shape=global_shape, index=index, threads=threads)


def normal_(
    out: Array,
    mean: float = 0.0,
    std: float = 1.0,
    *,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Array:
    """Fill ``out`` in place from the normal distribution.

    Parameters
    ----------
    out : numpy.ndarray
        The array, as :func:`fill_` takes it.
    mean : float, default 0.0
        The mean.
    std : float, default 1.0
        The standard deviation, 0 or above.
    rng, global_shape, index, threads
        Which values are drawn and by how many threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As :class:`Normal` and :func:`fill_` do, before the first byte is written.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> noise = fk.normal_(np.empty(1000, np.float32), std=0.02, rng=42)
    >>> bool((noise == fk.normal(1000, std=0.02, rng=42)).all())  # the same seed, the same values
    True
    """
    return fill_(out, Normal(mean, std), rng=rng, global_shape=global_shape, index=index, threads=threads)


def kaiming_normal_(
    out: Array,
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
) -> Array:
    """Fill ``out`` in place from the normal Kaiming (He) distribution.

    The mean is 0 and the standard deviation gain / sqrt(fan): He et al., "Delving Deep into Rectifiers", 2015
    (arXiv:1502.01852), equations 10, 14 and 15.

    Parameters
    ----------
    out : numpy.ndarray
        The weights, as :func:`fill_` takes them; at least two axes that ``layout`` and ``groups`` fit, unless ``fan``
        is given.
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
    TypeError, ValueError, NotImplementedError
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
    chosen = _kaiming_of(out, "normal", a, mode, nonlinearity, gain, fan, layout, groups, transposed)
    return fill_(out, chosen, rng=rng, global_shape=global_shape, index=index, threads=threads)


def kaiming_uniform_(
    out: Array,
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
) -> Array:
    """Fill ``out`` in place from the uniform Kaiming (He) distribution.

    The ends are -bound and bound = sqrt(3) * gain / sqrt(fan): He et al., "Delving Deep into Rectifiers", 2015
    (arXiv:1502.01852), equations 10, 14 and 15.

    Parameters
    ----------
    out : numpy.ndarray
        The weights, as :func:`fill_` takes them; at least two axes that ``layout`` and ``groups`` fit, unless ``fan``
        is given.
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
    TypeError, ValueError, NotImplementedError
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
    chosen = _kaiming_of(out, "uniform", a, mode, nonlinearity, gain, fan, layout, groups, transposed)
    return fill_(out, chosen, rng=rng, global_shape=global_shape, index=index, threads=threads)


class Twin(Protocol[P]):
    """The type of an in-place initializer's functional twin: the same arguments after another beginning."""

    def __call__(
        self, shape: int | Sequence[int], dtype: DTypeLike = np.float32, *args: P.args, **kwargs: P.kwargs
    ) -> NDArray[Any]:
        """Return a new array."""


def _twin(in_place: Callable[Concatenate[Any, P], Any]) -> Twin[P]:
    """Make the functional twin of an in-place initializer, signature and documentation included."""

    def twin(
        shape: int | Sequence[int], dtype: DTypeLike = np.float32, *args: P.args, **kwargs: P.kwargs
    ) -> NDArray[Any]:
        return cast("NDArray[Any]", in_place(empty(shape, dtype), *args, **kwargs))

    name = in_place.__name__.removesuffix("_")
    beginning = list(signature(twin).parameters.values())[:2]
    the_same = list(signature(in_place).parameters.values())[1:]
    twin.__name__ = twin.__qualname__ = name
    twin.__signature__ = Signature([*beginning, *the_same], return_annotation=NDArray[Any])  # type: ignore[attr-defined]
    twin.__doc__ = f"""Return a new array, filled by :func:`{name}_`.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the array.
    dtype : data type, default numpy.float32
        float32 or float64.
    {", ".join(parameter.name for parameter in the_same)}
        As in :func:`{name}_`.

    Returns
    -------
    numpy.ndarray
        The array.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As :func:`{name}_` does.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.{name}((3, 4), rng=42).shape
    (3, 4)
    """
    return twin


uniform = _twin(uniform_)
normal = _twin(normal_)
kaiming_normal = _twin(kaiming_normal_)
kaiming_uniform = _twin(kaiming_uniform_)


@_core.in_default_environment
def _kaiming(
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
    """Return the Kaiming distribution, or None where the fan is 0: a tensor of that shape has no elements."""
    checks.choice("distribution", family, FAMILIES)
    tabled = scaling.gain_of(nonlinearity, "a", a)
    scaling.squared_slope("a", a)  # refused even where the nonlinearity has no slope
    gain = tabled if gain is None else checks.not_negative("gain", gain)
    fan = scaling.select_fan(shape, mode, fan, layout, groups, transposed)
    if not fan:
        return None
    try:
        return centered(family, gain / math.sqrt(fan))
    except ValueError:
        raise ValueError(f"gain / sqrt(fan) must not overflow {family}, got gain={gain} and fan={fan}") from None


@lru_cache(maxsize=1024, typed=True)  # typed: True must be refused where 1 is known
def _remembered_kaiming(*arguments: Any) -> Distribution | None:
    if any(map(callable, arguments)):
        raise TypeError("a callable may answer otherwise at the next call")  # and what raises is not remembered
    return _kaiming(*arguments)


def _kaiming_of(out: NDArray[Any], *arguments: Any) -> Distribution:
    """Return the Kaiming distribution for an array; where a fan is 0 there is nothing to draw, and any will do."""
    shape = array(out).shape
    try:
        return _remembered_kaiming(shape, *arguments) or _NOTHING
    except TypeError:
        pass  # what cannot be hashed is refused below, by name; a callable is asked anew
    return _kaiming(shape, *arguments) or _NOTHING


_NOTHING = Normal(0.0, 0.0)
