"""Recompute the polynomial coefficients of docs/stream-v1.md (needs mpmath; about a minute).

Each polynomial is the minimax fit (Remez' exchange) of the relative error that the document names. Coefficients are rounded
to the working precision one at a time from the lowest order up, and the rest is fitted again after each rounding, so that the
later ones absorb the rounding of the earlier ones (the idea of Brisebarre & Chevillard, "Efficient polynomial
L-infinity approximations", ARITH 2007, in its simplest form).

The document's constants are frozen: this program shows where they come from, it does not define them.
"""

from collections.abc import Callable

import numpy as np
from mpmath import cos, findroot, linspace, log, log1p, lu_solve, matrix, mp, mpf, pi, sin

mp.prec = 200

Function = Callable[[mpf], mpf]


def remez(target: Function, weight: Function, powers: list[int], low: mpf, high: mpf) -> list[mpf]:
    """Coefficients c minimizing max |weight(x) (target(x) - sum c_k x^powers[k])|, and that maximum."""
    terms = len(powers)
    middle, half = (low + high) / 2, (high - low) / 2
    nodes = [middle - half * cos(pi * (2 * k + 1) / (2 * terms + 2)) for k in range(terms + 1)]
    grid = linspace(low, high, 1200)
    for _ in range(12):
        system = matrix(terms + 1, terms + 1)
        right = matrix(terms + 1, 1)
        for row, x in enumerate(nodes):
            for column, power in enumerate(powers):
                system[row, column] = x**power
            system[row, terms] = (-1) ** row / weight(x)
            right[row] = target(x)
        solution = lu_solve(system, right)
        coefficients = [solution[k] for k in range(terms)]

        def error(x: mpf, coefficients: list[mpf] = coefficients) -> mpf:
            return weight(x) * (target(x) - sum(c * x**p for c, p in zip(coefficients, powers, strict=True)))

        values = [error(x) for x in grid]
        extrema: list[tuple[mpf, mpf]] = []
        for x, value in zip(grid, values, strict=True):
            if extrema and (value > 0) == (extrema[-1][1] > 0):
                if abs(value) > abs(extrema[-1][1]):
                    extrema[-1] = (x, value)
            else:
                extrema.append((x, value))
        while len(extrema) > terms + 1:
            extrema.pop(0 if abs(extrema[0][1]) < abs(extrema[-1][1]) else -1)
        if len(extrema) < terms + 1:
            break
        nodes = [x for x, _ in extrema]
        if max(abs(v) for _, v in extrema) < min(abs(v) for _, v in extrema) * mpf("1.0005"):
            break
    return coefficients


def rounded(value: mpf, precision: int) -> mpf:
    """Round to nearest, ties to even, with `precision` significant bits."""
    with mp.workprec(precision):
        return +value


def fit(name: str, target: Function, weight: Function, degree: int, low: float, high: float, precision: int, one_sided: bool = True) -> None:
    """Print the rounded coefficients of a fit, lowest order first, and the relative error that they reach."""
    fixed: list[mpf] = []
    for first_free in range(degree + 1):

        def rest(x: mpf) -> mpf:
            return target(x) - sum(c * x**k for k, c in enumerate(fixed))

        if first_free == 0 or one_sided:
            free = remez(rest, weight, list(range(first_free, degree + 1)), mpf(low), mpf(high))
        fixed.append(rounded(free[0 if one_sided else first_free], precision))
    worst = max(
        abs(weight(x) * (target(x) - sum(c * x**k for k, c in enumerate(fixed))))
        for x in linspace(mpf(low), mpf(high), 4001)
    )
    print(f"{name}: relative error 2^{float(log(worst, 2)):.2f}")
    for k, coefficient in enumerate(fixed):
        print(f"  [{k}] {hexadecimal(coefficient, precision)}")


def hexadecimal(value: mpf, precision: int) -> str:
    """The hexadecimal float that C and Python read."""
    number = float(value)
    assert precision == 53 or np.float32(number) == number
    return number.hex()


TINY = mpf(2) ** -60  # in place of 0, where the targets below have a removable singularity


def log_tail(g: mpf) -> mpf:
    """Q in -2 ln(1 + g/2) = -g + g^2 Q(g)."""
    return (-2 * log1p(g / 2) + g) / g**2


def log_tail_narrow(f: mpf) -> mpf:
    """P in -2 ln(1 + f) = -2f + f^2 P(f)."""
    return (-2 * log1p(f) + 2 * f) / f**2


def sine_tail(z: mpf, linear: mpf) -> mpf:
    """S in sin(w pi/4) = w (linear + z S(z)), z = w^2."""
    w = mp.sqrt(z)
    return (sin(w * pi / 4) / w - linear) / z


def cosine_tail(z: mpf) -> mpf:
    """K in cos(w pi/4) = 1 + z K(z), z = w^2."""
    return (cos(mp.sqrt(z) * pi / 4) - 1) / z


def main() -> None:
    """Print every constant of the document."""
    import sys
    for precision, q, s, k in ((24, int(sys.argv[1]), 2, int(sys.argv[2])), (53, 0, 5, 5)):
        high = rounded(pi / 4, precision)
        low = rounded(pi / 4 - high, precision)
        print(f"precision {precision}")
        print("-2 ln 2", hexadecimal(rounded(-2 * log(2), precision), precision))
        print("pi/4 high", hexadecimal(high, precision), "low", hexadecimal(low, precision))
        if precision == 24:
            fit("Q", log_tail, lambda g: g**2 / (-2 * log1p(g / 2)), q, -1.0, float(-TINY), precision)
        else:
            table(precision)
            fit("P", log_tail_narrow, lambda f: mpf(1), 7, -1/32, 1/32 + 1e-9, precision, False)
        linear = high + low
        fit("S", lambda z: sine_tail(z, linear), lambda z: z, s, float(TINY), 1.0, precision)
        fit("K", cosine_tail, lambda z: z, k, float(TINY), 1.0, precision)

RANGE = 0.03515625
def table(precision):
    m = 0
    for k in range(16):
        a = mpf(1)/2 + mpf(k)/32; b = a + mpf(1)/32
        if k == 15: c = mpf(1)
        else: c = mp.nint(256 / ((a + b) / 2)) / 256
        r = max(abs(a*c-1), abs(b*c-1)); m = max(m, r)
        print(k, hexadecimal(c/2,53), hexadecimal(rounded(2*log(c),precision),precision), float(r))
    print("largest |f|", float(m))

if __name__ == "__main__":
    main()
