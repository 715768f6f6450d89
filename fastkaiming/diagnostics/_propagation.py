"""Propagate signals and gradients through deep random networks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _validation
from fastkaiming._fill.fill import fill_
from fastkaiming.diagnostics._activations import ACTIVATIONS, Activation
from fastkaiming.distributions import Normal
from fastkaiming.distributions._quadrature import FloatArray
from fastkaiming.initializers._model import Filler, generator_from, parse_rule
from fastkaiming.rng import Rng

_MAX_SIZE = 1 << 20  # a larger number of layers, units, networks or inputs is probably a mistake


@dataclass(frozen=True, eq=False)
class Propagation:
    """The result of :func:`propagate`, with the arguments of the call.

    Attributes
    ----------
    forward : numpy.ndarray
        The mean squares of the activations, as a float64 array of shape (networks, depth + 1). Column 0 belongs to the
        inputs, and column l to the output of layer l after its nonlinearity.
    backward : numpy.ndarray
        The mean squares of the gradients with respect to the same activations, in an array of the same shape. The last
        column belongs to the gradients at the outputs of the network.
    depth, width, nonlinearity, initializer, networks, batch
        The arguments of the call.
    seed : int
        The seed of all streams. Pass it as ``rng`` to get the same numbers again, even if ``rng`` was None.
    """

    forward: NDArray[np.float64]
    backward: NDArray[np.float64]
    depth: int
    width: int
    nonlinearity: str
    initializer: str | Filler
    networks: int
    batch: int
    seed: int


def propagate(
    depth: int = 30,
    width: int = 256,
    nonlinearity: str = "relu",
    initializer: str | Filler = "kaiming_normal(nonlinearity='relu')",
    *,
    networks: int = 5,
    batch: int = 128,
    rng: Rng = 0,
) -> Propagation:
    """Measure how signals and gradients grow or shrink in deep, fully connected random networks.

    Each of the ``depth`` layers has a square weight matrix W[l], no bias, and the nonlinearity f, whose derivative is
    called slope below. Standard normal inputs x[0] are propagated forward, and standard normal gradients dx[depth] are
    propagated backward::

        y[l] = W[l] @ x[l-1]              x[l] = f(y[l])
        dy[l] = slope(y[l]) * dx[l]       dx[l-1] = W[l].T @ dy[l]

    If f is ReLU, each layer multiplies the expected mean square of the signals and of the gradients by
    ``width * std**2 / 2``: see equations 9, 10 (forward) and 13, 14 (backward) of He et al., "Delving Deep into
    Rectifiers", 2015 (arXiv:1502.01852). This factor is 1 for Kaiming initialization and 1/2 for Xavier initialization.
    Individual networks deviate from the expectation: the logarithm of the mean square of a ReLU network has a variance
    of up to about 5 * depth / width.

    Parameters
    ----------
    depth : int, default 30
        The number of layers.
    width : int, default 256
        The number of inputs and of outputs of every layer.
    nonlinearity : str, default "relu"
        The activation function after each layer: linear, relu, leaky_relu (with a slope of 0.01), tanh, sigmoid, gelu,
        silu, elu or selu.
    initializer : str or callable, default "kaiming_normal(nonlinearity='relu')"
        The initializer of the weights, which are a float32 array of shape (width, width) in each layer. It is a rule of
        :func:`fastkaiming.init_`, or a function that is called with the array and ``rng=key``.
    networks : int, default 5
        The number of networks. Each has different weights, inputs and gradients.
    batch : int, default 128
        The number of inputs, and of gradients at the outputs, for each network.
    rng : int, Generator, numpy.random.Generator, optional
        The seed, or a generator that provides it. Layer l of network n, both numbered from 0, is filled from the stream
        named ``"{n}.{l}.weight"``. If it is None, the seed comes from the entropy of the operating system.

    Returns
    -------
    Propagation
        The mean squares for each layer, computed in float64. A value that overflows float64 is infinite or NaN.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If a number is below 1, if the nonlinearity or the rule is unknown, or if the initializer raises it.

    Examples
    --------
    >>> from fastkaiming import diagnostics
    >>> kaiming = diagnostics.propagate(depth=20)
    >>> kaiming.forward.shape
    (5, 21)
    >>> xavier = diagnostics.propagate(depth=20, initializer="xavier_normal")
    >>> round(float(kaiming.forward[0, 20] / xavier.forward[0, 20]) / 2**20, 4)  # both use the same random numbers
    1.0
    """
    _validation.integer("depth", depth, 1, _MAX_SIZE)
    _validation.integer("width", width, 1, _MAX_SIZE)
    _validation.integer("networks", networks, 1, _MAX_SIZE)
    _validation.integer("batch", batch, 1, _MAX_SIZE)
    activation = ACTIVATIONS[_validation.choice("nonlinearity", nonlinearity, ACTIVATIONS)]
    fill = _to_filler(initializer)
    streams = generator_from(rng)

    def propagate_network(network: int) -> tuple[list[float], list[float]]:
        layers = [np.zeros((width, width), np.float32) for _ in range(depth)]
        for layer, weights in enumerate(layers):
            fill(weights, rng=streams.key(f"{network}.{layer}.weight"))
        inputs, gradients = (
            fill_(np.empty((batch, width)), Normal(), rng=streams.key(f"{network}.{name}"))
            for name in ("inputs", "gradients")
        )
        return _mean_squares([weights.astype(np.float64) for weights in layers], activation, inputs, gradients)

    forward, backward = zip(*map(propagate_network, range(networks)), strict=True)
    return Propagation(
        np.array(forward), np.array(backward), depth, width, nonlinearity, initializer, networks, batch, streams.seed
    )


def _to_filler(initializer: str | Filler) -> Filler:
    if isinstance(initializer, str):
        return parse_rule("initializer", initializer)
    if not callable(initializer):
        raise TypeError(f"initializer must be a str or a function, not {_validation.describe(initializer)}")
    return initializer


@np.errstate(all="ignore")
def _mean_squares(
    layers: list[FloatArray], activation: Activation, signal: FloatArray, gradient: FloatArray
) -> tuple[list[float], list[float]]:
    """Return the mean squares of the activations and of the gradients; each row of an argument is a batch element."""
    forward, backward, slopes = [_mean_square(signal)], [_mean_square(gradient)], []
    for weights in layers:
        signal, slope = activation(signal @ weights.T)
        forward.append(_mean_square(signal))
        slopes.append(slope)
    for weights, slope in zip(reversed(layers), reversed(slopes), strict=True):
        gradient = (slope * gradient) @ weights
        backward.append(_mean_square(gradient))
    return forward, backward[::-1]


def _mean_square(values: FloatArray) -> float:
    return float(np.mean(values**2))
