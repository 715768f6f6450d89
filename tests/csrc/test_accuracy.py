"""The errors of radius, cosine and sine against the exact transform stay within the contracts in boxmuller.h.

tests/c/accuracy.c tests a sample of words on every instruction set of this machine and, in a test marked `slow`, all
words on one of them. In single precision the latter is the proof that docs/stream-v1.md, section 8, refers to.
"""

import math
import re
import subprocess
from decimal import Decimal, localcontext
from pathlib import Path
from typing import NamedTuple

import pytest
from extended import ISAS
from processes import CSRC, ROOT, compiled, vectors_of

import fastkaiming as fk

SAMPLE = 1009  # the stride: a prime, so that the sample has no pattern in powers of 2
WHOLE = "all words"
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211707")


class Function(NamedTuple):
    """One result of boxmuller.h, with its contract and the exact ends of its range."""

    name: str
    contract: str  # the C function that it is written above
    word: int  # bits
    precision: int  # bits of the significand
    max_ulp: int
    least: float  # magnitudes
    greatest: float


# At the ends, v is 2^-41 or 1 - 2^-41 (2^-65 or 1 - 2^-65), and |phi| is pi 2^-32 (pi 2^-64) or close to pi/4.
FUNCTIONS = [
    Function("radius_f32", "fk_radius_f32", 40, 24, 2, 2.0**-20, math.sqrt(82 * math.log(2))),
    Function("cosine_f32", "fk_cos_sin_f32", 30, 24, 2, math.sqrt(0.5), 1.0),
    Function("sine_f32", "fk_cos_sin_f32", 30, 24, 2, math.pi * 2.0**-32, math.sqrt(0.5)),
    Function("radius_f64", "fk_radius_f64", 64, 53, 4, 2.0**-32, math.sqrt(130 * math.log(2))),
    Function("cosine_f64", "fk_cos_sin_f64", 62, 53, 4, math.sqrt(0.5), 1.0),
    Function("sine_f64", "fk_cos_sin_f64", 62, 53, 4, math.pi * 2.0**-64, math.sqrt(0.5)),
]
EACH_FUNCTION = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)


class Extremes(NamedTuple):
    results: int
    ulp: float
    word: int
    value: float
    least: float
    greatest: float


class Report(NamedTuple):
    isa: str
    stride: int
    vector_header: str
    reference_bits: int
    extremes: dict[str, Extremes]

    def of(self, function: Function) -> Extremes:
        if self.reference_bits < function.precision + 11:
            pytest.skip(f"long double has {self.reference_bits} bits here, too few to test {function.precision}")
        return self.extremes[function.name]


def run_accuracy(isa: str, stride: int, threads: int, directory: Path) -> Report:
    sources = [ROOT / "tests" / "c" / "accuracy.c", CSRC / "threads" / "threads.c"]
    program = compiled(directory / f"accuracy_{isa}", *vectors_of(isa), *sources, "-lm")
    output = subprocess.run([program, str(stride), str(threads)], check=True, capture_output=True, text=True).stdout
    print(output)
    first, *rest = (line.split() for line in output.splitlines())
    extremes = {
        name: Extremes(int(results), float(ulp), int(word, 0), *map(float.fromhex, values))
        for name, results, ulp, word, *values in rest
    }
    return Report(isa, stride, first[0], int(first[1]), extremes)


@pytest.fixture(scope="module", params=[*ISAS, pytest.param(WHOLE, marks=pytest.mark.slow)])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Report:
    directory = tmp_path_factory.mktemp("accuracy")
    if request.param == WHOLE:
        return run_accuracy(fk.available_isas()[0], 1, fk.get_num_threads(), directory)
    return run_accuracy(request.param, SAMPLE, 1, directory)


def transform(function: Function, word: int) -> Decimal:
    """Return the exact result of the transform in docs/stream-v1.md, sections 5 and 6."""
    with localcontext(prec=60):
        if function.name.startswith("radius"):
            v = (word + Decimal("0.5")) / Decimal(2) ** function.word
            return (-2 * v.ln()).sqrt()
        t = (word << 2 | 2) - (word >> (function.word - 1) << (function.word + 2))
        phi = t * PI / Decimal(2) ** (function.word + 3)
        powers = range(int(function.name.startswith("sine")), 50, 2)
        return sum((Decimal(-1) ** (n // 2) * phi**n / math.factorial(n) for n in powers), Decimal(0))


@EACH_FUNCTION
def test_errors_stay_within_the_contract(report: Report, function: Function) -> None:
    assert report.of(function).ulp <= function.max_ulp


@EACH_FUNCTION
def test_reported_largest_error_is_correct(report: Report, function: Function) -> None:
    largest = report.of(function)
    exact = transform(function, largest.word)
    ulp = Decimal(2) ** (math.frexp(exact)[1] - function.precision)
    assert math.isclose(abs(Decimal(largest.value) - exact) / ulp, largest.ulp, abs_tol=0.002)


@EACH_FUNCTION
def test_extreme_results_are_the_ends_of_the_range(report: Report, function: Function) -> None:
    tolerance = function.max_ulp * 2.0 ** (1 - function.precision)
    assert math.isclose(report.of(function).least, function.least, rel_tol=tolerance)
    assert math.isclose(report.of(function).greatest, function.greatest, rel_tol=tolerance)


def test_number_of_tested_words(report: Report) -> None:
    assert report.vector_header == f"simd/vec_{report.isa}.h"

    def tested(words: int) -> int:
        return math.ceil(words / report.stride)

    # Radius: three low bytes for each of 2^32 words, and all words on either side of 0 and of the middle.
    assert report.extremes["radius_f32"].results == 3 * tested(2**32) + 4 * tested(2**24)
    for name in ("cosine_f32", "sine_f32"):
        assert report.extremes[name].results == tested(2**30) + 4 * tested(2**14)


@EACH_FUNCTION
def test_contract_states_error_and_range(function: Function) -> None:
    header = (CSRC / "math" / "boxmuller.h").read_text()
    contract = re.search(rf"/\*((?:(?!\*/).)*)\*/\s+FK_INLINE \w+ {function.contract}\(", header, re.DOTALL)
    assert contract is not None
    assert f"Max error: {function.max_ulp} ulp" in contract[1]
    before = {"radius": "Result: ", "cosine": "cos in ", "sine": "sin in +-"}[function.name.partition("_")[0]]
    ends = re.search(re.escape(before) + r"\[(\S+), (\S+)\]", contract[1])
    assert ends is not None
    assert ends.groups() == (rounded_as(ends[1], function.least), rounded_as(ends[2], function.greatest))


def rounded_as(stated: str, exact: float) -> str:
    """Format `exact` like `stated`: with as many decimals, and as a power of 2 if `stated` is one."""
    power, _, number = stated.rpartition("^")
    decimals = len(number.partition(".")[2])
    return f"2^{math.log2(exact):.{decimals}f}" if power else f"{exact:.{decimals}f}"
