"""Gains against integrals by mpmath, against closed forms, and against each other."""

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastkaiming as fk

TABLE = Path(__file__).parents[1] / "vectors" / "gains.txt"
ROWS = [line.split() for line in TABLE.read_text("utf-8").splitlines() if not line.startswith("#")]
DECIMALS = {name: decimal for name, decimal, _ in ROWS}


@pytest.mark.parametrize(("name", "decimal", "hexadecimal"), ROWS)
def test_gains_equal_the_integrals_to_the_last_bit(name: str, decimal: str, hexadecimal: str) -> None:
    if name == "elu_below_0":  # every alpha uses this moment; this alpha leaves no other term
        assert fk.calculate_gain("elu", 1e150) == math.sqrt(2 / (1 + float(decimal) * 1e300))
    else:
        assert fk.calculate_gain(name).hex() == hexadecimal
    assert float(decimal).hex() == hexadecimal


@pytest.mark.skipif(find_spec("mpmath") is None, reason="mpmath is not installed")
def test_table_is_what_its_generator_computes() -> None:
    import gains
    from mpmath import nstr, sqrt

    computed = {name: nstr(1 / sqrt(gains.expected_square(f)), 30) for name, f in gains.ACTIVATIONS.items()}
    assert computed.items() <= DECIMALS.items()


def test_synonyms_have_equal_gains() -> None:
    assert fk.calculate_gain("swish") == fk.calculate_gain("silu")
    assert fk.calculate_gain("elu") == fk.calculate_gain("elu", 1) == fk.calculate_gain("elu", -1)
    assert fk.calculate_gain("elu", 0) == fk.calculate_gain("relu")


def softplus(z: Any) -> Any:
    return np.log1p(np.exp(z))


def phi(z: float) -> float:
    """Return the density of the standard normal distribution."""
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def above(z: float) -> float:
    """Return the probability that a standard normal value is above z."""
    return math.erfc(z / math.sqrt(2)) / 2


CALLABLES: list[tuple[str, Callable[[Any], Any], float]] = [
    # the activations of the table, by their definitions
    ("elu", lambda z: np.where(z > 0, z, np.expm1(z)), float(DECIMALS["elu"])),
    ("gelu", lambda z: z * (1 + math.erf(z / math.sqrt(2))) / 2, float(DECIMALS["gelu"])),
    ("silu", lambda z: z / (1 + np.exp(-z)), float(DECIMALS["silu"])),
    ("mish", lambda z: z * np.tanh(softplus(z)), float(DECIMALS["mish"])),
    ("softplus", softplus, float(DECIMALS["softplus"])),
    # E[f(z)^2] in closed form
    ("identity", lambda z: z, 1.0),
    ("constant", lambda _: 0.25, 4.0),
    ("relu", lambda z: np.maximum(z, 0), math.sqrt(2)),
    ("relu of a scalar", lambda z: max(z, 0.0), math.sqrt(2)),
    ("leaky_relu", lambda z: np.where(z > 0, z, 0.2 * z), math.sqrt(2 / 1.04)),
    ("cube", lambda z: z**3, 1 / math.sqrt(15)),
    ("exponential", np.exp, 1 / math.e),
    ("steep exponential", lambda z: np.exp(10 * z), math.exp(-100)),
    ("cosine", np.cos, math.sqrt(2 / (1 + math.exp(-2)))),
    ("clipped", lambda z: np.clip(z, 0.0, 1.0), 1 / math.sqrt(0.5 - above(1) - phi(1) + above(1))),
    ("kink anywhere", lambda z: np.maximum(z - 0.3, 0), 1 / math.sqrt(1.09 * above(0.3) - 0.3 * phi(0.3))),
    ("jump anywhere", lambda z: z > 0.3, 1 / math.sqrt(above(0.3))),
    ("jump of a scalar", lambda z: 2 if z > -1.7 else 0, 0.5 / math.sqrt(above(-1.7))),
    ("thin slice", lambda z: (z > 0.123) & (z < 1.125), 1 / math.sqrt(above(0.123) - above(1.125))),
    ("tiny", lambda z: 1e-150 * z, 1e150),
    # mpmath, 30 digits
    ("tanh", math.tanh, 1.59253741972283142777),
]


@pytest.mark.parametrize(("function", "gain"), [case[1:] for case in CALLABLES], ids=[case[0] for case in CALLABLES])
def test_gain_of_a_callable(function: Callable[[Any], Any], gain: float) -> None:
    assert math.isclose(fk.calculate_gain(function), gain, rel_tol=1e-10)


def test_gain_of_a_single_precision_callable_has_that_precision() -> None:
    gain = fk.calculate_gain(lambda z: np.tanh(z.astype(np.float32)))
    assert math.isclose(gain, 1.59253741972283142777, rel_tol=1e-7)


def test_callable_may_modify_its_argument_and_is_evaluated_at_every_call() -> None:
    slope = 1.0

    def in_place(z: Any) -> Any:
        z[z < 0] *= slope
        return z

    weights = np.empty((4, 50), np.float64)
    assert fk.calculate_gain(in_place) == pytest.approx(1.0, rel=1e-12)
    linear = fk.kaiming_normal(weights.shape, np.float64, nonlinearity=in_place, rng=1)
    slope = 0.0
    assert fk.calculate_gain(in_place) == pytest.approx(math.sqrt(2), rel=1e-12)
    relu = fk.kaiming_normal(weights.shape, np.float64, nonlinearity=in_place, rng=1)
    assert np.allclose(relu, math.sqrt(2) * linear, rtol=1e-12, atol=0)


class Absent:
    """A function of a library with its own array type."""

    def __call__(self, z: object) -> float:
        raise RuntimeError(f"not for {type(z).__name__}")

    def __repr__(self) -> str:
        return "Absent()"


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (3, TypeError, "nonlinearity must be a str or a callable, not int 3"),
        (None, TypeError, "nonlinearity must be a str or a callable, not NoneType None"),
        (["relu"], TypeError, "nonlinearity must be a str or a callable, not list ['relu']"),
        (lambda _: None, TypeError, "nonlinearity must return a real number for a real number, not NoneType None"),
        (lambda _: "1", TypeError, "nonlinearity must return a real number for a real number, not str"),
        (lambda z: 1j * z, TypeError, "nonlinearity must return a real number for a real number, not complex"),
        (lambda _: [1.0], TypeError, "nonlinearity must return a real number for a real number, not ndarray array([1."),
        (lambda z: np.sqrt(z), ValueError, "nonlinearity must be finite everywhere, got nan at -37.99"),
        (lambda z: np.exp(z * z), ValueError, "nonlinearity must be finite everywhere, got inf at -37.99"),
        (
            lambda z: np.exp(z * z / 4),
            ValueError,
            "nonlinearity must have a finite E[f(z)**2] without a contribution from abs(z) >",
        ),
        (
            lambda z: np.sin(1e6 * z),
            ValueError,
            "nonlinearity must be smooth except for a few kinks and jumps, got <func",
        ),
        (
            lambda z: abs(z) ** -0.5,
            ValueError,
            "nonlinearity must be smooth except for a few kinks and jumps, got <func",
        ),
        (lambda z: 0 * z, ValueError, "nonlinearity must not be 0 everywhere, got <function"),
        (Absent(), RuntimeError, "not for float"),
    ],
)
def test_gain_of_an_invalid_callable_raises(function: Any, error: type[Exception], message: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "calculate_gain: ": lambda: fk.calculate_gain(function),
        "kaiming: ": lambda: fk.kaiming((3, 3), nonlinearity=function),
    }
    for name, call in calls.items():
        with pytest.raises(error) as refusal:
            call()
        assert str(refusal.value).startswith(message if error is RuntimeError else name + message)


@pytest.mark.parametrize("name", ["elu", "gelu", "silu", "swish", "mish", "softplus"])
def test_kaiming_accepts_every_nonlinearity(name: str) -> None:
    # the argument a is only the slope of leaky_relu, not the alpha of elu
    assert fk.kaiming((3, 16), nonlinearity=name) == fk.Normal(0.0, fk.calculate_gain(name) / 4)
    assert fk.kaiming((3, 16), a=0.3, nonlinearity=name) == fk.Normal(0.0, fk.calculate_gain(name) / 4)


def test_default_slopes_of_leaky_relu_are_those_of_torch() -> None:
    # 0.01 in calculate_gain, 0 in kaiming_*
    assert fk.calculate_gain("leaky_relu") == math.sqrt(2 / (1 + 0.01**2))
    assert fk.kaiming((3, 16)) == fk.Normal(0.0, math.sqrt(2) / 4)
