"""The one entry point to the compiled core: every argument of a fill is checked before the first byte is written.

What comes out of the checks is a plan of plain numbers: where memory lies, a key, and the distribution rounded to the
precision of the array. What the rule of a fill, its settings, and the dtype give is remembered by the core, which calls
the functions of this module only for the first of several equal fills, and for unusual arguments.
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
from fastkaiming._fill.kernel_params import draw
from fastkaiming._system.threads import MAX_THREADS, get_num_threads
from fastkaiming.distributions import Distribution, Normal, TruncatedNormal, Uniform
from fastkaiming.rng import Key, Rng, key_from

Callback: TypeAlias = Callable[[int, int], object]
Rule: TypeAlias = Callable[..., Distribution | None]

_BYTES_PER_THREAD = 2 << 20  # a thread takes some 90 us to start; this much takes 200 to 400 us to fill
_NOTHING = Normal(0.0, 0.0)  # for a fan of 0: the array has no elements, and any distribution would do
_NUMBERS: Mapping[type, Callable[[Any], tuple[float, ...]]] = {
    Normal: attrgetter("mean", "std"),
    Uniform: attrgetter("low", "high"),
    TruncatedNormal: attrgetter("loc", "scale", "low", "high"),
}


class Mode(NamedTuple):
    """How fills within a ``with`` block are reported, and whether they are made at once."""

    progress: Callback | None = None
    gathered: list[_core.Plan] | None = None  # takes the plans of fills that are made later, or never


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
    """Fill an array in place with independent draws from a distribution.

    Every value depends on the key that ``rng`` stands for, on its row-major index, on the distribution and on the
    dtype; not on the number of threads, the instruction set or the machine.

    Other Python threads run during a fill. What keeps the memory of ``out`` in place meanwhile is NumPy's own check of
    references, by which ``out.resize`` raises: do not resize ``out`` with ``refcheck=False``, or free behind NumPy's
    back the memory that it lies in, before the fill returns.

    If ``out`` is a memory-mapped file that was cut short, or whose disk is full, Linux 5.14 and later report it before
    the elements there are written: the fill raises OSError and leaves ``out`` partly written. Memory is checked in
    units of up to 2 MiB, each just before it is filled. The following cases are not noticed, and the system ends the
    process by SIGBUS, as it does on other systems:

    - ``out`` takes less than 1 MiB, or its elements take less than half of the memory that they are spread over;
    - the file is truncated while a unit is being filled;
    - the disk is full, but the page was read before.

    If ``out`` takes 4 MiB or more of memory that was not touched before, Linux is asked to use huge pages there
    (MADV_HUGEPAGE), also where MADV_NOHUGEPAGE was set before. To work without huge pages, turn them off for the
    process by ``prctl(PR_SET_THP_DISABLE)``.

    Parameters
    ----------
    out : numpy.ndarray or buffer or DLPack object
        Writable memory: a NumPy array, what lends its memory as a buffer (memoryview, array.array), or on the CPU by
        DLPack (a torch tensor). Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or float8_e5m2, of
        which the last three are ml_dtypes'; the values of the narrower ones are those of float32, rounded to nearest,
        within the bounds of the distribution. The values of the two float8 dtypes are provisional: they may change
        before fastkaiming 1.0. Any strides, alignment and byte order will do: an element's value depends
        on its index in ``out`` and not on its place in memory. One without elements is left alone.
    distribution : Normal, Uniform or TruncatedNormal
        The distribution of the values. Its numbers are rounded to the precision of ``out`` first, float32 for the
        narrower dtypes. No value is then beyond the bounds. Values can equal a bound of TruncatedNormal and the lower
        bound of Uniform, but not the upper bound of Uniform and, for symmetric bounds (-b, b), not the lower one.
    rng : int, Key, Generator or numpy.random.Generator, optional
        Which values to draw. An integer is a seed, a Key a seed and a stream: the same values at every call. Use one
        key for one array: arrays that are filled from the same key are correlated, even if their distributions differ.
        A Generator gives its next stream and a numpy.random.Generator a 64-bit seed, to an ``out`` without elements
        too, but not when an argument is refused. By default the operating system gives the seed.
    global_shape : sequence of int, optional
        The shape of the whole tensor that ``out`` is a part of.
    index : sequence of slice, optional
        Which part: ``out`` is ``whole[index]``, a slice for each axis, and gets the values that the whole tensor would
        hold there. Slices may have steps. See :func:`shard_slices`.
    threads : int, optional
        At most so many threads, from 1 to 1024; an array too small to share out takes fewer. By default one for every
        2 MiB of output, up to :func:`get_num_threads` of them.

    Returns
    -------
    object
        ``out`` itself.

    Raises
    ------
    TypeError
        An argument of the wrong kind, or an ``out`` of another dtype.
    ValueError
        An argument out of range, an ``out`` that is read-only or overlaps itself or is not of the shape that ``index``
        selects, or a distribution whose values would over- or underflow the dtype.
    OSError
        The memory of ``out`` cannot be written, because it is a mapped file that was cut short or whose disk is full.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((256, 128), np.float32)
    >>> fk.fill_(weights, fk.Uniform(-0.5, 0.5), rng=42) is weights
    True
    """
    rule, settings = _rule_of(distribution)
    return fill(out, rule, settings, rng, global_shape, index, threads)


@contextmanager
def deferred_fills(threads: int | None) -> Iterator[None]:
    """Put off the fills of the ``with`` block until its end, and make them then in one parallel region.

    If the block raises, none of them is made.
    """
    if threads is not None:
        _validation.integer("threads", threads, 1, MAX_THREADS, "an integer or None")
    plans: list[_core.Plan] = []
    with _changed(gathered=plans):
        yield
    if any(plan.sampled_bytes for plan in plans):
        _core.fill_all(plans, _threads(threads, sum(plan.sampled_bytes for plan in plans)), _current().progress)


def distribution_of(initializer: Callable[..., object], nothing: NDArray[Any], **place: Any) -> Distribution:
    """Return what an initializer would draw from, asked by a part of the whole that has no elements."""
    plans: list[_core.Plan] = []
    with _changed(gathered=plans):
        initializer(nothing, **place)
    found: Distribution = plans[-1].template.distribution
    return found


@contextmanager
def combined_progress(total: int) -> Iterator[None]:
    """Report the fills of the ``with`` block as one of so many elements.

    If the callback forks, the child raises a RuntimeError, because the threads that work beside these fills, such as
    the writer of a checkpoint, do not exist in it.
    """
    callback = _current().progress
    process = os.getpid()
    before = 0

    def report(done: int, of_this_fill: int) -> None:
        nonlocal before
        if callback is not None:
            callback(min(before + done, total), total)
            if os.getpid() != process:
                raise RuntimeError(
                    "a child forked in a progress callback cannot continue this work, but its parent does"
                )
        if done == of_this_fill:
            before += done

    with _changed(progress=None if callback is None else report):
        yield


def report_filled(elements: int) -> None:
    """Report a fill of so many elements that other threads have made."""
    callback = _current().progress
    if callback is not None and elements:
        callback(elements, elements)


def empty(shape: int | Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """Return a new array for a fill, its values not set."""
    checked = dtypes.dtype("dtype", dtype)
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
        Called as ``callback(done, total)``, in elements, on the thread that called the fill: about every 50 ms, and
        with ``done == total`` as the fill ends, however short it was; a fill of no elements reports nothing. If it
        raises, the fill is cancelled, the array left partly written, and the exception comes out of the fill.
        If it forks (``os.fork``), the fill goes on in both processes: each fills the whole array. The child has no
        other threads, so it fills the array from its beginning on one thread, and ``done`` may grow from 0 again.
        The same holds for a signal handler that forks during a fill. Work of several fills that is reported as one,
        such as a checkpoint, goes on in the parent alone; the child raises a RuntimeError.
        Fills that the callback itself makes are not reported.

    Returns
    -------
    context manager
        For a ``with`` block; only fills of the thread, or the asynchronous task, that runs the block are reported.

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
        raise TypeError(f"callback must be callable, not {_validation.shown(callback)}")

    def report(done: int, total: int) -> None:
        with _changed(progress=None):  # not about the fills that the callback makes, without end
            callback(done, total)

    with _changed(progress=report):
        yield


def _current() -> Mode:
    return _mode.get() or Mode()


@contextmanager
def _changed(**changes: Any) -> Iterator[None]:
    token = _mode.set(_current()._replace(**changes))
    try:
        yield
    finally:
        _mode.reset(token)


def _rule_of(distribution: Distribution) -> tuple[Rule, tuple[Any, ...]]:
    """Return a distribution as what gives it and the numbers that it takes, which are remembered by their values."""
    numbers_of = _NUMBERS.get(type(distribution))
    if numbers_of is None:
        return _given, (distribution,)  # which draw() refuses, after the checks that come before it
    return type(distribution), numbers_of(distribution)


def _given(distribution: Distribution) -> Distribution:
    return distribution


def _prepared(
    out: Target, rule: Rule, settings: tuple[Any, ...], by_shape: bool, global_shape: Any
) -> tuple[NDArray[Any], _core.Template]:
    """Check what a fill draws and where; return its memory, and what is drawn in the terms of the core.

    A rule that depends on the shape returns None where a fan is 0.
    """
    if by_shape:
        settings = (buffers.array(out).shape if global_shape is None else _shape_of(global_shape), *settings)
    distribution: Any = rule(*settings)
    if distribution is None and by_shape:
        distribution = _NOTHING
    memory = buffers.array(out)
    storage = buffers.format_of(memory)
    buffers.check_memory(memory)
    return memory, template(distribution, memory.dtype, storage)


def template(distribution: Distribution, dtype: np.dtype[Any], storage: dtypes.Format) -> _core.Template:
    """Return what is drawn for elements of a dtype, in the terms of the core."""
    return _core.Template(distribution, *draw(distribution, storage), not dtype.isnative)


def _shape_of(global_shape: Any) -> tuple[int, ...]:
    return _validation.shape("global_shape", global_shape)


def _threads(threads: int | None, nbytes: int) -> int:
    """Return the most threads for a fill; one that fits one thread asks the system nothing."""
    if threads is not None:
        return _validation.integer("threads", threads, 1, MAX_THREADS, "an integer or None")
    shares = nbytes // _BYTES_PER_THREAD
    return min(shares, get_num_threads()) if shares > 1 else 1


def entry(
    prepare: Callable[..., tuple[Any, _core.Template | None]], key_from: Callable[[Any], Key | int], **tensors: Any
) -> _core.Entry:
    """Return an entry to the core; its own documentation says what the two functions have to return."""
    return _core.Entry(
        prepare=prepare,
        check_memory=buffers.check_memory,
        shape_of=_shape_of,
        place_of=shards.place,
        threads_for=_threads,
        least_shared=2 * _BYTES_PER_THREAD,
        key_from=key_from,
        key_type=Key,
        mode=_mode,
        **tensors,
    )


_entry = entry(_prepared, key_from)
fill = _entry.fill  # (out, rule, settings, rng, global_shape, index, threads): from rule(*settings)
fill_by_shape = _entry.fill_by_shape  # likewise, from rule(shape, *settings) of the shape of the whole
