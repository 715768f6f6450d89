"""Gains of activations that are not in torch's table, computed from their formulas in a few seconds. Needs mpmath.

The program computes this table:

    python tests/generators/gains.py > tests/vectors/gains.txt
"""

from collections.abc import Callable

from mpmath import erf, exp, expm1, inf, log1p, mp, mpf, npdf, nstr, pi, quad, sqrt, tanh

Function = Callable[[mpf], mpf]

mp.dps = 50

INTERVALS = [-inf, -20, -12, *range(-8, 9), 12, 20, inf]  # includes 0, where the derivative of elu is not continuous


def softplus(z: mpf) -> mpf:
    return log1p(exp(z))


ACTIVATIONS: dict[str, Function] = {
    "elu": lambda z: z if z > 0 else expm1(z),
    "gelu": lambda z: z * (1 + erf(z / sqrt(2))) / 2,
    "gelu_tanh": lambda z: z * (1 + tanh(sqrt(2 / pi) * (z + mpf("0.044715") * z**3))) / 2,
    "mish": lambda z: z * tanh(softplus(z)),
    "silu": lambda z: z / (1 + exp(-z)),
    "softplus": softplus,
}


def expected_square(function: Function) -> mpf:
    """Return E[f(z)^2] for z from the standard normal distribution."""
    return quad(lambda z: function(z) ** 2 * npdf(z), INTERVALS)


if __name__ == "__main__":
    print("# Gains of activations, 1 / sqrt(E[f(z)^2]) with z from the standard normal distribution.")
    print("#")
    print("# Computed from their formulas with mpmath, in 50 digits, by the command")
    print("#")
    print("#     python tests/generators/gains.py > tests/vectors/gains.txt")
    print("#")
    print("# The last row is E[f(z)^2], given that z < 0, of elu with alpha = 1.")
    print("#")
    print("# name decimal binary64")
    rows = [(name, 1 / sqrt(expected_square(function))) for name, function in ACTIVATIONS.items()]
    rows.append(("elu_below_0", 2 * quad(lambda z: expm1(z) ** 2 * npdf(z), INTERVALS[: INTERVALS.index(0) + 1])))
    for name, value in rows:
        print(name, nstr(value, 30), float(value).hex())
