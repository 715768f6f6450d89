"""The initializers that draw nothing: one value everywhere, in any memory that :func:`fill_` takes."""

from collections.abc import Sequence

from fastkaiming import checks
from fastkaiming.distributions import Uniform
from fastkaiming.filling import fill
from fastkaiming.generator import Rng
from fastkaiming.targets import Target


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
    value = checks.finite("val", val)
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
