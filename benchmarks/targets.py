"""The project's speed table with minimum and target values, measured in pairs (see harness.py).

    python benchmarks/targets.py [--rounds N] [--quick] [--only PATTERN] [--json FILE] [--markdown FILE]
                                [--baseline PYTHON]

With --baseline, further rows compare this build with the build of fastkaiming that another Python interpreter imports.
To add a row, add an entry to `cases` here or in new_memory.py, calls.py, layouts.py or families.py.
"""

from __future__ import annotations

import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import calls
import families
import layouts
import new_memory
import numpy as np
import numpy.typing as npt
import stores
from command import parser, run
from figures import MEMORY, SHARE, SPEED_UP
from harness import Case, Timed, UnavailableError
from machine import binary_size

import fastkaiming
from fastkaiming import _core

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = npt.NDArray[Any]
Float = type[np.float32] | type[np.float64]

FILLS = {"normal": fastkaiming.kaiming_normal_, "uniform": fastkaiming.kaiming_uniform_}

COLUMNS = 4096  # of every large matrix


class Sizes(NamedTuple):
    """Sizes in bytes of the measured arrays."""

    buffer: int
    sample: int  # for libraries too slow for the whole buffer
    memory: int


FULL = Sizes(buffer=2**30, sample=2**28, memory=2**32)
QUICK = Sizes(buffer=2**20, sample=2**18, memory=2**24)


# --- memory ----------------------------------------------------------------------------------------------------------


def itemsize(dtype: Float) -> int:
    return np.dtype(dtype).itemsize


@functools.cache
def shared_bytes(nbytes: int) -> Array:
    return np.empty(nbytes, np.uint8)


def touched(nbytes: int, dtype: Float) -> Array:
    """Return a matrix in memory shared by all contestants, so that none has faster memory; the warm-up touches it."""
    return shared_bytes(nbytes).view(dtype).reshape(-1, COLUMNS)


@contextmanager
def selected_isa(name: str) -> Iterator[None]:
    """Run the block with the kernels of an instruction set."""
    if name not in _core.available_isas():
        raise UnavailableError(f"this machine does not support {name}")
    before = _core.isa()
    _core.select_isa(name)
    try:
        yield
    finally:
        _core.select_isa(before)


# --- contestants -----------------------------------------------------------------------------------------------------


def fastkaiming_fill(draw: str, dtype: Float, nbytes: int, threads: int, *, isa: str | None = None) -> Timed:
    """Return fastkaiming's Kaiming fill, normal or uniform."""
    name = f"fastkaiming on {threads} thread{'s' * (threads > 1)}"
    memory = functools.partial(touched, nbytes, dtype)
    within = functools.partial(selected_isa, isa) if isa else nullcontext
    return Timed(name, memory, lambda w: FILLS[draw](w, rng=0, threads=threads), nbytes // itemsize(dtype), within)


def store(kind: str, dtype: Float, nbytes: int, threads: int) -> Timed:
    """Return a contestant that stores a constant, which measures the store bandwidth."""
    memory = functools.partial(touched, nbytes, dtype)
    return Timed(kind, memory, lambda w: stores.STORES[kind](w, threads), nbytes // itemsize(dtype))


def all_stores(dtype: Float, nbytes: int) -> tuple[Timed, ...]:
    """Return a contestant for each available kind of store, on two threads; the fastest one counts."""
    return tuple(store(kind, dtype, nbytes, threads=2) for kind in stores.kinds())


def numpy_normal(dtype: Float, nbytes: int) -> Timed:
    """Return NumPy's normal values as users request them, on a smaller array: the time per element is the same."""
    rng = np.random.default_rng(0)
    elements = nbytes // itemsize(dtype)
    name = f"NumPy standard_normal on {elements:,} elements, scaled"
    memory = functools.partial(touched, nbytes, dtype)
    return Timed(name, memory, lambda sample: rng.standard_normal(out=sample, dtype=dtype), elements)


@dataclass(frozen=True)
class PeakMemory:
    """A contestant whose cost is the additional memory, in bytes, that a fill of an already touched buffer needs."""

    nbytes: int
    threads: int
    name: str = "fastkaiming"

    def cost(self) -> float:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as child:
            return child.submit(peak_above_buffer, self.nbytes, self.threads).result()


def peak_above_buffer(nbytes: int, threads: int) -> int:
    """Return the peak growth of this process, in bytes, while it fills a buffer that is already in memory.

    Linux counts pages in batches for each CPU, so the figure is accurate to a few hundred KiB.
    """
    weights = np.ones((nbytes // 4 // COLUMNS, COLUMNS), np.float32)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the recorded peak to the current size
        before = peak_resident()
        fastkaiming.kaiming_normal_(weights, rng=0, threads=threads)
        return peak_resident() - before
    except OSError as error:
        raise UnavailableError(f"the peak memory of a process cannot be reset on this system ({error})") from None


def peak_resident() -> int:
    """Return the highest resident size of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


# --- the table -------------------------------------------------------------------------------------------------------


def cases(size: Sizes, baseline: str | None = None) -> list[Case]:
    """Return the rows of the table: each has a minimum and a target. Large fills run on two threads."""
    f32, f64 = np.float32, np.float64
    whole = binary_size(size.buffer)

    def share(draw: str, dtype: Float, minimum: float, target: float, isa: str | None = None) -> Case:
        """Return a row for a fill of already touched memory, as a share of the bandwidth of the fastest stores."""
        kernels = f" by {isa}" if isa else ""
        name = f"{np.dtype(dtype)} {draw}{kernels}, {whole} of already touched memory, share of the store bandwidth"
        fill = fastkaiming_fill(draw, dtype, size.buffer, threads=2, isa=isa)
        return Case(name, SHARE, minimum, target, fill, all_stores(dtype, size.buffer), itemsize(dtype))

    normal = functools.partial(fastkaiming_fill, "normal", f32, size.buffer)
    by_two, by_one = normal(threads=2), normal(threads=1)
    memory = PeakMemory(size.memory, threads=2)
    return [
        share("normal", f32, 0.42, 0.60),
        share("uniform", f32, 0.72, 0.90),
        share("normal", f64, 0.33, 0.45),
        share("uniform", f64, 0.70, 0.85),
        share("normal", f32, 0.20, 0.28, isa="avx2"),
        share("uniform", f32, 0.35, 0.45, isa="avx2"),
        Case("float32 normal, against NumPy", SPEED_UP, 30, 45, by_two, (numpy_normal(f32, size.sample),)),
        Case("float32 normal, two threads against one", SPEED_UP, 1.8, 1.95, by_two, (by_one,)),
        Case(f"memory above the buffer, {binary_size(size.memory)} fill", MEMORY, 16, 1, memory),
        *new_memory.cases(size.buffer, baseline),
        *calls.cases(),
        *layouts.cases(shared_bytes, size.buffer, SPEED_UP),
        *families.cases(shared_bytes, size, all_stores(f32, size.buffer), SHARE, SPEED_UP),
    ]


def main() -> None:
    command = parser("Measure the speed table in pairs: fastkaiming and the code that it is compared with, in turn.")
    command.add_argument("--baseline", metavar="PYTHON", help="also compare with the build that this Python imports")
    run(command, lambda options: cases(QUICK if options.quick else FULL, options.baseline), 15)


if __name__ == "__main__":
    main()
