"""The errors of truncated normals against the exact quantile stay within the contracts in quantile.h.

tests/c/quantile_accuracy.c tests a sample of words on every instruction set of this machine and, in a test marked
`slow`, all words once, for the cases that docs/stream-v1.md, section 8, calls proven.
"""

import math
import re
import subprocess
from decimal import Decimal, localcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from extended import ISAS
from processes import CSRC, ROOT, compiled, vectors_of
from reference_arithmetic import Precision
from reference_truncated import DIGITS, Exact, Truncation, exact_numbers, lower_tail, pi, truncation

import fastkaiming as fk

SAMPLE = 10007  # the stride, a prime
MAX_ULP = {"truncated_f32": 4, "truncated_f64": 8}
CONTRACTS = {"truncated_f32": "fk_quantile_f32", "truncated_f64": "fk_quantile_f64"}

INF = math.inf
PROVEN = [(-2.0, 2.0), (-100.0, 100.0), (-3.25390625, 3.25390625), (-1.0, 1.0), (-(2.0**-64), 2.0**-64)]
SYMMETRIC = [(-2.0, 2.0), (-100.0, 100.0), (-1.0, 1.0), (-2.25, 2.25), (-4.0, 4.0), (-(2.0**-10), 2.0**-10)]
OTHERS = [(-1.0, 1.25), (-2.0, 2.5), (2.0, INF), (-INF, 1.5), (0.0, INF), (-0.125, INF), (5.0, 6.0), (-6.0, -5.0)]
OTHERS += [(-INF, -2.0), (1.5, 2.0), (36.0, INF), (30.0, 30.5), (1.0, 1.0 + 2.0**-10), (-INF, -7.0)]
OTHERS += [(2.0**-34, 1.5), (-(2.0**-33), 2.5), (-3.0, -(2.0**-40))]  # Phi is close to 1/2 near the first or last word


class Case(NamedTuple):
    operation: str
    numbers: Truncation
    exact: Exact

    @property
    def slack(self) -> float:
        """The additional error of z, in double precision with bounds that are not symmetric."""
        symmetric = self.numbers.low == -self.numbers.high
        return 0.0 if symmetric or self.operation != "truncated_f64" else 2.0**-53

    @property
    def word(self) -> int:
        return 64 if self.operation == "truncated_f64" else 32

    def line(self) -> str:
        with localcontext(prec=DIGITS):
            exact = [getattr(self.exact, name) for name in ("slope", "intercept", "lower_intercept", "upper_intercept")]
            halves = [half for number in exact for half in (float(number), float(number - Decimal(float(number))))]
        numbers = [self.slack, *vars(self.numbers).values(), *halves]
        return " ".join([self.operation, *(float(number).hex() for number in numbers)])


class Seen(NamedTuple):
    results: int
    ulp: float
    word: int
    value: float
    least: float
    greatest: float
    edges: list[
        list[float]
    ]  # at the lower and the upper bound: words that give it, most words of another value, largest gap


def case(bounds: tuple[float, float], precision: Precision) -> Case:
    """Return a case: symmetric bounds in single precision, or any bounds in double precision."""
    operation, numbers = truncation(0, 1, *bounds, precision)
    return Case(operation, numbers, exact_numbers(*bounds, operation))


def run_quantile_accuracy(isa: str, cases: list[Case], stride: int, threads: int, directory: Path) -> list[Seen]:
    sources = [ROOT / "tests" / "c" / "quantile_accuracy.c", CSRC / "threads" / "threads.c"]
    program = compiled(directory / f"quantile_{isa}", *vectors_of(isa), *sources, "-lm")
    lines = "\n".join(case.line() for case in cases)
    command = [str(program), str(stride), str(threads)]
    output = subprocess.run(command, input=lines, check=True, capture_output=True, text=True).stdout
    print(output)
    (vector_header, bits), *rest = (line.split() for line in output.splitlines())
    assert vector_header == f"simd/vec_{isa}.h"
    if int(bits) < 64:
        pytest.skip(f"long double has {bits} bits here, too few for the reference")
    assert [fields[0] for fields in rest] == [case.operation for case in cases]
    return [seen(fields[1:]) for fields in rest]


def seen(fields: list[str]) -> Seen:
    edges = [float(number) for number in fields[6:]]
    value, least, greatest = map(float.fromhex, fields[3:6])
    return Seen(int(fields[0]), float(fields[1]), int(fields[2], 0), value, least, greatest, [edges[:3], edges[3:]])


def exact_quantile(case: Case, word: int) -> Decimal:
    """Return the quantile of a word by bisection: slow, but independent of the program's method."""
    with localcontext(prec=60):
        share = (word + Decimal("0.5")) / 2**case.word
        low, high = (max(-40.0, min(40.0, bound)) for bound in (case.numbers.low, case.numbers.high))
        wanted = lower_tail(case.numbers.low) * (1 - share) + lower_tail(case.numbers.high) * share
        left, right = Decimal(low), Decimal(high)
        for _ in range(90):
            middle = (left + right) / 2
            left, right = (middle, right) if tail_of(middle) < wanted else (left, middle)
        return left


def tail_of(x: Decimal) -> Decimal:
    """Return Phi(x) for |x| <= 5 by the Taylor series of the density."""
    with localcontext(prec=100):
        term, total, n = x, Decimal(0), 0
        while abs(term) > Decimal(10) ** -60:
            total += term / (2 * n + 1)
            n += 1
            term *= -x * x / (2 * n)
        return Decimal("0.5") + total / (2 * pi()).sqrt()


@pytest.fixture(scope="module", params=ISAS)
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Case, Seen]]:
    cases = [case(bounds, np.float32) for bounds in SYMMETRIC]
    cases += [case(bounds, np.float64) for bounds in SYMMETRIC + OTHERS]
    directory = tmp_path_factory.mktemp("quantile")
    return list(zip(cases, run_quantile_accuracy(request.param, cases, SAMPLE, 1, directory), strict=True))


def test_errors_stay_within_the_contract(report: list[tuple[Case, Seen]]) -> None:
    for case, found in report:
        assert found.ulp <= MAX_ULP[case.operation], case


def test_reported_largest_errors_are_correct(report: list[tuple[Case, Seen]]) -> None:
    """Test the program's own reference at the words with the largest errors, for bounds near the mean."""
    tested = [(case, found) for case, found in report if -case.numbers.low == case.numbers.high <= 4]
    assert len(tested) == 10
    for case, found in tested:
        exact = exact_quantile(case, found.word)
        ulp = Decimal(2) ** (math.frexp(exact)[1] - (53 if case.operation == "truncated_f64" else 24))
        assert math.isclose(abs(Decimal(found.value) - exact) / ulp, found.ulp, abs_tol=0.01), case


def test_values_cover_the_interval_and_stay_within_it(report: list[tuple[Case, Seen]]) -> None:
    for case, found in report:
        low, high = case.numbers.low, case.numbers.high
        farthest = max(abs(low), abs(high))
        nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
        assert nearest <= found.least <= found.greatest <= farthest, case
        if farthest <= 2:
            assert math.isclose(found.greatest, farthest, rel_tol=2.0**-20), case


def test_bounds_are_not_overrepresented_and_values_near_them_have_no_gaps(report: list[tuple[Case, Seen]]) -> None:
    """If neighbouring words are closer than an ulp, no more words give a bound than any value next to it."""
    tested = 0
    for case, found in report:
        for bound, (at_bound, most, gap) in zip((case.numbers.low, case.numbers.high), found.edges, strict=True):
            if 0 < abs(bound) < 2.0**-30:  # there, the values of neighbouring words are far apart
                continue
            if abs(bound) <= 2.25 or (case.operation == "truncated_f64" and abs(bound) <= 6):
                assert at_bound <= most, case
                assert gap <= 2 * MAX_ULP[case.operation], case
                tested += bound != 0
    assert tested >= 30


@pytest.mark.slow
def test_proof_for_every_word(tmp_path: Path) -> None:
    cases = [case(bounds, np.float32) for bounds in PROVEN]
    for found in run_quantile_accuracy(fk.available_isas()[0], cases, 1, fk.get_num_threads(), tmp_path):
        assert found.results == 2**32 + 6 * 2**16
        assert found.ulp <= MAX_ULP["truncated_f32"]


@pytest.mark.parametrize("operation", MAX_ULP)
def test_contract_states_the_error(operation: str) -> None:
    header = (CSRC / "math" / "quantile.h").read_text()
    contract = re.search(rf"/\*((?:(?!\*/).)*)\*/\s+FK_INLINE \w+ {CONTRACTS[operation]}\(", header, re.DOTALL)
    assert contract is not None
    assert f"Max error: {MAX_ULP[operation]} ulp" in contract[1]
