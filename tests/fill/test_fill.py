"""``fill_``: errors leave the memory unchanged, and the core receives correctly rounded parameters."""

import array
import threading
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from marked_arrays import MARK, marked
from numpy.typing import NDArray

import fastkaiming as fk
from fastkaiming import _core
from fastkaiming._fill import dtypes, kernel_params
from fastkaiming._system import threads

MIB = 1 << 20


def read_only() -> NDArray[Any]:
    out = marked()
    out.flags.writeable = False
    return out


def variable_strings() -> NDArray[Any]:
    return np.array(["a"], pytest.importorskip("numpy", "2.0").dtypes.StringDType())


KINDS = "out must be a NumPy array or support the buffer protocol or DLPack, not "
DTYPES = "out must be of dtype float32, float64, float16, bfloat16, float8_e4m3fn, or float8_e5m2, not "

TARGETS: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("a list", lambda: [0.0, 1.0], TypeError, KINDS + "list [0.0, 1.0]"),
    ("a number", lambda: 1.0, TypeError, KINDS + "float 1.0"),
    ("nothing", lambda: None, TypeError, KINDS + "NoneType None"),
    ("bytes", lambda: bytearray(8), TypeError, DTYPES + "uint8"),
    ("an array of int", lambda: array.array("i", [1, 2]), TypeError, DTYPES + "int32"),
    ("a NumPy scalar", lambda: np.float32(1), ValueError, "out must be writable, got a read-only array of shape ()"),
    ("int64", lambda: marked(dtype=np.int64), TypeError, DTYPES + "int64"),
    ("complex64", lambda: marked(dtype=np.complex64), TypeError, DTYPES + "complex64"),
    ("longdouble", lambda: np.ones(3, np.longdouble), TypeError, DTYPES + np.dtype(np.longdouble).name),
    ("float8_e3m4", lambda: np.ones(3, ml_dtypes.float8_e3m4), TypeError, DTYPES + "float8_e3m4"),
    ("bool", lambda: marked(dtype=np.bool_), TypeError, DTYPES + "bool"),
    ("object", lambda: np.array([None]), TypeError, DTYPES + "object"),
    ("str", lambda: np.array(["a"]), TypeError, DTYPES + "<U1"),
    ("a StringDType", variable_strings, TypeError, DTYPES + "StringDType()"),
    ("a record", lambda: np.zeros(2, "f4,f4"), TypeError, DTYPES + "[('f0', "),
    ("read-only", read_only, ValueError, "out must be writable, got a read-only array of shape (4, 6)"),
    ("a broadcast", lambda: np.broadcast_to(marked((6,)), (4, 6)), ValueError, "out must be writable, got a read-only"),
]


@pytest.mark.parametrize(("make", "error", "message"), [pytest.param(*case, id=name) for name, *case in TARGETS])
def test_invalid_out_raises_and_is_not_written(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    out, generator = make(), fk.Generator(0)
    before = np.array(out).tobytes()
    with pytest.raises(error) as refusal:
        fk.fill_(out, fk.Normal(), rng=generator)
    assert str(refusal.value).startswith(f"fill_: {message}")
    assert np.array(out).tobytes() == before
    assert generator.next_key().stream == 1


ARGUMENTS: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (
        np.float32,
        {"distribution": "normal"},
        TypeError,
        "distribution must be a Normal, Uniform or TruncatedNormal, not str 'normal'",
    ),
    (
        np.float32,
        {"distribution": fk.Normal},
        TypeError,
        "distribution must be a Normal, Uniform or TruncatedNormal, not type ",
    ),
    (
        np.float32,
        {"distribution": [0, 1]},
        TypeError,
        "distribution must be a Normal, Uniform or TruncatedNormal, not list [0, 1]",
    ),
    # Overflow: 9.5 standard deviations are 3.42e38 > 3.4028e38, the float32 maximum, and 1.805e308 > 1.7977e308.
    (np.float32, {"distribution": fk.Normal(0, 1e39)}, ValueError, "std must not overflow float32, got 1e+39"),
    (np.float32, {"distribution": fk.Normal(-4e38)}, ValueError, "mean must not overflow float32, got -4e+38"),
    (
        np.float32,
        {"distribution": fk.Normal(0, 3.6e37)},
        ValueError,
        "abs(mean) + 9.5 * std must not overflow float32, got Normal(mean=0.0, std=3.6e+37)",
    ),
    (
        np.float32,
        {"distribution": fk.Normal(-3.3e38, 2e36)},
        ValueError,
        "abs(mean) + 9.5 * std must not overflow float32, got Normal(mean=-3.3e+38, std=2e+36)",
    ),
    (
        np.float64,
        {"distribution": fk.Normal(0, 1.9e307)},
        ValueError,
        "abs(mean) + 9.5 * std must not overflow float64, got Normal(mean=0.0, std=1.9e+307)",
    ),
    (np.float32, {"distribution": fk.Uniform(-1e39, 1)}, ValueError, "low must not overflow float32, got -1e+39"),
    (np.float32, {"distribution": fk.Uniform(0, 1e300)}, ValueError, "high must not overflow float32, got 1e+300"),
    # Underflow: 2**-102 in float32, 2**-969 in float64.
    (
        np.float32,
        {"distribution": fk.Normal(0, 1e-60)},
        ValueError,
        f"std must be 0 or at least {2.0**-102} to avoid underflow in float32, got Normal(mean=0.0, std=1e-60)",
    ),
    (np.float32, {"distribution": fk.Normal(1, 2.0**-102.01)}, ValueError, "std must be 0 or at least "),
    (np.float64, {"distribution": fk.Normal(0, 2.0**-970)}, ValueError, f"std must be 0 or at least {2.0**-969} "),
    (np.float32, {"distribution": fk.Uniform(0, 2.0**-102)}, ValueError, "(high - low) / 2 must be 0 or at least "),
    (np.float64, {"distribution": fk.Uniform(0, 5e-324)}, ValueError, "(high - low) / 2 must be 0 or at least "),
    (
        np.float32,
        {"distribution": fk.Uniform(1, 1 + 2.0**-30)},  # equal in float32
        ValueError,
        "low and high must differ after they are rounded to float32, got Uniform(low=1.0, ",
    ),
    (np.float32, {"threads": 0}, ValueError, "threads must be an integer from 1 to 1024, got 0"),
    (np.float32, {"threads": -3}, ValueError, "threads must be an integer from 1 to 1024, got -3"),
    (np.float32, {"threads": 1025}, ValueError, "threads must be an integer from 1 to 1024, got 1025"),
    (np.float32, {"threads": True}, TypeError, "threads must be an integer or None, not bool True"),
    (np.float32, {"threads": 2.0}, TypeError, "threads must be an integer or None, not float 2.0"),
    (np.float32, {"rng": -1}, ValueError, "rng must be an integer from 0 to 18446744073709551615, got -1"),
    (np.float32, {"rng": 2**64}, ValueError, "rng must be an integer from 0 to 18446744073709551615, got 18446744"),
    (np.float32, {"rng": True}, TypeError, "rng must be None, an integer, a Key, a Generator or a numpy.random."),
    (np.float32, {"rng": 0.5}, TypeError, "rng must be None, an integer, a Key, a Generator or a numpy.random."),
    (np.float32, {"global_shape": (8, 6)}, ValueError, "global_shape and index must be given together, got global_s"),
    (np.float32, {"index": (slice(4),)}, ValueError, "global_shape and index must be given together, got index and no"),
]


@pytest.mark.parametrize("shape", [(4, 6), (0, 6)])
@pytest.mark.parametrize(("dtype", "arguments", "error", "message"), ARGUMENTS)
def test_invalid_argument_raises_and_writes_and_takes_nothing(
    shape: tuple[int, ...], dtype: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    out, generator = marked(shape, dtype), fk.Generator(0)
    defaults: dict[str, Any] = {"distribution": fk.Normal(), "rng": generator}
    with pytest.raises(error) as refusal:
        fk.fill_(out, **(defaults | arguments))
    assert str(refusal.value).startswith(f"fill_: {message}")
    assert (out.view(np.uint8) == MARK).all()
    assert generator.next_key().stream == 1


@pytest.mark.parametrize(
    ("dtype", "distribution"),
    [
        (np.float32, fk.Normal(0, 3.58e37)),
        (np.float32, fk.Normal(0, 2.0**-102)),
        (np.float32, fk.Uniform(0, 2.0**-101)),
        (np.float32, fk.Uniform(-3.4e38, 3.4e38)),
        (np.float64, fk.Normal(1e-320, 1.89e307)),
        (np.float64, fk.Normal(0, 2.0**-969)),
        (np.float64, fk.Uniform(-1.79e308, 1.79e308)),
    ],
)
def test_extreme_parameters_give_distinct_finite_values(dtype: Any, distribution: fk.Normal | fk.Uniform) -> None:
    values = fk.fill_(marked((64, 64), dtype), distribution, rng=1)
    assert np.isfinite(values).all()
    assert np.unique(values).size > 4000
    assert (np.abs(values) >= np.finfo(dtype).smallest_normal).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("constant", "value"),
    [(fk.Normal(1.5, 0.0), 1.5), (fk.Normal(0.0, 0.0), 0.0), (fk.Uniform(-2.5, -2.5), -2.5), (fk.Uniform(0, 0), 0.0)],
)
def test_std_of_0_gives_a_constant(dtype: Any, constant: fk.Normal | fk.Uniform, value: float) -> None:
    assert (fk.fill_(marked(dtype=dtype), constant, rng=1) == value).all()


def nearest(value: Fraction, bits: int) -> Fraction:
    """Round to a significand of so many bits, ties to even, with exact arithmetic and an unbounded exponent."""
    if not value:
        return value
    exponent = abs(value).numerator.bit_length() - value.denominator.bit_length() - bits
    quantum = Fraction(2) ** (exponent if abs(value) < Fraction(2) ** (exponent + bits) else exponent + 1)
    return round(value / quantum) * quantum


MODERATE = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)
PRECISIONS = [
    (np.float32, 24, _core.UNIFORM_F32, _core.NORMAL_F32, _core.CONSTANT_F32),
    (np.float64, 53, _core.UNIFORM_F64, _core.NORMAL_F64, _core.CONSTANT_F64),
]


@pytest.mark.parametrize(("dtype", "bits", "uniform", "normal", "constant"), PRECISIONS)
@given(one=MODERATE, other=MODERATE)
def test_parameters_are_rounded_once_to_the_precision_of_the_array(
    dtype: Any, bits: int, uniform: int, normal: int, constant: int, one: float, other: float
) -> None:
    storage = dtypes.format_of_dtype(np.dtype(dtype))
    assert storage is not None
    call: Any = tuple(kernel_params.kernel_params(fk.Normal(one, abs(other)), storage))
    assert call == (normal, _core.UNROUNDED, (nearest(Fraction(abs(other)), bits), nearest(Fraction(one), bits)))

    low, high = (nearest(Fraction(end), bits) for end in sorted((one, other)))
    above_low = float(np.nextafter(dtype(float(low)), dtype(np.inf)))
    if (low == high) != (one == other) or (low < high and above_low == high):
        return  # raises, which another test checks
    call = tuple(kernel_params.kernel_params(fk.Uniform(*sorted((one, other))), storage))
    if low == high:
        assert call == (constant, _core.UNROUNDED, (0.0, low))
        return
    below_high = float(np.nextafter(dtype(float(high)), dtype(-np.inf)))
    # The sum and the difference are computed in double precision and then rounded.
    scale = nearest(nearest(high / 2 - low / 2, 53), bits)
    center = nearest(nearest(low / 2 + high / 2, 53), bits)
    assert call == (uniform, _core.UNROUNDED, (scale, center, -below_high if low == -high else low, below_high))


def test_cached_parameters_are_not_shared_between_dtypes() -> None:
    scales = [fk.fill_(np.ones(1, dtype), fk.Normal(0.1, 0.0), rng=0).item() for dtype in (np.float32, np.float64)]
    assert scales == [0.10000000149011612, 0.1]


@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0, 2)])
def test_empty_array_takes_a_stream(shape: tuple[int, ...]) -> None:
    generator = fk.Generator(0)
    reports: list[tuple[int, int]] = []
    with fk.progress(lambda *report: reports.append(report)):
        fk.fill_(np.empty(shape, np.float32), fk.Normal(), rng=generator)
    assert reports == []
    assert generator.next_key().stream == 2


def test_all_kinds_of_memory_are_filled_in_place(tmp_path: Any) -> None:
    expected = fk.fill_(np.empty(24, np.float32), fk.Normal(), rng=5)
    mapped = np.memmap(tmp_path / "weights", np.float32, "w+", shape=(2, 3, 4))
    scalar = np.empty((), np.float32)
    tail = np.zeros(25, np.float32)
    for out in (mapped, np.empty((24, 1), np.float32), tail[1:]):
        fk.fill_(out, fk.Normal(), rng=5)
        assert np.array_equal(out.ravel(), expected)
    assert tail[0] == 0.0
    assert fk.fill_(scalar, fk.Normal(), rng=5) == expected[0]


def test_values_depend_on_rng() -> None:
    def values(rng: Any) -> bytes:
        return fk.fill_(marked(), fk.Uniform(), rng=rng).tobytes()

    generator = fk.Generator(5)
    assert values(5) == values(5) == values(fk.Key(5, 0))
    assert values(generator) == values(fk.Key(5, 1)) != values(5)
    assert values(generator) == values(fk.Key(5, 2))
    assert values(np.random.default_rng(5)) == values(np.random.default_rng(5)) != values(5)
    assert values(None) != values(None)


@pytest.mark.parametrize(
    ("nbytes", "argument", "counted"),
    [(4 * MIB - 4, None, False), (4 * MIB, None, True), (4 * MIB, 1, False)],
)
def test_cpus_are_counted_only_for_large_fills_without_a_threads_argument(
    monkeypatch: pytest.MonkeyPatch, nbytes: int, argument: int | None, counted: bool
) -> None:
    counts: list[int] = []

    def count() -> int:
        counts.append(1)
        return 1

    monkeypatch.setattr(threads, "get_num_threads", count)
    fk.fill_(np.empty(nbytes // 4, np.float32), fk.Normal(), threads=argument)
    assert bool(counts) is counted


def test_progress_reports_the_end_of_every_fill_inside() -> None:
    outer: list[tuple[int, int]] = []
    inner: list[tuple[int, int]] = []
    fk.normal(1)
    with fk.progress(lambda *report: outer.append(report)):
        fk.normal(10)
        with fk.progress(lambda *report: inner.append(report)):
            fk.normal(20)
            fk.normal(0)
        fk.normal(30)
    fk.normal(40)
    assert outer == [(10, 10), (30, 30)]
    assert inner == [(20, 20)]


def test_progress_applies_to_its_own_thread_or_task_only() -> None:
    reports: list[tuple[int, int]] = []
    with fk.progress(lambda *report: reports.append(report)):
        other = threading.Thread(target=fk.normal, args=(100,))
        other.start()
        other.join()
    assert reports == []


def test_fill_raises_the_exception_of_a_progress_callback() -> None:
    def stop(done: int, total: int) -> None:
        raise InterruptedError(f"stopped at {done} of {total}")

    with fk.progress(stop), pytest.raises(InterruptedError, match="stopped at 10 of 10"):
        fk.normal(10)
    fk.normal(10)


def test_fills_within_a_progress_callback_are_not_reported() -> None:
    reports: list[tuple[int, int]] = []

    def fills_too(*report: int) -> None:
        reports.append((report[0], report[1]))
        fk.normal(5)

    with fk.progress(fills_too):
        fk.normal(10)
        fk.normal(20)
    assert reports == [(10, 10), (20, 20)]


@pytest.mark.parametrize("callback", [None, "print"])
def test_progress_rejects_objects_that_are_not_callable(callback: Any) -> None:
    with pytest.raises(TypeError, match="callback must be callable, not "), fk.progress(callback):
        pass
