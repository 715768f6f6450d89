"""The gains of nonlinearities."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from fastkaiming import _core, _hints, _validation
from fastkaiming._errors import named
from fastkaiming.distributions._quadrature import expected_square
from fastkaiming.initializers._fans import MODES

Nonlinearity: TypeAlias = str | Callable[[Any], Any]

# Numbers that are not exact in binary are written in hexadecimal, which is parsed without rounding. Arithmetic and
# even decimal literals would depend on the rounding mode of the process at import.
LEAKY_SLOPE = float.fromhex("0x1.47ae147ae147bp-7")  # 0.01, the default of torch.nn.LeakyReLU


def calculate_gain(nonlinearity: Nonlinearity, param: float | None = None) -> float:
    """Return the factor that preserves the variance of a signal through a nonlinearity.

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
    equations 10 and 15. The rows down to selu equal :func:`torch.nn.init.calculate_gain`. The rows from elu on follow
    the formula of the last row, which preserves the second moment of a standard normal signal; the rectifiers satisfy
    it as well. The gains 1 for sigmoid, 5 / 3 for tanh and 3 / 4 for selu are torch's and do not follow the formula:
    pass ``numpy.tanh`` itself for a gain of 1.593.

    Parameters
    ----------
    nonlinearity : str or callable
        A name from the table, or a function that takes and returns either a NumPy array or a float. The function may
        have kinks and jumps. It is evaluated at every call, because its gain is not cached.
    param : float, optional
        The negative slope of leaky_relu, by default 0.01, or the alpha of elu, by default 1. It is ignored for other
        nonlinearities.

    Returns
    -------
    float
        The gain. For a callable, its relative error is at most 1e-10, or the relative error of the callable's results
        if that is larger.

    Raises
    ------
    TypeError
        If ``nonlinearity`` is neither a str nor a callable, the callable does not return real numbers, or ``param`` is
        not a real number.
    ValueError
        If ``nonlinearity`` is not in the table; if the callable is not finite everywhere, is 0 everywhere or is too
        rough to integrate; or if ``param`` or its square is not finite.

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
    with named("calculate_gain"):
        return gain_of(nonlinearity) if param is None else gain_of(nonlinearity, "param", param, param)


@_core.in_default_environment
def gain_of(nonlinearity: Nonlinearity, name: str = "param", slope: float = LEAKY_SLOPE, alpha: float = 1.0) -> float:
    """Return the gain of a nonlinearity; ``name`` is the name of the slope or alpha in the caller's signature."""
    if not isinstance(nonlinearity, str):
        return _gain_of_callable(nonlinearity, name)
    hint = ": for another nonlinearity, pass a function"
    gain = _GAINS[_validation.choice("nonlinearity", nonlinearity, _GAINS, hint)]
    if gain is not None:
        return gain
    if nonlinearity == "elu":
        return math.sqrt(2.0 / (1.0 + _ELU_NEGATIVE_MEAN_SQUARE * squared_slope(name, alpha)))
    return math.sqrt(2.0 / (1.0 + squared_slope(name, slope)))


def _gain_of_callable(nonlinearity: Callable[[Any], Any], slope: str) -> float:
    if not callable(nonlinearity):
        raise TypeError(f"nonlinearity must be a str or a callable, not {_validation.describe(nonlinearity)}")
    try:
        square = expected_square("nonlinearity", nonlinearity)
    except Exception as error:
        hint = _hints.for_function_of_torch(nonlinearity, _GAINS, slope)
        if hint is None:
            raise
        shown = _validation.describe(nonlinearity)
        raise TypeError(f"nonlinearity must be a function of NumPy arrays or floats, not {shown}{hint}") from error
    if not square:
        raise ValueError(f"nonlinearity must not be 0 everywhere, got {nonlinearity!r}")
    return 1.0 / math.sqrt(square)


def reject_text_as_slope(slope: Any) -> None:
    """Raise TypeError if the second argument of the Kaiming initializers is a str, which another argument takes."""
    _validation.reject_text("a", slope, {"mode={!r}": MODES, "nonlinearity={!r}": _GAINS})


def given_gain(gain: Any) -> float:
    """Return a gain that was passed as a number."""
    _validation.reject_text("gain", gain, {"gain=calculate_gain({!r})": _GAINS})
    return _validation.not_negative("gain", gain)


def squared_slope(name: str, slope: float) -> float:
    """Return the square of a negative slope or an alpha, or raise ValueError if it is not finite."""
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
    # 1 / sqrt(E[f(z)**2]), computed by tests/generators/gains.py
    "elu": None,  # depends on alpha
    "gelu": float.fromhex("0x1.889573745af35p+0"),
    "gelu_tanh": float.fromhex("0x1.8898bbaa56b66p+0"),
    "mish": float.fromhex("0x1.7ca20b07b4837p+0"),
    "silu": float.fromhex("0x1.ad313b62c10e7p+0"),
    "swish": float.fromhex("0x1.ad313b62c10e7p+0"),
    "softplus": float.fromhex("0x1.0ab7c8f1693ffp+0"),
}
_ELU_NEGATIVE_MEAN_SQUARE = float.fromhex("0x1.28d9249eb2887p-2")  # E[expm1(z)**2], given that z < 0
