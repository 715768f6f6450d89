"""The narrow formats of stream v1, written from docs/stream-v1.md alone, in integer arithmetic without casts.

tests/reference/reference.py includes these fills in its table of digests.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference import Fill, Parameters, Place, normal_parameters, places, uniform_parameters
from reference_truncated import truncation


@dataclass(frozen=True)
class Format:
    """A row of the table of formats in docs/stream-v1.md."""

    bits: int
    significand: int  # the number of its bits, with the hidden bit
    smallest: int  # the exponent of the smallest number above 0
    largest: float
    min_scale: float

    @property
    def word(self) -> type[np.unsignedinteger[Any]]:
        return np.uint8 if self.bits == 8 else np.uint16


FORMATS = {
    "float16": Format(16, 11, -24, 65504.0, 2.0**-25),
    "bfloat16": Format(16, 8, -133, 2.0**128 - 2.0**120, 2.0**-102),
    "float8_e4m3fn": Format(8, 4, -9, 448.0, 2.0**-10),
    "float8_e5m2": Format(8, 3, -16, 57344.0, 2.0**-17),
}


def rounded(values: NDArray[np.float32], to: Format) -> NDArray[Any]:
    """Return the bits of float32 values in a format: to nearest, ties to even.

    A value is m 2^e with an integer m. The numbers of the format around it are multiples of 2^q, so m loses q - e bits.
    The bits of n 2^q are those of n, plus 2^(significand - 1) for each step of q above its smallest value.
    """
    word = values.view(np.uint32).astype(np.int64)
    field = word >> 23 & 0xFF
    m = np.where(field > 0, 2**23, 0) + (word & 0x7FFFFF)
    e = np.maximum(field, 1) - 150
    q = np.maximum(np.frexp(m)[1] + e - to.significand, to.smallest)
    lost = np.minimum(q - e, 26)  # more bits than m has
    n, rest, half = m >> lost, m & (1 << lost) - 1, 1 << lost >> 1
    n += (rest > half) | (rest == half) & (lost > 0) & (n % 2 == 1)
    magnitude = (q - to.smallest << to.significand - 1) + n
    return np.asarray(word >> 31 << to.bits - 1 | magnitude, to.word)


@cache
def numbers(of: Format) -> list[float]:
    """Return all finite numbers of a format, in order."""
    steps = 2 ** (of.significand - 1)
    above_0: list[float] = []
    exponent = of.smallest
    while not above_0 or above_0[-1] < of.largest:
        first = steps if exponent > of.smallest else 1
        above_0 += [math.ldexp(n, exponent) for n in range(first, 2 * steps) if math.ldexp(n, exponent) <= of.largest]
        exponent += 1
    return [*(-number for number in reversed(above_0)), 0.0, *above_0]


def narrow_uniform_parameters(low: float, high: float, storage: Format) -> Parameters:
    drawn = uniform_parameters(low, high, np.float32)
    if drawn.low == drawn.high:
        return drawn
    low, high = float(np.float32(low)), float(np.float32(high))
    there = numbers(storage)
    most = there[bisect_left(there, high) - 1]
    least = -most if low == -high else there[bisect_left(there, low)]
    return Parameters(drawn.scale, drawn.center, np.float32(least), np.float32(most))


def inward(low: float, high: float, storage: Format) -> tuple[float, float]:
    """Return the outermost numbers of a format between two bounds."""
    there = numbers(storage)
    return there[bisect_left(there, low)], there[bisect_right(there, high) - 1]


@dataclass(frozen=True)
class NarrowFill(Fill):
    """A fill that is rounded to a narrower format than float32, as in "normal_f32>float16"; its values are bits."""

    @property
    def format(self) -> str:
        return self.operation.partition(">")[2]

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        return FORMATS[self.format].word

    def values(self) -> NDArray[Any]:
        return rounded(super().values(), FORMATS[self.format])


def frozen_narrow_fills() -> Iterator[NarrowFill]:
    """Yield Kaiming distributions at every place, then edge cases of the parameters at one place."""
    std = math.sqrt(2 / 4096)
    bound = math.sqrt(3) * std
    edge = Place(key=0xDECADE0FC0FFEE, stream=11, first=5, count=3001)
    for name, storage in FORMATS.items():
        least, largest = storage.min_scale, storage.largest
        kaiming = {
            "normal": normal_parameters(0, std, np.float32),
            "uniform": narrow_uniform_parameters(-bound, bound, storage),
        }
        moments = [(0, 1), (0.5, 0.02), (-3, 7), (0, least), (0, 100 * least), (0, largest / 10), (0.3, 0), (0, 0)]
        # Ends that the format has, and ends between its numbers: around 0, on one side of it, next to the largest.
        ends = [(0, 1), (-0.001, 2.5), (-0.3, -0.1), (-2 * least, 3 * least), (-0.3 * least, 30 * least)]
        ends += [(-largest, largest), (0.3 * largest, 0.7 * largest), (0.3, 0.3)]
        edges = {
            "normal": [normal_parameters(mean, std, np.float32) for mean, std in moments],
            "uniform": [narrow_uniform_parameters(low, high, storage) for low, high in ends],
        }
        for kind in ("uniform", "normal"):
            for place in places(width=4):
                if place.count < 400_000:
                    yield NarrowFill(f"{kind}_f32>{name}", place, kaiming[kind])
            for numbers_ in edges[kind]:
                yield NarrowFill(f"{kind}_f32>{name}", edge, numbers_)
        for bounds in [(0, 1, -2, 2), (0.5, 1, -2, 2), (0, 1, 5, 6)]:  # in single and in double precision
            operation, truncated = truncation(*bounds, np.float32)
            low, high = inward(truncated.low, truncated.high, storage)
            yield NarrowFill(f"{operation.partition('>')[0]}>{name}", edge, replace(truncated, low=low, high=high))
