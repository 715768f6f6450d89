"""Truncated normals follow their distribution: over equiprobable bins, in the tails, and at the bounds.

Values are counted in cells, which are ranges of neighbouring floating-point numbers. The exact probability of a cell is
the normal probability between the midpoints at its ends, so that rounding is included; it matters if few numbers lie
between the bounds. Seeds are fixed, so that the verdict is the same in every run. For other seeds, a threshold would be
exceeded about once in a billion runs.
"""

import math
from typing import Any, NamedTuple

import chi_squared
import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

import fastkaiming as fk

Doubles = NDArray[np.float64]
Float = type[np.float32] | type[np.float64]

SIGMAS = 6.0
ALARM = 1e-9
KEY = fk.Key(20150206, 3)
CHUNK = 2**20
CELL_BITS = 18
FARTHEST = 12.0  # sigmas; none of 2^32 values is expected beyond, 2 * 2^32 * 1.8e-33
FEW = 4.0  # times the expected count: in single precision, more values equal a bound than rounding to nearest gives


class Case(NamedTuple):
    name: str
    std: float
    a: float
    b: float


CASES = [
    Case("two sigmas", 1.0, -2.0, 2.0),
    Case("a hundred sigmas", 0.02, -2.0, 2.0),
    Case("the upper tail", 1.0, 2.0, math.inf),
    Case("all but the upper part", 1.0, -math.inf, -1.0),
    Case("far out", 1.0, 5.0, 6.0),
    Case("narrow", 1.0, 0.3, 0.3001),
    Case("asymmetric", 1.0, -1.0, 2.5),
]


def whole(values: NDArray[Any]) -> NDArray[Any]:
    """Return the index of each value among the numbers of its format (0 for 0.0), or the bits of an index."""
    bits = values.view(f"i{values.itemsize}")
    return np.asarray(bits ^ (bits >> (8 * bits.itemsize - 1) & np.iinfo(bits.dtype).max))


def values_of(numbers: NDArray[Any], dtype: Float) -> Doubles:
    return whole(numbers).view(dtype).astype(np.float64)


class Cells:
    """The numbers of a format between the bounds of a case, in up to 2^18 cells with the same number of numbers."""

    def __init__(self, case: Case, dtype: Float) -> None:
        self.dtype = dtype
        self.std, self.a, self.b = (float(dtype(number)) for number in case[1:])
        self.low = dtype(max(self.a, -FARTHEST * self.std))
        self.high = dtype(min(self.b, FARTHEST * self.std))
        self.first, self.last = (int(whole(np.array([end]))[0]) for end in (self.low, self.high))
        self.shift = max((self.last - self.first).bit_length() - CELL_BITS, 0)
        self.cells = ((self.last - self.first) >> self.shift) + 1
        starts = np.array(self.first) + (np.arange(1, self.cells) << self.shift)
        self.below = np.array([0.0, *self.below_number(starts), 1.0])  # the probability below each start, and 1

    def of(self, values: NDArray[Any]) -> NDArray[np.intp]:
        """Return the cell of each value between the bounds."""
        numbers = whole(values)
        numbers -= self.first
        return (numbers.view(f"u{numbers.itemsize}") >> self.shift).astype(np.intp)

    def below_number(self, numbers: NDArray[np.int64]) -> Doubles:
        """Return the probability of values that are rounded to a number below the given one."""
        kind = f"i{np.dtype(self.dtype).itemsize}"
        here, before = (values_of(some.astype(kind), self.dtype) for some in (numbers, numbers - 1))
        return self.distribution_function(before / 2 + here / 2)

    def distribution_function(self, x: Doubles) -> Doubles:
        """Return the probability below x, computed from the tail that is smaller at the lower bound."""
        sign = 1 if self.a > 0 else -1
        at_x, at_a, at_b = (
            np.array([math.erfc(sign * point / self.std / math.sqrt(2)) for point in points])
            for points in (x, [self.a], [self.b])
        )
        return np.asarray((at_x - at_a) / (at_b - at_a))


class Sample(NamedTuple):
    """The counts of a sample, and its cells."""

    cells: Cells
    draws: int
    counts: NDArray[np.int64]
    least: float
    most: float
    at_low: int
    at_high: int

    def below(self, value: float) -> float:
        """Return the exact probability of values less than one of the numbers."""
        number = whole(np.array([value], self.cells.dtype)).astype(np.int64)
        return float(self.cells.below_number(number)[0]) if value > self.cells.a else 0.0

    def not_above(self, value: float) -> float:
        """Return the exact probability of values up to one of the numbers."""
        number = whole(np.array([value], self.cells.dtype)).astype(np.int64)
        return float(self.cells.below_number(number + 1)[0]) if value < self.cells.b else 1.0


def draw(case: Case, dtype: Float, draws: int) -> Sample:
    cells = Cells(case, dtype)
    values = np.empty(CHUNK, dtype)
    counts = np.zeros(cells.cells, np.int64)
    least, most = math.inf, -math.inf
    at_low = at_high = 0
    for first in range(0, draws, CHUNK):
        place: dict[str, Any] = {"global_shape": (draws,), "index": (slice(first, first + CHUNK),)}
        fk.trunc_normal_(values, std=case.std, a=case.a, b=case.b, rng=KEY, threads=2, **place)
        low, high = np.min(values), np.max(values)
        assert cells.low <= low <= high <= cells.high  # false for NaN
        least, most = min(least, float(low)), max(most, float(high))
        at_low += int(np.count_nonzero(values == cells.low)) if low == cells.low else 0
        at_high += int(np.count_nonzero(values == cells.high)) if high == cells.high else 0
        counts += np.bincount(cells.of(values), minlength=cells.cells)
    return Sample(cells, draws, counts, least, most, at_low, at_high)


DRAWS: list[tuple[Float, int]] = [(np.float32, 2**26), (np.float64, 2**23), (np.float32, 2**32), (np.float64, 2**32)]


def marks_of(case: Case, dtype: Float, draws: int) -> list[pytest.MarkDecorator]:
    if draws == 2**32:
        return [pytest.mark.slow]
    is_default = dtype is np.float64 or case is CASES[0]
    return [] if is_default else [pytest.mark.extended]


SAMPLES = [
    pytest.param(
        (case, dtype, draws),
        marks=marks_of(case, dtype, draws),
        id=f"{case.name}-{dtype.__name__}-2^{draws.bit_length() - 1}",
    )
    for case in CASES
    for dtype, draws in DRAWS
]


@pytest.fixture(scope="module", params=SAMPLES)
def sample(request: pytest.FixtureRequest) -> Sample:
    return draw(*request.param)


@pytest.mark.parametrize("bins", [16, 1024])  # few bins detect wrong moments better, many bins detect local errors
def test_chi_squared_over_equiprobable_bins(sample: Sample, bins: int) -> None:
    starts = np.unique(np.searchsorted(sample.cells.below, np.arange(bins) / bins, "right") - 1)
    counts = np.add.reduceat(sample.counts, starts)
    expected = sample.draws * np.diff(sample.cells.below[starts], append=1.0)
    assert counts.size > bins / 2
    assert abs(chi_squared.sigmas(counts, expected)) < SIGMAS


def test_tails_have_the_expected_counts(sample: Sample) -> None:
    counted = np.concatenate([[0], np.cumsum(sample.counts)])
    checked = 0
    for tail in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        for wanted in (tail, 1 - tail):
            start = int(np.argmin(np.abs(sample.cells.below - wanted)))
            probability = float(sample.cells.below[start])
            variance = sample.draws * probability * (1 - probability)
            if variance > 500:  # otherwise the binomial distribution is not nearly normal
                checked += 1
                assert abs(counted[start] - sample.draws * probability) < SIGMAS * math.sqrt(variance), probability
    assert checked >= 6


def test_every_cell_has_values(sample: Sample) -> None:
    expected = sample.draws * np.diff(sample.cells.below)
    assert np.all(sample.counts[expected > 64] > 0)  # empty with a probability of exp(-64)


def test_values_come_close_to_both_bounds(sample: Sample) -> None:
    # The expected number of values beyond the largest one has an exponential distribution.
    assert sample.draws * sample.below(sample.least) < -math.log(ALARM)
    assert sample.draws * (1 - sample.not_above(sample.most)) < -math.log(ALARM)


def test_bounds_are_not_too_frequent(sample: Sample) -> None:
    low, high = float(sample.cells.low), float(sample.cells.high)
    for count, probability in ((sample.at_low, sample.not_above(low)), (sample.at_high, 1 - sample.below(high))):
        assert count <= most_of_few(FEW * sample.draws * probability)


def most_of_few(mean: float) -> float:
    """Return a bound that a binomial count with at most this mean exceeds with a probability below ALARM.

    Bernstein's inequality: P(X >= mean + t) <= exp(-t**2 / 2 / (mean + t / 3)).
    """
    nats = -math.log(ALARM)
    return mean + nats / 3 + math.sqrt((nats / 3) ** 2 + 2 * nats * mean)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("case", [case for case in CASES if case.name != "narrow"], ids=lambda case: case.name)
def test_narrow_formats_stay_between_the_bounds(dtype: Any, case: Case) -> None:
    values = fk.trunc_normal_(np.empty(2**22, dtype), std=case.std, a=case.a, b=case.b, rng=KEY, threads=2)
    least, most = (float(end(values.astype(np.float32))) for end in (np.min, np.max))
    assert case.a <= least < most <= case.b
