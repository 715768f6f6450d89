"""Signals and gradients through random networks of many layers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _validation
from fastkaiming._fill.fill import fill_
from fastkaiming.diagnostics._activations import ACTIVATIONS, Activation
from fastkaiming.distributions import Normal
from fastkaiming.distributions._quadrature import Points
from fastkaiming.initializers._model import Filler, generator_from, parse_rule
from fastkaiming.rng import Rng

_MAX_SIZE = 1 << 20  # layers, units, networks or inputs: a larger number is probably a mistake


@dataclass(frozen=True, eq=False)
class Propagation:
    """What :func:`propagate` found, and the arguments that it was given.

    Attributes
    ----------
    forward : numpy.ndarray
        The mean squares of the activations, float64 of shape (networks, depth + 1): of the inputs first, then those
        after each layer and its nonlinearity.
    backward : numpy.ndarray
        The mean squares of the gradients with respect to the same activations, of the same shape: of the gradients fed
        into the outputs last.
    depth, width, nonlinearity, initializer, networks, batch
        As given.
    seed : int
        The seed of all streams, whatever ``rng`` was: as ``rng``, it gives the same numbers again.
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
    """Measure how signals and gradients grow or shrink through random, deep, fully connected networks.

    Layer l of ``depth`` has square weights W[l], no bias, and the nonlinearity f, whose derivative is slope. Standard
    normal inputs x[0] go forward, and standard normal gradients dx[depth] backward::

        y[l] = W[l] @ x[l-1]              x[l] = f(y[l])
        dy[l] = slope(y[l]) * dx[l]       dx[l-1] = W[l].T @ dy[l]

    With a ReLU, a layer multiplies the expected mean square of either by ``width * std**2 / 2``: equations 9, 10
    (forward) and 13, 14 (backward) of He et al., "Delving Deep into Rectifiers", 2015 (arXiv:1502.01852). Kaiming's
    weights make that 1, Xavier's 1/2. Around what is expected, networks scatter: the logarithm of a ReLU network's mean
    square has a variance of up to about 5 * depth / width.

    Parameters
    ----------
    depth : int, default 30
        The number of layers.
    width : int, default 256
        The number of inputs and of outputs of every layer.
    nonlinearity : str, default "relu"
        What follows each layer: linear, relu, leaky_relu (of slope 0.01), tanh, sigmoid, gelu, silu, elu or selu.
    initializer : str or callable, default "kaiming_normal(nonlinearity='relu')"
        What fills each layer, a float32 array of shape (width, width): a rule of :func:`fastkaiming.init_`, or a
        function that is called with the array and ``rng=key``.
    networks : int, default 5
        How many networks, each with weights, inputs and gradients of its own.
    batch : int, default 128
        How many inputs are fed to a network, and gradients to its outputs.
    rng : int, Generator, numpy.random.Generator, optional
        The seed, or what gives it: layer l of network n, both counted from 0, has the stream of the name
        ``"{n}.{l}.weight"``. None is fresh entropy.

    Returns
    -------
    Propagation
        The mean squares, layer by layer. They are worked out in float64; what overflows even that is infinite or NaN.

    Raises
    ------
    TypeError
        An argument of the wrong kind.
    ValueError
        A number below 1, a nonlinearity or a rule that is none of those known, or what an initializer refuses.

    Examples
    --------
    >>> from fastkaiming import diagnostics
    >>> kaiming = diagnostics.propagate(depth=20)
    >>> kaiming.forward.shape
    (5, 21)
    >>> xavier = diagnostics.propagate(depth=20, initializer="xavier_normal")
    >>> round(float(kaiming.forward[0, 20] / xavier.forward[0, 20]) / 2**20, 4)  # of the same random numbers
    1.0
    """
    _validation.integer("depth", depth, 1, _MAX_SIZE)
    _validation.integer("width", width, 1, _MAX_SIZE)
    _validation.integer("networks", networks, 1, _MAX_SIZE)
    _validation.integer("batch", batch, 1, _MAX_SIZE)
    activation = ACTIVATIONS[_validation.choice("nonlinearity", nonlinearity, ACTIVATIONS)]
    fill = _filler(initializer)
    streams = generator_from(rng)

    def of_network(network: int) -> tuple[list[float], list[float]]:
        layers = [np.zeros((width, width), np.float32) for _ in range(depth)]
        for layer, weights in enumerate(layers):
            fill(weights, rng=streams.key(f"{network}.{layer}.weight"))
        inputs, gradients = (
            fill_(np.empty((batch, width)), Normal(), rng=streams.key(f"{network}.{name}"))
            for name in ("inputs", "gradients")
        )
        return _mean_squares([weights.astype(np.float64) for weights in layers], activation, inputs, gradients)

    forward, backward = zip(*map(of_network, range(networks)), strict=True)
    return Propagation(
        np.array(forward), np.array(backward), depth, width, nonlinearity, initializer, networks, batch, streams.seed
    )


def _filler(initializer: str | Filler) -> Filler:
    if isinstance(initializer, str):
        return parse_rule("initializer", initializer)
    if not callable(initializer):
        raise TypeError(f"initializer must be a text or a function, not {_validation.shown(initializer)}")
    return initializer


@np.errstate(all="ignore")
def _mean_squares(
    layers: list[Points], activation: Activation, signal: Points, gradient: Points
) -> tuple[list[float], list[float]]:
    """Return the mean squares of activations and gradients; a row of each is one of the batch."""
    forward, backward, slopes = [_mean_square(signal)], [_mean_square(gradient)], []
    for weights in layers:
        signal, slope = activation(signal @ weights.T)
        forward.append(_mean_square(signal))
        slopes.append(slope)
    for weights, slope in zip(reversed(layers), reversed(slopes), strict=True):
        gradient = (slope * gradient) @ weights
        backward.append(_mean_square(gradient))
    return forward, backward[::-1]


def _mean_square(values: Points) -> float:
    return float(np.mean(values**2))
