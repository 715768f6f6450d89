"""Derive the constants of the normal quantile in single precision (docs/stream-v1.md, section 7). Needs mpmath.

The minimax rational functions are computed by the Remez algorithm (Ralston & Rabinowitz, "A First Course in Numerical
Analysis", section 7.9). The denominator is rounded first. Then the numerator is fitted again as a polynomial, for the
rounded denominator, and rounded coefficient by coefficient as in minimax.py. The program takes a minute.

The double precision quantile uses the rounded decimal constants that Wichura published.
"""

from collections.abc import Callable
from functools import cache

from minimax import GRID, TINY, alternating, fitted, polynomial, rounded, show
from mpmath import cos, erfc, erfinv, findroot, linspace, log, lu_solve, matrix, mp, mpf, pi, sqrt

Function = Callable[[mpf], mpf]

CENTRAL = mpf(23) / 1024  # the smallest tail probability of the central function, slightly beyond 2 sigmas
LEAST = mpf(2) ** -60  # below all tail probabilities; the smallest one beyond 2 sigmas is 2^-38.5
FACTOR = 3  # scales Phi - 1/2 in t, so that the quotient of z and t is close to 1


def rational(
    target: Function, weight: Function, degrees: tuple[int, int], low: mpf, high: mpf
) -> tuple[list[mpf], list[mpf]]:
    """Return numerator and denominator that minimize the maximum of |weight(x) (target(x) - rational(x))|."""
    m, n = degrees
    terms = m + n + 1
    nodes = [(low + high - (high - low) * cos(pi * (2 * k + 1) / (2 * terms + 2))) / 2 for k in range(terms + 1)]
    grid = linspace(low, high, GRID)
    numerator, denominator = [mpf(1)], [mpf(1)]
    for _ in range(20):
        for _ in range(6):  # the equations contain the error times the denominator, so iterate from the last one
            below = [polynomial(denominator, range(len(denominator)), x) for x in nodes]
            rows = [
                [
                    *(x**power for power in range(m + 1)),
                    *(-target(x) * x**power for power in range(1, n + 1)),
                    (-1) ** row * below[row] / weight(x),
                ]
                for row, x in enumerate(nodes)
            ]
            solution = list(lu_solve(matrix(rows), matrix([target(x) for x in nodes])))
            numerator, denominator = solution[: m + 1], [mpf(1), *solution[m + 1 : terms]]
        errors = [(x, weight(x) * (target(x) - quotient(numerator, denominator, x))) for x in grid]
        extrema = alternating(errors)
        while len(extrema) > terms + 1:
            extrema.pop(0 if abs(extrema[0][1]) < abs(extrema[-1][1]) else -1)
        heights = [abs(error) for _, error in extrema]
        if len(extrema) < terms + 1 or max(heights) < min(heights) * mpf("1.01"):
            break
        nodes = [x for x, _ in extrema]
    return numerator, denominator


def quotient(numerator: list[mpf], denominator: list[mpf], x: mpf) -> mpf:
    return polynomial(numerator, range(len(numerator)), x) / polynomial(denominator, range(len(denominator)), x)


def print_rational(
    names: str, target: Function, weight: Function, degrees: tuple[int, int], low: mpf, high: mpf
) -> None:
    """Print the rounded coefficients of a fit: the numerator with the first name, the denominator with the second."""
    _, denominator = rational(target, weight, degrees, low, high)
    denominator = [rounded(c, 24) for c in denominator]

    def below(x: mpf) -> mpf:
        return polynomial(denominator, range(len(denominator)), x)

    def scaled(x: mpf) -> mpf:
        return target(x) * below(x)

    numerator = fitted(scaled, lambda x: weight(x) / below(x), degrees[0], low, high, 24)

    def error(x: mpf) -> mpf:
        return weight(x) * (target(x) - quotient(numerator, denominator, x))

    show(names[0], numerator, error, low, high)
    show(names[1], denominator, error, low, high)


@cache
def central(y: mpf) -> mpf:
    """Return z / t, t = FACTOR (Phi(z) - 1/2), of y = v - v^2 = 1/4 - (Phi(z) - 1/2)^2."""
    inside = sqrt(mpf(1) / 4 - y)
    return sqrt(mpf(2)) * erfinv(2 * inside) / (FACTOR * inside)


@cache
def tail(r: mpf) -> mpf:
    """Return the z whose tail probability v is exp(-r^2 / 2)."""
    return findroot(lambda z: log(erfc(z / sqrt(mpf(2))) / 2) + r * r / 2, r - 1 / r)


def main() -> None:
    """Print the rational functions for z / t - 1 and z - r."""
    low, high = CENTRAL - CENTRAL**2, mpf(1) / 4 - TINY
    print_rational("NM", lambda y: central(y) - 1, lambda y: 1 / central(y), (5, 4), low, high)
    low, high = sqrt(-2 * log(CENTRAL)), sqrt(-2 * log(LEAST))
    print_rational("UV", lambda r: tail(r) - r, lambda r: 1 / tail(r), (3, 3), low, high)


if __name__ == "__main__":
    mp.prec = 120
    main()
