"""Uniform values of narrow formats: the value of each of the 2^24 words, and the documented moments."""

import math
import re
import subprocess
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_formats
from extended import ISAS
from numpy.typing import NDArray
from processes import ROOT, compiled, vectors_of
from reference import Parameters, uniform_of, uniform_parameters
from reference_formats import FORMATS, Format, narrow_uniform_parameters, numbers

from fastkaiming import _core

WORDS = 2**24  # the words that differ in the bits that a float32 uniform uses
BOUNDS = [(0.0, 1.0), (-1.0, 1.0), (-0.0383, 0.0383), (-0.25, 0.7), (3.0, 4.5), (-2.0, 0.0)]
ROW = re.compile(r"^\| (float\w+|bfloat16) \| (\S+) \| (\S+) \| (\S+) \|$", re.MULTILINE)

CASES = [(name, bounds) for name in FORMATS for bounds in BOUNDS]
every_case = pytest.mark.parametrize(("name", "bounds"), CASES, ids=str)

Counts = Counter[float]


def counted(cases: list[tuple[Format, int, Parameters]], program: Path) -> list[Counts]:
    """Return how often the kernels store each number, over all words."""
    lines = [
        " ".join([str(index), *(float(number).hex() for number in vars(parameters).values())])
        for _, index, parameters in cases
    ]
    output = subprocess.run([program], input="\n".join(lines), check=True, capture_output=True, text=True).stdout
    found = []
    for (storage, _, _), line in zip(cases, output.splitlines(), strict=True):
        pairs = np.array(line.split(), np.int64).reshape(-1, 2)
        counts: Counts = Counter()
        for value, count in zip(value_of_bits(storage)[pairs[:, 0]].tolist(), pairs[:, 1].tolist(), strict=True):
            counts[value] += count
        found.append(counts)
    return found


def value_of_bits(storage: Format) -> NDArray[np.float64]:
    """Return the number of every bit pattern; -0 counts as 0."""
    positive = [number for number in numbers(storage) if number >= 0]
    table = np.full(2**storage.bits, np.nan)
    table[: len(positive)] = positive
    table[2 ** (storage.bits - 1) :][: len(positive)] = 0.0 - np.array(positive)
    return table


def expected(storage: Format, parameters: Parameters) -> Counts:
    """Return the same from the reference implementation; values increase with the word, so bisection finds steps."""
    stored = np.array(numbers(storage))
    stored = stored[(stored >= parameters.low) & (stored <= parameters.high)]
    first, last = np.zeros(len(stored), np.int64), np.full(len(stored), WORDS, np.int64)
    while (first < last).any():  # the first word whose value is not below each number
        middle = (first + last) // 2
        is_below = np.append(value_of(storage, parameters, np.minimum(middle, WORDS - 1)), np.nan)[:-1] < stored
        is_below &= first < last
        first, last = np.where(is_below, middle + 1, first), np.where(is_below, last, np.minimum(middle, last))
    counts = np.diff(first, append=WORDS)
    return Counter(dict(zip(stored.tolist(), counts.tolist(), strict=True)))


def value_of(storage: Format, parameters: Parameters, k: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the values of words, numbered in the order of signed numbers."""
    words = ((k - WORDS // 2) % WORDS << 8).astype(np.uint32)
    bits = reference_formats.rounded(uniform_of(words, parameters), storage)
    values: NDArray[np.float64] = value_of_bits(storage)[bits]
    return values


def moments(counts: Counts) -> tuple[Fraction, Fraction]:
    """Return the exact mean and variance."""
    mean = sum((Fraction(value) * count for value, count in counts.items()), Fraction(0)) / WORDS
    squares = sum((Fraction(value) ** 2 * count for value, count in counts.items()), Fraction(0)) / WORDS
    return mean, squares - mean**2


@pytest.fixture(scope="module", params=ISAS)
def counts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Counts]:
    source = ROOT / "tests" / "c" / "uniform_counts.c"
    program = compiled(tmp_path_factory.mktemp("uniform") / "counts", *vectors_of(request.param), source, "-lm")
    cases = [
        (FORMATS[name], getattr(_core, name.upper()), narrow_uniform_parameters(*bounds, FORMATS[name]))
        for name, bounds in CASES
    ]
    return dict(zip(CASES, counted(cases, program), strict=True))


@every_case
def test_counts_equal_the_reference(counts: dict[Any, Counts], name: str, bounds: tuple[float, float]) -> None:
    found = counts[name, bounds]
    assert sum(found.values()) == WORDS
    assert found == expected(FORMATS[name], narrow_uniform_parameters(*bounds, FORMATS[name]))


@every_case
def test_no_word_gives_the_upper_bound(counts: dict[Any, Counts], name: str, bounds: tuple[float, float]) -> None:
    found = counts[name, bounds]
    low, high = (float(np.float32(bound)) for bound in bounds)
    assert low <= min(found)
    assert max(found) < high
    if low == -high:
        assert min(found) == -max(found)
        assert all(found[-value] == count for value, count in found.items())
        assert moments(found)[0] == 0


@pytest.mark.extended
def test_float32_moments_are_within_the_documented_error() -> None:
    """Sum over all words of the reference implementation; these sums and squares of float32 numbers are exact."""
    words = np.arange(WORDS, dtype=np.uint32) << np.uint32(8)
    for low, high in [(0.0, 1.0), (-1.0, 1.0)]:
        values = uniform_of(words, uniform_parameters(low, high, np.float32)).astype(np.float64)
        mean = math.fsum(values) / WORDS
        std = math.sqrt(math.fsum(values**2) / WORDS - mean**2)
        assert abs(mean - (low + high) / 2) < 2.0**-45
        assert abs(std - (high - low) / math.sqrt(12)) < 2.0**-45


def test_moments_equal_the_documented_ones(counts: dict[Any, Counts]) -> None:
    rows = ROW.findall((ROOT / "docs" / "stream-v1.md").read_text("utf-8"))
    assert [name for name, *_ in rows] == list(FORMATS)
    for name, *stated in rows:
        mean, variance = moments(counts[name, (0.0, 1.0)])
        symmetric = moments(counts[name, (-1.0, 1.0)])[1]
        found = [float(mean), math.sqrt(variance * 12), math.sqrt(symmetric * 3)]
        assert [f"{number:.7f}" for number in found] == stated, name
