"""The project's speed table, measured in pairs: ours and its peers in turn in one process (see harness.py).

    python benchmarks/floors.py [--rounds N] [--quick] [--only PATTERN] [--json FILE] [--markdown FILE]

A new row is one entry in `cases`, here, in layouts.py or in families.py; a peer is one function that returns a `Timed`.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import families
import layouts
import numpy as np
import numpy.typing as npt
import stores
from harness import Case, Figure, Result, Timed, UnavailableError, markdown, median, plain
from machine import about, binary_size, machine

import fastkaiming
from fastkaiming import _core

Array = npt.NDArray[Any]
Float = type[np.float32] | type[np.float64]
Pages = Callable[[int, Float], Array]

OURS = {"normal": fastkaiming.kaiming_normal_, "uniform": fastkaiming.kaiming_uniform_}

COLUMNS = 4096  # of every large matrix
CALLS = 1000  # in a batch, where a single call is too short for the clock

# The floors were set where the stores of two threads usually reach 37 GB/s. Some runs reach 48 to 61, when the two CPUs
# happen to sit on different chiplets; a share then means a share of the usual bandwidth.
USUAL_BANDWIDTH = 37e9
UNUSUAL_BANDWIDTH = 40e9


class Sizes(NamedTuple):
    """The bytes that the rows are measured on."""

    buffer: int
    sample: int  # for peers too slow for the whole buffer
    memory: int


FULL = Sizes(buffer=2**30, sample=2**28, memory=2**32)
QUICK = Sizes(buffer=2**20, sample=2**18, memory=2**24)


# --- targets ---------------------------------------------------------------------------------------------------------


def itemsize(dtype: Float) -> int:
    return np.dtype(dtype).itemsize


def fresh(nbytes: int, dtype: Float) -> Array:
    """Return a new matrix of so many bytes; where it is large, nothing has touched its pages yet."""
    return np.empty((nbytes // itemsize(dtype) // COLUMNS, COLUMNS), dtype)


@functools.cache
def shared_bytes(nbytes: int) -> Array:
    return np.empty(nbytes, np.uint8)


def warm(nbytes: int, dtype: Float) -> Array:
    """Return a matrix on pages that all contestants share, so that none has luckier ones; the warm-up touches them."""
    return shared_bytes(nbytes).view(dtype).reshape(-1, COLUMNS)


@contextmanager
def selected_isa(name: str) -> Iterator[None]:
    """Run the block on the named kernels."""
    if name not in _core.available_isas():
        raise UnavailableError(f"no {name} on this machine")
    before = _core.isa()
    _core.select_isa(name)
    try:
        yield
    finally:
        _core.select_isa(before)


# --- contestants -----------------------------------------------------------------------------------------------------


def ours(draw: str, dtype: Float, nbytes: int, threads: int, *, pages: Pages = warm, isa: str | None = None) -> Timed:
    """Return our Kaiming fill with normal or uniform draws."""
    name = f"fastkaiming on {threads} thread{'s' * (threads > 1)}"
    target = functools.partial(pages, nbytes, dtype)
    within = functools.partial(selected_isa, isa) if isa else nullcontext
    return Timed(name, target, lambda w: OURS[draw](w, rng=0, threads=threads), nbytes // itemsize(dtype), within)


def our_small_calls(shape: tuple[int, int]) -> Timed:
    """Return a batch of whole calls on a small array."""

    def run(weights: Array) -> None:
        for _ in range(CALLS):
            fastkaiming.kaiming_normal_(weights, rng=0)

    return Timed("fastkaiming", functools.partial(np.empty, shape, np.float32), run, CALLS)


def bare(kind: str, dtype: Float, nbytes: int, threads: int, pages: Pages = warm) -> Timed:
    """Return bare stores of a constant: what the memory allows."""
    target = functools.partial(pages, nbytes, dtype)
    return Timed(kind, target, lambda w: stores.store(w, kind, threads), nbytes // itemsize(dtype))


def all_stores(dtype: Float, nbytes: int) -> tuple[Timed, ...]:
    """Return the kinds of stores that there are here, whichever is faster, on two threads."""
    return tuple(bare(kind, dtype, nbytes, threads=2) for kind in stores.kinds())


def numpy_normal(dtype: Float, nbytes: int) -> Timed:
    """Return NumPy's normal draws as users call them, on a sample: an element costs the same at any size."""
    rng = np.random.default_rng(0)
    elements = nbytes // itemsize(dtype)
    name = f"NumPy standard_normal on {elements:,} elements, scaled"
    target = functools.partial(warm, nbytes, dtype)
    return Timed(name, target, lambda sample: rng.standard_normal(out=sample, dtype=dtype), elements)


@dataclass(frozen=True)
class PeakMemory:
    """A contestant whose cost is the memory, in bytes, that a fill of a buffer already in memory takes above it."""

    nbytes: int
    threads: int
    name: str = "fastkaiming"

    def cost(self) -> float:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as child:
            return child.submit(peak_above_buffer, self.nbytes, self.threads).result()


def peak_above_buffer(nbytes: int, threads: int) -> int:
    """Return the bytes by which this process grows, at its peak, while it fills a buffer whose every page it holds.

    Linux counts pages in batches for each CPU, so the figure is good to a few hundred KiB.
    """
    weights = fresh(nbytes, np.float32)
    weights.fill(1)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the recorded peak becomes the present size
        before = peak_resident()
        fastkaiming.kaiming_normal_(weights, rng=0, threads=threads)
        return peak_resident() - before
    except OSError as error:
        raise UnavailableError(f"this system's memory peak cannot be reset ({error})") from None


def peak_resident() -> int:
    """Return the highest resident size of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


# --- figures ---------------------------------------------------------------------------------------------------------


def store_bandwidth(result: Result) -> list[float]:
    """Return the costs of bare stores: those of this run, or the usual one where this run's are unusually fast."""
    usual = result.case.itemsize / USUAL_BANDWIDTH
    unusual = median(result.theirs) < result.case.itemsize / UNUSUAL_BANDWIDTH
    return [usual] * len(result.theirs) if unusual else result.theirs


def share_detail(result: Result) -> str:
    usual = result.case.itemsize / USUAL_BANDWIDTH
    rate, limit = (1e-9 * result.case.itemsize / median(costs) for costs in (result.ours, result.theirs))
    share = median(result.against(result.theirs))
    share_of_usual = median(result.against([usual] * len(result.ours)))
    return (
        f"{rate:.1f} GB/s, {1e9 * median(result.ours):.3f} ns an element; {share:.2f} of this run's {limit:.1f} GB/s "
        f"({result.peer}), {share_of_usual:.2f} of the usual {1e-9 * USUAL_BANDWIDTH:.0f}"
    )


def pair_detail(result: Result) -> str:
    ours, theirs = (1e9 * median(costs) for costs in (result.ours, result.theirs))
    return f"{ours:.3g} ns an element against {theirs:.3g} ({result.peer})"


def batches_detail(result: Result) -> str:
    return f"{len(result.ours)} batches of {CALLS:,} calls"


def processes_detail(result: Result) -> str:
    return f"the peaks of {len(result.ours)} processes"


SHARE = Figure(
    lambda ours, stores: stores / ours, ".2f", "", True, "seconds an element", share_detail, yardstick=store_bandwidth
)
SPEED_UP = Figure(lambda ours, theirs: theirs / ours, ".3g", "x", True, "seconds an element", pair_detail)
SLOWDOWN = Figure(lambda ours, theirs: ours / theirs, ".3g", "x the time", False, "seconds an element", pair_detail)
CALL_TIME = Figure(lambda ours, _: 1e6 * ours, ".2f", " us", False, "seconds a call", batches_detail)
MEMORY = Figure(lambda ours, _: ours / 2**20, ".2f", " MiB", False, "bytes", processes_detail)


# --- the table -------------------------------------------------------------------------------------------------------


def cases(size: Sizes) -> list[Case]:
    """Return the rows of the table: what is measured, its floor and its aim. Large fills run on two threads."""
    f32, f64 = np.float32, np.float64
    whole = binary_size(size.buffer)

    def share(draw: str, dtype: Float, floor: float, aim: float, isa: str | None = None) -> Case:
        """Return a row for a fill of warm pages, as a share of the bandwidth of stores, whichever kind is faster."""
        kernels = f" by {isa}" if isa else ""
        name = f"{np.dtype(dtype)} {draw}{kernels}, {whole} of warm pages, share of the store bandwidth"
        fill = ours(draw, dtype, size.buffer, threads=2, isa=isa)
        return Case(name, SHARE, floor, aim, fill, all_stores(dtype, size.buffer), itemsize(dtype))

    normal = functools.partial(ours, "normal", f32, size.buffer)
    by_two, by_one, cold = normal(threads=2), normal(threads=1), normal(threads=2, pages=fresh)
    cold_stores = bare("plain stores", f32, size.buffer, threads=2, pages=fresh)
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
        Case("kaiming_normal_ on 64x64 float32, whole call", CALL_TIME, 8, 4, our_small_calls((64, 64)), repeats=20),
        Case(f"float32 normal, {whole} of fresh pages, against plain stores", SLOWDOWN, 1.5, 1.2, cold, (cold_stores,)),
        Case(f"memory above the buffer, {binary_size(size.memory)} fill", MEMORY, 16, 1, memory),
        *layouts.cases(shared_bytes, size.buffer, SPEED_UP),
        *families.cases(shared_bytes, size, all_stores(f32, size.buffer), SHARE, SPEED_UP),
    ]


# --- the command -----------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(description="Measure the speed table in pairs: ours and its peers in turn.")
    command.add_argument("--rounds", type=int, metavar="N", help="rounds a row (default: 15, or 3 with --quick)")
    command.add_argument("--quick", action="store_true", help="small buffers: shows that the harness runs, no more")
    command.add_argument("--only", default="", metavar="PATTERN", help="only rows whose name holds this glob")
    command.add_argument("--json", type=Path, metavar="FILE", help="write every round's costs and the medians")
    command.add_argument("--markdown", type=Path, metavar="FILE", help="write the table")
    return command


def main() -> None:
    command = parser()
    options = command.parse_args()
    rows = cases(QUICK if options.quick else FULL)
    chosen = [case for case in rows if fnmatch(case.name.lower(), f"*{options.only.lower()}*")]
    if not chosen:
        command.error(f"--only {options.only!r} matches no row")
    rounds = options.rounds if options.rounds is not None else 3 if options.quick else 15
    if rounds < 1:
        command.error(f"--rounds must be at least 1, received {rounds}")

    print(f"{about()}; medians of {rounds} rounds\n", flush=True)
    results = []
    for case in chosen:
        results.append(case.measure(rounds))
        print(plain(results[-1]), flush=True)

    if options.json:
        record = {"machine": machine(), "quick": options.quick, "rounds": rounds, "rows": [r.record() for r in results]}
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(f"{about()}; medians of {rounds} rounds.\n\n{markdown(results)}")


if __name__ == "__main__":
    main()
