"""Rows for newly allocated memory, and for another build of fastkaiming as a baseline.

Fills of newly allocated memory are compared with memset on the same number of threads, and with MKL's fastest generator
and method. Just before each measurement, the same amount of memory is written and freed (see stores.py).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import stores
from builds import Build, Fill
from figures import SLOWDOWN, SPEED_UP
from harness import Case, Timed
from libraries import Job, mkl
from libraries.fastkaiming import FILLS
from machine import binary_size

if TYPE_CHECKING:
    from libraries import Draw, Method
    from numpy.typing import NDArray

THREADS = 2
FASTEST_OF_MKL = {"normal": "MKL ARS5 ICDF", "uniform": "MKL ARS5"}
LIMITS = {"normal": (1.75, 1.5), "uniform": (1.45, 1.25)}
LIMITS_OF_MKL = {"normal": (1.0, 1.2), "uniform": (0.7, 0.8)}  # MKL's uniform values take as long as memset
DRAWS: tuple[Draw, ...] = ("normal", "uniform")
DTYPES = ("float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def cases(nbytes: int, baseline: str | None) -> list[Case]:
    """Return the rows for arrays of a size in bytes; with a baseline, those that compare both builds too."""
    size = binary_size(nbytes)
    rows = [row for draw in DRAWS for row in new_memory_cases(draw, nbytes, size)]
    return rows + (baseline_cases(nbytes, size, baseline) if baseline else [])


def new_memory_cases(draw: Draw, nbytes: int, size: str) -> list[Case]:
    """Return the rows of one distribution, in float32."""
    job, name = Job(draw, "float32", nbytes, THREADS), f"float32 {draw}, {size} of newly allocated memory"
    fill_without, memset_without = (
        Build(contestant, Fill(kind, "float32", nbytes, new_memory=True), huge_pages=False)
        for contestant, kind in (("fastkaiming", draw), ("memset", "memset"))
    )
    return [
        Case(f"{name}, against memset", SLOWDOWN, *LIMITS[draw], fastkaiming_fill(job), (memset(job),)),
        Case(f"{name} without huge pages, against memset", SLOWDOWN, *LIMITS[draw], fill_without, (memset_without,)),
        Case(f"{name}, against MKL", SPEED_UP, *LIMITS_OF_MKL[draw], fastkaiming_fill(job), (mkl_fill(job),)),
    ]


def baseline_cases(nbytes: int, size: str, python: str) -> list[Case]:
    """Return the rows that compare this build with another one, each in a process of its own."""

    def row(name: str, minimum: float, target: float, fill: Fill, huge_pages: bool) -> Case:
        own = Build("fastkaiming", fill, huge_pages=huge_pages)
        other = Build("the baseline", fill, python, huge_pages)
        title = f"{fill.dtype} {fill.draw}, {size} of {name}, against the baseline"
        return Case(title, SLOWDOWN, minimum, target, own, (other,))

    new = [Fill(draw, "float32", nbytes, new_memory=True) for draw in DRAWS]
    touched = [Fill(draw, dtype, nbytes, new_memory=False) for dtype in DTYPES for draw in DRAWS]
    touched.append(Fill("truncated normal", "float32", nbytes, new_memory=False))
    return [
        *(row("newly allocated memory without huge pages", 0.7, 0.6, fill, huge_pages=False) for fill in new),
        *(row("already touched memory", 1.02, 0.92, fill, huge_pages=True) for fill in touched),
    ]


def allocated(job: Job) -> NDArray[np.float32]:
    return stores.newly_allocated(job.shape, np.dtype(np.float32))


def fastkaiming_fill(job: Job) -> Timed:
    run = functools.partial(FILLS[job.draw], rng=0, threads=THREADS)
    return Timed("fastkaiming", functools.partial(allocated, job), run, job.elements)


def memset(job: Job) -> Timed:
    store = stores.STORES["memset"]
    return Timed("memset", functools.partial(allocated, job), lambda w: store(w, THREADS), job.elements)


def mkl_fill(job: Job) -> Timed:
    """Return MKL's fill of newly allocated memory by its fastest generator and method."""
    method = functools.cache(lambda: mkl.methods(job)[FASTEST_OF_MKL[job.draw]])

    def prepare() -> tuple[Method, Any]:
        return method(), allocated(job)

    return Timed(FASTEST_OF_MKL[job.draw], prepare, lambda both: both[0].fill(both[1]), job.elements)
