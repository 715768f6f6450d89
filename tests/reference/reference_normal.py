"""Normal values as sections 5 and 6 of docs/stream-v1.md define them."""

import numpy as np
from numpy.typing import NDArray
from reference_arithmetic import Reals, Words, fma, hexadecimal


def standard_normals(a: Words, b: Words) -> Reals:
    """Return z_even and z_odd, with one row for each pair of words."""
    single = a.dtype == np.uint32
    rho = np.sqrt(squared_radius_single(a, b) if single else squared_radius_double(a))
    cosine, sine = angle_single(b) if single else angle_double(b)
    octant = b >> (30 if single else 62)
    swapped, negated = octant % 2 == 1, octant >= 2
    cosine, sine = np.where(swapped, sine, cosine), np.where(swapped, cosine, sine)
    rho = np.where(negated, -rho, rho)
    return np.stack([rho * cosine, rho * sine], axis=-1)


def floor_log2(y: Reals) -> NDArray[np.int32]:
    return np.frexp(y)[1] - np.int32(1)


# ---- 5. Normal, float32 ----

SINGLE_Q = hexadecimal(
    np.float32,
    "0x1.fffecp-3 -0x1.55a384p-4 0x1.f313e8p-6 -0x1.0df6b8p-6"
    " -0x1.72276ap-8 -0x1.354f94p-6 -0x1.a3989ap-7 -0x1.6a0efp-8",
)
SINGLE_LN4 = hexadecimal(np.float32, "-0x1.62e43p+0")
SINGLE_PI_4 = hexadecimal(np.float32, "0x1.921fb6p-1 -0x1.777a5cp-26")
SINGLE_S = hexadecimal(np.float32, "-0x1.4abbcp-4 0x1.46607ep-9 -0x1.2ddcecp-15")
SINGLE_K = hexadecimal(np.float32, "-0x1.3bd3ccp-2 0x1.03c1aep-6 -0x1.55b146p-12 0x1.d47d6p-19")


def squared_radius_single(a: Words, b: Words) -> Reals:
    r = ((b & np.uint32(0xFF)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-39)
    y = fma(a.view(np.int32).astype(np.float32), np.float32(2.0**-31), r)
    below = y < 0
    e = np.where(below, np.int32(0), floor_log2(y))
    return minus_2_ln_single(e, np.where(below, y, np.ldexp(y, -e) - np.float32(2)))


def minus_2_ln_single(e: NDArray[np.int32], g: Reals) -> Reals:
    g2 = g * g
    g4 = g2 * g2
    q = SINGLE_Q
    qa, qb, qc, qd = fma(g, q[1], q[0]), fma(g, q[3], q[2]), fma(g, q[5], q[4]), fma(g, q[7], q[6])
    polynomial = fma(g4, fma(g2, qd, qc), fma(g2, qb, qa))
    return fma(g2, polynomial, fma(e.astype(np.float32), SINGLE_LN4, -g))


def angle_single(b: Words) -> tuple[Reals, Reals]:
    t = (b << np.uint32(2) | np.uint32(2)).view(np.int32)
    w = t.astype(np.float32) * np.float32(2.0**-31)
    z = w * w
    z2 = z * z
    (pi_4, correction), s, k = SINGLE_PI_4, SINGLE_S, SINGLE_K
    polynomial = fma(z2, s[2], fma(z, s[1], s[0]))
    sine = fma(w, pi_4, w * fma(z, polynomial, correction))
    cosine = fma(z, fma(z2, fma(z, k[3], k[2]), fma(z, k[1], k[0])), np.float32(1))
    return cosine, sine


# ---- 6. Normal, float64 ----

DOUBLE_P = hexadecimal(
    np.float64,
    "0x1.ffffffffffff3p-1 -0x1.55555555554f8p-1 0x1.000000006693cp-1 -0x1.9999999b9aa38p-2"
    " 0x1.5555454f0bf2ap-2 -0x1.2492305f7081ap-2 0x1.0066848444ed3p-2 -0x1.c80579ec3c5eep-3",
)
DOUBLE_H = hexadecimal(
    np.float64,
    "0x1.fp-1 0x1.d4p-1 0x1.bbp-1 0x1.a4p-1 0x1.9p-1 0x1.7dp-1 0x1.6cp-1 0x1.5dp-1"
    " 0x1.4ep-1 0x1.41p-1 0x1.35p-1 0x1.2ap-1 0x1.1fp-1 0x1.16p-1 0x1.0dp-1 0x1p-1",
)
DOUBLE_T = hexadecimal(
    np.float64,
    "0x1.52a2d265bc5abp+0 0x1.34e289d9ce1d3p+0 0x1.18c6e0ff5cf06p+0 0x1.faf588f78f31fp-1"
    " 0x1.c8ff7c79a9a22p-1 0x1.972a341135158p-1 0x1.686c81e9b14afp-1 0x1.3d54fa5c1f71p-1"
    " 0x1.1058bf9ae4ad5p-1 0x1.cf6354e09c5dcp-2 0x1.815c0a14357ebp-2 0x1.371fc201e8f74p-2"
    " 0x1.d4313d66cb35dp-3 0x1.51b073f06183fp-3 0x1.95c830ec8e3ebp-4 0",
)
DOUBLE_LN4 = hexadecimal(np.float64, "-0x1.62e42fefa39efp+0")
DOUBLE_PI_4 = hexadecimal(np.float64, "0x1.921fb54442d18p-1 0x1.1a62633145c07p-55")
DOUBLE_S = hexadecimal(
    np.float64,
    "-0x1.4abbce625be47p-4 0x1.466bc67758dfap-9 -0x1.32d2cce33a55fp-15"
    " 0x1.50783021c73abp-22 -0x1.e300abb1a0516p-30 0x1.e40581d2bb095p-38",
)
DOUBLE_K = hexadecimal(
    np.float64,
    "-0x1.3bd3cc9be45a5p-2 0x1.03c1f081b14eap-6 -0x1.55d3c7dcb8acdp-12"
    " 0x1.e1f4fbfe6feddp-19 -0x1.a6ca019aaeeb6p-26 0x1.f3ef94d7facb1p-34",
)


def squared_radius_double(w0: Words) -> Reals:
    y = fma(w0.view(np.int64).astype(np.float64), np.float64(2.0**-63), np.float64(2.0**-64))
    below = y < 0
    e = np.where(below, np.int32(0), floor_log2(y))
    m = np.ldexp(y, -e)
    k = np.where(below, (w0 >> np.uint64(59) & np.uint64(15)).astype(np.float64), np.floor(16 * (m - 1))).astype(int)
    h = DOUBLE_H[k]
    return minus_2_ln_double(e, k, np.where(below, fma(y, h, 2 * h - 1), fma(m, h, np.float64(-1))))


def minus_2_ln_double(e: NDArray[np.int32], k: NDArray[np.int64], f: Reals) -> Reals:
    log = fma(e.astype(np.float64), DOUBLE_LN4, DOUBLE_T[k])
    f2 = f * f
    f4 = f2 * f2
    p = DOUBLE_P
    pa, pb, pc, pd = fma(f, p[1], p[0]), fma(f, p[3], p[2]), fma(f, p[5], p[4]), fma(f, p[7], p[6])
    polynomial = fma(f4, fma(f2, pd, pc), fma(f2, pb, pa))
    return fma(f2, polynomial, fma(f, np.float64(-2), log))


def angle_double(w1: Words) -> tuple[Reals, Reals]:
    t = (w1 << np.uint64(2) | np.uint64(2)).view(np.int64)
    w = t.astype(np.float64) * np.float64(2.0**-63)
    z = w * w
    z2 = z * z
    z4 = z2 * z2
    (pi_4, correction), s, k = DOUBLE_PI_4, DOUBLE_S, DOUBLE_K
    polynomial = fma(z4, fma(z, s[5], s[4]), fma(z2, fma(z, s[3], s[2]), fma(z, s[1], s[0])))
    sine = fma(w, pi_4, w * fma(z, polynomial, correction))
    cosine = fma(z, fma(z4, fma(z, k[5], k[4]), fma(z2, fma(z, k[3], k[2]), fma(z, k[1], k[0]))), np.float64(1))
    return cosine, sine
