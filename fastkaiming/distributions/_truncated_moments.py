"""A normal distribution between two bounds: its mass and moments, however near or far away the bounds are.

The textbook's differences of densities and of probabilities cancel where the bounds are near each other, and vanish
where they are far out. Here one rule integrates exp(-s * (s / 2 + tilt)), the density in units of its greatest value:
s is the distance from where that is, the mode, and ``tilt`` the distance of the mode from the peak of the normal that
was cut, both in sigmas of that. Every term is positive, so nothing cancels.
"""

import math

import numpy as np

from fastkaiming.distributions._quadrature import Points, gauss_legendre

_PANELS = 2  # which integrate exp(-s * s / 2) to the last bits over all that is within reach, 19 sigmas
_REACH = 45.0  # what is below exp(-45) of the greatest does not count


def density(s: Points, tilt: float | Points) -> Points:
    """Return the density in units of its value at the mode."""
    return np.asarray(np.exp(-s * (s / 2 + tilt)))


def mass(start: Points, end: Points, length: Points, tilt: float) -> Points:
    """Integrate from ``start`` to ``end``; their distance is ``length``, which is exact where a difference is not."""
    peak = np.clip(0.0, start, end)  # of this part
    half, middle, slope = _around(peak, start, end, length, tilt)
    nodes, weights = gauss_legendre(_PANELS)
    terms = (weight * density(middle + half * node, slope) for node, weight in zip(nodes, weights, strict=True))
    return density(peak, tilt) * half * sum(terms, np.zeros(()))


def moments(start: Points, end: Points, length: Points, tilt: float) -> tuple[float, float]:
    """Return the mean, in sigmas from the mode, and the standard deviation; the mode lies from ``start`` to ``end``."""
    half, middle, _ = _around(np.zeros(()), start, end, length, tilt)
    nodes, weights = gauss_legendre(_PANELS)
    weights = weights * density(middle + half * nodes, tilt)
    total = math.fsum(weights)
    mean = math.fsum(weights * nodes) / total
    deviation = math.sqrt(math.fsum(weights * (nodes - mean) ** 2) / total)
    return float(middle + half * mean), float(half * deviation)


def _around(peak: Points, start: Points, end: Points, length: Points, tilt: float) -> tuple[Points, Points, Points]:
    """Return half the width and the middle of what counts, as seen from the peak, and how the density slopes there."""
    slope = peak + tilt
    reach = 2 * _REACH / (abs(slope) + np.hypot(slope, math.sqrt(2 * _REACH)))
    low = np.maximum(np.where(peak == end, -length, start - peak), -reach)
    high = np.minimum(np.where(peak == start, length, end - peak), reach)
    return (high - low) / 2, (low + high) / 2, slope
