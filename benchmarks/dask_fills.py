"""Speed of fastkaiming.dask and of dask.array.random on two worker threads, with the same chunks (see harness.py).

    python benchmarks/dask_fills.py [--rounds N] [--quick]

Every run computes all chunks again, each in its own memory, and keeps them until its end.
"""

from __future__ import annotations

import argparse
from typing import Any

import dask
import dask.array as da
import numpy as np
from harness import Case, Figure, Timed, median, plain

import fastkaiming as fk
import fastkaiming.dask

WORKERS = 2
COLUMNS = 4096

SPEED_UP = Figure(
    lambda cost, other: other / cost,
    *(".1f", "x", True, "seconds per element"),
    lambda result: (
        f"{1e9 * median(result.own_costs):.3g} ns per element against {1e9 * median(result.other_costs):.3g}"
    ),
)
OVERHEAD = Figure(
    lambda cost, eager: cost / eager,
    *(".2f", "x the time", False, "seconds per element"),
    SPEED_UP.detail,
)


def cases(rows: int, chunk: int) -> list[Case]:
    """Return the rows of the table for a matrix of `rows` rows in chunks of `chunk` rows."""
    shape, chunks = (rows, COLUMNS), (chunk, COLUMNS)
    dask_rng = da.random.default_rng(0)

    def array(name: str, lazy: Any) -> Timed:
        return Timed(name, lambda: lazy, compute, rows * COLUMNS)

    def row(dtype: type[np.floating[Any]], minimum: float, target: float) -> Case:
        own = array("fastkaiming.dask", fk.dask.normal(shape, dtype, chunks=chunks))
        other = array("dask.array.random", dask_rng.standard_normal(shape, chunks=chunks, dtype=dtype))
        return Case(f"{np.dtype(dtype)} normal, against Dask's", SPEED_UP, minimum, target, own, (other,))

    own = array("fastkaiming.dask", fk.dask.normal(shape, chunks=chunks))
    eager = Timed("fastkaiming", lambda: None, lambda _: fk.normal(shape, rng=0, threads=WORKERS), rows * COLUMNS)
    against_eager = Case("float32 normal, against one eager call", OVERHEAD, 1.5, 1.1, own, (eager,))
    return [row(np.float32, 5, 10), row(np.float64, 3, 6), against_eager]


def compute(array: Any) -> object:
    """Compute every chunk and keep it in memory."""
    return dask.persist(array, scheduler="threads", num_workers=WORKERS)


def main() -> None:
    """Print one row after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds per row (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="use small arrays, to check that the program runs")
    options = parser.parse_args()
    for case in cases(*((64, 16) if options.quick else (32 * 1024, 1024))):
        print(plain(case.measure(options.rounds)), flush=True)


if __name__ == "__main__":
    main()
