"""The libraries that compare.py measures, one module each, and the jobs that they do.

A module defines NAME, IN_PLACE (whether it fills a given array or returns a new one), ``version()`` and
``methods(job)``. Both functions raise `UnavailableError` with the reason if the library is not installed or does not
support the job. They import the library themselves, so that a missing library affects only its own rows.
"""

from __future__ import annotations

import functools
import importlib
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from harness import UnavailableError
from layouts import known

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

Draw = Literal["normal", "uniform", "truncated"]

ITEMSIZES = {"float32": 4, "float64": 8, "bfloat16": 2}
COLUMNS = 4096  # of every matrix that is large enough
CUT_STD = 0.87962566103423978  # std of a standard normal truncated to [-2, 2]; divides He's std


@dataclass(frozen=True)
class Job:
    """A matrix to fill by He initialization, outputs by inputs: mean 0 and std sqrt(2 / columns)."""

    draw: Draw  # "truncated" means at two standard deviations of the normal distribution before truncation
    dtype: str
    nbytes: int
    threads: int

    @property
    def elements(self) -> int:
        return self.nbytes // ITEMSIZES[self.dtype]

    @property
    def columns(self) -> int:
        return min(COLUMNS, 1 << (self.elements.bit_length() // 2))

    @property
    def shape(self) -> tuple[int, int]:
        return self.elements // self.columns, self.columns

    @property
    def std(self) -> float:
        return math.sqrt(2 / self.columns)

    @property
    def bound(self) -> float:
        """The upper bound of the uniform weights; the lower bound is its negative."""
        return math.sqrt(3) * self.std


@dataclass(frozen=True)
class Method:
    """A way to do a job with a library."""

    fill: Callable[[Any], Any]  # fills a target and returns the weights
    make: Callable[[], Any] = lambda: None  # returns an untouched target; None if `fill` allocates
    touch: Callable[[Any], object] = lambda _: None  # writes to every page of a target


class Library(Protocol):
    """The names that a module of this package defines."""

    NAME: str
    IN_PLACE: bool

    def version(self) -> str: ...

    def methods(self, job: Job) -> Mapping[str, Method]:
        """Return the methods by the names of their rows, which begin with NAME (except for the stores)."""


def imported(module: str) -> Any:
    """Import and return a module of a library that may be missing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UnavailableError("not installed") from None


def array_method(job: Job, fill: Callable[[NDArray[Any]], object]) -> Method:
    """Return a method of a library that fills NumPy arrays."""

    def filled(target: NDArray[Any]) -> NDArray[Any]:
        fill(target)
        return target

    dtype = known(job.dtype)
    return Method(filled, lambda: np.empty(job.shape, dtype), lambda target: target.fill(0))


def check_support(job: Job, *, draws: tuple[Draw, ...] = (), dtypes: tuple[str, ...] = ()) -> None:
    """Raise `UnavailableError` if the job has one of the given draws or dtypes, which a library does not support."""
    if job.draw in draws:
        raise UnavailableError(f"has no {job.draw} distribution")
    if job.dtype in dtypes:
        raise UnavailableError(f"has no {job.dtype}")


def in_parts(threads: int, elements: int, work: Callable[[int, slice], object]) -> None:
    """Call ``work(thread, part)`` for each thread number and its part of the elements, on a pool of threads."""
    step = -(-elements // threads)
    parts = [slice(begin, min(begin + step, elements)) for begin in range(0, elements, step)]
    if threads == 1:
        work(0, parts[0])
    else:
        list(pool(threads).map(work, range(threads), parts))


@functools.cache
def pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)
