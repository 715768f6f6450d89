"""A second implementation of stream v1, written from docs/stream-v1.md alone; the sections below are that page's.

Slow, plain to see, and without a line of the kernels. Run as a program, it computes the digests that hold them still:

    python tests/reference.py > tests/vectors/digests.txt
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Words: TypeAlias = NDArray[np.unsignedinteger[Any]]  # of 32 or 64 bits
Reals: TypeAlias = NDArray[Any]  # of one working precision, float32 or float64
Precision: TypeAlias = type[np.float32] | type[np.float64]


# ---- 1. Notation ----


def fma(x: ArrayLike, y: ArrayLike, z: ArrayLike) -> Reals:
    """Return x y + z, rounded once to the precision that all three have."""
    precision = np.result_type(x, y, z)
    return _fma_single(x, y, z) if precision == np.float32 else _fma_double(x, y, z)


def _fma_single(x: ArrayLike, y: ArrayLike, z: ArrayLike) -> Reals:
    """Multiply exactly in binary64 and add there, rounding to odd; only the last rounding, to binary32, is then felt.

    Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE
    Trans. Comput. 57 (2008).
    """
    product, addend = np.multiply(x, y, dtype=np.float64), np.asarray(z, np.float64)
    total = product + addend
    virtual = total - product
    error = (product - (total - virtual)) + (addend - virtual)  # exact, by Knuth's two-sum
    cut = (error != 0) & (total.view(np.uint64) & np.uint64(1) == 0)
    odd = np.where(cut, np.nextafter(total, np.copysign(np.inf, error)), total)
    return odd.astype(np.float32)


def _fma_double(x: ArrayLike, y: ArrayLike, z: ArrayLike) -> Reals:
    return np.asarray(np.frompyfunc(_fma_exact, 3, 1)(x, y, z), np.float64)


def _fma_exact(x: float, y: float, z: float) -> float:
    """Compute in whole numbers, whose quotient Python rounds correctly."""
    (p, q), (r, s), (t, u) = x.as_integer_ratio(), y.as_integer_ratio(), z.as_integer_ratio()
    numerator = p * r * u + t * q * s
    return numerator / (q * s * u) if numerator else x * y + z  # the sum knows the sign of a zero


def hexadecimal(precision: Precision, numbers: str) -> Reals:
    """Return the numbers, none of which the precision may round."""
    exact = [float.fromhex(number) for number in numbers.split()]
    constants = np.array(exact, precision)
    if constants.tolist() != exact:
        raise ValueError(f"a constant is not representable in {precision.__name__}: {numbers}")
    return constants


# ---- 2. Words ----


def philox(counter: list[NDArray[np.uint64]], key: list[int]) -> list[NDArray[np.uint64]]:
    """Return the four output words of every counter: Philox4x32-10, on 32-bit words kept in 64 bits."""
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = p1 >> half ^ c1 ^ np.uint64(k0), p1 & low, p0 >> half ^ c3 ^ np.uint64(k1), p0 & low
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [c0, c1, c2, c3]


def blocks(seed: int, stream: int, first: int, count: int) -> NDArray[np.uint32]:
    """Return the words of ``count`` blocks from block ``first`` on, a row each."""
    b = np.uint64(first) + np.arange(count, dtype=np.uint64)
    s = np.full(count, stream, np.uint64)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    words = philox([b & low, b >> half, s & low, s >> half], [seed % 2**32, seed >> 32])
    return np.stack(words, axis=-1).astype(np.uint32)


def named_stream(name: str) -> int:
    digest = hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest()
    return 2**63 + int.from_bytes(digest, "little") % 2**63


# ---- 3. Elements ----


@dataclass(frozen=True)
class Place:
    """Which elements of which stream."""

    seed: int
    stream: int
    first: int
    count: int


def whole_blocks(place: Place, width: int) -> tuple[Words, slice]:
    """Return all words, ``width`` a block, of the blocks that elements touch, and where in them the elements lie."""
    block, skip = divmod(place.first, width)
    rows = blocks(place.seed, place.stream, block, -(-(skip + place.count) // width))
    return (rows if width == 4 else long_words(rows)).ravel(), slice(skip, skip + place.count)


def long_words(blocks: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Return w0 and w1 of every block."""
    halves = blocks.astype(np.uint64)
    return halves[:, 0::2] + (halves[:, 1::2] << np.uint64(32))


def words(place: Place) -> Words:
    drawn, chosen = whole_blocks(place, width=4)
    return drawn[chosen]


@dataclass(frozen=True)
class Parameters:
    """The numbers of a distribution, each in the working precision."""

    scale: np.float32 | np.float64  # std, or half
    center: np.float32 | np.float64  # mean, or middle
    low: np.float32 | np.float64
    high: np.float32 | np.float64

    @property
    def width(self) -> int:
        """The elements of a block."""
        return 4 if isinstance(self.scale, np.float32) else 2


def normal_parameters(mean: float, std: float, precision: Precision) -> Parameters:
    zero = precision(0)
    return Parameters(precision(std) + zero, precision(mean) + zero, zero, zero)  # + turns -0 into +0


def uniform_parameters(low: float, high: float, precision: Precision) -> Parameters:
    zero = precision(0)
    rounded_low, rounded_high = precision(low) + zero, precision(high) + zero
    if rounded_low == rounded_high:
        return Parameters(zero, rounded_low, rounded_low, rounded_high)
    low, high = float(rounded_low), float(rounded_high)
    return Parameters(precision(high / 2 - low / 2), precision(low / 2 + high / 2), rounded_low, rounded_high)


def uniform(place: Place, numbers: Parameters) -> Reals:
    drawn, chosen = whole_blocks(place, numbers.width)
    return uniform_of(drawn[chosen], numbers)


def normal(place: Place, numbers: Parameters) -> Reals:
    drawn, chosen = whole_blocks(place, numbers.width)
    z = standard_normals(drawn[0::2], drawn[1::2]).ravel()[chosen]
    return fma(numbers.scale, z, numbers.center)


# ---- 4. Uniform ----


def uniform_of(words: Words, numbers: Parameters) -> Reals:
    if words.dtype == np.uint32:
        k = words.view(np.int32) >> 8
        u = (2 * k + 1).astype(np.float32) * np.float32(2.0**-24)
    else:
        k = words.view(np.int64) >> 11
        u = (2 * k + 1).astype(np.float64) * np.float64(2.0**-53)
    return np.maximum(np.minimum(fma(u, numbers.scale, numbers.center), numbers.high), numbers.low)


# ---- 5. and 6. Normal ----


def standard_normals(a: Words, b: Words) -> Reals:
    """Return z_even and z_odd, a row for each pair of words."""
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
    g = np.where(below, y, np.ldexp(y, -e) - np.float32(2))

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
    f = np.where(below, fma(y, h, 2 * h - 1), fma(m, h, np.float64(-1)))

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


# ---- 8. Frozen ----


@dataclass(frozen=True)
class Fill:
    """An operation of the core and what it is given."""

    operation: str
    place: Place
    numbers: Parameters

    @property
    def dtype(self) -> type[np.uint32] | Precision:
        return np.uint32 if self.operation == "words_u32" else type(self.numbers.scale)

    def values(self) -> NDArray[Any]:
        if self.operation == "words_u32":
            return words(self.place)
        return (uniform if self.operation.startswith("uniform") else normal)(self.place, self.numbers)

    def __str__(self) -> str:
        place, numbers = (vars(part).values() for part in (self.place, self.numbers))
        return " ".join([self.operation, *map(str, place), *(float(number).hex() for number in numbers)])


def digest(values: NDArray[Any]) -> str:
    return hashlib.sha256(values.astype(values.dtype.newbyteorder("<")).tobytes()).hexdigest()


def vectors(name: str) -> Iterator[list[str]]:
    """Yield the fields of every line in a file of vectors."""
    for line in (Path(__file__).parent / "vectors" / name).read_text("ascii").splitlines():
        if not line.startswith("#"):
            yield line.split()


def frozen_digests(name: str = "digests.txt") -> dict[str, str]:
    return {" ".join(fields[:-1]): fields[-1] for fields in vectors(name)}


def frozen_fills() -> Iterator[Fill]:
    for place in places(width=4):
        yield Fill("words_u32", place, normal_parameters(0, 0, np.float32))
    yield from frozen_reals(np.float32, "f32", least=2.0**-102)
    yield from frozen_reals(np.float64, "f64", least=2.0**-969)


def frozen_reals(precision: Precision, suffix: str, least: float) -> Iterator[Fill]:
    """Yield Kaiming's distributions in every place, then the edges of the parameters in one."""
    std = math.sqrt(2 / 4096)  # relu, and a fan of 4096
    bound = math.sqrt(3) * std
    ulp, subnormal = float(np.finfo(precision).eps), 3 * float(np.finfo(precision).smallest_subnormal)
    ends = [(0, 1), (-0.001, 2.5), (-3e4, -0.1), (-least, least), (2.5, 2.5)]
    ends += [(1, 1 + ulp), (-1 - ulp, -1)]  # where only max and only min keep the values inside
    moments = [(0, 1), (0.5, 0.02), (-3, 1e3), (-1e30, 1e29), (1, ulp), (0, least), (0, 0), (subnormal, 0)]

    uniforms = [uniform_parameters(low, high, precision) for low, high in ends]
    normals = [normal_parameters(mean, std, precision) for mean, std in moments]
    kaiming_uniform, kaiming_normal = uniform_parameters(-bound, bound, precision), normal_parameters(0, std, precision)
    for kind, kaiming, edges in (("uniform", kaiming_uniform, uniforms), ("normal", kaiming_normal, normals)):
        for place in places(kaiming.width):
            yield Fill(f"{kind}_{suffix}", place, kaiming)
        for numbers in edges:
            yield Fill(f"{kind}_{suffix}", Place(seed=0xDECADE0FC0FFEE, stream=11, first=5, count=3001), numbers)


def places(width: int) -> list[Place]:
    """Return places at both ends of the stream, past 2**32 elements and 2**32 blocks, and of any small size."""
    return [
        Place(seed=0, stream=0, first=0, count=1),
        Place(seed=0, stream=0, first=0, count=300_000),
        *([Place(seed=5, stream=6, first=7, count=600_000)] if width == 4 else []),  # shared out between three threads
        Place(seed=2**64 - 1, stream=2**63 - 1, first=3, count=33),
        Place(seed=20111115, stream=0, first=9935, count=65),
        Place(seed=0x9E3779B97F4A7C15, stream=2**32, first=12_345, count=10_007),
        Place(seed=42, stream=named_stream("encoder.layers.0.weight"), first=1, count=1021),
        Place(seed=2**32 - 1, stream=2**64 - 1, first=2**32 - 7, count=97),
        Place(seed=2**32, stream=1, first=width * 2**32 - 515, count=1500),  # c0 carries into c1
        Place(seed=7, stream=2**32 - 1, first=width * 5 * 2**32 - 2, count=3),
        Place(seed=2**63, stream=2**63, first=2**63 - 31, count=77),
        Place(seed=1, stream=3, first=2**64 - 1000, count=1000),  # the last there are
    ]


if __name__ == "__main__":
    from reference_formats import frozen_narrow_fills

    print("# Stream v1, frozen: fills and the SHA-256 of their bytes, elements little-endian.")
    print("#\n# Computed from docs/stream-v1.md, without the kernels, by the command\n#")
    print("#     python tests/reference.py > tests/vectors/digests.txt")
    print("#")
    print("# scale is the std of a normal and half the width of a uniform, center the mean or the middle; reals are")
    print("# hexadecimal; `>` rounds to a format. A line that changes is a new version of the stream.")
    print("#")
    print("# operation seed stream first count scale center low high sha256")
    for fill in (*frozen_fills(), *frozen_narrow_fills()):
        print(fill, digest(fill.values()))
