"""The reference implementation agrees with published values, exact arithmetic and mathematical functions."""

import math
import random
import re
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import reference_normal
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import Parameters, Place, uniform_parameters
from reference_arithmetic import Precision, fma
from reference_calls import Call, frozen_calls
from reference_formats import frozen_narrow_fills

PAGE = Path(__file__).resolve().parents[2] / "docs" / "stream-v1.md"


def random_words(size: int, count: int) -> list[int]:
    source = random.Random(1)
    return [source.getrandbits(size) for _ in range(count)]


def signed(word: int, size: int) -> int:
    return word - 2**size if word >> (size - 1) else word


# ---- fma ----

single_floats = st.floats(width=32, min_value=-(2.0**100), max_value=2.0**100)
double_floats = st.floats(min_value=-(2.0**900), max_value=2.0**900)


def is_nearest(exact: Fraction, rounded: np.float32 | np.float64) -> bool:
    """Return True if no neighbour is closer to the exact number, or equally close and even."""
    distance = abs(Fraction(float(rounded)) - exact)
    even = rounded.tobytes()[0 if np.little_endian else -1] % 2 == 0
    neighbours = (np.nextafter(rounded, rounded.dtype.type(end)) for end in (-np.inf, np.inf))
    distances = [abs(Fraction(float(neighbour)) - exact) for neighbour in neighbours]
    return all(distance < other or (distance == other and even) for other in distances)


@given(single_floats.filter(lambda x: abs(x) < 2**20), single_floats, single_floats)
def test_single_fma_is_rounded_once(x: float, y: float, z: float) -> None:
    rounded = fma(np.float32(x), np.float32(y), np.float32(z))
    assert rounded.dtype == np.float32
    assert is_nearest(Fraction(x) * Fraction(y) + Fraction(z), np.float32(rounded))


@given(double_floats.filter(lambda x: abs(x) < 2**100), double_floats, double_floats)
def test_double_fma_is_rounded_once(x: float, y: float, z: float) -> None:
    rounded = fma(np.float64(x), np.float64(y), np.float64(z))
    assert rounded.dtype == np.float64
    assert is_nearest(Fraction(x) * Fraction(y) + Fraction(z), np.float64(rounded))


def test_single_fma_is_not_rounded_to_double_first() -> None:
    """Half an ulp minus 2^-64 becomes a tie in binary64, and rounding that to binary32 would change odd numbers."""
    x, y = np.float32(2.0**-24 + 2.0**-44), np.float32(1 - 2.0**-20)
    for odd in (np.float32(1 + 2.0**-23), np.float32(1 + 3 * 2.0**-23)):
        assert fma(x, y, odd) == odd
        assert fma(-x, y, odd) == odd
        assert np.float32(np.float64(x) * np.float64(y) + np.float64(odd)) != odd


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_fma_returns_the_correct_sign_of_zero(precision: Precision) -> None:
    zero, one = precision(0), precision(1)
    cases = [(-zero, one, -zero), (-zero, one, zero), (one, one, -one), (zero, one, -zero), (-zero, -one, -zero)]
    signs = [bool(np.signbit(fma(x, y, z))) for x, y, z in cases]
    assert signs == [True, False, False, False, False]  # IEEE 754-2019, section 6.3


def test_fma_underflows_gradually() -> None:
    """3/2 of the smallest subnormal number is rounded to the even 2, and values below 1/2 of it to zero."""
    assert fma(np.float32(2.0**-148), np.float32(0.75), np.float32(0)) == 2.0**-148
    assert fma(np.float64(2.0**-1073), np.float64(0.75), np.float64(0)) == 2.0**-1073
    nothing = fma(np.float64(-(2.0**-600)), np.float64(2.0**-500), np.float64(0))
    assert nothing == 0
    assert np.signbit(nothing)


# ---- words ----


def test_philox_matches_the_known_answers() -> None:
    answers = [fields[2:] for fields in reference.vectors("known_answers.txt") if fields[0] == "philox4x32"]
    assert len(answers) == 3
    for answer in answers:
        numbers = [int(word, 16) for word in answer]
        counter = [np.array([word], np.uint64) for word in numbers[:4]]
        assert [int(word[0]) for word in reference.philox(counter, numbers[4:6])] == numbers[6:]


def test_words_match_the_cpp_standard_engine() -> None:
    (answer,) = [fields[1:] for fields in reference.vectors("known_answers.txt") if fields[0] == "std::philox4x32"]
    key, invocation, value = map(int, answer)
    for before in range(9):
        place = Place(key=key, stream=0, first=invocation - 1 - before, count=before + 1)
        assert reference.words(place)[before] == value


@pytest.mark.parametrize("first", [0, 2**34 - 6, 2**64 - 12])
def test_doubles_use_two_words_and_singles_one(first: int) -> None:
    """Both precisions use the same blocks, with the low word first."""
    halves = reference.words(Place(key=3, stream=5, first=first, count=12)).astype(object)
    longs, chosen = reference.whole_blocks(Place(key=3, stream=5, first=first // 2, count=6), width=2)
    assert longs[chosen].tolist() == (halves[0::2] + 2**32 * halves[1::2]).tolist()


# ---- uniform ----


@pytest.mark.parametrize(("precision", "size", "bits"), [(np.float32, 32, 24), (np.float64, 64, 53)])
def test_uniform_values_are_midpoints_of_equal_intervals(precision: Precision, size: int, bits: int) -> None:
    """(-1, 1) is divided into 2^bits equal intervals, to which the words, as signed numbers, are assigned in order."""
    edges = [0, 1, 2 ** (size - bits) - 1, 2 ** (size - bits), 2 ** (size - 1) - 1, 2 ** (size - 1), 2**size - 1]
    words = np.array(edges + random_words(size, 100), f"u{size // 8}")
    values = reference.uniform_of(words, uniform_parameters(-1, 1, precision))
    cells = [Fraction(signed(word, size), 2 ** (size - 1)) // Fraction(2, 2**bits) for word in words.tolist()]
    assert [Fraction(float(value)) for value in values] == [
        (cell + Fraction(1, 2)) * Fraction(2, 2**bits) for cell in cells
    ]


def test_uniform_parameters_do_not_overflow() -> None:
    most = float(np.finfo(np.float64).max)
    below = math.nextafter(most, 0)
    assert uniform_parameters(-most, most, np.float64) == Parameters(*map(np.float64, (most, 0, -below, below)))
    assert uniform_parameters(0, 1, np.float32) == Parameters(*map(np.float32, (0.5, 0.5, 0, 1 - 2.0**-24)))


# ---- normal, compared with mathematical functions ----

EDGES = [0, 1, 2, 3, 2**7, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1]


def ulps(computed: NDArray[Any], exact: NDArray[Any]) -> float:
    return float(np.max(np.abs(computed - exact) / np.spacing(np.abs(computed)).astype(exact.dtype)))


def test_single_radius_and_angle_stay_within_2_ulp() -> None:
    """In binary64, v and t are exact, and log, cos and sin are about 2^28 times as accurate."""
    edges = [word for a in EDGES for b in [*EDGES, 255] for word in (a, b)]
    a, b = np.array(edges + random_words(32, 100_000), np.uint32).reshape(-1, 2).T.copy()

    v = (a + (b % 256 + 0.5) / 256) / 2.0**32
    rho = np.sqrt(reference_normal.squared_radius_single(a, b))
    assert ulps(rho, np.sqrt(-2 * np.where(v > 0.5, np.log1p(v - 1), np.log(v)))) < 2

    phi = (b << np.uint32(2) | np.uint32(2)).view(np.int32) * (np.pi / 2.0**33)
    cosine, sine = reference_normal.angle_single(b)
    assert ulps(cosine, np.cos(phi)) < 2
    assert ulps(sine, np.sin(phi)) < 2


PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")


def cosine_and_sine(phi: Decimal) -> list[Decimal]:
    """Sum 40 terms of the Taylor series, whose error is below 10^-50 for an angle below 1."""
    terms = [phi**n / math.factorial(n) for n in range(40)]
    return [sum(terms[k::4], Decimal(0)) - sum(terms[k + 2 :: 4], Decimal(0)) for k in (0, 1)]


def test_double_radius_and_angle_stay_within_4_ulp() -> None:
    edges = [edge << shift for edge in EDGES for shift in (0, 32)]
    words = np.array([*edges, 2**62 - 1, 2**64 - 1, *random_words(64, 500)], np.uint64)
    rho = np.sqrt(reference_normal.squared_radius_double(words))
    cosine, sine = reference_normal.angle_double(words)
    with localcontext(prec=60):
        for i, word in enumerate(words.tolist()):
            radius = (-2 * ((word + Decimal("0.5")) / 2**64).ln()).sqrt()
            exact = [radius, *cosine_and_sine(signed((4 * word + 2) % 2**64, 64) * PI / 2**65)]
            for computed, expected in zip((rho[i], cosine[i], sine[i]), exact, strict=True):
                assert abs(Decimal(float(computed)) - expected) < 4 * Decimal(float(np.spacing(abs(computed))))


@pytest.mark.parametrize("size", [32, 64])
def test_top_bits_select_the_octant(size: int) -> None:
    """The two top bits of b map a small angle phi to phi, pi/2 - phi, phi + pi and 3 pi/2 - phi."""
    a = np.full(4, 2 ** (size - 3) + 5, f"u{size // 8}")
    b = np.array([2 ** (size - 5) + octant * 2 ** (size - 2) for octant in range(4)], f"u{size // 8}")
    (c, s), *others = reference_normal.standard_normals(a, b).tolist()
    assert c > s > 0
    assert others == [[s, c], [-c, -s], [-s, -c]]


# ---- the specification and the table of digests ----


def test_constants_match_the_specification() -> None:
    numbers = re.compile(r"-?0x1(?:\.[0-9a-f]+)?p[+-]\d+")
    page = PAGE.read_text("utf-8").split("\n## 5. ")[1].split("\n## 8. ")[0]
    powers = {"0x1p-31", "0x1p-63", "0x1p-64"}
    modules = (PAGE.parents[1] / "tests" / "reference" / f"reference_{name}.py" for name in ("normal", "truncated"))
    used = "".join(module.read_text("utf-8") for module in modules)
    assert set(numbers.findall(used)) == set(numbers.findall(page)) - powers


FROZEN = [*reference.frozen_fills(), *frozen_narrow_fills()]


def test_table_lists_the_frozen_fills() -> None:
    assert list(reference.frozen_digests()) == [str(fill) for fill in FROZEN]


def test_short_digests_are_reproduced() -> None:
    short = [fill for fill in FROZEN if fill.place.count < 2000]
    assert {str(fill): reference.digest(fill.values()) for fill in short}.items() <= reference.frozen_digests().items()


@pytest.mark.slow
def test_every_digest_is_reproduced() -> None:
    assert {str(fill): reference.digest(fill.values()) for fill in FROZEN} == reference.frozen_digests()


# ---- public calls ----


@pytest.mark.parametrize(
    ("shape", "mode", "a", "nonlinearity", "std"),
    [
        ((3, 4, 2), "fan_in", 0.0, "relu", 0.5),  # sqrt(2 / 8)
        ((2, 4, 4), "fan_out", 0.0, "leaky_relu", 0.5),
        ((3, 1), "fan_avg", 1.0, "leaky_relu", math.sqrt(0.5)),  # gain 1, and a fan of 2
        ((9, 1), "fan_geo_avg", 0.0, "tanh", 5 / 3 / math.sqrt(3)),
        ((1, 9), "fan_in", 0.0, "selu", 0.25),
        ((1, 4), "fan_in", 7.0, "linear", 0.5),
    ],
)
def test_calls_have_the_std_derived_by_hand(
    shape: tuple[int, ...], mode: str, a: float, nonlinearity: str, std: float
) -> None:
    call = Call("kaiming_uniform_", "float64", shape, mode, a, nonlinearity, seed=0)
    assert math.isclose(call.std, std, rel_tol=2.0**-51)
    assert math.isclose(
        call.bound**2, 3 * std**2, rel_tol=2.0**-49
    )  # the variance of a uniform distribution is bound^2 / 3


def test_every_digest_of_a_call_is_reproduced() -> None:
    calls = {str(call): reference.digest(call.values()) for call in frozen_calls()}
    assert calls == reference.frozen_digests("calls.txt")
