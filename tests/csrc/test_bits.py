"""Fills have the bits of stream v1 with any instruction set, threads, stores, shards, address and rounding mode."""

import ctypes
import operator
import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import reference
from extended import ISAS
from hypothesis import assume, example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from processes import ROOT, compiled, core_objects
from reference import Fill, Parameters, Place, normal_parameters, uniform_parameters
from reference_arithmetic import Precision
from reference_calls import Call, frozen_calls
from reference_formats import frozen_narrow_fills

import fastkaiming as fk
from fastkaiming import _core

THREADS = (1, 2, 3, 7)
STORES = (_core.STORE_PLAIN, _core.STORE_STREAMING)
SIZES = (0, 1, 15, 16, 17, 31, 33, 63, 65, 97)
TILE = 256  # elements; no tile of a kernel has more
GUARD = 64
GUARD_BYTE = 0xA5
DEFAULT_ENVIRONMENT = nullcontext()

DISTRIBUTIONS: dict[str, Parameters] = {
    "words_u32": normal_parameters(0, 0, np.float32),
    "uniform_f32": uniform_parameters(-0.75, 1.25, np.float32),
    "uniform_f64": uniform_parameters(-0.75, 1.25, np.float64),
    "normal_f32": normal_parameters(0.5, 0.02, np.float32),
    "normal_f64": normal_parameters(0.5, 0.02, np.float64),
}


@pytest.fixture(params=ISAS, scope="module")
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.select_isa(request.param)
    assert _core.isa() == request.param
    yield request.param
    assert _core.isa() == request.param  # all tests in between used it
    _core.select_isa(before)


@pytest.fixture(params=DISTRIBUTIONS)
def operation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def sample(operation: str, first: int, count: int) -> Fill:
    return Fill(
        operation, Place(key=0x0123456789ABCDEF, stream=2**63 + 9, first=first, count=count), DISTRIBUTIONS[operation]
    )


def itemsize(operation: str) -> int:
    return int(operation[-2:]) // 8


def work_unit_elements(operation: str) -> int:
    """Return the number of elements of the largest work unit."""
    return 4 * _core.MAX_WORK_UNIT_ELEMENTS // itemsize(operation)


def filled(
    fill: Fill,
    threads: int = 1,
    store: int = _core.STORE_AUTO,
    shift: int = 0,
    environment: AbstractContextManager[None] = DEFAULT_ENVIRONMENT,
) -> NDArray[Any]:
    """Fill memory ``shift`` elements after a cache line boundary, and check that no other bytes change."""
    place, dtype = fill.place, np.dtype(fill.dtype)
    operation, _, narrow = fill.operation.upper().partition(">")
    memory = np.full(place.count * dtype.itemsize + 6 * GUARD, GUARD_BYTE, np.uint8)
    begin = GUARD + -memory.ctypes.data % 64 + shift * dtype.itemsize
    end = begin + place.count * dtype.itemsize
    out = memory[begin:end].view(dtype)
    # Convert the numbers before the environment can flush them to zero.
    numbers = tuple(float(number) for number in vars(fill.numbers).values())
    with environment:
        rounding = getattr(_core, narrow or "UNROUNDED")
        template = _core.Template(None, getattr(_core, operation), rounding, numbers, store=store)
        _core.fill_all([_core.Plan(out, template, place.key, place.stream, place.first)], threads)
    assert np.all(memory[:begin] == GUARD_BYTE)
    assert np.all(memory[end:] == GUARD_BYTE)
    return out


def check(fill: Fill, wanted: NDArray[Any], **how: Any) -> None:
    values = filled(fill, **how)
    if values.tobytes() != wanted.tobytes():
        bits = f"u{values.itemsize}"
        wrong = np.flatnonzero(values.view(bits) != wanted.view(bits))
        at = wrong[0]
        pytest.fail(f"{fill} {how}: {wrong.size} elements differ, first [{at}] is {values[at]!r} for {wanted[at]!r}")


def part(fill: Fill, begin: int, count: int) -> Fill:
    """Return the fill of elements ``begin`` to ``begin + count`` of a fill."""
    return replace(fill, place=replace(fill.place, first=fill.place.first + begin, count=count))


# ---- equal to the reference ----


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("threads", THREADS)
def test_digests_equal_the_frozen_ones(threads: int, store: int) -> None:
    frozen = reference.frozen_digests()
    for fill in (*reference.frozen_fills(), *frozen_narrow_fills()):
        assert reference.digest(filled(fill, threads, store)) == frozen[str(fill)], fill


def fills() -> st.SearchStrategy[Fill]:
    words = st.integers(0, 2**64 - 1)
    boundaries = st.sampled_from([2**18, 2**32, 2**33, 2**34, 5 * 2**34, 2**63, 2**64 - 400])
    firsts = st.integers(0, 2**64 - 400) | st.builds(operator.sub, boundaries, st.integers(0, 400))
    places = st.builds(Place, words, words, firsts, st.integers(0, 400))
    words_of = st.builds(Fill, st.just("words_u32"), places, st.just(DISTRIBUTIONS["words_u32"]))
    return words_of | st.one_of(
        [
            st.builds(Fill, st.just(f"{kind}_{suffix}"), places, parameters(precision, least))
            for precision, suffix, least in ((np.float32, "f32", 2.0**-102), (np.float64, "f64", 2.0**-969))
            for kind, parameters in (("normal", normals), ("uniform", uniforms))
        ]
    )


def normals(precision: Precision, least: float) -> st.SearchStrategy[Parameters]:
    stds = st.just(0.0) | st.floats(least, 1e30)
    return st.builds(normal_parameters, st.floats(-1e30, 1e30), stds, st.just(precision))


def uniforms(precision: Precision, least: float) -> st.SearchStrategy[Parameters]:
    ends = st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=2).map(sorted)
    spreads = ends.map(lambda pair: uniform_parameters(pair[0], pair[1], precision))
    return spreads.filter(lambda numbers: (numbers.scale >= least and numbers.low < numbers.high) or not numbers.scale)


@pytest.mark.usefixtures("isa")
@given(fills(), st.sampled_from(THREADS), st.sampled_from(STORES), st.integers(0, 15))
def test_any_fill_equals_the_reference(fill: Fill, threads: int, store: int, shift: int) -> None:
    check(fill, fill.values(), threads=threads, store=store, shift=shift)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("operation", "least"), [("uniform_f32", 2.0**-95), ("uniform_f64", 2.0**-959)])
@pytest.mark.parametrize("toward", [0, 1])
def test_uniforms_at_the_smallest_scale_of_the_symmetric_kernel(operation: str, least: float, toward: int) -> None:
    precision = np.float32 if operation.endswith("f32") else np.float64
    for scale in (precision(least), np.nextafter(precision(least), precision(toward))):
        numbers = uniform_parameters(-float(scale), float(scale), precision)
        fill = Fill(operation, Place(key=99, stream=7, first=0, count=4096), numbers)
        check(fill, fill.values())


@pytest.mark.parametrize("call", [*frozen_calls()], ids=str)
def test_public_calls_give_the_documented_bits(call: Call) -> None:
    function = getattr(fk, call.function)
    weights = function(np.zeros(call.shape, call.dtype), call.a, call.mode, call.nonlinearity, rng=call.seed)
    assert reference.digest(weights) == reference.frozen_digests("calls.txt")[str(call)]


KEYS = st.builds(fk.Key, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
THOUSANDTHS = st.builds(operator.truediv, st.integers(-(10**9), 10**9), st.just(1000))


@given(KEYS, THOUSANDTHS, THOUSANDTHS.map(abs), st.sampled_from([np.float32, np.float64]))
@example(fk.Key(1), 5e-324, 0.0, np.float64)  # half of it rounds to 0
@example(fk.Key(1), -1e-60, 0.0, np.float32)  # rounds to -0
def test_public_fills_round_their_parameters_once(
    key: fk.Key, center: float, width: float, precision: Precision
) -> None:
    """Public functions round decimal fractions, which are not exact in binary, as docs/stream-v1.md specifies."""
    place, out = Place(reference.philox_key(key.seed), key.stream, first=0, count=33), np.empty(33, precision)
    wanted = reference.normal(place, normal_parameters(center, width, precision))
    assert fk.normal_(out, center, width, rng=key).tobytes() == wanted.tobytes()

    numbers = uniform_parameters(center, center + width, precision)
    assume(numbers.low < numbers.high or width == 0)
    wanted = reference.uniform(place, numbers)
    assert fk.uniform_(out, center, center + width, rng=key).tobytes() == wanted.tobytes()


@given(st.integers(0, 2**64 - 1), st.text())
def test_names_have_the_documented_streams(seed: int, name: str) -> None:
    assert fk.Generator(seed).key(name) == fk.Key(seed, reference.named_stream(name))


# ---- parts of a fill ----


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("boundary", ["start", "work_unit", "carry"])
def test_small_parts_at_every_offset(operation: str, boundary: str) -> None:
    """Test around the start of the stream, the end of a work unit, and a carry into the block number's high word."""
    carry = 2**32 * 16 // itemsize(operation)
    centre = {"start": TILE // 2, "work_unit": work_unit_elements(operation), "carry": carry}[boundary]
    whole = sample(operation, centre - TILE // 2, TILE + max(SIZES))
    values = whole.values()
    for offset, size in product(range(TILE), SIZES):
        threads = THREADS[(offset + size) % len(THREADS)]
        check(part(whole, offset, size), values[offset : offset + size], threads=threads)


@pytest.mark.usefixtures("isa")
def test_streaming_to_every_address_of_a_cache_line(operation: str) -> None:
    whole = sample(operation, 0, TILE + 5003)
    values = whole.values()
    shifts = range(64 // itemsize(operation))
    for offset, size, shift in product(range(0, TILE, 5), (2047, 2048, 5003), shifts):
        section = part(whole, offset, size)
        check(section, values[offset : offset + size], store=_core.STORE_STREAMING, shift=shift)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_parts_of_work_unit_size_at_every_offset(operation: str, stride: int) -> None:
    whole, values = frozen(operation)
    sizes = (work_unit_elements(operation) - 1, work_unit_elements(operation), work_unit_elements(operation) + 1)
    for offset, size, threads, store in [*product(range(64), sizes, THREADS, STORES)][::stride]:
        check(part(whole, 0, offset), values[:offset], threads=threads, store=store)
        check(part(whole, offset, size), values[offset : offset + size], threads=threads, store=store)


@cache
def frozen(operation: str) -> tuple[Fill, NDArray[Any]]:
    """Return the longest of the frozen fills, and its values, which are checked against its digest."""
    fill = max((f for f in reference.frozen_fills() if f.operation == operation), key=lambda f: f.place.count)
    values = filled(fill)
    assert reference.digest(values) == reference.frozen_digests()[str(fill)]
    return fill, values


@pytest.mark.usefixtures("isa")
def test_values_do_not_depend_on_thread_count(operation: str) -> None:
    """Compare the ends of work units with the reference, and all other elements with a fill on one thread."""
    size = work_unit_elements(operation)
    whole = sample(operation, first=77, count=9 * size)
    alone = filled(whole, threads=1, store=_core.STORE_PLAIN)
    for meeting in range(size - 77, 9 * size, size):
        seam = part(whole, meeting - 40, 80)
        assert alone[meeting - 40 : meeting + 40].tobytes() == seam.values().tobytes()
    for threads, store in product(THREADS[1:], STORES):
        check(whole, alone, threads=threads, store=store)


# ---- known answers, in every lane ----


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    probe = ROOT / "tests" / "c" / "probe.c"
    path = compiled(
        tmp_path_factory.mktemp("probe") / "probe.so", "-fPIC", "-shared", probe, *core_objects(tmp_path_factory), "-lm"
    )
    library = ctypes.CDLL(str(path))
    library.probe_tile_blocks.restype = ctypes.c_size_t
    library.probe_words.argtypes = [*3 * [ctypes.c_uint64], ctypes.c_size_t, ctypes.c_uint32 * 4]
    return library


@pytest.fixture(scope="module")
def probe(isa: str, library: ctypes.CDLL) -> ctypes.CDLL:
    assert library.fk_select_isa(isa.encode()) == 0
    return library


def block_in_every_lane(probe: ctypes.CDLL, key: int, stream: int, block: int) -> Iterator[list[int]]:
    words = (ctypes.c_uint32 * 4)()
    for lane in range(min(probe.probe_tile_blocks(), block % 2**32 + 1)):
        probe.probe_words(key, stream, block, lane, words)
        yield list(words)


def test_philox_gives_the_known_answers_in_every_lane(probe: ctypes.CDLL) -> None:
    answers = [fields[2:] for fields in reference.vectors("known_answers.txt") if fields[0] == "philox4x32"]
    lanes = []
    for answer in answers:
        c0, c1, c2, c3, k0, k1, *words = (int(word, 16) for word in answer)
        seen = list(block_in_every_lane(probe, k0 + 2**32 * k1, c2 + 2**32 * c3, c0 + 2**32 * c1))
        assert seen == [words] * len(seen)
        lanes.append(len(seen))
    assert lanes == [1, probe.probe_tile_blocks(), probe.probe_tile_blocks()]  # no block comes before block 0


def test_required_value_of_the_standard_engine_in_every_lane(probe: ctypes.CDLL) -> None:
    (answer,) = [fields[1:] for fields in reference.vectors("known_answers.txt") if fields[0] == "std::philox4x32"]
    key, invocation, value = map(int, answer)
    block, word = divmod(invocation - 1, 4)
    assert [words[word] for words in block_in_every_lane(probe, key, 0, block)] == [value] * probe.probe_tile_blocks()


@pytest.mark.usefixtures("isa")
def test_required_value_of_the_standard_engine_at_every_place_of_a_fill() -> None:
    (answer,) = [fields[1:] for fields in reference.vectors("known_answers.txt") if fields[0] == "std::philox4x32"]
    key, invocation, value = map(int, answer)
    words = np.empty(2 * TILE + 1, np.uint32)
    for before in range(2 * TILE):
        _core.fill(words[: before + 2], _core.WORDS_U32, key, 0, invocation - 1 - before)
        assert words[before] == value


# ---- other floating-point environments ----

ONE, LEAST = 1.0, 5e-324
IS_IN_EFFECT: dict[str, Callable[[], bool]] = {
    "upward": lambda: operator.add(ONE, LEAST) > ONE,
    "downward": lambda: operator.sub(ONE, LEAST) < ONE,
    "toward zero": lambda: operator.sub(ONE, LEAST) < ONE and operator.sub(LEAST, ONE) > -ONE,
    "flushed results": lambda: operator.mul(2.0**-1022, 0.5) == 0,
    "flushed operands": lambda: operator.mul(LEAST, 2.0**60) == 0,
    "x87 in single precision": lambda: bool(np.longdouble(1.0) + np.longdouble(2.0**-30) == 1.0),
}
X87_DEFAULT, X87_SINGLE = 0x037F << 32, 0x007F << 32
CONTROL = {  # bits of MXCSR and of the x87 control word, or of FPCR
    "x86_64": {
        "upward": X87_DEFAULT | 0x5F80,
        "downward": X87_DEFAULT | 0x3F80,
        "toward zero": X87_DEFAULT | 0x7F80,
        "flushed results": X87_DEFAULT | 0x9F80,
        "flushed operands": X87_DEFAULT | 0x1FC0,
        "x87 in single precision": X87_SINGLE | 0x1F80,
    },
    "aarch64": {
        "upward": 1 << 22,
        "downward": 2 << 22,
        "toward zero": 3 << 22,
        "flushed results": 1 << 24,
        "flushed operands": 1 << 24,
    },
}.get(platform.machine(), {})


@contextmanager
def foreign(library: ctypes.CDLL, name: str) -> Iterator[None]:
    """Change the floating-point environment of this thread and of threads that it starts; check it at the end."""
    library.probe_control.restype = ctypes.c_uint64
    library.probe_set_control.argtypes = [ctypes.c_uint64]
    own = library.probe_control()
    library.probe_set_control(CONTROL[name])
    try:
        was_in_effect = IS_IN_EFFECT[name]()
        before = library.probe_control()
        yield
        after = library.probe_control()
    finally:
        library.probe_set_control(own)
    assert was_in_effect
    assert after == before


@pytest.mark.skipif(not CONTROL, reason="the floating-point control register of this machine is not supported")
@pytest.mark.parametrize("name", CONTROL)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("isa")
def test_values_do_not_depend_on_the_floating_point_environment(library: ctypes.CDLL, name: str, threads: int) -> None:
    fills = [sample(operation, first=1, count=3 * work_unit_elements(operation)) for operation in DISTRIBUTIONS]
    fills += [fill for fill in reference.frozen_fills() if fill.place.count == 3001]  # a subnormal mean among them
    for fill in fills:
        check(fill, filled(fill), threads=threads, environment=foreign(library, name))
