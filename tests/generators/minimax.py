"""Derive and print the constants of docs/stream-v1.md, and their errors, in half a minute. Needs mpmath.

Each polynomial minimizes the maximum of a weighted error, by the Remez algorithm. If the interval is on one side of
zero, coefficients are rounded one by one from the lowest order, and the rest is fitted again, so that later
coefficients compensate the rounding of earlier ones. This is the method of Brisebarre & Chevillard, "Efficient
polynomial L-infinity approximations", ARITH 2007, in its simplest form.

The document is normative and does not change; this program only shows the origin of its constants.
"""

from collections.abc import Callable, Sequence

from mpmath import cos, linspace, log, log1p, lu_solve, matrix, mp, mpf, nint, pi, sin, sqrt

Function = Callable[[mpf], mpf]

mp.prec = 200

TINY = mpf(2) ** -60  # instead of 0, where the targets have removable singularities
GRID = 1200


def polynomial(coefficients: Sequence[mpf], powers: Sequence[int], x: mpf) -> mpf:
    """Return the sum of coefficients[k] x^powers[k]."""
    return sum(c * x**power for c, power in zip(coefficients, powers, strict=True))


def remez(target: Function, weight: Function, powers: Sequence[int], low: mpf, high: mpf) -> list[mpf]:
    """Return the coefficients that minimize the maximum of |weight(x) (target(x) - polynomial(x))|."""
    terms = len(powers)
    nodes = [(low + high - (high - low) * cos(pi * (2 * k + 1) / (2 * terms + 2))) / 2 for k in range(terms + 1)]
    grid = linspace(low, high, GRID)
    coefficients: list[mpf] = []
    for _ in range(12):
        rows = [[*(x**power for power in powers), (-1) ** row / weight(x)] for row, x in enumerate(nodes)]
        solution = lu_solve(matrix(rows), matrix([target(x) for x in nodes]))
        coefficients = [solution[k] for k in range(terms)]
        extrema = alternating([(x, weight(x) * (target(x) - polynomial(coefficients, powers, x))) for x in grid])
        while len(extrema) > terms + 1:
            extrema.pop(0 if abs(extrema[0][1]) < abs(extrema[-1][1]) else -1)
        heights = [abs(error) for _, error in extrema]
        if len(extrema) < terms + 1 or max(heights) < min(heights) * mpf("1.0005"):
            break
        nodes = [x for x, _ in extrema]
    return coefficients


def alternating(errors: list[tuple[mpf, mpf]]) -> list[tuple[mpf, mpf]]:
    """Return the largest error of every run of one sign."""
    extrema: list[tuple[mpf, mpf]] = []
    for x, error in errors:
        if extrema and (error > 0) == (extrema[-1][1] > 0):
            extrema[-1] = max(extrema[-1], (x, error), key=lambda pair: abs(pair[1]))
        else:
            extrema.append((x, error))
    return extrema


def rounded(value: mpf, precision: int) -> mpf:
    """Round to nearest, ties to even, with `precision` significant bits."""
    with mp.workprec(precision):
        return +value


def fitted(target: Function, weight: Function, degree: int, low: mpf, high: mpf, precision: int) -> list[mpf]:
    """Return the rounded coefficients of a fit on one side of zero, each fitted after lower ones were rounded."""
    fixed: list[mpf] = []
    for first in range(degree + 1):

        def remainder(x: mpf) -> mpf:
            return target(x) - polynomial(fixed, range(len(fixed)), x)

        fixed.append(rounded(remez(remainder, weight, range(first, degree + 1), low, high)[0], precision))
    return fixed


def show(name: str, coefficients: Sequence[mpf], error: Function, low: mpf, high: mpf) -> None:
    """Print coefficients and the largest relative error of the function that uses them."""
    worst = max(abs(error(x)) for x in linspace(low, high, 4001))
    print(f"{name}: relative error 2^{float(log(worst, 2)):.1f}")
    for k, coefficient in enumerate(coefficients):
        print(f"  {name}{k} {float(coefficient).hex()}")


def angle(precision: int, sine_degree: int, cosine_degree: int) -> None:
    """Print S in sin(w pi/4) = w (pi/4 + z S(z)) and K in cos(w pi/4) = 1 + z K(z), z = w^2, w in (0, 1)."""
    upper = rounded(pi / 4, precision)
    lower = rounded(pi / 4 - upper, precision)
    print(f"pi/4 {float(upper).hex()} and {float(lower).hex()}")

    def sine_tail(z: mpf) -> mpf:
        return (sin(sqrt(z) * pi / 4) / sqrt(z) - upper - lower) / z

    def cosine_tail(z: mpf) -> mpf:
        return (cos(sqrt(z) * pi / 4) - 1) / z

    for name, tail, degree in (("S", sine_tail, sine_degree), ("K", cosine_tail, cosine_degree)):
        coefficients = fitted(tail, lambda z: z, degree, TINY, mpf(1), precision)

        def error(z: mpf, tail: Function = tail, coefficients: Sequence[mpf] = coefficients) -> mpf:
            return z * (tail(z) - polynomial(coefficients, range(len(coefficients)), z)) / (1 + z * tail(z))

        show(name, coefficients, error, TINY, mpf(1))


def radius_single() -> None:
    """Print Q in -2 ln(1 + g/2) = -g + g^2 Q(g), g in [-1, 0)."""

    def tail(g: mpf) -> mpf:
        return (-2 * log1p(g / 2) + g) / g**2

    def weight(g: mpf) -> mpf:
        return g**2 / (-2 * log1p(g / 2))

    coefficients = fitted(tail, weight, 7, mpf(-1), -TINY, 24)
    show("Q", coefficients, lambda g: weight(g) * (tail(g) - polynomial(coefficients, range(8), g)), mpf(-1), -TINY)


def radius_double() -> None:
    """Print H and T, and P in -2 ln(1 + f) = -2f + f^2 P(f), |f| <= 1/32."""
    for k in range(16):
        middle = mpf(1) / 2 + (mpf(k) + mpf(1) / 2) / 32
        reciprocal = mpf(1) if k == 15 else nint(256 / middle) / 256
        print(f"  H{k} {float(reciprocal / 2).hex()}  T{k} {float(rounded(2 * log(reciprocal), 53)).hex()}")

    def tail(f: mpf) -> mpf:
        return (-2 * log1p(f) + 2 * f) / f**2

    high = mpf(1 / 32 + 1e-9)  # asymmetric, so that no grid point is 0
    coefficients = [rounded(c, 53) for c in remez(tail, lambda _: mpf(1), range(8), -mpf(1) / 32, high)]

    def error(f: mpf) -> mpf:
        return f**2 * (tail(f) - polynomial(coefficients, range(8), f)) / (-2 * log1p(f))

    show("P", coefficients, error, -mpf(1) / 32, high)


def main() -> None:
    """Print all constants."""
    for precision in (24, 53):
        print(f"{precision} bits: -2 ln 2 = {float(rounded(-2 * log(2), precision)).hex()}")
    print("single precision")
    radius_single()
    angle(24, 2, 3)
    print("double precision")
    radius_double()
    angle(53, 5, 5)


if __name__ == "__main__":
    main()
