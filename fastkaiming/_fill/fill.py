"""The Python side of every fill: all arguments are checked before the first byte is written.

The checks produce a plan for the core: the memory, a key, and the parameters of a kernel. The core caches these
parameters by rule, settings and dtype, and calls the functions of this module only for the first of several equal fills
and for unusual arguments.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastkaiming import _core, _validation
from fastkaiming._fill import buffers, dtypes, shards
from fastkaiming._fill.buffers import Target
from fastkaiming._fill.kernel_params import kernel_params
from fastkaiming._system.threads import MAX_THREADS, get_num_threads
from fastkaiming.distributions import Distribution, Normal, TruncatedNormal, Uniform
from fastkaiming.rng import Key, Rng, key_from

Callback: TypeAlias = Callable[[int, int], object]
Rule: TypeAlias = Callable[..., Distribution | None]

_BYTES_PER_THREAD = 2 << 20  # takes 200 to 400 us to fill, while a thread takes about 90 us to start
_EMPTY_DISTRIBUTION = Normal(0.0, 0.0)  # used for an array without elements whose fan is 0
_PARAMETERS_OF: Mapping[type, Callable[[Any], tuple[float, ...]]] = {
    Normal: attrgetter("mean", "std"),
    Uniform: attrgetter("low", "high"),
    TruncatedNormal: attrgetter("loc", "scale", "low", "high"),
}


class Mode(NamedTuple):
    """How fills within a ``with`` block report their progress, and whether they run at once."""

    progress: Callback | None = None
    deferred: list[_core.Plan] | None = None  # the plans of fills that do not run at once


_mode: ContextVar[Mode | None] = ContextVar("fastkaiming.mode", default=None)


def fill_(
    out: Target,
    distribution: Distribution,
    *,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill an array in place with independent samples from a distribution.

    Every value depends on the key given by ``rng``, on the row-major index of the element, on the distribution and on
    the dtype. It does not depend on the number of threads, the instruction set or the machine.

    Other Python threads can run during a fill. The memory of ``out`` stays in place because ``out.resize`` checks for
    references and raises ValueError. Until the fill returns, do not resize ``out`` with ``refcheck=False``, and do not
    free its memory by other means.

    If ``out`` is a memory-mapped file that was truncated or whose disk is full, the fill raises OSError on Linux 5.14
    and later, and leaves ``out`` partly written. Memory is checked in units of up to 2 MiB, each just before it is
    filled. In the following cases, the error is not detected, and the operating system terminates the process with
    SIGBUS. On other systems, this happens in all cases:

    - ``out`` takes less than 1 MiB, or its elements take less than half of the memory that they are spread over;
    - the file is truncated while a unit is being filled;
    - the disk is full, and the page has been read before.

    If ``out`` takes 4 MiB or more of memory that was not touched before, the fill requests huge pages from Linux
    (MADV_HUGEPAGE), even if MADV_NOHUGEPAGE was set before. To avoid huge pages, disable them for the process by
    ``prctl(PR_SET_THP_DISABLE)``.

    Parameters
    ----------
    out : numpy.ndarray or buffer or DLPack object
        A NumPy array, or another object with writable memory: one that supports the buffer protocol (memoryview,
        array.array), or one that exports CPU memory by DLPack (a torch tensor). Its dtype is float32, float64, float16,
        bfloat16, float8_e4m3fn or float8_e5m2; ml_dtypes defines the last three. The values of the dtypes narrower than
        float32 are float32 values, rounded to nearest within the bounds of the distribution. The values of the two
        float8 dtypes are provisional and may change before fastkaiming 1.0. Strides, alignment and byte order are
        arbitrary, because a value depends on the index of the element in ``out`` and not on its address. An array
        without elements is left unchanged.
    distribution : Normal, Uniform or TruncatedNormal
        The distribution of the values. Its parameters are first rounded to the precision of ``out``, or to float32 for
        the narrower dtypes. No value lies outside of the rounded bounds. Values can equal a bound of TruncatedNormal
        and the lower bound of Uniform. They cannot equal the upper bound of Uniform, nor its lower bound if the bounds
        are symmetric (-b, b).
    rng : int, Key, Generator or numpy.random.Generator, optional
        The source of randomness. An integer is a seed; a Key is a seed and a stream; either gives the same values at
        every call. Use each key for one array only: arrays that are filled from the same key are correlated, even if
        their distributions differ. A call with a Generator takes its next stream, and a call with a
        numpy.random.Generator takes a 64-bit seed from it, even if ``out`` has no elements. A call that raises
        TypeError or ValueError does not advance the generator. By default the seed comes from the operating system's
        entropy.
    global_shape : sequence of int, optional
        The shape of the global tensor, if ``out`` is a shard of one.
    index : sequence of slice, optional
        The position of the shard: ``out`` gets the values of ``global_tensor[index]``. There is one slice for each
        axis, with any step. See :func:`shard_slices`.
    threads : int, optional
        The maximum number of threads, from 1 to 1024; small arrays use fewer. By default, one thread is used for every
        2 MiB of output, up to :func:`get_num_threads`.

    Returns
    -------
    object
        ``out`` itself.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or the dtype of ``out`` is not supported.
    ValueError
        If an argument is out of range; if ``out`` is read-only, overlaps itself or does not have the shape that
        ``index`` selects; or if the values of the distribution would overflow or underflow the dtype.
    OSError
        If the memory of ``out`` cannot be written, because it is a mapped file that was truncated or whose disk is
        full.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((256, 128), np.float32)
    >>> fk.fill_(weights, fk.Uniform(-0.5, 0.5), rng=42) is weights
    True
    """
    rule, settings = _rule_and_settings(distribution)
    return fill(out, rule, settings, rng, global_shape, index, threads)


@contextmanager
def deferred_fills(threads: int | None) -> Iterator[None]:
    """Run the fills of the ``with`` block at its end, all in one parallel region.

    If the block raises an exception, none of them runs.
    """
    if threads is not None:
        _validation.integer("threads", threads, 1, MAX_THREADS, "an integer or None")
    plans: list[_core.Plan] = []
    with _set_mode(deferred=plans):
        yield
    if any(plan.sampled_bytes for plan in plans):
        _core.fill_all(plans, _thread_count(threads, sum(plan.sampled_bytes for plan in plans)), _get_mode().progress)


def distribution_of(initializer: Callable[..., object], empty_part: NDArray[Any], **shard: Any) -> Distribution:
    """Return the distribution of an initializer, by a deferred fill of a part of the tensor that has no elements."""
    plans: list[_core.Plan] = []
    with _set_mode(deferred=plans):
        initializer(empty_part, **shard)
    distribution: Distribution = plans[-1].template.distribution
    return distribution


@contextmanager
def combined_progress(total: int) -> Iterator[None]:
    """Report the progress of all fills of the ``with`` block as that of a single fill of ``total`` elements.

    If the callback forks, the child raises RuntimeError, because threads that work concurrently with these fills, such
    as the writer of a checkpoint, do not exist in the child.
    """
    callback = _get_mode().progress
    process = os.getpid()
    before = 0

    def report(done: int, fill_total: int) -> None:
        nonlocal before
        if callback is not None:
            callback(min(before + done, total), total)
            if os.getpid() != process:
                raise RuntimeError(
                    "a child forked in a progress callback cannot continue this work, but its parent does"
                )
        if done == fill_total:
            before += done

    with _set_mode(progress=None if callback is None else report):
        yield


def report_filled(elements: int) -> None:
    """Report the end of a fill of ``elements`` elements that ran on another thread."""
    callback = _get_mode().progress
    if callback is not None and elements:
        callback(elements, elements)


def empty(shape: int | Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """Return a new array of a supported dtype, with uninitialized values."""
    checked = dtypes.check_dtype("dtype", dtype)
    sizes = _validation.shape("shape", shape)
    try:
        return np.empty(sizes, checked)
    except ValueError:
        raise ValueError(f"shape must be within NumPy's limits for an array of {checked}, got {sizes}") from None


@contextmanager
def progress(callback: Callback) -> Iterator[None]:
    """Report the progress of every fill inside the ``with`` block.

    Parameters
    ----------
    callback : callable
        Called as ``callback(done, total)``, in elements, on the thread that called the fill. It is called about every
        50 ms, and with ``done == total`` at the end of every fill that has elements, however short. If it raises an
        exception, the fill is cancelled, the array is left partly written, and the fill raises that exception.
        If it forks (``os.fork``), the fill continues in both processes, and each fills the whole array. The child has
        no other threads, so it fills the array from its beginning on one thread, and ``done`` may start from 0 again.
        The same holds for a signal handler that forks during a fill. If several fills are reported as one, as for a
        checkpoint, the work continues in the parent only, and the child raises RuntimeError.
        Fills that the callback itself starts are not reported.

    Returns
    -------
    context manager
        For a ``with`` block. Only fills of the thread or asynchronous task that runs the block are reported.

    Raises
    ------
    TypeError
        If ``callback`` is not callable.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> with fk.progress(print):
    ...     weights = fk.kaiming_normal((300, 200), rng=42)
    60000 60000
    """
    if not callable(callback):
        raise TypeError(f"callback must be callable, not {_validation.describe(callback)}")

    def report(done: int, total: int) -> None:
        with _set_mode(progress=None):  # otherwise, fills that the callback starts would call it again
            callback(done, total)

    with _set_mode(progress=report):
        yield


def _get_mode() -> Mode:
    return _mode.get() or Mode()


@contextmanager
def _set_mode(**changes: Any) -> Iterator[None]:
    token = _mode.set(_get_mode()._replace(**changes))
    try:
        yield
    finally:
        _mode.reset(token)


def _rule_and_settings(distribution: Distribution) -> tuple[Rule, tuple[Any, ...]]:
    """Return the class of a distribution and its parameters, by which the core caches the template of a fill."""
    parameters_of = _PARAMETERS_OF.get(type(distribution))
    if parameters_of is None:
        return _identity, (distribution,)  # kernel_params() raises TypeError for it, after the other checks
    return type(distribution), parameters_of(distribution)


def _identity(distribution: Distribution) -> Distribution:
    return distribution


def _prepare(
    out: Target, rule: Rule, settings: tuple[Any, ...], by_shape: bool, global_shape: Any
) -> tuple[NDArray[Any], _core.Template]:
    """Check the rule, the settings and the memory of a fill; return the memory and a template for the core.

    A rule that depends on the shape returns None if a fan is 0.
    """
    if by_shape:
        settings = (buffers.array(out).shape if global_shape is None else _check_global_shape(global_shape), *settings)
    distribution: Any = rule(*settings)
    if distribution is None and by_shape:
        distribution = _EMPTY_DISTRIBUTION
    memory = buffers.array(out)
    storage = buffers.format_of(memory)
    buffers.check_memory(memory)
    return memory, template(distribution, memory.dtype, storage)


def template(distribution: Distribution, dtype: np.dtype[Any], storage: dtypes.Format) -> _core.Template:
    """Return the core's template of a distribution for elements of a dtype."""
    return _core.Template(distribution, *kernel_params(distribution, storage), not dtype.isnative)


def _check_global_shape(global_shape: Any) -> tuple[int, ...]:
    return _validation.shape("global_shape", global_shape)


def _thread_count(threads: int | None, nbytes: int) -> int:
    """Return the maximum number of threads for a fill of ``nbytes`` bytes.

    A small fill uses one thread, and then the usable CPUs are not queried.
    """
    if threads is not None:
        return _validation.integer("threads", threads, 1, MAX_THREADS, "an integer or None")
    shares = nbytes // _BYTES_PER_THREAD
    return min(shares, get_num_threads()) if shares > 1 else 1


def entry(
    prepare: Callable[..., tuple[Any, _core.Template | None]], key_from: Callable[[Any], Key | int], **tensors: Any
) -> _core.Entry:
    """Return an entry point to the core; ``_core.Entry`` documents what the two functions must return."""
    return _core.Entry(
        prepare=prepare,
        check_memory=buffers.check_memory,
        shape_of=_check_global_shape,
        shard_offset=shards.shard_offset,
        threads_for=_thread_count,
        least_shared=2 * _BYTES_PER_THREAD,
        key_from=key_from,
        key_type=Key,
        mode=_mode,
        **tensors,
    )


_entry = entry(_prepare, key_from)
fill = _entry.fill  # (out, rule, settings, rng, global_shape, index, threads), for the distribution rule(*settings)
fill_by_shape = _entry.fill_by_shape  # the same for rule(shape, *settings), with the global shape
