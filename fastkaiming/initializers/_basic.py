"""The initializers by name: plain ones, of explicit numbers, and Kaiming's; each leaves the filling to :func:`fill_`.

Names, order and defaults are those of :mod:`torch.nn.init`. A name that ends in an underscore fills ``out`` in place
and returns it; its twin without one takes ``shape, dtype`` instead and returns a new array.
"""

from collections.abc import Sequence

from fastkaiming import _validation
from fastkaiming._fill.buffers import Target
from fastkaiming._fill.fill import fill
from fastkaiming.distributions import Normal, TruncatedNormal, Uniform
from fastkaiming.distributions._families import truncated_normal_numbers
from fastkaiming.rng import Rng


def uniform_(
    out: Target,
    low: float = 0.0,
    high: float = 1.0,
    *,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill ``out`` in place from the uniform distribution on the half-open interval [``low``, ``high``).

    As in NumPy, PyTorch and JAX, ``high`` itself is never stored where ``low < high``, whatever the dtype. For
    symmetric bounds (-b, b) neither bound is stored, so that the distribution stays symmetric. Where only few numbers
    of the dtype lie between the bounds, as in float8, those next to a bound take a different share than the others.

    Parameters
    ----------
    out : numpy.ndarray
        The array, as :func:`fill_` takes it.
    low : float, default 0.0
        The lower bound.
    high : float, default 1.0
        The upper bound, not below ``low``. Where the two are equal, every element is ``low``.
    rng, global_shape, index, threads
        Which values are drawn and by how many threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        As :class:`Uniform` and :func:`fill_` do, before the first byte is written.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> noise = fk.uniform_(np.empty(1000, np.float32), -1.0, 1.0, rng=42)
    >>> bool((abs(noise) < 1.0).all())
    True
    """
    return fill(out, Uniform, (low, high), rng, global_shape, index, threads)


def normal_(
    out: Target,
    mean: float = 0.0,
    std: float = 1.0,
    *,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
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
    TypeError, ValueError
        As :class:`Normal` and :func:`fill_` do, before the first byte is written.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> noise = fk.normal_(np.empty(1000, np.float32), std=0.02, rng=42)
    >>> bool((noise == fk.normal(1000, std=0.02, rng=42)).all())  # the same seed, the same values
    True
    """
    return fill(out, Normal, (mean, std), rng, global_shape, index, threads)


def trunc_normal_(
    out: Target,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    *,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill ``out`` in place from a normal distribution that is cut off at two bounds.

    As in torch, the bounds are values and no multiples of ``std``: with ``std=0.02``, the default ones cut nothing off.

    Parameters
    ----------
    out : numpy.ndarray
        The array, as :func:`fill_` takes it.
    mean : float, default 0.0
        The mean before the cut.
    std : float, default 1.0
        The standard deviation before the cut, 0 or above; that of the values is below it.
    a : float, default -2.0
        The lower bound, which no value is below.
    b : float, default 2.0
        The upper bound, which no value is above; above ``a``.
    rng, global_shape, index, threads
        Which values are drawn and by how many threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        As :class:`TruncatedNormal` and :func:`fill_` do, before the first byte is written.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> embeddings = fk.trunc_normal_(np.empty((1000, 64), np.float32), std=0.02, a=-0.04, b=0.04, rng=42)
    >>> float(abs(embeddings).max()) <= float(np.float32(0.04))
    True
    """
    return fill(out, _truncated_normal, (mean, std, a, b), rng, global_shape, index, threads)


def _truncated_normal(mean: float, std: float, a: float, b: float) -> TruncatedNormal:
    return TruncatedNormal(*truncated_normal_numbers(("mean", "std", "a", "b"), mean, std, a, b))


def constant_(
    out: Target,
    val: float,
    *,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill ``out`` in place with one value.

    Parameters
    ----------
    out : numpy.ndarray
        The array, as :func:`fill_` takes it.
    val : float
        The value, rounded to the dtype of ``out``.
    rng, global_shape, index, threads
        As in :func:`fill_`, so that a constant can stand where a random initializer does; ``rng`` decides nothing.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        As :func:`fill_` does, before the first byte is written.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> fk.constant_(np.empty(3, np.float32), 0.5)
    array([0.5, 0.5, 0.5], dtype=float32)
    """
    return fill(out, _constant, (val,), rng, global_shape, index, threads)


def _constant(val: float) -> Uniform:
    value = _validation.finite("val", val)
    return Uniform(value, value)


def zeros_(
    out: Target,
    *,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill ``out`` in place with zeros.

    Parameters
    ----------
    out, rng, global_shape, index, threads
        As in :func:`constant_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        As :func:`fill_` does, before the first byte is written.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> fk.zeros_(np.empty(3, np.float32))
    array([0., 0., 0.], dtype=float32)
    """
    return fill(out, _constant, (0.0,), rng, global_shape, index, threads)


def ones_(
    out: Target,
    *,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill ``out`` in place with ones.

    Parameters
    ----------
    out, rng, global_shape, index, threads
        As in :func:`constant_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        As :func:`fill_` does, before the first byte is written.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> fk.ones_(np.empty(3, np.float32))
    array([1., 1., 1.], dtype=float32)
    """
    return fill(out, _constant, (1.0,), rng, global_shape, index, threads)
