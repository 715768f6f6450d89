"""Moments, densities and distribution functions of truncated normal distributions in many digits. Needs mpmath.

The program computes this table from textbook formulas:

    python tests/generators/truncated_normals.py > tests/vectors/truncated_normals.txt
"""

import math

from mpmath import erfc, exp, isinf, mp, mpf, nstr, pi, sqrt

mp.dps = 1500  # the differences cancel, and exp(-z^2 / 2) is as small as 10^-542

CASES = [  # loc, scale, low, high
    (0.0, 1.0, -2.0, 2.0),
    (0.0, 0.02, -2.0, 2.0),  # torch's bounds are absolute values; with a small scale they truncate nothing
    (0.0, 0.5, -1.0, 1.0),
    (3.0, 0.25, 2.75, 4.0),
    (0.0, 1.0, -math.inf, math.inf),
    (1.0, 2.0, 0.0, math.inf),
    (1.0, 2.0, -math.inf, 0.0),
    (0.0, 1.0, 2.0, 3.0),
    (0.0, 1.0, -3.0, -2.0),
    (0.0, 1.0, 9.0, math.inf),
    (0.0, 1.0, -math.inf, -9.0),
    (0.0, 1.0, 37.0, 37.5),
    (0.0, 1.0, -50.0, -49.0),  # its probability is below the smallest float
    (0.0, 1.0, 50.0, math.inf),
    (0.0, 1.0, 0.25, 0.25 + 2.0**-40),
    (0.0, 1.0, -(2.0**-30), 2.0**-31),
    (-64.0, 1.0, -56.0, -56.0 + 2.0**-20),
    (0.0, 1.0, -8.0, 12.0),
    (0.0, 1.0, -30.0, 0.125),
    (1024.0, 0.125, 1023.0, 1024.5),
]
PLACES = [
    0.0,
    2.0**-30,
    0.125,
    0.5,
    0.875,
    1.0,
]  # fractions from low to high; for an infinite interval, multiples of 8 scales


def above(z: mpf) -> mpf:
    """Return the probability that a standard normal value is above z."""
    return erfc(z / sqrt(2)) / 2


def density(z: mpf) -> mpf:
    """Return the standard normal density."""
    return mpf(0) if isinf(z) else exp(-z * z / 2) / sqrt(2 * pi)


def moments(alpha: mpf, beta: mpf) -> tuple[mpf, mpf]:
    """Return mean and standard deviation of the standard normal distribution between two bounds."""
    mass = above(alpha) - above(beta)
    mean = (density(alpha) - density(beta)) / mass
    ends = [mpf(0) if isinf(z) else z * density(z) for z in (alpha, beta)]
    return mean, sqrt(1 + (ends[0] - ends[1]) / mass - mean**2)


def places(scale: float, low: float, high: float) -> list[float]:
    """Return the points at which to compute density and distribution function."""
    if math.isinf(low):
        start = 0.0 if math.isinf(high) else high
        return [start - 8 * scale * place for place in PLACES]
    return [low + (8 * scale if math.isinf(high) else high - low) * place for place in PLACES]


if __name__ == "__main__":
    print("# Truncated normal distributions: mean and standard deviation, density and distribution function.")
    print("#")
    print("# Computed from the textbook's formulas with mpmath, in 1500 digits, by the command")
    print("#")
    print("#     python tests/generators/truncated_normals.py > tests/vectors/truncated_normals.txt")
    print("#")
    print(
        "# loc, scale, low and high are the mean, the standard deviation and the bounds; the mean is told from loc, in"
    )
    print("# scales, as the std is. loc, scale, low, high and x are hexadecimal.")
    print("#")
    print("# loc scale low high mean std x pdf cdf")
    for case in CASES:
        loc, scale, low, high = map(mpf, case)
        alpha, beta = (low - loc) / scale, (high - loc) / scale
        mass = above(alpha) - above(beta)
        of_all = [nstr(moment, 20) for moment in moments(alpha, beta)]
        for x in places(*case[1:]):
            z = (mpf(x) - loc) / scale
            curves = density(z) / mass / scale, (above(alpha) - above(z)) / mass
            print(*(number.hex() for number in case), *of_all, x.hex(), *(nstr(value, 20) for value in curves))
