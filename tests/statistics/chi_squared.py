"""Pearson's chi-squared test of counts, for the tests of distributions."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sigmas(counts: NDArray[Any], expected: Any) -> float:
    """Return Pearson's statistic minus its mean, in standard deviations.

    Wilson & Hilferty, "The distribution of chi-square", PNAS 17 (1931): its cube root is nearly normal.
    """
    freedom = counts.size - 1
    statistic = float(np.sum((counts - expected) ** 2 / expected))
    return (math.cbrt(statistic / freedom) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
