"""Truncated normals as section 7 of docs/stream-v1.md defines them.

The distribution function is computed in decimal arithmetic, by a different series than that of the library.
"""

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from reference_arithmetic import Precision, Reals, Words, fma, hexadecimal
from reference_normal import DOUBLE_H, floor_log2, minus_2_ln_double, minus_2_ln_single

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DIGITS = 1400  # the alternating series loses 2 x 281 digits at 36 sigmas


@dataclass(frozen=True)
class Truncation:
    """The parameters of a truncated normal distribution, most of them in the precision of the operation."""

    scale: float  # std
    center: float  # mean
    low: float
    high: float
    slope: float
    intercept: float
    lower_slope: float
    lower_intercept: float
    upper_slope: float
    upper_intercept: float


# ---- Parameters ----


class Exact(NamedTuple):
    """The parameters before they are rounded."""

    slope: Decimal
    intercept: Decimal
    lower_slope: Decimal
    lower_intercept: Decimal
    upper_slope: Decimal
    upper_intercept: Decimal


def truncation(mean: float, std: float, low: float, high: float, precision: Precision) -> tuple[str, Truncation]:
    """Return the operation, with a format for rounding if needed, and its parameters, in a given precision."""
    m, s, a, b = (float(precision(number)) for number in (mean, std, low, high))
    alpha, beta = standardized(a, m, s), standardized(b, m, s)
    if precision is np.float32 and alpha <= -9 and beta >= 9:
        alpha, beta = -math.inf, math.inf
    operation = "truncated_f32" if precision is np.float32 and beta == -alpha and beta >= 2.0**-64 else "truncated_f64"
    exact = exact_numbers(alpha, beta, operation)
    rounding: Precision = np.float32 if operation == "truncated_f32" else np.float64
    rest = (nearest(number, rounding) for number in exact[1:])
    name = "truncated_f64>float32" if precision is np.float32 and operation == "truncated_f64" else operation
    return name, Truncation(s, m, a, b, nearest(exact.slope, np.float64), *rest)


def standardized(bound: float, mean: float, std: float) -> float:
    if math.isinf(bound):
        return bound
    return float((Fraction(bound) - Fraction(mean)) / Fraction(std))


@cache
def exact_numbers(alpha: float, beta: float, operation: str) -> Exact:
    with localcontext(prec=DIGITS):
        below_alpha, below_beta, above_alpha, above_beta = (lower_tail(x) for x in (alpha, beta, -alpha, -beta))
        between = below_beta - below_alpha
        slope = between / 2 ** (64 if operation == "truncated_f64" else 32)
        middle = ((below_alpha + below_beta) - 1 + slope) / 2
        factor = 3 if operation == "truncated_f32" else 1
        t = factor * slope, factor * middle
        if alpha >= 0:
            return Exact(*t, -slope, above_alpha - slope / 2, slope, above_beta + slope / 2)
        if beta <= 0:
            return Exact(*t, slope, below_alpha + slope / 2, -slope, below_beta - slope / 2)
        return Exact(*t, slope, below_alpha + slope / 2, slope, above_beta + slope / 2)


@cache
def lower_tail(x: float) -> Decimal:
    """Return Phi(x) by the Taylor series of the density; 0 or 1 beyond 40 sigmas."""
    if abs(x) > 40:
        return Decimal(int(x > 0))
    term, total, n = Decimal(x), Decimal(0), 0
    square = Decimal(x) ** 2
    while abs(term) > Decimal(10) ** (100 - DIGITS):
        total += term / (2 * n + 1)
        n += 1
        term *= -square / (2 * n)
    return Decimal("0.5") + total / (2 * pi()).sqrt()


@cache
def pi() -> Decimal:
    """Return pi by the arithmetic-geometric mean: Brent, "Multiple-precision zero-finding methods", 1976."""
    a, b, t, p = Decimal(1), 1 / Decimal(2).sqrt(), Decimal("0.25"), 1
    for _ in range(12):
        a, b, previous = (a + b) / 2, (a * b).sqrt(), a
        t -= p * (previous - a) ** 2
        p *= 2
    return (a + b) ** 2 / (4 * t)


def nearest(exact: Decimal, precision: Precision) -> float:
    """Round once; rounding to double precision first could give a neighbour of the nearest number."""
    about = precision(float(exact))
    neighbours = (about, np.nextafter(about, precision(-np.inf)), np.nextafter(about, precision(np.inf)))
    return min((float(number) for number in neighbours), key=lambda number: abs(Decimal(number) - exact))


# ---- Values ----


def truncated_of(words: Words, operation: str, numbers: Truncation) -> Reals:
    precision = np.float32 if operation == "truncated_f32" else np.float64
    scale, center, low, high = (precision(n) for n in (numbers.scale, numbers.center, numbers.low, numbers.high))
    intercepts = (numbers.intercept, numbers.lower_intercept, numbers.upper_intercept)
    intercept, lower_intercept, upper_intercept = (precision(number) for number in intercepts)
    signed = np.int32 if words.dtype == np.uint32 else np.int64
    top = words.dtype.type(1) << words.dtype.type(8 * words.itemsize - 1)
    c: NDArray[np.signedinteger[Any]] = (words ^ top).view(signed)
    lower = c < 0
    d = np.where(lower, words, ~words)

    slope_of_half = np.where(lower, precision(numbers.lower_slope), precision(numbers.upper_slope))
    v = fma(d.astype(precision), slope_of_half, np.where(lower, lower_intercept, upper_intercept))
    first = precision(numbers.slope)
    second = precision(numbers.slope - float(first))  # 0 in double precision
    t = fma(c.astype(precision), first, fma(c.astype(precision), second, intercept))
    quantile: Callable[[Reals, Reals], Reals] = quantile_single if precision is np.float32 else quantile_double
    return np.maximum(np.minimum(fma(scale, quantile(t, v), center), high), low)


SINGLE_N = hexadecimal(
    np.float32, "0x1.1c900ap+0 0x1.4fcbeep+7 0x1.2578e2p+11 -0x1.26dd42p+14 -0x1.9987fcp+16 -0x1.464872p+13"
)
SINGLE_M = hexadecimal(np.float32, "0x1p+0 0x1.1f0c3ep+8 0x1.776aa2p+13 0x1.a34278p+16 0x1.59245ep+17")
SINGLE_U = hexadecimal(np.float32, "-0x1.5e382p+1 -0x1.672a2ap+1 -0x1.348852p-2 -0x1.ec93eep-11")
SINGLE_V = hexadecimal(np.float32, "0x1p+0 0x1.419294p+1 0x1.0848acp+0 0x1.f2d7ecp-5")
SINGLE_CENTRAL = hexadecimal(np.float32, "0x1.7p-6")


def quantile_single(t: Reals, v: Reals) -> Reals:
    y = fma(-v, v, v)
    y2 = y * y
    y4 = y2 * y2
    n, m, u, w = SINGLE_N, SINGLE_M, SINGLE_U, SINGLE_V
    top = fma(y4, fma(y, n[5], n[4]), fma(y2, fma(y, n[3], n[2]), fma(y, n[1], n[0])))
    bottom = fma(y4, m[4], fma(y2, fma(y, m[3], m[2]), fma(y, m[1], m[0])))
    central = fma(t, top / bottom, t)

    e = floor_log2(2 * v)
    r = np.sqrt(minus_2_ln_single(e, np.ldexp(2 * v, -e) - np.float32(2)))
    r2 = r * r
    tail = r + fma(r2, fma(r, u[3], u[2]), fma(r, u[1], u[0])) / fma(r2, fma(r, w[3], w[2]), fma(r, w[1], w[0]))
    return np.where(v < SINGLE_CENTRAL[0], np.copysign(tail, t), central)


DOUBLE_A = hexadecimal(
    np.float64,
    "0x1.b18d91e9eef75p+1 0x1.0a4888b1a436ep+7 0x1.ece5d2213c0ccp+10 0x1.ad1d8cd4ee71dp+13"
    " 0x1.66c3e869b752ap+15 0x1.06c1c55b78f2p+16 0x1.052d26b2e45e4p+15 0x1.39a296f7d925ep+11"
    " 0x1.6c665fde9526ap+0 0x1.2857748cab19bp+2 0x1.713f71462256ap+2 0x1.d2ecb1a3d02c4p+1"
    " 0x1.453cc085375b2p+0 0x1.ef2abb9b85c37p-3 0x1.744eb6c45ec67p-6 0x1.9615ac0b7ace9p-11"
    " 0x1.aa1b1c13ee526p+2 0x1.5daea6e875003p+2 0x1.c8ea6461fa445p+0 0x1.2fad9315255cfp-2"
    " 0x1.b2b41193b4ee7p-6 0x1.45c1908425345p-10 0x1.c6ec6cc59e02ap-16 0x1.afb74d693bf93p-23",
).reshape(3, 8)
DOUBLE_B = hexadecimal(
    np.float64,
    "0x1p+0 0x1.5281b386e1ab5p+5 0x1.5797efdc8b3f7p+9 0x1.512322e75c89fp+12"
    " 0x1.4b772d5d65266p+14 0x1.3317caa64f4bep+15 0x1.c0e457cb1ae76p+14 0x1.46a7eca984b69p+12"
    " 0x1p+0 0x1.06cefbb46a449p+1 0x1.ad278e6526633p+0 0x1.61292f23385c9p-1"
    " 0x1.2f5123394f04p-3 0x1.f207a7eab17bfp-7 0x1.1f18cbfdf2728p-11 0x1.20d3f686439e4p-30"
    " 0x1p+0 0x1.331d34fc7d77fp-1 0x1.186eb183443fbp-3 0x1.e76f93215462ap-7"
    " 0x1.9c8bc979dc5d7p-11 0x1.35c2c496374bfp-16 0x1.31446f740b9ep-23 0x1.269bff1f8c19p-49",
).reshape(3, 8)
DOUBLE_CENTRAL = hexadecimal(np.float64, "0x1.3333333333333p-4")
DOUBLE_SHIFTS = hexadecimal(np.float64, "0x1.71eb851eb851fp-3 0x1.999999999999ap+0 0x1.4p+2")


def quantile_double(t: Reals, v: Reals) -> Reals:
    e = floor_log2(2 * v)
    s = np.ldexp(2 * v, -e)
    k: NDArray[np.int64] = np.floor(16 * (s - 1)).astype(np.int64)
    r = np.sqrt(minus_2_ln_double(e, k, fma(s, DOUBLE_H[k], np.float64(-1))) / 2)

    region = np.where(v < DOUBLE_CENTRAL[0], np.where(r > 5, 2, 1), 0)
    central, middle, far = DOUBLE_SHIFTS
    x = np.choose(region, [fma(-t, t, central), r - middle, r - far])
    factor = np.where(region == 0, t, np.copysign(1.0, t))
    return factor * estrin(DOUBLE_A[region].T, x) / estrin(DOUBLE_B[region].T, x)


def estrin(c: Reals, x: Reals) -> Reals:
    x2 = x * x
    x4 = x2 * x2
    low = fma(x2, fma(x, c[3], c[2]), fma(x, c[1], c[0]))
    return fma(x4, fma(x2, fma(x, c[7], c[6]), fma(x, c[5], c[4])), low)
