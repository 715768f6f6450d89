"""A library in a process of its own, bound to as many CPUs as it shall have threads.

So two libraries cannot meet in one address space, where their threads, settings and copies of MKL would get into each
other's way; and those that have no setting for their threads have no more of them than the others.
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

    from peers import Job, Library, Way

Answer = TypeVar("Answer")

WHOLE_RUN = 1 << 20  # bytes: what is smaller is filled several times in a run, for the sake of the clock ...
MAX_CALLS = 64  # ... and of those whose calls take longest
CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Memory:
    """Whether the first touch is in the clock: it is that of newly allocated memory."""

    new: bool
    kept: bool = False  # touched memory stays with the process during all runs of a cell, or is made for each run

    @property
    def name(self) -> str:
        return "newly allocated memory" if self.new else "already touched memory"


def library(module: str) -> Library:
    """Return a module of the package peers."""
    return cast("Library", importlib.import_module(f"peers.{module}"))


class Worker:
    """The process of a library: a module of the package peers, by its name."""

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
        return self._ask(_version)

    def names(self, job: Job) -> tuple[str, ...]:
        """Return the names of the library's ways to do a job."""
        return self._ask(_names, job)

    def seconds(self, job: Job, name: str, memory: Memory) -> float:
        """Return how long a fill took that way."""
        return self._ask(_seconds, job, name, memory)

    def forget(self) -> None:
        """Give memory back."""
        self._ask(_forget)

    def _ask(self, question: Callable[..., Answer], *arguments: object) -> Answer:
        try:
            return self._process.submit(question, self.module, *arguments).result()
        except BrokenProcessPool:
            raise UnavailableError("its process has died") from None


def cores(threads: int) -> frozenset[int]:
    """Return so many CPUs that this process may use, each on a core of its own."""
    chosen = one_of_each_core()
    if len(chosen) < threads:
        raise UnavailableError(f"{threads} threads need as many cores, and there are {len(chosen)}")
    return frozenset(chosen[:threads])


def one_of_each_core() -> list[int]:
    """Return the CPUs that this process may use, less those that share a core with one before."""
    chosen: dict[str, int] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        try:
            core = (CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text()
        except OSError:
            core = str(cpu)
        chosen.setdefault(core, cpu)
    return list(chosen.values())


# --- in the process --------------------------------------------------------------------------------------------------

_touched: dict[Job, Any] = {}  # the target of the present job, which all ways of a library fill in turn


@functools.lru_cache(maxsize=1)
def _ways(module: str, job: Job) -> dict[str, Way]:
    return dict(library(module).ways(job))


def _version(module: str) -> str:
    return library(module).version()


def _names(module: str, job: Job) -> tuple[str, ...]:
    return tuple(_ways(module, job))


def _forget(_: str) -> None:
    _touched.clear()
    gc.collect()


def _seconds(module: str, job: Job, name: str, memory: Memory) -> float:
    way = _ways(module, job)[name]
    return _new_seconds(way, job) if memory.new else _touched_seconds(way, job, memory.kept)


def _new_seconds(way: Way, job: Job) -> float:
    """Return how long it takes to allocate memory and to fill it, just after as much was touched and freed."""
    touch_and_free(job.nbytes, job.threads)
    start = time.perf_counter()
    weights = way.fill(way.make())
    stop = time.perf_counter()
    del weights  # whose way back to the system is not in the clock
    return stop - start


def _touched_seconds(way: Way, job: Job, kept: bool) -> float:
    target = _touched.get(job)
    if target is None:
        _forget("")
        target = way.make()
        way.touch(target)
        if kept:
            _touched[job] = target
    calls = min(MAX_CALLS, max(1, WHOLE_RUN // job.nbytes))
    start = time.perf_counter()
    for _ in range(calls):
        weights = way.fill(target)
    stop = time.perf_counter()
    del weights
    return (stop - start) / calls
