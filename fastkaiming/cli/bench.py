"""``bench``, the default command: fills a billion weights, prints the speed and checks the mean and the std."""

import argparse
import functools
import math
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastkaiming
from fastkaiming import _core, _validation
from fastkaiming._system.memory import available_memory
from fastkaiming._system.threads import MAX_THREADS
from fastkaiming.cli import _output
from fastkaiming.cli._memset import memset

Weights = NDArray[np.float32]

BILLION = 10**9
MILLION = 10**6
CHUNK = 2**20  # weights that sample_moments converts to double precision at a time
NUMPY_SAMPLE = 2**25  # NumPy needs about 10 ns per weight, so only this many are measured, and the time is scaled
TOLERANCE = 6.0  # standard errors

HELP = "fill a huge matrix with Kaiming-normal weights, print the speed, and check the mean and the std"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_options(parser)


def add_options(parser: argparse._ActionsContainer) -> None:
    """Add the options to a parser or to a group of options."""
    parser.add_argument(
        "--elements",
        type=count,
        default=BILLION,
        metavar="N",
        help="the number of weights, written as 1000000000, 1_000_000_000, 10**9 or 1e9 (default: 10**9)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="the number of threads (default: one for each CPU)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the seed (default: 0)")


def count(text: str) -> int:
    """Return the integer in a text such as 1000000000, 1_000_000_000, 10**9 or 1e9.

    >>> [count(text) for text in ("2000", "2_000", "10**3", "2e3")]
    [2000, 2000, 1000, 2000]
    """
    match = re.fullmatch(r"([+-]?[0-9]{1,30}(?:_[0-9]{1,30})*)(?:(\*\*|[eE]\+?)([0-9]{1,2}))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"it must be an integer such as 1000000000, 10**9 or 1e9, got {text!r:.60}")
    number, operator, exponent = int(match[1].replace("_", "")), match[2], int(match[3] or 0)
    if operator is None:
        return number
    return int(number**exponent) if operator == "**" else int(number * 10**exponent)


def run(options: argparse.Namespace) -> int:
    """Run the benchmark and return the exit code, which is 1 if the mean or the std is not as expected."""
    _validation.integer("--elements", options.elements, 1, sys.maxsize // np.float32().nbytes)
    fastkaiming.Key(options.seed)
    threads = fastkaiming.get_num_threads() if options.threads is None else options.threads
    _validation.integer("--threads", threads, 1, MAX_THREADS)
    with _output.json_output(options.json) as result:
        elements = affordable(options.elements, available_memory())
        if elements < options.elements:
            print(f"Not enough memory: {elements:,} weights instead of {options.elements:,}.")
        rows, columns = shape = matrix_shape(elements)
        print(
            f"fastkaiming {fastkaiming.__version__}, {fastkaiming.isa()} kernels, "
            f"{threads} thread{'s' * (threads > 1)}\n"
            f"kaiming_normal_ on {elements:,} float32 weights: {rows:,} x {columns:,}, {elements * 4 / 1e9:.2f} GB"
        )
        result |= {"isa": fastkaiming.isa(), "threads": threads, "shape": [rows, columns]}
        weights, times = show_speed(shape, threads, options.seed)
        result |= times
        result["as_expected"] = show_moments(weights)
    return 0 if result["as_expected"] else 1


def affordable(elements: int, available: int | None) -> int:
    """Return how many of the weights fit into nine tenths of the available memory, which is given in bytes.

    >>> affordable(1_000_000_000, 16_000_000_000)
    1000000000
    >>> affordable(1_000_000_000, 2_000_000_000)
    450000000
    """
    limit = sys.maxsize if available is None else available * 9 // 10 // 4
    return elements if elements <= limit else max(1, limit - limit % MILLION)


def matrix_shape(elements: int) -> tuple[int, int]:
    """Return the shape of the matrix with this number of elements that is closest to a square.

    >>> matrix_shape(1_000_000_000)
    (31250, 32000)
    """
    rows = next(rows for rows in range(math.isqrt(elements), 0, -1) if elements % rows == 0)
    return rows, elements // rows


@dataclass(frozen=True)
class Row:
    """A measured time, which is scaled to all weights if only a sample was measured."""

    memory: str
    operation: str
    threads: int
    seconds: float
    measured_weights: int


class Rows:
    """The rows of times and rates; each is printed as soon as it is measured."""

    def __init__(self, elements: int) -> None:
        self.elements = elements
        self.memory = ""
        self.rows: list[Row] = []

    def begin(self, memory: str, heading: str) -> None:
        """Print the heading of the following rows, which are about one kind of memory."""
        self.memory = memory
        print(f"\n{heading}:")

    def add(self, operation: str, threads: int, seconds: float, remark: str, sample: int = 0) -> float:
        """Print the row of a time, and return the time scaled to all weights if only a sample was measured."""
        measured = sample or self.elements
        scaled = seconds * self.elements / measured
        self.rows.append(Row(self.memory, operation, threads, scaled, measured))
        rate = self.elements * np.float32().nbytes / scaled / 1e9
        on = f"{threads} thread{'s' * (threads > 1)}"
        print(f"{operation:<16}{scaled:>9.3f} s{rate:>9.2f} GB/s   {on}, {remark}", flush=True)
        return scaled


def show_speed(shape: tuple[int, int], threads: int, seed: int) -> tuple[Weights, dict[str, Any]]:
    """Measure fastkaiming, memset and NumPy; print the times and return the filled weights and the times."""
    rows = Rows(math.prod(shape))
    weights, first = show_new_memory(rows, shape, threads, seed)
    numpy = show_touched_memory(rows, weights, threads, seed)
    speedup = numpy / first
    print(
        f"\n{speedup:.3g} times NumPy's speed in the comparison most favourable to NumPy: "
        "the first fill, and NumPy on already touched memory"
    )
    return weights, {"rows": [asdict(row) for row in rows.rows], "min_speedup_over_numpy": speedup}


def show_new_memory(rows: Rows, shape: tuple[int, int], threads: int, seed: int) -> tuple[Weights, float]:
    """Print the rows about newly allocated memory; return the filled weights and the time of the fill in seconds.

    The host of a virtual machine may be slow to provide memory when it is first used, and may take it back within
    seconds. Therefore, the memory that a row needs is written and freed just before the row is measured.
    """
    rows.begin("newly allocated", "Newly allocated memory, which the system provides when it is first written")
    sample = min(NUMPY_SAMPLE, rows.elements)
    memset(np.empty(sample, np.float32), threads)
    taken = numpy_seconds(np.empty(sample, np.float32), fastkaiming.kaiming(shape).std)
    numpy = rows.add("NumPy", 1, taken, f"scaled from {sample:,} weights", sample)
    taken = memset_seconds(np.empty(shape, np.float32), threads)
    rows.add("first memset", threads, taken, "a warm-up: a virtual machine's host may have to provide the memory first")
    stores = memset_seconds(np.empty(shape, np.float32), threads)
    rows.add("memset", threads, stores, "in work units of 2 MiB")
    weights = np.empty(shape, np.float32)
    first = timed("first fill", functools.partial(fastkaiming.kaiming_normal_, weights, rng=seed, threads=threads))
    rows.add("first fill", threads, first, f"{stores / first:.0%} of memset's speed, {numpy / first:.3g} times NumPy's")
    return weights, first


def show_touched_memory(rows: Rows, weights: Weights, threads: int, seed: int) -> float:
    """Print the rows for already touched memory, and return the time of NumPy in seconds."""
    rows.begin("already touched", "Already touched memory")
    bandwidth, kind = fastest_stores(weights, threads)
    rows.add("store bandwidth", threads, bandwidth, f"by {kind}")
    sample = weights.reshape(-1)[:NUMPY_SAMPLE]
    taken = numpy_seconds(sample, fastkaiming.kaiming(weights.shape).std)
    numpy = rows.add("NumPy", 1, taken, f"scaled from {sample.size:,} weights", sample.size)
    second = timed("second fill", functools.partial(fastkaiming.kaiming_normal_, weights, rng=seed, threads=threads))
    versus = f"{bandwidth / second:.0%} of the store bandwidth, {numpy / second:.3g} times NumPy's speed"
    rows.add("second fill", threads, second, versus)
    return numpy


def timed(name: str, fill: Callable[[], object]) -> float:
    """Return the time of a fill in seconds, and show its progress."""
    with _output.progress(name):
        return seconds_of(fill)


def seconds_of(action: Callable[[], object]) -> float:
    """Return the time of a call in seconds."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def memset_seconds(weights: Weights, threads: int) -> float:
    """Return the time of memset in seconds."""
    return seconds_of(lambda: memset(weights, threads))


def fastest_stores(weights: Weights, threads: int) -> tuple[float, str]:
    """Return the time to write the memory without computing anything, in seconds, and the name of the faster method."""

    def stream() -> None:
        stores = _core.STORE_STREAMING
        _core.fill(weights, _core.CONSTANT_F32, 0, 0, 0, center=1.0, threads=threads, store=stores)

    plain = memset_seconds(weights, threads), "memset"
    return min(plain, (seconds_of(stream), "streaming stores")) if _core.has_streaming_stores() else plain


def numpy_seconds(weights: Weights, std: float) -> float:
    """Return the time, in seconds, that NumPy needs to fill an array with the same distribution."""
    rng = np.random.default_rng()

    def fill() -> None:
        rng.standard_normal(out=weights, dtype=np.float32)
        np.multiply(weights, np.float32(std), out=weights)

    return seconds_of(fill)


def show_moments(weights: Weights) -> bool:
    """Print the sample mean and standard deviation with the expected ones, and return whether they agree."""
    expected = fastkaiming.kaiming(weights.shape)
    mean, std = sample_moments(weights, expected.mean)
    mean_error = (mean - expected.mean) / expected.std * math.sqrt(weights.size)
    std_error = (std / expected.std - 1.0) * math.sqrt(2 * weights.size)
    good = abs(mean_error) <= TOLERANCE and abs(std_error) <= TOLERANCE
    print(f"\nmean {mean:>z15.8f}   expected {expected.mean:>11.8f}   {mean_error:>+z7.2f} standard errors")
    print(f"std  {std:>15.8f}   expected {expected.std:>11.8f}   {std_error:>+z7.2f} standard errors")
    print(f"{'as expected' if good else 'NOT AS EXPECTED'} (tolerance: {TOLERANCE:g} standard errors)")
    return good


def sample_moments(weights: Weights, center: float) -> tuple[float, float]:
    """Return the sample mean and standard deviation, with sums in double precision around an expected mean.

    >>> sample_moments(np.array([1.0, 2.0, 3.0, 6.0], np.float32), 2.0)
    (3.0, 1.8708286933869707)
    """
    flat = weights.reshape(-1)
    chunks = (flat[start : start + CHUNK].astype(np.float64) - center for start in range(0, flat.size, CHUNK))
    sums = np.array([(chunk.sum(), chunk @ chunk) for chunk in chunks])
    mean, mean_square = (math.fsum(column) / flat.size for column in sums.T)
    return center + mean, math.sqrt(max(0.0, mean_square - mean * mean))
