"""The distributions that weights are sampled from: immutable values with densities and moments."""

from fastkaiming.distributions._families import Distribution, Normal, TruncatedNormal, Uniform

__all__ = ["Distribution", "Normal", "TruncatedNormal", "Uniform"]
