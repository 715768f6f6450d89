"""The kernel parameters of truncated normals: the normal distribution function, correctly rounded.

A value of a truncated normal is the quantile of a probability that is a linear function of the random word. The core
therefore needs a few parameters for each pair of bounds: the probability of one word, and the tail probabilities at the
bounds. These parameters determine the bits of all values, so they must be the same everywhere. The erfc of the C
library differs between systems, and floating-point arithmetic depends on the rounding mode of the process. This module
computes with integers instead: every number is an integer divided by a power of two, with a known error bound, until it
is rounded once. docs/stream-v1.md, section 7, defines the parameters.
"""

import math
from functools import lru_cache
from typing import NamedTuple

MAX_SIGMAS = 36.0  # of the nearer bound; the smallest tail probability is then 2**-1006, a normal number
# The minimum probability between the bounds is 2**-950. Half the probability of a 64-bit word is then at least
# 2**-1015, which is still a normal number.
_MIN_PROBABILITY_EXPONENT = -950
# In sigmas. If symmetric bounds are closer to the mean, single precision cannot represent the parameters.
_MIN_BOUND_SINGLE = 2.0**-64
# In sigmas. Bounds farther from the mean change the quantile of any 32-bit word by at most 2**-11 ulp.
_UNBOUNDED_SINGLE = 9.0
_SINGLE_FACTOR = 3  # t = 3 * (Phi - 1/2) in single precision, so that t is close to z
_GUARD_BITS = 32  # absorb the truncation errors of about a thousand terms
_ERROR = 2  # a bound on the error of _phi_minus_half, in units of its last bit


class TruncatedParams(NamedTuple):
    """An operation of the core and its parameters, in the order of ``fk_params``."""

    operation: str  # "truncated_f32" or "truncated_f64"
    scale: float
    center: float
    low: float
    high: float
    slope: float
    intercept: float
    lower_slope: float
    lower_intercept: float
    upper_slope: float
    upper_intercept: float


def truncated_params(mean: float, std: float, low: float, high: float, precision: int) -> TruncatedParams:
    """Return the kernel parameters of a normal distribution between two bounds.

    Parameters
    ----------
    mean, std : float
        The parameters of the untruncated normal distribution: finite numbers of the working precision, ``std > 0``.
    low, high : float
        The bounds, ``low < high``: numbers of the working precision, or infinite.
    precision : int
        The length of the working precision's significand in bits, 24 or 53.

    Returns
    -------
    TruncatedParams
        The parameters, each rounded once: to double precision for ``truncated_f64``, otherwise to single precision,
        except for ``slope``.

    Raises
    ------
    ValueError
        If the nearer bound is more than 36 ``std`` away from the mean, or the probability of the interval is below
        2**-950.
    """
    alpha, beta = _standardized(low, mean, std), _standardized(high, mean, std)
    nearer = max(alpha, -beta, 0.0)
    if nearer > MAX_SIGMAS:
        raise ValueError(
            f"the nearer bound must be at most {MAX_SIGMAS:g} std from the mean, got {nearer:g} std "
            f"from bounds {low} and {high}, mean {mean}, std {std}"
        )
    if precision == 24 and -alpha >= _UNBOUNDED_SINGLE and beta >= _UNBOUNDED_SINGLE:
        alpha, beta = -math.inf, math.inf
    operation = "truncated_f32" if precision == 24 and -alpha == beta >= _MIN_BOUND_SINGLE else "truncated_f64"
    word_bits, rounding, factor = _OPERATIONS[operation]

    bits = 192 + int(0.75 * nearer * nearer)  # the tail probability beyond x sigmas is about 2**(-0.72 x**2)
    while True:
        slope, middle, *tails = _linear_functions(alpha, beta, bits, word_bits)
        fraction_bits = bits + word_bits + 1
        if (slope[0] + slope[1]) << -_MIN_PROBABILITY_EXPONENT < 2 << bits:
            raise ValueError(
                f"the probability between the bounds must be at least 2**{_MIN_PROBABILITY_EXPONENT}, got less "
                f"from bounds {low} and {high}, mean {mean}, std {std}"
            )
        scaled = [(factor * number, factor * error) for number, error in (slope, middle)]
        roundings = (53, *[rounding] * 5)
        least, most = (
            [
                _rounded(number + sign * error, fraction_bits, bits)
                for (number, error), bits in zip((*scaled, *tails), roundings, strict=True)
            ]
            for sign in (-1, 1)
        )
        if least == most:
            return TruncatedParams(operation, std, mean, low, high, *least)
        bits *= 2


_OPERATIONS = {  # bits of a word, bits of the significand of a parameter, and the factor between t and Phi - 1/2
    "truncated_f32": (32, 24, _SINGLE_FACTOR),
    "truncated_f64": (64, 53, 1),
}


def _standardized(bound: float, mean: float, std: float) -> float:
    """Return (bound - mean) / std, rounded once to double precision."""
    if math.isinf(bound):
        return bound
    (b, b_unit), (m, m_unit), (s, s_unit) = (number.as_integer_ratio() for number in (bound, mean, std))
    difference = b * m_unit - m * b_unit
    try:
        return difference * s_unit / (b_unit * m_unit * s)
    except OverflowError:
        return math.inf if difference > 0 else -math.inf


def _linear_functions(alpha: float, beta: float, bits: int, word_bits: int) -> list[tuple[int, int]]:
    """Return the slope, Phi - 1/2 at the middle word, and the slopes and intercepts of the tails, with error bounds.

    The unit is 2**-(bits + word_bits + 1). In this unit, half the probability of a word is the same integer as
    the probability between the bounds in units of 2**-bits.
    """
    half = 1 << (bits - 1)
    from_low, from_high = _phi_minus_half(alpha, bits), _phi_minus_half(beta, bits)
    between = from_high - from_low

    def tail(probability: int, sign: int) -> tuple[int, int]:
        """Return the tail probability in the middle of the word next to a bound, from that at the bound itself."""
        return (probability << (word_bits + 1)) + sign * between, (_ERROR << (word_bits + 1)) + 2 * _ERROR

    # The lower half of the words uses the lower tail, and the upper half uses the upper tail. If the interval lies on
    # one side of the mean, both halves use the tail on that side.
    lower_sign, upper_sign = (-1 if alpha >= 0 else 1), (-1 if beta <= 0 else 1)
    return [
        (2 * between, 4 * _ERROR),
        (((from_low + from_high) << word_bits) + between, (_ERROR << (word_bits + 1)) + 2 * _ERROR),
        (2 * between * lower_sign, 4 * _ERROR),
        tail(half + lower_sign * from_low, lower_sign),
        (2 * between * upper_sign, 4 * _ERROR),
        tail(half - upper_sign * from_high, upper_sign),
    ]


def _rounded(number: int, fraction_bits: int, precision: int) -> float:
    """Return number / 2**fraction_bits, rounded to ``precision`` significant bits: to nearest, ties to even."""
    excess = max(abs(number).bit_length() - precision, 0)
    quotient, rest = divmod(number, 1 << excess)
    twice = 2 * rest
    quotient += twice > 1 << excess or (twice == 1 << excess and quotient % 2)
    return (quotient << excess) / (1 << fraction_bits)  # Python rounds the quotient of integers correctly


def _phi_minus_half(x: float, bits: int) -> int:
    """Return Phi(x) - 1/2 in units of 2**-bits, by a series whose terms all have the same sign.

    Phi(x) = 1/2 + phi(x) (x + x**3 / 3 + x**5 / (3 5) + x**7 / (3 5 7) + ...): Abramowitz & Stegun, "Handbook of
    Mathematical Functions", 26.2.11.
    """
    if x < 0:
        return -_phi_minus_half(-x, bits)
    if 0.72 * x * x > bits:
        return 1 << (bits - 1)
    working = bits + _GUARD_BITS
    numerator, denominator = x.as_integer_ratio()
    square, shift = numerator * numerator, 2 * (denominator.bit_length() - 1)
    term = (numerator << working) // denominator
    total, n = 0, 1
    while term:
        total += term
        n += 2
        term = (term * square >> shift) // n
    return (total << (bits + working)) // (_exp(square, shift + 1, working) * _sqrt_two_pi(working))


def _exp(numerator: int, shift: int, working: int) -> int:
    """Return exp(numerator / 2**shift) in units of 2**-working, by a Taylor series and repeated squaring."""
    halvings = max(numerator.bit_length() - shift, 0) + 16
    fine = working + halvings + _GUARD_BITS
    part = numerator << fine >> (shift + halvings)
    term = total = 1 << fine
    n = 1
    while term:
        term = (term * part >> fine) // n
        total += term
        n += 1
    for _ in range(halvings):
        total = total * total >> fine
    return total >> (fine - working)


@lru_cache(maxsize=64)
def _sqrt_two_pi(working: int) -> int:
    """Return sqrt(2 pi) in units of 2**-working; pi by Machin's formula, 16 atan(1/5) - 4 atan(1/239)."""
    fine = working + _GUARD_BITS
    pi = 16 * _atan_of_reciprocal(5, fine) - 4 * _atan_of_reciprocal(239, fine)
    return math.isqrt(pi << (fine + 1)) >> (fine - working)


def _atan_of_reciprocal(x: int, bits: int) -> int:
    power = (1 << bits) // x
    total, n = power, 1
    while power:
        power //= -x * x
        n += 2
        total += power // n
    return total
