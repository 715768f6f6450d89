"""Nonlinearities and their derivatives, by the names of :mod:`torch.nn.functional`."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from fastkaiming.distributions import Normal
from fastkaiming.distributions._quadrature import Points
from fastkaiming.initializers._gains import LEAKY_SLOPE

Activation: TypeAlias = Callable[[Points], tuple[Points, Points]]  # z in, f(z) and f'(z) out

# Klambauer et al., "Self-Normalizing Neural Networks", 2017 (arXiv:1706.02515), equation 14
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


def _linear(z: Points) -> tuple[Points, Points]:
    return z, np.ones_like(z)


def _rectifier(slope: float) -> Activation:
    def rectified(z: Points) -> tuple[Points, Points]:
        slopes = np.where(z > 0.0, 1.0, slope)
        return z * slopes, slopes

    return rectified


def _tanh(z: Points) -> tuple[Points, Points]:
    value = np.tanh(z)
    return value, 1.0 - value**2


def _sigmoid(z: Points) -> tuple[Points, Points]:
    value = 1.0 / (1.0 + np.exp(-z))
    return value, value * (1.0 - value)


def _silu(z: Points) -> tuple[Points, Points]:
    gate, slope = _sigmoid(z)
    return z * gate, gate + z * slope


def _gelu(z: Points) -> tuple[Points, Points]:
    """Return z times the normal distribution function: Hendrycks and Gimpel, 2016 (arXiv:1606.08415)."""
    gate, density = np.asarray(Normal().cdf(z)), np.asarray(Normal().pdf(z))
    return z * gate, gate + z * density


def _exponential(alpha: float, scale: float = 1.0) -> Activation:
    def elu(z: Points) -> tuple[Points, Points]:
        below = np.minimum(z, 0.0)  # the exponential of what is above may overflow
        value = np.where(z > 0.0, z, alpha * np.expm1(below))
        return scale * value, scale * np.where(z > 0.0, 1.0, alpha * np.exp(below))

    return elu


ACTIVATIONS: Mapping[str, Activation] = {
    "linear": _linear,
    "relu": _rectifier(0.0),
    "leaky_relu": _rectifier(LEAKY_SLOPE),
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "gelu": _gelu,
    "silu": _silu,
    "elu": _exponential(1.0),
    "selu": _exponential(_SELU_ALPHA, _SELU_SCALE),
}
