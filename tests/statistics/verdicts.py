"""Results of tests as p-values: the probability of a result at least as far from the expected one.

A single p below ALARM fails. If p is below DOUBT, the test is repeated with other seeds, and every repetition must be
above DOUBT. Of the about thousand figures of a whole battery, 0.1 is expected to be in doubt by chance.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import chi_squared
import numpy as np
from numpy.typing import NDArray

ALARM = 1e-9
DOUBT = 1e-4


class Finding(NamedTuple):
    """A figure, its description, and its two-sided p-value."""

    what: str
    figure: str
    p: float


def two_sided(z: float) -> float:
    """Return the probability that a normal deviate is farther from zero than ``z``."""
    return math.erfc(abs(z) / math.sqrt(2))


def of_sigmas(what: str, z: float) -> Finding:
    """Return the finding of a statistic with a standard normal distribution."""
    return Finding(what, f"{z:+.2f} sigma", two_sided(z))


def of_counts(what: str, counts: NDArray[Any], expected: Any) -> Finding:
    """Return the finding of Pearson's statistic; it is two-sided, because too small a statistic is also an error."""
    return of_sigmas(f"{what}, chi-squared of {counts.size:,} bins", chi_squared.sigmas(counts, expected))


def of_rare(what: str, count: int, expected: float) -> Finding:
    """Return the finding of a count with a Poisson distribution, computed exactly."""
    return Finding(what, f"{count:,}, {expected:,.6g} expected", poisson_two_sided(count, expected))


def poisson_two_sided(count: int, mean: float) -> float:
    """Return twice the smaller of P(X >= count) and P(X <= count), at most 1."""
    farthest = max(count, math.ceil(mean)) + 40 * math.isqrt(math.ceil(mean) + 1) + 40
    k = np.arange(farthest + 1)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
    probabilities = np.exp(k * math.log(mean) - mean - log_factorials)
    return float(min(1.0, 2 * min(np.sum(probabilities[: count + 1]), np.sum(probabilities[count:]))))


def of_largest(what: str, largest: float, expected_beyond: float) -> Finding:
    """Return the finding of the largest of many values.

    The expected number of values beyond the largest one has an exponential distribution.
    """
    at_least, at_most = -math.expm1(-expected_beyond), math.exp(-expected_beyond)
    return Finding(what, f"{largest:.4f}, {expected_beyond:.3g} expected beyond", min(1.0, 2 * min(at_least, at_most)))


def worst(findings: Sequence[Finding]) -> Finding:
    return min(findings, key=lambda finding: finding.p)
