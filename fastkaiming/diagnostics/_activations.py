"""Activation functions and their derivatives, under the names that :mod:`torch.nn.functional` uses."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from fastkaiming.distributions import Normal
from fastkaiming.distributions._quadrature import FloatArray
from fastkaiming.initializers._gains import LEAKY_SLOPE

Activation: TypeAlias = Callable[[FloatArray], tuple[FloatArray, FloatArray]]  # maps z to f(z) and f'(z)

# Klambauer et al., "Self-Normalizing Neural Networks", 2017 (arXiv:1706.02515), equation 14
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


def _linear(z: FloatArray) -> tuple[FloatArray, FloatArray]:
    return z, np.ones_like(z)


def _make_leaky_relu(slope: float) -> Activation:
    def leaky_relu(z: FloatArray) -> tuple[FloatArray, FloatArray]:
        derivative = np.where(z > 0.0, 1.0, slope)
        return z * derivative, derivative

    return leaky_relu


def _tanh(z: FloatArray) -> tuple[FloatArray, FloatArray]:
    value = np.tanh(z)
    return value, 1.0 - value**2


def _sigmoid(z: FloatArray) -> tuple[FloatArray, FloatArray]:
    value = 1.0 / (1.0 + np.exp(-z))
    return value, value * (1.0 - value)


def _silu(z: FloatArray) -> tuple[FloatArray, FloatArray]:
    gate, derivative = _sigmoid(z)
    return z * gate, gate + z * derivative


def _gelu(z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return z times the standard normal CDF (Hendrycks and Gimpel, 2016, arXiv:1606.08415) and its derivative."""
    gate, density = np.asarray(Normal().cdf(z)), np.asarray(Normal().pdf(z))
    return z * gate, gate + z * density


def _make_elu(alpha: float, scale: float = 1.0) -> Activation:
    def elu(z: FloatArray) -> tuple[FloatArray, FloatArray]:
        negative = np.minimum(z, 0.0)  # the exponential of a large positive z would overflow
        value = np.where(z > 0.0, z, alpha * np.expm1(negative))
        return scale * value, scale * np.where(z > 0.0, 1.0, alpha * np.exp(negative))

    return elu


ACTIVATIONS: Mapping[str, Activation] = {
    "linear": _linear,
    "relu": _make_leaky_relu(0.0),
    "leaky_relu": _make_leaky_relu(LEAKY_SLOPE),
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "gelu": _gelu,
    "silu": _silu,
    "elu": _make_elu(1.0),
    "selu": _make_elu(_SELU_ALPHA, _SELU_SCALE),
}
