"""Context managers that apply to every fill of a ``with`` block: progress reports and deferred fills."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeAlias

from fastkaiming import _core, _validation
from fastkaiming._system.threads import check_threads, threads_for_fill

Callback: TypeAlias = Callable[[int, int], object]


class FillContext(NamedTuple):
    """How fills within a ``with`` block report their progress, and whether they run immediately."""

    progress: Callback | None = None
    deferred: list[_core.Plan] | None = None  # the plans of deferred fills; None if fills run immediately


fill_context: ContextVar[FillContext | None] = ContextVar("fastkaiming.fill_context", default=None)


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
        raise TypeError(f"progress: callback must be callable, not {_validation.describe(callback)}")

    def report(done: int, total: int) -> None:
        with _changed_context(progress=None):  # otherwise, fills that the callback starts would call it again
            callback(done, total)

    with _changed_context(progress=report):
        yield


@contextmanager
def combined_progress(total: int) -> Iterator[None]:
    """Report the progress of all fills of the ``with`` block as that of a single fill of ``total`` elements.

    If the callback forks, the child raises RuntimeError, because threads that work concurrently with these fills, such
    as the writer of a checkpoint, do not exist in the child.
    """
    callback = _current_context().progress
    process = os.getpid()
    before = 0

    def report(done: int, fill_total: int) -> None:
        nonlocal before
        if callback is not None:
            callback(min(before + done, total), total)
            if os.getpid() != process:
                raise RuntimeError(
                    "a child forked in a progress callback cannot continue this work, but its parent continues it"
                )
        if done == fill_total:
            before += done

    with _changed_context(progress=None if callback is None else report):
        yield


def report_filled(elements: int) -> None:
    """Report the end of a fill of ``elements`` elements that ran on another thread."""
    callback = _current_context().progress
    if callback is not None and elements:
        callback(elements, elements)


@contextmanager
def defer_to(plans: list[_core.Plan]) -> Iterator[None]:
    """Append the plans of the fills of the ``with`` block to a list instead of running them."""
    with _changed_context(deferred=plans):
        yield


@contextmanager
def deferred_fills(threads: int | None) -> Iterator[None]:
    """Run the fills of the ``with`` block at its end, all in one parallel region.

    If the block raises an exception, none of them runs.
    """
    if threads is not None:
        check_threads(threads)
    plans: list[_core.Plan] = []
    with defer_to(plans):
        yield
    if any(plan.sampled_bytes for plan in plans):
        nbytes = sum(plan.sampled_bytes for plan in plans)
        _core.fill_all(plans, threads_for_fill(threads, nbytes), _current_context().progress)


def _current_context() -> FillContext:
    return fill_context.get() or FillContext()


@contextmanager
def _changed_context(**changes: Any) -> Iterator[None]:
    token = fill_context.set(_current_context()._replace(**changes))
    try:
        yield
    finally:
        fill_context.reset(token)
