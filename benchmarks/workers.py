"""Run each library in its own process, which is bound to as many CPUs as the library may use threads.

In one process, the threads, settings and copies of MKL of two libraries could interfere with each other. Binding limits
the threads of libraries without a setting for their number.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from harness import UnavailableError
from stores import touch_and_free

if TYPE_CHECKING:
    from collections.abc import Callable

    from libraries import Job, Library, Method

Result = TypeVar("Result")

WHOLE_RUN = 1 << 20  # bytes: smaller targets are filled several times per run, to make it long enough to be timed ...
MAX_CALLS = 64  # ... but at most so often
CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Memory:
    """Newly allocated memory, where the first touch is timed too, or already touched memory."""

    new: bool
    kept: bool = False  # whether touched memory is kept for all runs of a cell, or allocated for each run

    @property
    def name(self) -> str:
        return "newly allocated memory" if self.new else "already touched memory"


def library(module: str) -> Library:
    """Import and return a module of the package libraries."""
    return cast("Library", importlib.import_module(f"libraries.{module}"))


class Worker:
    """The process of a library, which is named by its module in the package libraries."""

    def __init__(self, module: str, cpus: frozenset[int]) -> None:
        self.module = module
        self._process = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=os.sched_setaffinity, initargs=(0, cpus)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.shutdown()

    def version(self) -> str:
        return self._call(_version)

    def names(self, job: Job) -> tuple[str, ...]:
        """Return the names of the methods with which the library can do a job."""
        return self._call(_names, job)

    def seconds(self, job: Job, name: str, memory: Memory) -> float:
        """Return the seconds that one fill takes with the named method."""
        return self._call(_seconds, job, name, memory)

    def forget(self) -> None:
        """Free the memory that was kept."""
        self._call(_forget)

    def _call(self, function: Callable[..., Result], *arguments: object) -> Result:
        try:
            return self._process.submit(function, self.module, *arguments).result()
        except BrokenProcessPool:
            raise UnavailableError("its process has died") from None


def cores(threads: int) -> frozenset[int]:
    """Return CPUs for a number of threads, each on a different core, among those that this process may use."""
    chosen = one_cpu_per_core()
    if len(chosen) < threads:
        raise UnavailableError(f"{threads} threads need {threads} cores, but only {len(chosen)} are available")
    return frozenset(chosen[:threads])


def one_cpu_per_core() -> list[int]:
    """Return one CPU of each core, among those that this process may use."""
    chosen: dict[str, int] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        try:
            core = (CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text()
        except OSError:
            core = str(cpu)
        chosen.setdefault(core, cpu)
    return list(chosen.values())


# --- in the process --------------------------------------------------------------------------------------------------

_touched: dict[Job, Any] = {}  # the target of the current job, which all methods of a library fill in turn


@functools.lru_cache(maxsize=1)
def _methods(module: str, job: Job) -> dict[str, Method]:
    return dict(library(module).methods(job))


def _version(module: str) -> str:
    return library(module).version()


def _names(module: str, job: Job) -> tuple[str, ...]:
    return tuple(_methods(module, job))


def _forget(_: str) -> None:
    _touched.clear()
    gc.collect()


def _seconds(module: str, job: Job, name: str, memory: Memory) -> float:
    method = _methods(module, job)[name]
    return _new_seconds(method, job) if memory.new else _touched_seconds(method, job, memory.kept)


def _new_seconds(method: Method, job: Job) -> float:
    """Return the seconds to allocate and fill memory, just after the same amount of memory was touched and freed."""
    touch_and_free(job.nbytes, job.threads)
    start = time.perf_counter()
    weights = method.fill(method.make())
    stop = time.perf_counter()
    del weights  # after the timing, because freeing does not count
    return stop - start


def _touched_seconds(method: Method, job: Job, kept: bool) -> float:
    target = _touched.get(job)
    if target is None:
        _forget("")
        target = method.make()
        method.touch(target)
        if kept:
            _touched[job] = target
    calls = min(MAX_CALLS, max(1, WHOLE_RUN // job.nbytes))
    start = time.perf_counter()
    for _ in range(calls):
        weights = method.fill(target)
    stop = time.perf_counter()
    del weights
    return (stop - start) / calls
