"""The libraries that the grid of compare.py measures, a module each, and what they all are asked for.

A module has a NAME, says whether it fills IN_PLACE or returns new memory, and offers ``version()`` and ``ways(job)``.
Both raise `UnavailableError` with the reason where the library is not installed or cannot do the job. Nothing is
imported before that, so that a missing library costs no more than its rows.
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
COLUMNS = 4096  # of every matrix that has so many
CUT_STD = 0.87962566103423978  # of a standard normal between -2 and 2: He's truncated weights are scaled up by it


@dataclass(frozen=True)
class Job:
    """A matrix of He's weights, rows of outputs by columns of inputs: mean 0 and std sqrt(2 / columns)."""

    draw: Draw  # the truncated one at two standard deviations of the normal that is cut
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
        """Where the uniform weights end, on either side."""
        return math.sqrt(3) * self.std


@dataclass(frozen=True)
class Way:
    """How a library does a job."""

    fill: Callable[[Any], Any]  # a target; returns the weights
    make: Callable[[], Any] = lambda: None  # a target that nobody has touched; none where `fill` makes its own
    touch: Callable[[Any], object] = lambda _: None  # write to every page of a target


class Library(Protocol):
    """What a module of this package has."""

    NAME: str
    IN_PLACE: bool

    def version(self) -> str: ...

    def ways(self, job: Job) -> Mapping[str, Way]:
        """Return the ways by the names of their rows, which begin with NAME, or with what they are."""


def needed(module: str) -> Any:
    """Return a module of a library that may be missing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UnavailableError("not installed") from None


def array_way(job: Job, fill: Callable[[NDArray[Any]], object]) -> Way:
    """Return the way of a library that fills NumPy's arrays."""

    def filled(target: NDArray[Any]) -> NDArray[Any]:
        fill(target)
        return target

    dtype = known(job.dtype)
    return Way(filled, lambda: np.empty(job.shape, dtype), lambda target: target.fill(0))


def refuse(job: Job, *, draws: tuple[Draw, ...] = (), dtypes: tuple[str, ...] = ()) -> None:
    """Raise where the library has not the draw, or not the dtype, of a job."""
    if job.draw in draws:
        raise UnavailableError(f"offers no {job.draw} draws")
    if job.dtype in dtypes:
        raise UnavailableError(f"offers no {job.dtype}")


def in_parts(threads: int, elements: int, work: Callable[[int, slice], object]) -> None:
    """Do the work for each thread's number and its part of the elements, on threads that live on."""
    step = -(-elements // threads)
    parts = [slice(begin, min(begin + step, elements)) for begin in range(0, elements, step)]
    if threads == 1:
        work(0, parts[0])
    else:
        list(pool(threads).map(work, range(threads), parts))


@functools.cache
def pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)
