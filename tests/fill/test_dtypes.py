"""The narrow formats: rounding against tables and casts of NumPy and ml_dtypes, and values within the bounds."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import reference_formats
from extended import ISAS
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from processes import ROOT, answers, compiled, python, vectors_of
from reference import Place, philox_key
from reference_formats import FORMATS, Format, numbers

import fastkaiming as fk
from fastkaiming import _core
from fastkaiming._fill import dtypes, kernel_params

DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}

narrow = pytest.mark.parametrize("name", FORMATS)


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.select_isa(request.param)
    yield _core.isa()
    _core.select_isa(before)


# ---- the reference implementation ----


@narrow
def test_documented_numbers_are_those_of_the_format(name: str) -> None:
    """Compare with every finite number of ml_dtypes and NumPy; -0 and 0 count as the same number."""
    storage, dtype = FORMATS[name], DTYPES[name]
    bits = np.arange(2**storage.bits, dtype=storage.word)
    with np.errstate(invalid="ignore"):  # signaling NaN
        read = bits.view(dtype).astype(np.float64)
    assert sorted({*read[np.isfinite(read)].tolist()}) == numbers(storage)
    assert numbers(storage)[-1] == storage.largest
    assert min(number for number in numbers(storage) if number > 0) == 2.0**storage.smallest


@narrow
@given(st.data())
def test_reference_rounds_to_nearest_ties_to_even(name: str, data: st.DataObject) -> None:
    storage = FORMATS[name]
    all_numbers = numbers(storage)
    at = data.draw(st.integers(1, len(all_numbers) - 1))
    below, above = map(Fraction, all_numbers[at - 1 : at + 1])
    middle = np.float32((below + above) / 2)  # exact
    neighbours = np.nextafter(middle, np.array([-np.inf, 0, np.inf], np.float32))
    value = data.draw(st.floats(float(below), float(above), width=32) | st.sampled_from([middle, *neighbours]))
    values = np.array([value], np.float32)
    (bits,) = reference_formats.rounded(values, storage)
    (got,) = np.array([bits], storage.word).view(DTYPES[name]).astype(np.float64).tolist()
    distance = abs(Fraction(got) - Fraction(float(values[0])))
    others = [abs(Fraction(number) - Fraction(float(values[0]))) for number in (below, above)]
    assert distance == min(others)
    if others[0] == others[1]:
        assert bits % 2 == 0
    assert bool(bits >> storage.bits - 1) == bool(np.signbit(values[0]))


# ---- every pattern of float32 ----


@pytest.fixture(scope="module", params=ISAS)
def rounding(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = ROOT / "tests" / "c" / "formats_test.c"
    program = tmp_path_factory.mktemp("formats") / f"formats_test_{request.param}"
    return compiled(program, *vectors_of(request.param), source, "-lm")


@pytest.mark.parametrize("stride", [4099, pytest.param(1, marks=pytest.mark.slow)])
def test_every_float32_in_range_is_rounded_exactly(rounding: Path, stride: int) -> None:
    """Every bit pattern at this stride, and always the midpoints between numbers of a format with their neighbours."""
    for name, storage in FORMATS.items():
        question = f"{getattr(_core, name.upper())} {stride}"
        (answer,) = answers(rounding, [question])
        looked_at, wrong = map(int, answer.split()[:2])
        magnitudes = int(np.float32(storage.largest).view(np.uint32)) + 1
        assert wrong == 0, f"{question}: {answer}"
        assert looked_at >= 2 * (magnitudes // stride + 3 * sum(number > 0 for number in numbers(storage)))


# ---- fills ----

KEY = fk.Key(2**40 + 7, 9)
DISTRIBUTIONS = [
    fk.Normal(0, 0.02),
    fk.Normal(-3, 40),
    fk.Normal(0.25, 0),
    fk.Uniform(-0.25, 0.25),
    fk.Uniform(0, 1),
    fk.Uniform(-17, -1),
    fk.Uniform(0.3, 0.3),
    fk.TruncatedNormal(0, 1, -2, 2),
    fk.TruncatedNormal(0.5, 1, -2, 2),
]
ORDERS: dict[str, Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]] = {
    "C": lambda shape, dtype: np.empty(shape, dtype),
    "Fortran": lambda shape, dtype: np.empty(shape, dtype, "F"),
    "backwards": lambda shape, dtype: np.empty(shape, dtype)[::-1, ::-1],
    "columns": lambda shape, dtype: np.empty((shape[0], 3 * shape[1]), dtype)[:, 1::3],
    "swapped": lambda shape, dtype: np.empty(shape, dtype.newbyteorder()),
    "unaligned": lambda shape, dtype: (
        np.empty(math.prod(shape) * dtype.itemsize + 1, np.uint8)[1:].view(dtype).reshape(shape)
    ),
}


@narrow
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=repr)
def test_narrow_fill_equals_the_cast_float32_fill(name: str, order: str, distribution: Any) -> None:
    """Compare with casts of NumPy and ml_dtypes. All bounds of DISTRIBUTIONS except 0.3 are numbers of every format."""
    for shape, threads in (((3, 5), 1), ((61, 1031), 2), ((271, 1031), 3)):
        wanted = fk.fill_(np.empty(shape, np.float32), distribution, rng=KEY).astype(DTYPES[name])
        if isinstance(distribution, fk.Uniform) and distribution.low < distribution.high:
            wanted = without_bounds(wanted, distribution, FORMATS[name])
        out = ORDERS[order](shape, DTYPES[name])
        assert fk.fill_(out, distribution, rng=KEY, threads=threads) is out
        assert out.astype(DTYPES[name]).tobytes() == wanted.tobytes(), (shape, threads)


@narrow
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("distribution", [fk.Normal(0, 0.02), fk.TruncatedNormal(0.5, 1, -2, 2)], ids=repr)
def test_streaming_stores_give_the_same_bytes(name: str, distribution: Any) -> None:
    """The runs begin at any offset in a cache line and in a tile, which is half a cache line for some formats.

    A run that begins late in both and ends early in a tile leaves the fewest bytes after the streaming stores.
    """
    storage = dtypes.format_of_dtype(DTYPES[name])
    assert storage is not None
    params = kernel_params.kernel_params(distribution, storage)
    places = product((0, 1, 31, 37, 2**34 - 5_003), (0, 1, 17, 29, 49, 63), range(15_011, 15_043, 3))
    for first, start, count in places:
        filled = []
        for store in (_core.STORE_PLAIN, _core.STORE_STREAMING):
            out = np.zeros(count + 64, DTYPES[name])
            place = out[start : start + count].view(FORMATS[name].word)
            template = _core.Template(None, *params, store=store)
            _core.fill_all([_core.Plan(place, template, 1, 2, first)])
            filled.append(out.tobytes())
        assert filled[0] == filled[1], (first, start, count)


def without_bounds(values: NDArray[Any], uniform: fk.Uniform, storage: Format) -> NDArray[Any]:
    """Replace values that were rounded to a bound that is not stored by its neighbour."""
    all_numbers = numbers(storage)
    below = all_numbers[bisect_left(all_numbers, uniform.high) - 1]
    values[values.astype(np.float64) == uniform.high] = below
    if uniform.low == -uniform.high:
        values[values.astype(np.float64) == uniform.low] = -below
    return values


def ends(storage: Format) -> st.SearchStrategy[float]:
    """Return a strategy for numbers of the format, numbers between them, and numbers next to 0."""
    most = min(storage.largest, 2.0**100)
    inner = st.sampled_from([number for number in numbers(storage) if abs(number) <= most])
    return inner | st.floats(-most, most, width=32) | st.floats(-8, 8).map(lambda x: x * storage.min_scale)


@narrow
@given(st.data())
def test_uniform_values_stay_within_the_bounds(name: str, data: st.DataObject) -> None:
    """The bounds are rounded to float32, but not to the format."""
    storage = FORMATS[name]
    low, high = sorted(data.draw(st.tuples(ends(storage), ends(storage)), label="ends"))
    out = np.zeros(1500, DTYPES[name])
    with suppress(ValueError):  # the test of REFUSED covers this
        fk.uniform_(out, low, high, rng=1)
        check_bounds(out, low, high, name)


def check_bounds(out: NDArray[Any], low: float, high: float, name: str) -> None:
    storage = FORMATS[name]
    values = out.astype(np.float64)
    if np.float32(low) == np.float32(high):
        assert np.unique(out.view(storage.word)).size == 1
        return
    assert values.min() >= np.float32(low)
    assert values.max() < np.float32(high)
    if np.float32(low) == -np.float32(high):
        assert values.min() > np.float32(low)
    numbers_ = reference_formats.narrow_uniform_parameters(low, high, storage)
    fill = reference_formats.NarrowFill(f"uniform_f32>{name}", Place(philox_key(1), 0, 0, out.size), numbers_)
    assert out.tobytes() == fill.values().tobytes()


@narrow
def test_bound_within_half_a_step_of_0_is_positive_0(name: str) -> None:
    """It is not -0, because the instruction sets differ in the minimum and maximum of -0 and 0."""
    storage = dtypes.format_of_dtype(DTYPES[name])
    assert storage is not None
    call = kernel_params.kernel_params(fk.Uniform(-storage.smallest / 4, 1), storage)
    _, _, low, _ = call.params
    assert math.copysign(1, low) == 1
    assert low == 0


@narrow
@given(st.data())
def test_round_up_and_round_down_return_the_neighbours(name: str, data: st.DataObject) -> None:
    storage, all_numbers = dtypes.format_of_dtype(DTYPES[name]), numbers(FORMATS[name])
    assert storage is not None
    most = storage.largest
    value = data.draw(st.floats(-most, most) | st.sampled_from(all_numbers))
    above = all_numbers[bisect_left(all_numbers, value)]
    below = all_numbers[bisect_left(all_numbers, value) - (above != value)]
    assert (storage.round_up(value), storage.round_down(value)) == (above, below)


@narrow
def test_format_properties_match_the_documentation(name: str) -> None:
    storage, page = dtypes.format_of_dtype(DTYPES[name]), FORMATS[name]
    assert storage is not None
    assert (storage.significand_bits, storage.smallest, storage.largest, storage.min_scale) == (
        page.significand,
        2.0**page.smallest,
        page.largest,
        page.min_scale,
    )


# float16: 6896 * 9.5 = 65512 > 65504. The maximum of bfloat16 is 3.3895e38, of E4M3 448 = 9.5 * 47.16, of E5M2 57344.
REFUSED: list[tuple[str, Any, str]] = [
    (
        "float16",
        fk.Normal(0, 6896),
        "abs(mean) + 9.5 * std must not overflow float16, got Normal(mean=0.0, std=68",
    ),
    ("float16", fk.Normal(65505), "mean must not overflow float16, got 65505"),
    ("float16", fk.Uniform(-65505, 0), "low must not overflow float16, got -65505"),
    ("float16", fk.Uniform(0, 1e39), "high must not overflow float16, got 1e+39"),
    ("float16", fk.Normal(0, 2.0**-25.01), f"std must be 0 or at least {2.0**-25} to avoid underflow in float16, got "),
    ("float16", fk.Uniform(1, 1 + 2.0**-25), "low and high must differ after they are rounded to float32, got "),
    (
        "float16",
        fk.Uniform(1.0001, 1.0009),
        "low and high must have at least two numbers of float16 between them, got Uniform(low=1.0001, ",
    ),
    ("bfloat16", fk.Normal(0, 3.57e37), "abs(mean) + 9.5 * std must not overflow bfloat16, got "),
    ("bfloat16", fk.Normal(3.4e38), "mean must not overflow bfloat16, got 3.4e+38"),
    ("bfloat16", fk.Normal(0, 2.0**-102.01), f"std must be 0 or at least {2.0**-102} to avoid underflow in bfloat16, "),
    ("float16", fk.Uniform(1.0, 1.0009), "low and high must have at least two numbers of float16 between them, got "),
    (
        "bfloat16",
        fk.Uniform(1.001, 1.007),
        "low and high must have at least two numbers of bfloat16 between them, got ",
    ),
    ("float8_e4m3fn", fk.Normal(0, 47.2), "abs(mean) + 9.5 * std must not overflow float8_e4m3fn, got "),
    ("float8_e4m3fn", fk.Uniform(-448.1, 1), "low must not overflow float8_e4m3fn, got -448.1"),
    (
        "float8_e4m3fn",
        fk.Normal(0, 2.0**-10.01),
        f"std must be 0 or at least {2.0**-10} to avoid underflow in float8_e4",
    ),
    (
        "float8_e4m3fn",
        fk.Uniform(1.01, 1.12),
        "low and high must have at least two numbers of float8_e4m3fn between them",
    ),
    ("float8_e4m3fn", fk.Uniform(2.0**-11, 2.0**-9.1), "(high - low) / 2 must be 0 or at least "),
    ("float8_e5m2", fk.Normal(0, 6040), "abs(mean) + 9.5 * std must not overflow float8_e5m2, got "),
    ("float8_e5m2", fk.Uniform(0, 57345), "high must not overflow float8_e5m2, got 57345"),
    (
        "float8_e5m2",
        fk.Normal(0, 2.0**-17.01),
        f"std must be 0 or at least {2.0**-17} to avoid underflow in float8_e5m2",
    ),
    (
        "float8_e5m2",
        fk.Uniform(-1.24, -1.01),
        "low and high must have at least two numbers of float8_e5m2 between them",
    ),
]


@pytest.mark.parametrize(("name", "distribution", "message"), REFUSED)
def test_distribution_that_does_not_fit_the_format_raises(name: str, distribution: Any, message: str) -> None:
    out, generator = np.empty((4, 6), DTYPES[name]), fk.Generator(0)
    out.view(np.uint8)[...] = 0xA5
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        fk.fill_(out, distribution, rng=generator)
    assert str(refusal.value).startswith(f"fill_: {message}")
    assert (out.view(np.uint8) == 0xA5).all()
    assert generator.next_key().stream == 1


@narrow
def test_extreme_parameters_of_a_format_give_finite_values(name: str) -> None:
    storage = FORMATS[name]
    least, limit = storage.min_scale, storage.largest
    most = float(np.nextafter(np.float32(limit / 9.5), np.float32(0)))
    spread = (fk.Normal(0, most), fk.Normal(0, least), fk.Uniform(-limit, limit), fk.Uniform(-4 * least, 4 * least))
    for distribution in spread:
        values = fk.fill_(np.empty(40_000, DTYPES[name]), distribution, rng=1).astype(np.float64)
        assert np.isfinite(values).all()
        assert np.unique(values).size >= 3
    assert fk.fill_(np.empty(9, DTYPES[name]), fk.Normal(limit, 0), rng=1).astype(np.float64).tolist() == [limit] * 9


PEAK = """
import sys
from pathlib import Path
import ml_dtypes
import numpy as np
import fastkaiming as fk

out = np.empty(1 << 25, sys.argv[1])  # as float32, 128 MiB
out.view(np.uint8).fill(1)
fk.kaiming_normal_(np.empty((64, 64), out.dtype), rng=1)
try:
    Path("/proc/self/clear_refs").write_text("5")  # resets the recorded peak to the current size
except OSError as error:
    sys.exit(f"no peak: {error}")

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])

before = peak()
fk.normal_(out, rng=1, threads=2)
print(peak() - before)
"""


@narrow
def test_narrow_fill_needs_no_temporary_array(name: str) -> None:
    result = python(PEAK, name)
    if result.stderr.startswith("no peak"):
        pytest.skip(result.stderr)
    assert int(result.stdout) < 16 * 1024, result.stderr  # KiB
