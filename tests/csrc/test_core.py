"""The Cython module: a fill writes all elements of its buffer and no other byte."""

import array
import mmap
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from marked_arrays import MARK, marked
from numpy.typing import NDArray
from processes import python

import fastkaiming as fk
from fastkaiming import _core

LINE = 64
SEED, STREAM = 11, 13
ISAS = fk.available_isas()
STANDARD_NORMAL = _core.Template(None, _core.NORMAL_F32, _core.UNROUNDED, (1.0, 0.0))

# The smallest fill with streaming stores, one that uses the streaming-store buffer twice, and one that uses it often.
SIZES = {np.uint32: [2048, 4864, 13000], np.float64: [1024, 2432, 6500]}


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.select_isa(request.param)
    yield _core.isa()
    _core.select_isa(before)


def test_stream_version() -> None:
    assert fk.STREAM_VERSION == _core.STREAM_VERSION == 1


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("isa", ["scalar"], indirect=True)  # slow enough for progress reports during the fill
@pytest.mark.parametrize(
    ("operation", "dtype", "rounding"),
    [
        (_core.NORMAL_F32, np.float32, _core.UNROUNDED),
        (_core.NORMAL_F64, np.float64, _core.UNROUNDED),
        (_core.NORMAL_F32, np.float16, _core.FLOAT16),
        (_core.NORMAL_F32, np.uint8, _core.FLOAT8_E5M2),
    ],
)
def test_work_units_end_at_multiples_of_their_size_in_memory(operation: int, dtype: Any, rounding: int) -> None:
    def report(done: int, _total: int) -> None:
        ends.append(out.ctypes.data + done * out.itemsize)
        raise InterruptedError

    ends: list[int] = []
    zeros = np.zeros(1 << 26, dtype)
    for begin in (0, 1, 3 * 2**18 + 500):
        out = zeros[begin:]
        with pytest.raises(InterruptedError):
            _core.fill(out, operation, 1, 0, begin, rounding, scale=1.0, progress=report)
    assert [end % (4 * _core.MAX_WORK_UNIT_ELEMENTS) for end in ends] == [0, 0, 0]


@pytest.mark.parametrize(
    ("operation", "rounding", "dtype"),
    [
        (_core.NORMAL_F32, _core.FLOAT32, np.float32),
        (_core.NORMAL_F64, _core.FLOAT32, np.float32),
        (_core.CONSTANT_F64, _core.FLOAT16, np.float16),
        (_core.WORDS_U32, _core.FLOAT16, np.float16),
    ],
)
def test_operations_cannot_be_rounded_to_other_formats(operation: int, rounding: int, dtype: Any) -> None:
    with pytest.raises(ValueError, match="the values of this operation are not rounded to this format"):
        _core.fill(np.zeros(9, dtype), operation, 1, 0, 0, rounding, scale=1.0)


def elements(dtype: Any, count: int) -> NDArray[Any]:
    """Return the first elements of the stream, from the reference implementation."""
    place = reference.Place(SEED, STREAM, 0, count)
    if dtype == np.uint32:
        return reference.words(place)
    return reference.uniform(place, reference.uniform_parameters(-1.0, 1.0, np.float64))


def fill(out: Any, first: int, store: int) -> None:
    operation = _core.WORDS_U32 if out.dtype == np.uint32 else _core.UNIFORM_F64
    _core.fill(out, operation, SEED, STREAM, first, scale=1.0, low=-1.0, high=1.0, store=store)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("store", [_core.STORE_PLAIN, _core.STORE_STREAMING], ids=["plain", "streaming"])
@pytest.mark.parametrize("dtype", [np.uint32, np.float64])
def test_every_start_and_end_within_a_cache_line(dtype: Any, store: int) -> None:
    itemsize = np.dtype(dtype).itemsize
    per_line = LINE // itemsize
    expected = elements(dtype, max(SIZES[dtype]) + 2048)
    memory = np.empty(expected.nbytes + 4 * LINE, np.uint8)
    line = -memory.ctypes.data % LINE
    first = 0
    for size in SIZES[dtype]:
        for start in range(per_line):
            for end in range(per_line):
                count = size + end
                begin = line + LINE + start * itemsize
                stop = begin + count * itemsize
                memory[:] = MARK
                fill(memory[begin:stop].view(dtype), first, store)
                assert memory[begin:stop].tobytes() == expected[first : first + count].tobytes()
                assert (memory[:begin] == MARK).all()
                assert (memory[stop:] == MARK).all()
                first = (first + 37) % 2039  # both are prime, so that every position in a tile occurs


GUARDED = """
import ctypes, mmap, sys
import numpy as np
from fastkaiming import _core

page, pages = mmap.PAGESIZE, 16
memory = mmap.mmap(-1, (pages + 2) * page)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
protect = ctypes.CDLL(None, use_errno=True).mprotect
for guard in (address, address + (pages + 1) * page):
    assert protect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
memory_between = np.frombuffer(memory, np.uint8)[page : (pages + 1) * page]

_core.select_isa(sys.argv[1])
for operation, size in ((_core.WORDS_U32, 4), (_core.NORMAL_F32, 4), (_core.UNIFORM_F64, 8), (_core.NORMAL_F64, 8)):
    for store in (_core.STORE_PLAIN, _core.STORE_STREAMING):
        for count in (1, 3, 64, 65, 255, 257, 2048, 2049, 2111, 4863, 4865, 6500, 6553, len(memory_between) // size):
            for out in (memory_between[: count * size], memory_between[len(memory_between) - count * size :]):
                for first in (0, 1, 63, 200):
                    _core.fill(out.view(f"u{size}"), operation, 1, 0, first, scale=1.0, store=store)
print("untouched")
"""


@pytest.mark.parametrize("name", ISAS)
def test_no_access_outside_the_buffer(name: str) -> None:
    # The pages around the buffer are inaccessible: even a read there would end the process.
    result = python(GUARDED, name)
    assert result.stdout == "untouched\n", f"ended with {result.returncode}: {result.stderr}"


def read_only() -> NDArray[Any]:
    out = marked((6,))
    out.flags.writeable = False
    return out


def read_only_map() -> mmap.mmap:
    return mmap.mmap(-1, 4096, access=mmap.ACCESS_READ)


REJECTED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "bytes": (lambda: bytes(24), BufferError, "Object is not writable"),
    "a read-only array": (read_only, ValueError, "buffer source array is read-only"),
    "a read-only view": (lambda: memoryview(bytearray(24)).toreadonly(), BufferError, "not writable"),
    "a read-only map": (read_only_map, BufferError, "Object is not writable"),
    "an array of larger elements": (lambda: np.zeros(6), ValueError, "elements of the buffer must have 4 bytes, got 8"),
    "raw bytes": (lambda: bytearray(24), ValueError, "elements of the buffer must have 4 bytes, got 1"),
    "a list": (lambda: [0.0], TypeError, "a bytes-like object is required, not 'list'"),
    "None": (lambda: None, TypeError, "a bytes-like object is required, not 'NoneType'"),
}


@pytest.mark.parametrize(("make", "error", "message"), REJECTED.values(), ids=REJECTED)
def test_rejected_buffers_keep_their_bytes(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    reports: list[tuple[int, int]] = []
    out = make()
    before = np.array(out).tobytes()
    with pytest.raises(error, match=message):
        _core.fill(out, _core.NORMAL_F32, 1, 0, 0, scale=1.0, progress=lambda *report: reports.append(report))
    assert np.array(out).tobytes() == before
    assert reports == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"key": -1}, OverflowError),
        ({"stream": 1 << 64}, OverflowError),
        ({"first": -1}, OverflowError),
        ({"steps": (1 << 64,)}, OverflowError),
        ({"steps": (-1,)}, OverflowError),
        ({"threads": 1 << 31}, OverflowError),
        ({"scale": "1"}, TypeError),
    ],
)
def test_arguments_out_of_range_leave_the_buffer_unchanged(arguments: dict[str, Any], error: type[Exception]) -> None:
    out = marked((6,))
    plan = {"operation": _core.NORMAL_F32, "key": 0, "stream": 0, "first": 0, "scale": 1.0}
    with pytest.raises(error):
        _core.fill(out, **(plan | arguments))
    assert (out.view(np.uint8) == MARK).all()


def owners(tmp_path: Path) -> Iterator[Any]:
    """Yield memory for 24 float32 elements from all kinds of owners."""
    yield np.empty(24, np.float32)
    yield np.empty((2, 3, 4), np.float32)
    yield np.empty((4, 3, 2), np.float32).T
    yield np.empty((6, 8), np.float32)[:, ::2]
    yield np.empty((6, 4), np.float32)[::-1, ::-1]
    yield np.memmap(tmp_path / "weights", np.float32, "w+", shape=(24,))
    yield array.array("f", bytes(96))
    yield memoryview(bytearray(96)).cast("f")
    yield memoryview(bytearray(96)).cast("f", (4, 6))
    yield memoryview(array.array("f", bytes(192)))[::2]
    yield memoryview(array.array("f", bytes(96)))[::-1]


def test_memory_of_any_owner_can_be_filled(tmp_path: Path) -> None:
    expected = reference.normal(reference.Place(5, 6, 7, 24), reference.normal_parameters(0.0, 1.0, np.float32))
    for out in owners(tmp_path):
        _core.fill(out, _core.NORMAL_F32, 5, 6, 7, scale=1.0)
        assert np.asarray(out).tobytes() == expected.tobytes()  # in index order


UNIT = _core.MAX_WORK_UNIT_ELEMENTS
# The numbers of elements of plans: none, one, a few, about one work unit of float32, and several units.
PLANS = [0, 1, 5, UNIT, 0, 0, UNIT + 1, 3, 2 * UNIT - 1, 700, 0]


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("sizes", [[], [0], [0, 0], PLANS, PLANS[::-1], [1] * 300])
def test_plans_filled_together_equal_plans_filled_alone(sizes: list[int], threads: int) -> None:
    """The plans have different streams, parameters, precisions and memory layouts."""
    reports: list[tuple[int, int]] = []
    outs: list[NDArray[Any]] = []
    alone: list[NDArray[Any]] = []
    plans: list[_core.Plan] = []
    for i, size in enumerate(sizes):
        dtype, operation = ((np.float32, _core.NORMAL_F32), (np.float64, _core.UNIFORM_F64))[i % 2]
        for kept in (outs, alone):
            kept.append(np.zeros((1 + i % 3, size), dtype).T)
        numbers, place = (0.5 + i, 0.0, -0.5 - i, 0.5 + i), (SEED, i, 7 * i)
        plans.append(_core.Plan(outs[-1], _core.Template(None, operation, _core.UNROUNDED, numbers), *place))
        _core.fill(alone[-1], operation, *place, _core.UNROUNDED, False, None, *numbers)
    _core.fill_all(plans, threads, lambda *report: reports.append(report))
    assert [out.tobytes() for out in outs] == [out.tobytes() for out in alone]
    assert reports[-1] == (sum(out.size for out in outs),) * 2


def test_only_plans_can_be_filled() -> None:
    out = marked((6,))
    with pytest.raises(TypeError, match="tuple"):
        _core.fill_all([_core.Plan(out, STANDARD_NORMAL, 1, 0, 0), (out,)])  # type: ignore[list-item]
    assert (out.view(np.uint8) == MARK).all()


def test_empty_fill_reports_its_end() -> None:
    reports: list[tuple[int, int]] = []
    _core.fill(np.empty(0, np.float32), _core.NORMAL_F32, 1, 0, 0, progress=lambda *report: reports.append(report))
    assert reports == [(0, 0)]


def test_fills_leak_no_references() -> None:
    def stop(_done: int, _total: int) -> None:
        raise InterruptedError

    writable, locked = np.empty(100, np.float32), read_only()
    before = sys.getrefcount(writable), sys.getrefcount(locked), sys.getrefcount(stop)
    for _ in range(10):
        _core.fill(writable, _core.NORMAL_F32, 1, 0, 0)
        with pytest.raises(InterruptedError):
            _core.fill(writable, _core.NORMAL_F32, 1, 0, 0, progress=stop)
        with pytest.raises(ValueError, match="read-only"):
            _core.fill(locked, _core.NORMAL_F32, 1, 0, 0, progress=stop)
    assert (sys.getrefcount(writable), sys.getrefcount(locked), sys.getrefcount(stop)) == before
