"""The distribution of single values: moments, bins, tails, and the number of repeated values."""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import verdicts
from numpy.typing import NDArray
from sampling import BLOCK, Array, Draw, map_blocks, standardized, symmetric_uniform_, total
from verdicts import Finding

import fastkaiming as fk

POWERS = 8
BINS = 1 << 16
DISTANCES = (4.5, 5.0, 5.5, 6.0, 6.5)


def normal_moment(k: int) -> float:
    """E[z**k]: (k - 1)!!, or 0."""
    return 0.0 if k % 2 else float(math.prod(range(1, k, 2)))


def uniform_moment(k: int) -> float:
    """E[z**k] for z uniform from -sqrt(3) to sqrt(3): sqrt(3)**k / (k + 1), or 0."""
    return 0.0 if k % 2 else 3.0 ** (k // 2) / (k + 1)


def moment_of(draw: Draw) -> Callable[[int], float]:
    return uniform_moment if draw is symmetric_uniform_ else normal_moment


def moments(seed: int, size: int, draw: Draw = fk.normal_, dtype: Any = np.float32) -> list[Finding]:
    """Test the moments 1 to 8 with their standard errors."""

    def sums(values: Array) -> NDArray[np.float64]:
        z = standardized(values, draw)
        power = np.ones_like(z)
        return np.array([np.sum(np.multiply(power, z, out=power)) for _ in range(POWERS)])

    means = total(map_blocks(sums, fk.Key(seed), size, draw, dtype)) / size
    exact = moment_of(draw)
    return [
        verdicts.of_sigmas(f"moment {k}", (mean - exact(k)) / math.sqrt((exact(2 * k) - exact(k) ** 2) / size))
        for k, mean in enumerate(means, 1)
    ]


def normal_edges() -> tuple[Array, NDArray[np.float64]]:
    """Return inner edges of BINS bins of float32, and the probabilities of numbers that round into each.

    A bin contains the numbers from its lower edge up to, but excluding, its upper edge. Values that are rounded to
    these numbers lie between the midpoints of each edge and the number before it.
    """
    edges = np.array([NormalDist().inv_cdf(k / BINS) for k in range(1, BINS)], np.float32)
    midpoints = (edges.astype(np.float64) + np.nextafter(edges, np.float32(-np.inf))) / 2
    # Computing from the nearer tail avoids cancellation.
    tails = np.array([math.erfc(abs(point) / math.sqrt(2)) / 2 for point in midpoints])
    below = np.concatenate([[0.0], tails[midpoints < 0]])
    above = np.concatenate([tails[midpoints >= 0], [0.0]])
    middle = 1.0 - below[-1] - above[0]
    return edges, np.concatenate([np.diff(below), [middle], -np.diff(above)])


def normal_bins(seed: int, size: int) -> list[Finding]:
    """Test bins of equal probability with exact edges."""
    edges, probabilities = normal_edges()

    def counts(values: Array) -> NDArray[np.int64]:
        values.sort()
        below = np.searchsorted(values, edges)
        return np.diff(below, prepend=0, append=values.size)

    found = total(map_blocks(counts, fk.Key(seed), size, block=min(size, 4 * BLOCK)))
    return [verdicts.of_counts("values", found, size * probabilities)]


def uniform_bins(seed: int, size: int) -> list[Finding]:
    """Test bins with the same number of floating-point numbers each."""

    def counts(values: Array) -> NDArray[np.int64]:
        bins = ((values.astype(np.float64) + 1.0) * (BINS / 2)).astype(np.int64)
        return np.bincount(bins, minlength=BINS)

    found = total(map_blocks(counts, fk.Key(seed), size, symmetric_uniform_))
    return [verdicts.of_counts("values", found, size / BINS)]


def tails(seed: int, size: int, dtype: Any = np.float32) -> list[Finding]:
    """Test the counts of values far from zero on either side, the largest value, and that no value is zero."""

    def outliers(values: Array) -> tuple[Array, int]:
        far = values[np.abs(values) > DISTANCES[0]]
        return far, values.size - int(np.count_nonzero(values))

    blocks = list(map_blocks(outliers, fk.Key(seed), size, dtype=dtype))
    far = np.concatenate([block for block, _ in blocks]).astype(np.float64)
    findings = []
    for distance in DISTANCES:
        expected = size * math.erfc(distance / math.sqrt(2)) / 2
        for side, count in (("above", np.sum(far > distance)), ("below -", np.sum(far < -distance))):
            words = f"values {side} {distance}".replace("- ", "-")
            findings.append(verdicts.of_rare(words, int(count), expected))
    if far.size:
        largest = float(np.max(np.abs(far)))
        beyond = size * math.erfc(largest / math.sqrt(2))
        findings.append(verdicts.of_largest("the largest magnitude", largest, beyond))
    zeros = sum(count for _, count in blocks)
    return [*findings, Finding("zeros", f"{zeros}, none expected", 0.0 if zeros else 1.0)]


def powers_of_probabilities(normal: bool) -> tuple[float, float]:
    """Return the sums over all float32 of the square and of the cube of the probability of each.

    In a binade the numbers are ulp = 2**(e - 23) apart, and the probability of each is ulp * pdf(x). The square of the
    density integrates to Phi(sqrt(2) x) / (2 sqrt(pi)), its cube to Phi(sqrt(3) x) / (2 pi sqrt(3)).
    """
    if not normal:
        return 2.0**-24, 2.0**-48
    cdf = NormalDist().cdf
    square = cube = 0.0
    for exponent in range(-60, 4):
        low, high, ulp = 2.0**exponent, 2.0 ** (exponent + 1), 2.0 ** (exponent - 23)
        square += ulp * (cdf(math.sqrt(2) * high) - cdf(math.sqrt(2) * low)) / (2 * math.sqrt(math.pi))
        cube += ulp**2 * (cdf(math.sqrt(3) * high) - cdf(math.sqrt(3) * low)) / (2 * math.pi * math.sqrt(3))
    return 2 * square, 2 * cube


def repetitions(seed: int, size: int, draw: Draw = fk.normal_) -> list[Finding]:
    """Test the number of pairs of equal float32 values."""

    def equal_pairs(values: Array) -> int:
        values.sort()
        ends = np.flatnonzero(np.concatenate([values[1:] != values[:-1], [True]]))
        runs = np.diff(ends, prepend=-1)
        return int(np.sum(runs * (runs - 1) // 2))

    block = min(size, BLOCK)
    count = sum(map_blocks(equal_pairs, fk.Key(seed), size, draw, block=block))
    square, cube = powers_of_probabilities(draw is fk.normal_)
    pairs, triples = math.comb(block, 2), math.comb(block, 3)
    expected = size // block * pairs * square
    variance = size // block * (pairs * (square - square**2) + 6 * triples * (cube - square**2))
    return [verdicts.of_sigmas("pairs of equal values", (count - expected) / math.sqrt(variance))]
