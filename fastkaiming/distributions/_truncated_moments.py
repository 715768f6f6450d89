"""Mass and moments of a normal distribution between two bounds, accurate for any bounds.

The usual formulas are differences of densities and of probabilities. They suffer from cancellation if the bounds are
close to each other, and from underflow if the bounds are far from the mean. Here, Gauss-Legendre quadrature integrates
exp(-s * (s / 2 + tilt)), the density divided by its greatest value. ``s`` is the distance from the mode, the point
between the bounds with the greatest density, and ``tilt`` is the distance of the mode from the mean of the untruncated
normal distribution, both in sigmas of the latter. Every term is positive, so there is no cancellation.
"""

import math

import numpy as np

from fastkaiming.distributions._quadrature import FloatArray, gauss_legendre

_PANELS = 2  # enough to integrate exp(-s * s / 2) to the last bits where it is above exp(-_REACH), over 19 sigmas
_REACH = 45.0  # where the density is less than exp(-45) times the greatest, it is neglected


def density(s: FloatArray, tilt: float | FloatArray) -> FloatArray:
    """Return the density divided by its value at the mode."""
    return np.asarray(np.exp(-s * (s / 2 + tilt)))


def mass(start: FloatArray, end: FloatArray, length: FloatArray, tilt: float) -> FloatArray:
    """Return the integral from ``start`` to ``end``; ``length`` is their distance, free of cancellation."""
    peak = np.clip(0.0, start, end)  # the point of greatest density in this interval
    half, middle, slope = _relevant_interval(peak, start, end, length, tilt)
    nodes, weights = gauss_legendre(_PANELS)
    terms = (weight * density(middle + half * node, slope) for node, weight in zip(nodes, weights, strict=True))
    return density(peak, tilt) * half * sum(terms, np.zeros(()))


def moments(start: FloatArray, end: FloatArray, length: FloatArray, tilt: float) -> tuple[float, float]:
    """Return the mean, in sigmas from the mode, and the standard deviation of the interval, which contains the mode."""
    half, middle, _ = _relevant_interval(np.zeros(()), start, end, length, tilt)
    nodes, weights = gauss_legendre(_PANELS)
    weights = weights * density(middle + half * nodes, tilt)
    total = math.fsum(weights)
    mean = math.fsum(weights * nodes) / total
    deviation = math.sqrt(math.fsum(weights * (nodes - mean) ** 2) / total)
    return float(middle + half * mean), float(half * deviation)


def _relevant_interval(
    peak: FloatArray, start: FloatArray, end: FloatArray, length: FloatArray, tilt: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return half the width of the relevant interval, its middle relative to the peak, and the slope at the peak."""
    slope = peak + tilt
    reach = 2 * _REACH / (abs(slope) + np.hypot(slope, math.sqrt(2 * _REACH)))
    low = np.maximum(np.where(peak == end, -length, start - peak), -reach)
    high = np.minimum(np.where(peak == start, length, end - peak), reach)
    return (high - low) / 2, (low + high) / 2, slope
