"""The one door to the compiled core: every argument of a fill is checked here, before the first byte is written.

What comes out of the checks are plain numbers: an operation of the core, a key, and the distribution rounded to the
precision of the array.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastkaiming import _core, checks
from fastkaiming.distributions import Distribution, Normal, Uniform
from fastkaiming.generator import Rng, key_from
from fastkaiming.threads import MAX_THREADS, get_num_threads

Array = TypeVar("Array", bound=NDArray[Any])
Callback: TypeAlias = Callable[[int, int], object]

_BYTES_PER_THREAD = 2 << 20  # a thread takes some 90 us to start; this much takes 200 to 400 us to fill

_progress: ContextVar[Callback | None] = ContextVar("fastkaiming.progress", default=None)


def fill_(
    out: Array,
    distribution: Distribution,
    *,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Array:
    """Fill an array in place with independent draws from a distribution.

    Every value depends on the key that ``rng`` stands for, on its row-major index, on the distribution and on the
    dtype; not on the number of threads, the instruction set or the machine.

    Other Python threads run during a fill. What keeps the memory of ``out`` in place meanwhile is NumPy's own check of
    references, by which ``out.resize`` raises: do not resize ``out`` with ``refcheck=False``, or free behind NumPy's
    back the memory that it lies in, before the fill returns.

    Parameters
    ----------
    out : numpy.ndarray
        A writable float32 or float64 array in native byte order, C-contiguous and aligned. One without elements is left
        alone.
    distribution : Normal or Uniform
        What to draw. Its numbers are rounded to the dtype of ``out`` first; an upper end of Uniform can then be drawn.
    rng : int, Key, Generator or numpy.random.Generator, optional
        Which values to draw. An integer is a seed, a Key a seed and a stream: the same values at every call.
        A Generator gives its next stream and a numpy.random.Generator a 64-bit seed, to an ``out`` without elements
        too, but not when an argument is refused. By default the operating system gives the seed.
    global_shape, index : None
        Reserved for fills of a part of a larger tensor.
    threads : int, optional
        At most so many threads, from 1 to 1024; an array too small to share out takes fewer. By default one for every
        2 MiB of output, up to :func:`get_num_threads` of them.

    Returns
    -------
    numpy.ndarray
        ``out`` itself.

    Raises
    ------
    TypeError
        An argument of the wrong kind, or a dtype other than float32 and float64.
    ValueError
        An argument out of range, an ``out`` that is read-only, strided, unaligned or byte-swapped, or a distribution
        whose values would over- or underflow the dtype.
    NotImplementedError
        ``global_shape`` or ``index`` is given.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((256, 128), np.float32)
    >>> fk.fill_(weights, fk.Uniform(-0.5, 0.5), rng=42) is weights
    True
    """
    dtype = array(out).dtype
    _check_dtype("out", dtype)
    if not out.flags.carray:
        raise _refused_memory(out)
    if type(distribution) not in _DRAWS:
        raise TypeError(f"distribution must be a Normal or a Uniform, not {checks.shown(distribution)}")
    operation, scale, center, low, high = _draw(distribution, dtype)
    if global_shape is not None or index is not None:
        raise NotImplementedError("global_shape and index must be None: sharded fills are not supported yet")
    threads = _threads(threads, out.nbytes)
    key = key_from(rng)
    if out.size:
        callback = _progress.get()
        _core.fill(out, operation, key.seed, key.stream, 0, scale, center, low, high, threads, callback)
    return out


def empty(shape: int | Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """Return a new array for a fill, its values not set."""
    if dtype is None:
        raise TypeError("dtype must be float32 or float64, not None")
    try:
        numpy_dtype = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype must be float32 or float64, not {checks.shown(dtype)}") from None
    _check_dtype("dtype", numpy_dtype)
    sizes = checks.shape("shape", shape)
    try:
        return np.empty(sizes, numpy_dtype)
    except ValueError:
        raise ValueError(f"shape must be within NumPy's limits for an array of {numpy_dtype}, got {sizes}") from None


@contextmanager
def progress(callback: Callback) -> Iterator[None]:
    """Report the progress of every fill inside the ``with`` block.

    Parameters
    ----------
    callback : callable
        Called as ``callback(done, total)``, in elements, on the thread that called the fill: about every 50 ms, and
        with ``done == total`` as the fill ends, however short it was; a fill of no elements reports nothing. If it
        raises, the fill is cancelled, the array left partly written, and the exception comes out of the fill.
        Fills that the callback itself makes are not reported.

    Raises
    ------
    TypeError
        ``callback`` cannot be called.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> with fk.progress(print):
    ...     weights = fk.kaiming_normal((300, 200), rng=42)
    60000 60000
    """
    if not callable(callback):
        raise TypeError(f"callback must be callable, not {checks.shown(callback)}")

    def report(done: int, total: int) -> None:
        with _calling_back(None):  # not about the fills that the callback makes, without end
            callback(done, total)

    with _calling_back(report):
        yield


@contextmanager
def _calling_back(callback: Callback | None) -> Iterator[None]:
    token = _progress.set(callback)
    try:
        yield
    finally:
        _progress.reset(token)


def array(out: Array) -> Array:
    """Return ``out`` if it is an array at all."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a numpy.ndarray, not {checks.shown(out)}")
    return out


def _check_dtype(name: str, dtype: np.dtype[Any]) -> None:
    if dtype in _FLOATS:
        return
    if dtype.kind == "f" and dtype.newbyteorder("=") in _FLOATS:
        raise ValueError(f"{name} must be in native byte order, got {dtype.str!r}")
    raise TypeError(f"{name} must be float32 or float64, not {dtype}")


def _refused_memory(out: NDArray[Any]) -> ValueError:
    """Say what is wrong with the memory of an array."""
    if not out.flags.writeable:
        return ValueError(f"out must be writable, got a read-only array of shape {out.shape}")
    if not out.flags.c_contiguous:
        return ValueError(f"out must be C-contiguous, got strides {out.strides} for shape {out.shape}")
    return ValueError(f"out must be aligned to {out.itemsize} bytes, got address {out.ctypes.data:#x}")


def _threads(threads: int | None, nbytes: int) -> int:
    """Return the most threads for a fill; one that fits one thread asks the system nothing."""
    if threads is not None:
        return checks.integer("threads", threads, 1, MAX_THREADS, "an integer or None")
    shares = nbytes // _BYTES_PER_THREAD
    return min(shares, get_num_threads()) if shares > 1 else 1


class _Draw(NamedTuple):
    """An operation of the core, and the numbers that it takes in the precision of the array."""

    operation: int
    scale: float
    center: float
    low: float = 0.0
    high: float = 0.0


@lru_cache(maxsize=1024)
@_core.in_default_environment
def _draw(distribution: Distribution, dtype: np.dtype[Any]) -> _Draw:
    return _DRAWS[type(distribution)](distribution, dtype)


def _normal_draw(normal: Normal, dtype: np.dtype[Any]) -> _Draw:
    mean = _rounded("mean", normal.mean, dtype)
    std = _rounded("std", normal.std, dtype)
    if abs(mean) + _MOST_SIGMAS * std > float(np.finfo(dtype).max):
        raise ValueError(f"abs(mean) + {_MOST_SIGMAS} * std must not overflow {dtype}, got {normal}")
    if normal.std:
        _check_underflow("std", std, dtype, normal)
    return _Draw(_OPERATIONS[Normal, dtype], std, mean)


def _uniform_draw(uniform: Uniform, dtype: np.dtype[Any]) -> _Draw:
    low = _rounded("low", uniform.low, dtype)
    high = _rounded("high", uniform.high, dtype)
    scale = float(dtype.type(high / 2 - low / 2))
    center = low if low == high else float(dtype.type(low / 2 + high / 2))
    if uniform.low != uniform.high:
        _check_underflow("(high - low) / 2", scale, dtype, uniform)
    return _Draw(_OPERATIONS[Uniform, dtype], scale, center, low, high)


def _rounded(name: str, value: float, dtype: np.dtype[Any]) -> float:
    with np.errstate(over="ignore"):
        rounded = float(dtype.type(value))
    if math.isinf(rounded):
        raise ValueError(f"{name} must not overflow {dtype}, got {value}")
    return rounded + 0.0  # of -0.0 that makes 0.0, as the stream has it


def _check_underflow(name: str, scale: float, dtype: np.dtype[Any], distribution: Distribution) -> None:
    """Refuse a scale by which the smallest uniform draw, half an epsilon, would come out subnormal and lose bits."""
    limits = np.finfo(dtype)
    least = float(limits.smallest_normal / (limits.eps / 2))
    if scale < least:
        raise ValueError(f"{name} must be 0 or at least {least} not to underflow {dtype}, got {distribution}")


_MOST_SIGMAS = 9.5  # no double precision draw is farther out: sqrt(-2 ln(2**-65)) = 9.493
_DRAWS: Mapping[type, Callable[[Any, np.dtype[Any]], _Draw]] = {Normal: _normal_draw, Uniform: _uniform_draw}
_OPERATIONS: Mapping[tuple[type, np.dtype[Any]], int] = {
    (Normal, np.dtype(np.float32)): _core.NORMAL_F32,
    (Normal, np.dtype(np.float64)): _core.NORMAL_F64,
    (Uniform, np.dtype(np.float32)): _core.UNIFORM_F32,
    (Uniform, np.dtype(np.float64)): _core.UNIFORM_F64,
}
_FLOATS = frozenset(dtype for _, dtype in _OPERATIONS)
