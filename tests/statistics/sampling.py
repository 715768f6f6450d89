"""Samples of any length, generated block by block as parts of the whole on all CPUs, without storing all values."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import fastkaiming as fk

Array = NDArray[Any]
Draw = Callable[..., Any]
T = TypeVar("T")

BLOCK = 1 << 20
GOLDEN = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio; its multiples are far from each other


def symmetric_uniform_(out: Array, **where: Any) -> Array:
    """Fill with uniform values from -1 to 1, which are odd multiples of 2**-24 or 2**-53 without rounding."""
    return np.asarray(fk.uniform_(out, -1.0, 1.0, **where))


def another_seed(seed: int, times: int) -> int:
    """Return another seed for a retry."""
    return (seed + times * GOLDEN) % 2**64


def map_blocks(
    measure: Callable[[Array], T],
    key: fk.Key,
    size: int,
    draw: Draw = fk.normal_,
    dtype: Any = np.float32,
    *,
    overlap: int = 0,
    block: int = BLOCK,
) -> Iterator[T]:
    """Yield ``measure(block)`` for each block of an array; blocks include ``overlap`` elements of the next one."""

    def one(begin: int) -> T:
        stop = min(begin + block + overlap, size)
        values = np.empty(stop - begin, dtype)
        draw(values, rng=key, global_shape=(size,), index=(slice(begin, stop),), threads=1)
        return measure(values)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(one, range(0, size - overlap, block))


def total(results: Iterator[Any]) -> Any:
    """Return the sum of arrays, in order, so that it is the same on any number of CPUs."""
    found = next(results)
    for each in results:
        found = found + each
    return found


def standardized(values: Array, draw: Draw) -> NDArray[np.float64]:
    """Return values with a standard deviation of one."""
    doubles = values.astype(np.float64)
    if draw is symmetric_uniform_:
        doubles *= np.sqrt(3.0)
    return doubles
