"""The reference implementation of stream v1, written from docs/stream-v1.md alone; the sections below are its sections.

It is slow and simple, and shares no code with the kernels. Run as a program, it computes the digests of the tests:

    python tests/reference/reference.py > tests/vectors/digests.txt
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference_arithmetic import Precision, Reals, Words, fma
from reference_normal import standard_normals
from reference_truncated import Truncation, truncated_of, truncation

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


def philox_key(seed: int) -> int:
    z = (seed + 0x782CB42F65763AD6) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def blocks(key: int, stream: int, first: int, count: int) -> NDArray[np.uint32]:
    """Return the words of ``count`` blocks, starting at block ``first``, with one row per block."""
    b = np.uint64(first) + np.arange(count, dtype=np.uint64)
    s = np.full(count, stream, np.uint64)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    words = philox([b & low, b >> half, s & low, s >> half], [key % 2**32, key >> 32])
    return np.stack(words, axis=-1).astype(np.uint32)


def named_stream(name: str) -> int:
    digest = hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest()
    return 2**63 + int.from_bytes(digest, "little") % 2**63


# ---- 3. Elements ----


@dataclass(frozen=True)
class Place:
    """A range of elements in a stream of a Philox key."""

    key: int
    stream: int
    first: int
    count: int


def whole_blocks(place: Place, width: int) -> tuple[Words, slice]:
    """Return all words of the blocks that contain the elements, ``width`` per block, and the slice of the elements."""
    block, skip = divmod(place.first, width)
    rows = blocks(place.key, place.stream, block, -(-(skip + place.count) // width))
    return (rows if width == 4 else long_words(rows)).ravel(), slice(skip, skip + place.count)


def long_words(blocks: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Return the 64-bit words w0 and w1 of every block."""
    halves = blocks.astype(np.uint64)
    return halves[:, 0::2] + (halves[:, 1::2] << np.uint64(32))


def words(place: Place) -> Words:
    drawn, chosen = whole_blocks(place, width=4)
    return drawn[chosen]


@dataclass(frozen=True)
class Parameters:
    """The parameters of a distribution in the working precision; low and high are the bounds of uniform values."""

    scale: np.float32 | np.float64  # std, or half of the width
    center: np.float32 | np.float64  # mean, or midpoint
    low: np.float32 | np.float64
    high: np.float32 | np.float64

    @property
    def width(self) -> int:
        """The number of elements in a block."""
        return 4 if isinstance(self.scale, np.float32) else 2


def normal_parameters(mean: float, std: float, precision: Precision) -> Parameters:
    zero = precision(0)
    return Parameters(precision(std) + zero, precision(mean) + zero, zero, zero)  # adding 0 converts -0 to +0


def uniform_parameters(low: float, high: float, precision: Precision) -> Parameters:
    zero = precision(0)
    rounded_low, rounded_high = precision(low) + zero, precision(high) + zero
    if rounded_low == rounded_high:
        return Parameters(zero, rounded_low, rounded_low, rounded_high)
    low, high = float(rounded_low), float(rounded_high)
    most = np.nextafter(rounded_high, precision(-np.inf))
    least = -most if low == -high else rounded_low
    return Parameters(precision(high / 2 - low / 2), precision(low / 2 + high / 2), least, most)


def truncated(place: Place, operation: str, numbers: Truncation) -> Reals:
    drawn, chosen = whole_blocks(place, width=2 if operation == "truncated_f64" else 4)
    return truncated_of(drawn[chosen], operation, numbers)


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


# ---- 9. Frozen ----


@dataclass(frozen=True)
class Fill:
    """An operation of the core, optionally with a format for rounding ("truncated_f64>float32"), and its arguments."""

    operation: str
    place: Place
    numbers: Parameters | Truncation

    @property
    def dtype(self) -> type[np.uint32] | Precision:
        if self.operation == "words_u32":
            return np.uint32
        return np.float64 if self.operation.endswith("f64") else np.float32

    def values(self) -> NDArray[Any]:
        operation, _, rounding = self.operation.partition(">")
        if operation == "words_u32":
            return words(self.place)
        if isinstance(self.numbers, Truncation):
            values = truncated(self.place, operation, self.numbers)
            return values.astype(np.float32) if rounding else values
        return (uniform if operation.startswith("uniform") else normal)(self.place, self.numbers)

    def __str__(self) -> str:
        place, numbers = map(astuple, (self.place, self.numbers))
        return " ".join([self.operation, *map(str, place), *(float(number).hex() for number in numbers)])


def digest(values: NDArray[Any]) -> str:
    return hashlib.sha256(values.astype(values.dtype.newbyteorder("<")).tobytes()).hexdigest()


def vectors(name: str) -> Iterator[list[str]]:
    """Yield the fields of every line in a file of vectors."""
    for line in (Path(__file__).parents[1] / "vectors" / name).read_text("ascii").splitlines():
        if not line.startswith("#"):
            yield line.split()


def frozen_digests(name: str = "digests.txt") -> dict[str, str]:
    return {" ".join(fields[:-1]): fields[-1] for fields in vectors(name)}


def frozen_fills() -> Iterator[Fill]:
    for place in places(width=4):
        yield Fill("words_u32", place, normal_parameters(0, 0, np.float32))
    yield from frozen_reals(np.float32, "f32", least=2.0**-102)
    yield from frozen_reals(np.float64, "f64", least=2.0**-969)
    yield from frozen_truncated()


def frozen_reals(precision: Precision, suffix: str, least: float) -> Iterator[Fill]:
    """Yield Kaiming distributions at every place, then edge cases of the parameters at one place."""
    std = math.sqrt(2 / 4096)  # relu, and a fan of 4096
    bound = math.sqrt(3) * std
    ulp, subnormal = float(np.finfo(precision).eps), 3 * float(np.finfo(precision).smallest_subnormal)
    ends = [(0, 1), (-0.001, 2.5), (-3e4, -0.1), (-least, least), (2.5, 2.5)]
    ends += [(1, 1 + 2 * ulp), (-1 - 2 * ulp, -1)]  # values are clamped at one of the bounds
    moments = [(0, 1), (0.5, 0.02), (-3, 1e3), (-1e30, 1e29), (1, ulp), (0, least), (0, 0), (subnormal, 0)]

    uniforms = [uniform_parameters(low, high, precision) for low, high in ends]
    normals = [normal_parameters(mean, std, precision) for mean, std in moments]
    kaiming_uniform, kaiming_normal = uniform_parameters(-bound, bound, precision), normal_parameters(0, std, precision)
    for kind, kaiming, edges in (("uniform", kaiming_uniform, uniforms), ("normal", kaiming_normal, normals)):
        for place in places(kaiming.width):
            yield Fill(f"{kind}_{suffix}", place, kaiming)
        for numbers in edges:
            yield Fill(f"{kind}_{suffix}", Place(key=0xDECADE0FC0FFEE, stream=11, first=5, count=3001), numbers)


INFINITY = math.inf
BOUNDS: list[tuple[float, float, float, float]] = [  # mean, std, low, high
    (0, 1, -2, 2),  # only the central region in single precision
    (0, 0.02, -2, 2),  # 100 sigmas, so that the bounds truncate nothing
    (0, 1, -INFINITY, INFINITY),
    (0, 1, -2.25, 2.25),  # tails in single precision
    (3, 0.5, 2.5, 3.5),  # symmetric about the mean, and central in double precision, too
    (0, 1, -1, 1.25),  # asymmetric and central
    (0.5, 1, -2, 2),  # asymmetric, with tails
    (0, 1, 2, INFINITY),
    (0, 1, -INFINITY, 1.5),
    (0, 1, -INFINITY, -7),
    (0, 1, 0, INFINITY),
    (0, 1, -0.125, INFINITY),  # one half of the words reaches past the mean
    (0, 1, 5, 6),
    (0, 1, -6, -5),
    (0, 1, 36, INFINITY),
    (0, 1, 30, 30.5),
    (0, 1, -5e-7, 2.5e-7),  # far narrower than sigma
    (-1, 1e6, -2, 2),
    (0, 1, -(2.0**-64), 2.0**-64),  # the narrowest in single precision
    (0, 1, -(2.0**-65), 2.0**-65),  # computed in double precision
    (1, 0.25, 1.5, 1.5 + 2.0**-20),
    (2.0**-60, 2.0**-102, 0, 1),
]


def frozen_truncated() -> Iterator[Fill]:
    """Yield each operation at every place, then every kind of bounds at one place."""
    everywhere: list[tuple[Precision, tuple[float, float, float, float]]]
    everywhere = [(np.float32, (0, 0.02, -0.04, 0.04)), (np.float32, (0.5, 1, -2, 2)), (np.float64, (0, 1, -2, 2))]
    for precision, bounds in everywhere:
        operation, numbers = truncation(*bounds, precision)
        for place in places(width=4 if operation == "truncated_f32" else 2):
            yield Fill(operation, place, numbers)
    place = Place(key=0xDECADE0FC0FFEE, stream=11, first=5, count=3001)
    precisions: tuple[Precision, ...] = (np.float32, np.float64)
    for precision in precisions:
        for bounds in BOUNDS:
            operation, numbers = truncation(*bounds, precision)
            yield Fill(operation, place, numbers)


def places(width: int) -> list[Place]:
    """Return places at both ends of the stream, beyond 2**32 elements and 2**32 blocks, and of several small sizes."""
    return [
        Place(key=0, stream=0, first=0, count=1),
        Place(key=0, stream=0, first=0, count=300_000),
        *([Place(key=5, stream=6, first=7, count=600_000)] if width == 4 else []),  # divided between three threads
        Place(key=2**64 - 1, stream=2**63 - 1, first=3, count=33),
        Place(key=20111115, stream=0, first=9935, count=65),
        Place(key=0x9E3779B97F4A7C15, stream=2**32, first=12_345, count=10_007),
        Place(key=42, stream=named_stream("encoder.layers.0.weight"), first=1, count=1021),
        Place(key=2**32 - 1, stream=2**64 - 1, first=2**32 - 7, count=97),
        Place(key=2**32, stream=1, first=width * 2**32 - 515, count=1500),  # c0 carries into c1
        Place(key=7, stream=2**32 - 1, first=width * 5 * 2**32 - 2, count=3),
        Place(key=2**63, stream=2**63, first=2**63 - 31, count=77),
        Place(key=1, stream=3, first=2**64 - 1000, count=1000),  # the last elements of the stream
    ]


if __name__ == "__main__":
    from reference_formats import frozen_narrow_fills

    print("# Stream v1, frozen: fills and the SHA-256 of their bytes, elements little-endian.")
    print("#\n# Computed from docs/stream-v1.md, without the kernels, by the command\n#")
    print("#     python tests/reference/reference.py > tests/vectors/digests.txt")
    print("#")
    print("# scale is the std of a normal and half the width of a uniform, center the mean or the middle; reals are")
    print("# hexadecimal; `>` rounds to a format. Truncated normals have six numbers more: slope, intercept,")
    print("# lower_slope, lower_intercept, upper_slope, upper_intercept. A line that changes is a new version of the")
    print("# stream.")
    print("#")
    print("# operation key stream first count scale center low high sha256")
    for fill in (*frozen_fills(), *frozen_narrow_fills()):
        print(fill, digest(fill.values()))
