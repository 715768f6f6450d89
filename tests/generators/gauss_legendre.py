"""Print the positive nodes and weights of fastkaiming/distributions/_quadrature.py. Needs mpmath."""

import itertools

from mpmath import legendre, linspace, mp, mpf, sign

mp.dps = 40

POINTS = 24


def roots() -> list[mpf]:
    """Return the zeros of the Legendre polynomial between 0 and 1, by bisection from a grid that separates them."""
    found = []
    grid = linspace(mpf(0), mpf(1), 40 * POINTS)
    for low, high in itertools.pairwise(grid):
        if sign(legendre(POINTS, low)) * sign(legendre(POINTS, high)) < 0:
            for _ in range(130):
                middle = (low + high) / 2
                same = sign(legendre(POINTS, middle)) == sign(legendre(POINTS, low))
                low, high = (middle, high) if same else (low, middle)
            found.append(low)
    return found


if __name__ == "__main__":
    for x in roots():
        weight = 2 * (1 - x**2) / (POINTS * legendre(POINTS - 1, x)) ** 2
        print(float(x).hex(), float(weight).hex())
