"""``bench``, the main job: fill a billion weights, say how fast, and check that they are as they should be."""

import argparse
import functools
import math
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import fastkaiming
from fastkaiming import _core, checks
from fastkaiming.cli import output
from fastkaiming.memory import available_memory
from fastkaiming.threads import MAX_THREADS

Weights = NDArray[np.float32]

BILLION = 10**9
MILLION = 10**6
PIECE = 2**20  # weights that the statistics take to double precision at a time
NUMPY_SAMPLE = 2**25  # weights whose time in NumPy stands for that of all
TOLERANCE = 6.0  # standard errors


HELP = "fill a huge matrix with Kaiming-normal weights; show the speed, and check the mean and the std"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--elements", type=int, default=BILLION, metavar="N", help="how many weights (default: 10**9)")
    parser.add_argument("--threads", type=int, metavar="N", help="how many threads (default: one for every CPU)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which weights (default: 0)")


def run(options: argparse.Namespace) -> int:
    """Run the job and return its exit code: 1 if the weights are not as they should be."""
    checks.integer("--elements", options.elements, 1, sys.maxsize // np.float32().nbytes)
    fastkaiming.Key(options.seed)
    threads = fastkaiming.get_num_threads() if options.threads is None else options.threads
    checks.integer("--threads", threads, 1, MAX_THREADS)
    with output.told(options.json) as result:
        elements = affordable(options.elements, available_memory())
        if elements < options.elements:
            print(f"Memory is short: {elements:,} weights instead of {options.elements:,}.")
        weights = np.empty(matrix(elements), np.float32)
        rows, columns = weights.shape
        print(
            f"fastkaiming {fastkaiming.__version__}, {fastkaiming.isa()} kernels, "
            f"{threads} thread{'s' * (threads > 1)}\n"
            f"kaiming_normal_ on {elements:,} float32 weights: {rows:,} x {columns:,}, {weights.nbytes / 1e9:.2f} GB\n"
        )
        result |= {"isa": fastkaiming.isa(), "threads": threads, "shape": [rows, columns]}
        result |= {
            f"{name.replace(' ', '_')}_seconds": seconds
            for name, seconds in show_speed(weights, threads, options.seed).items()
        }
        result["as_expected"] = show_moments(weights)
    return 0 if result["as_expected"] else 1


def affordable(elements: int, available: int | None) -> int:
    """Return how many of the weights fit into the memory available, given in bytes, with a tenth of it to spare.

    >>> affordable(1_000_000_000, 16_000_000_000)
    1000000000
    >>> affordable(1_000_000_000, 2_000_000_000)
    450000000
    """
    room = sys.maxsize if available is None else available * 9 // 10 // 4
    return elements if elements <= room else max(1, room - room % MILLION)


def matrix(elements: int) -> tuple[int, int]:
    """Return the shape of the matrix of exactly so many elements that is nearest to a square.

    >>> matrix(1_000_000_000)
    (31250, 32000)
    """
    rows = next(rows for rows in range(math.isqrt(elements), 0, -1) if elements % rows == 0)
    return rows, elements // rows


def show_speed(weights: Weights, threads: int, seed: int) -> dict[str, float]:
    """Fill the weights on fresh pages, then on warm ones; print and return the times, and those of stores and NumPy."""
    times: dict[str, float] = {}

    def show(name: str, seconds: float, remark: str) -> None:
        times[name] = seconds
        print(f"{name:<13}{seconds:>9.3f} s{weights.nbytes / seconds / 1e9:>9.2f} GB/s   {remark}", flush=True)

    fill = functools.partial(fastkaiming.kaiming_normal_, weights, rng=seed, threads=threads)
    show("first fill", timed("first fill", fill), "on fresh pages")
    stores, kind = fastest_stores(weights, threads)
    show("bare stores", stores, f"the store bandwidth, by {kind} stores")
    sample = weights.reshape(-1)[:NUMPY_SAMPLE]
    numpy = numpy_seconds(sample, fastkaiming.kaiming(weights.shape).std) * weights.size / sample.size
    show("NumPy", numpy, f"scaled from a sample of {sample.size:,}")
    second = timed("second fill", fill)
    versus = f"{stores / second:.0%} of the store bandwidth, {numpy / second:.3g} times NumPy's speed"
    show("second fill", second, f"on warm pages: {versus}")
    return times


def timed(name: str, fill: Callable[[], object]) -> float:
    """Return the seconds that a fill takes, and show its progress meanwhile."""
    with output.progress(name):
        start = time.perf_counter()
        fill()
        return time.perf_counter() - start


def fastest_stores(weights: Weights, threads: int) -> tuple[float, str]:
    """Return the seconds that storing a constant takes, and the kind of store that is faster here."""

    def seconds(store: int) -> float:
        start = time.perf_counter()
        _core.fill(weights, _core.CONSTANT_F32, 0, 0, 0, center=1.0, threads=threads, store=store)
        return time.perf_counter() - start

    plain = seconds(_core.STORE_PLAIN), "plain"
    return min(plain, (seconds(_core.STORE_STREAMING), "streaming")) if _core.streams() else plain


def numpy_seconds(sample: Weights, std: float) -> float:
    """Return the seconds that NumPy takes to fill a sample likewise."""
    rng = np.random.default_rng()
    start = time.perf_counter()
    rng.standard_normal(out=sample, dtype=np.float32)
    sample *= np.float32(std)
    return time.perf_counter() - start


def show_moments(weights: Weights) -> bool:
    """Print the sample mean and standard deviation beside the expected ones, and return whether they agree."""
    expected = fastkaiming.kaiming(weights.shape)
    mean, std = sample_moments(weights, expected.mean)
    off_mean = (mean - expected.mean) / expected.std * math.sqrt(weights.size)
    off_std = (std / expected.std - 1.0) * math.sqrt(2 * weights.size)
    good = abs(off_mean) <= TOLERANCE and abs(off_std) <= TOLERANCE
    print(f"\nmean {mean:>z15.8f}   expected {expected.mean:>11.8f}   {off_mean:>+z7.2f} standard errors")
    print(f"std  {std:>15.8f}   expected {expected.std:>11.8f}   {off_std:>+z7.2f} standard errors")
    print(f"{'as expected' if good else 'NOT AS EXPECTED'}, where {TOLERANCE:g} standard errors are tolerated")
    return good


def sample_moments(weights: Weights, center: float) -> tuple[float, float]:
    """Return the sample mean and standard deviation, summed in double precision about the mean that is expected.

    >>> sample_moments(np.array([1.0, 2.0, 3.0, 6.0], np.float32), 2.0)
    (3.0, 1.8708286933869707)
    """
    flat = weights.reshape(-1)
    pieces = (flat[start : start + PIECE].astype(np.float64) - center for start in range(0, flat.size, PIECE))
    sums = np.array([(piece.sum(), piece @ piece) for piece in pieces])
    mean, mean_square = (math.fsum(column) / flat.size for column in sums.T)
    return center + mean, math.sqrt(max(0.0, mean_square - mean * mean))
