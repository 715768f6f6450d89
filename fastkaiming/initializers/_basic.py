"""Initializers whose distribution does not depend on the shape: uniform, normal, truncated normal and constant.

Names, argument order and defaults are those of :mod:`torch.nn.init`. The functions fill ``out`` in place and return it;
``_functional`` has variants that take ``shape`` and ``dtype`` instead and return a new array.
"""

from collections.abc import Sequence

from fastkaiming import _validation
from fastkaiming._fill.buffers import Target
from fastkaiming._fill.fill import fill
from fastkaiming.distributions import Normal, TruncatedNormal, Uniform
from fastkaiming.distributions._families import check_truncated_normal
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

    If ``low < high``, ``high`` itself is never stored, whatever the dtype, as in NumPy, PyTorch and JAX. If the bounds
    are symmetric (-b, b), neither bound is stored, so that the distribution stays symmetric. If the dtype has few
    numbers between the bounds, as may be the case for float8, the probabilities of the numbers next to a bound differ
    from those of the other numbers.

    Parameters
    ----------
    out : numpy.ndarray
        The array, or another object that :func:`fill_` accepts.
    low : float, default 0.0
        The lower bound.
    high : float, default 1.0
        The upper bound, at least ``low``. If the two are equal, every element is ``low``.
    rng, global_shape, index, threads
        The random values, the shard and the number of threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        If :class:`Uniform` or :func:`fill_` raises it. Nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> noise = fk.uniform_(np.empty(1000, np.float32), -1.0, 1.0, rng=42)
    >>> bool((abs(noise) < 1.0).all())
    True
    """
    return fill(out, Uniform, (low, high), rng, global_shape, index, threads, "uniform_")


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
        The array, or another object that :func:`fill_` accepts.
    mean : float, default 0.0
        The mean.
    std : float, default 1.0
        The standard deviation, at least 0.
    rng, global_shape, index, threads
        The random values, the shard and the number of threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        If :class:`Normal` or :func:`fill_` raises it. Nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> noise = fk.normal_(np.empty(1000, np.float32), std=0.02, rng=42)
    >>> bool((noise == fk.normal(1000, std=0.02, rng=42)).all())  # the same seed, the same values
    True
    """
    return fill(out, Normal, (mean, std), rng, global_shape, index, threads, "normal_")


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
    """Fill ``out`` in place from a normal distribution that is truncated at two bounds.

    As in torch, the bounds are values and not multiples of ``std``: with ``std=0.02``, the default bounds have no
    effect.

    Parameters
    ----------
    out : numpy.ndarray
        The array, or another object that :func:`fill_` accepts.
    mean : float, default 0.0
        The mean before the truncation.
    std : float, default 1.0
        The standard deviation before the truncation, at least 0; that of the values is smaller.
    a : float, default -2.0
        The lower bound of the values.
    b : float, default 2.0
        The upper bound of the values, greater than ``a``.
    rng, global_shape, index, threads
        The random values, the shard and the number of threads: see :func:`fill_`.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        If :class:`TruncatedNormal` or :func:`fill_` raises it. Nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> embeddings = fk.trunc_normal_(np.empty((1000, 64), np.float32), std=0.02, a=-0.04, b=0.04, rng=42)
    >>> float(abs(embeddings).max()) <= float(np.float32(0.04))
    True
    """
    return fill(out, _truncated_normal, (mean, std, a, b), rng, global_shape, index, threads, "trunc_normal_")


def _truncated_normal(mean: float, std: float, a: float, b: float) -> TruncatedNormal:
    return TruncatedNormal(*check_truncated_normal(("mean", "std", "a", "b"), mean, std, a, b))


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
        The array, or another object that :func:`fill_` accepts.
    val : float
        The value, rounded to the dtype of ``out``.
    rng, global_shape, index, threads
        As in :func:`fill_`, so that a constant can replace a random initializer; ``rng`` has no effect on the values.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError, ValueError
        If :func:`fill_` raises it. Nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> fk.constant_(np.empty(3, np.float32), 0.5)
    array([0.5, 0.5, 0.5], dtype=float32)
    """
    return fill(out, _constant, (val,), rng, global_shape, index, threads, "constant_")


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
        If :func:`fill_` raises it. Nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> fk.zeros_(np.empty(3, np.float32))
    array([0., 0., 0.], dtype=float32)
    """
    return fill(out, _constant, (0.0,), rng, global_shape, index, threads, "zeros_")


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
        If :func:`fill_` raises it. Nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> fk.ones_(np.empty(3, np.float32))
    array([1., 1., 1.], dtype=float32)
    """
    return fill(out, _constant, (1.0,), rng, global_shape, index, threads, "ones_")
