"""How widely the weights of a layer are spread: fans from shapes, gains from activations. Pure arithmetic.

A layout names the axes of a weight tensor, one letter each: ``O`` the outputs (features or channels), ``I`` the inputs,
``B`` a batch of independent tensors such as experts, which is part of no fan, and ``*`` the receptive field: all the
axes that are left, or none. ``"OI*"`` is how PyTorch stores weights, ``"*IO"`` how JAX and Keras do.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from fastkaiming import _core, _validation
from fastkaiming.distributions._quadrature import expected_square

Nonlinearity: TypeAlias = str | Callable[[Any], Any]

# Numbers that are not exact in binary are written in hexadecimal, whose reading rounds nothing: working them out, and
# even reading decimals, would depend on the rounding mode that the process is in at import.
LEAKY_SLOPE = float.fromhex("0x1.47ae147ae147bp-7")  # 0.01, torch.nn.LeakyReLU's own default


def calculate_gain(nonlinearity: Nonlinearity, param: float | None = None) -> float:
    """Return the factor that keeps the variance of a signal through a nonlinearity.

    ============================================================ =====================================
    nonlinearity                                                 gain
    ============================================================ =====================================
    linear, conv1d ... conv3d, conv_transpose1d ... 3d, sigmoid  1
    tanh                                                         5 / 3
    relu                                                         sqrt(2)
    leaky_relu                                                   sqrt(2 / (1 + param**2))
    selu                                                         3 / 4
    elu                                                          1.245 for param = 1
    gelu, gelu_tanh                                              1.53353, 1.53358
    silu, swish                                                  1.677
    mish                                                         1.487
    softplus                                                     1.042
    any callable f                                               1 / sqrt(E[f(z)**2]), z from N(0, 1)
    ============================================================ =====================================

    The gains of the rectifiers are those of He et al., "Delving Deep into Rectifiers", 2015 (arXiv:1502.01852),
    equations 10 and 15; down to selu they are :func:`torch.nn.init.calculate_gain`'s. From elu on they follow the rule
    of the last row, by which the second moment of a standard normal signal is kept; so do the rectifiers, while 1 for
    sigmoid, 5 / 3 for tanh and 3 / 4 for selu are torch's choices: pass ``numpy.tanh`` itself for 1.593.

    Parameters
    ----------
    nonlinearity : str or callable
        A name from the table, or the function itself, which takes and returns a NumPy array, or else a float. It may
        have kinks and jumps, and is evaluated at every call: nothing about it is remembered.
    param : float, optional
        The negative slope of leaky_relu, 0.01 by default, or the alpha of elu, 1 by default; for the other
        nonlinearities it is not even looked at.

    Returns
    -------
    float
        The gain: for a callable to 1e-10 of itself, or to the precision that it returns its values in.

    Raises
    ------
    TypeError
        A nonlinearity that is neither, a callable that returns no real numbers, a slope that is no real number.
    ValueError
        A nonlinearity that is not in the table; a callable that is not finite everywhere, is 0 everywhere or too
        rough; a slope that is not finite or has no finite square.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.calculate_gain("relu")
    1.4142135623730951
    >>> fk.calculate_gain("leaky_relu", 1.0)
    1.0
    >>> round(fk.calculate_gain(lambda z: max(z, 0.0)), 10)
    1.4142135624
    """
    return gain_of(nonlinearity) if param is None else gain_of(nonlinearity, "param", param, param)


@_core.in_default_environment
def gain_of(nonlinearity: Nonlinearity, name: str = "param", slope: float = LEAKY_SLOPE, alpha: float = 1.0) -> float:
    """Return the gain of a nonlinearity; ``name`` is what the caller's signature calls the slope or alpha."""
    if not isinstance(nonlinearity, str):
        return _gain_of_callable(nonlinearity)
    gain = _GAINS[_validation.choice("nonlinearity", nonlinearity, _GAINS)]
    if gain is not None:
        return gain
    if nonlinearity == "elu":
        return math.sqrt(2.0 / (1.0 + _ELU_BELOW_0 * squared_slope(name, alpha)))
    return math.sqrt(2.0 / (1.0 + squared_slope(name, slope)))


def _gain_of_callable(nonlinearity: Callable[[Any], Any]) -> float:
    if not callable(nonlinearity):
        raise TypeError(f"nonlinearity must be a str or a callable, not {_validation.shown(nonlinearity)}")
    square = expected_square("nonlinearity", nonlinearity)
    if not square:
        raise ValueError(f"nonlinearity must not be 0 everywhere, got {nonlinearity!r}")
    return 1.0 / math.sqrt(square)


def squared_slope(name: str, slope: float) -> float:
    """Return the square of a negative slope, or of an alpha, which the gain of a rectifier needs to be finite."""
    number = _validation.finite(name, slope)
    if math.isinf(number * number):
        raise ValueError(f"{name} must have a finite square, got {slope}")
    return number * number


_GAINS: Mapping[str, float | None] = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": float.fromhex("0x1.aaaaaaaaaaaabp+0"),  # 5 / 3
    "relu": float.fromhex("0x1.6a09e667f3bcdp+0"),  # sqrt(2)
    "selu": 0.75,
    "leaky_relu": None,  # depends on the slope
    # 1 / sqrt(E[f(z)**2]): tests/generators/gains.py derives them
    "elu": None,  # depends on alpha
    "gelu": float.fromhex("0x1.889573745af35p+0"),
    "gelu_tanh": float.fromhex("0x1.8898bbaa56b66p+0"),
    "mish": float.fromhex("0x1.7ca20b07b4837p+0"),
    "silu": float.fromhex("0x1.ad313b62c10e7p+0"),
    "swish": float.fromhex("0x1.ad313b62c10e7p+0"),
    "softplus": float.fromhex("0x1.0ab7c8f1693ffp+0"),
}
_ELU_BELOW_0 = float.fromhex("0x1.28d9249eb2887p-2")  # E[expm1(z)**2], given that z < 0
