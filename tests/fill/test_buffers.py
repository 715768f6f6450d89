"""Arrays and buffers: any layout of any writable memory is filled, and no other byte is written."""

import array
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from extended import ISAS
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from processes import python

import fastkaiming as fk
from fastkaiming import _core

KEY = fk.Key(2**60 + 3, 5)
GUARD_BYTE = 0xA5
DTYPES = [
    np.dtype(np.float32),
    np.dtype(np.float64),
    np.dtype(np.float16),
    np.dtype(ml_dtypes.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn),
    np.dtype(ml_dtypes.float8_e5m2),
]
MAX_AXES = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
every_isa = pytest.mark.parametrize("isa", ISAS)


def guarded(nbytes: int) -> NDArray[np.uint8]:
    return np.full(nbytes, GUARD_BYTE, np.uint8)


def check(memory: NDArray[np.uint8], out: NDArray[Any], threads: int = 1) -> None:
    """Check that a filled view has the values of a C-ordered array of its shape, and that no other byte changes."""
    expected = fk.normal_(np.empty(out.shape, out.dtype.newbyteorder("=")), 0.5, 1.5, rng=KEY)
    assert fk.normal_(out, 0.5, 1.5, rng=KEY, threads=threads) is out
    values = out if out.dtype.isnative else out.byteswap().view(out.dtype.newbyteorder("="))
    assert values.tobytes() == expected.tobytes()  # in the order of the indices
    out.view(f"V{out.itemsize}")[...] = bytes([GUARD_BYTE]) * out.itemsize
    assert (memory == GUARD_BYTE).all()


# ---- memory of any layout ----


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[int], list[int], list[int], list[bool], int, bool]:
    """Return sizes, order of the axes in memory, steps, reversed axes, offset and whether the byte order is swapped."""
    count = draw(st.integers(0, 5))
    sizes = draw(st.lists(st.integers(1, 6), min_size=count, max_size=count))
    if count:
        sizes[draw(st.integers(0, count - 1))] = draw(st.integers(1, 6) | st.integers(200, 600))
    order = draw(st.permutations(range(count)))
    steps = draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    is_reversed = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return sizes, list(order), steps, is_reversed, draw(st.integers(0, 70)), draw(st.booleans())


@every_isa
@every_dtype
@given(layout=layouts(), threads=st.sampled_from([1, 2, 3]))
def test_any_memory_layout_is_filled(isa: str, dtype: Any, layout: Any, threads: int) -> None:
    sizes, order, steps, is_reversed, offset, byte_swapped = layout
    allocated = [sizes[axis] * steps[axis] for axis in order]  # the outermost axis in memory is first
    memory = guarded(offset + math.prod(allocated) * dtype.itemsize + 64)
    in_memory = np.ndarray(allocated, dtype.newbyteorder() if byte_swapped else dtype, memory, offset)
    stepped: Any = (..., *(slice(None, None, steps[axis]) for axis in order))
    backwards: Any = (..., *(slice(None, None, -1 if turn else 1) for turn in is_reversed))
    out = in_memory[stepped].transpose(np.argsort(order))[backwards]
    before = _core.select_isa(isa)
    try:
        check(memory, out, threads)
    finally:
        _core.select_isa(before)


# Several work units each, for every case of the core: direct or buffered, and denser along either axis.
LARGE: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "C": lambda memory: memory,
    "Fortran": lambda memory: memory.T,
    "middle columns": lambda memory: memory[:, 300:900],
    "a few columns": lambda memory: memory[:, 7:19],
    "a few columns, transposed": lambda memory: memory[:, 7:19].T,
    "stepped": lambda memory: memory[:, ::3],
    "stepped, transposed": lambda memory: memory[::2, ::3].T,
    "backwards": lambda memory: memory[::-1, ::-1],
    "one column": lambda memory: memory[:, 5],
    "three axes": lambda memory: memory.reshape(20, 70, 1023).transpose(1, 2, 0),
    "three axes, middle first": lambda memory: memory.reshape(20, 70, 1023).transpose(1, 0, 2)[:, ::-1, 1:],
}


@every_dtype
@pytest.mark.parametrize("view", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("byte_swapped", [False, True], ids=["", "byte-swapped"])
@pytest.mark.parametrize("offset", [0, 1], ids=["", "unaligned"])
def test_large_memory_layouts_are_filled(
    dtype: Any, view: Callable[[NDArray[Any]], NDArray[Any]], byte_swapped: bool, offset: int
) -> None:
    memory = guarded(offset + 1400 * 1023 * dtype.itemsize + 64)
    out = view(np.ndarray((1400, 1023), dtype.newbyteorder() if byte_swapped else dtype, memory, offset))
    check(memory, out, threads=2)


@every_dtype
def test_rows_at_every_alignment(dtype: Any) -> None:
    """Rows of 700 numbers and a byte would be filled directly if they were aligned."""
    record = np.dtype([("weights", dtype, 700), ("flag", np.uint8)])
    memory = guarded(1000 * record.itemsize)
    check(memory, memory.view(record)["weights"], threads=2)


@every_dtype
def test_arrays_with_the_maximum_number_of_axes(dtype: Any) -> None:
    """Ten axes have size 2 and the others have size 1; their order in memory is a permutation."""
    places = [round(place) for place in np.linspace(0, MAX_AXES - 1, 10)]
    sizes = [2 if axis in places else 1 for axis in range(MAX_AXES)]
    memory = guarded(4**10 * dtype.itemsize)
    order = [3, 7, 0, 9, 5, 1, 8, 2, 6, 4]
    strides = [dtype.itemsize * 4 ** order[places.index(axis)] if axis in places else 8 for axis in range(MAX_AXES)]
    check(memory, np.ndarray(sizes, dtype, memory, strides=strides))


def test_elements_gibibytes_apart(tmp_path: Path) -> None:
    """The array is a sparse file, in which only the elements take memory. Strides exceed 2^31 bytes."""
    with (tmp_path / "holes").open("w+b") as file:
        file.truncate(5 * 2**32)
        sparse = np.memmap(file, np.float32, "r+", shape=(5, 2**30))
        out = sparse[::-2, :: 2**29 - 1]
        assert out.strides == (-(2**33), 2**31 - 4)
        fk.normal_(out, rng=KEY)
        assert out.tobytes() == fk.normal(out.shape, rng=KEY).tobytes()


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
@every_dtype
def test_a_single_element(dtype: Any, shape: tuple[int, ...]) -> None:
    memory = guarded(3 * dtype.itemsize)
    check(memory, memory.view(dtype)[1:2].reshape(shape))


def test_views_of_one_array_can_be_filled_separately() -> None:
    whole = np.zeros((60, 50), np.float32)
    parts = [whole[:30], whole[30:, ::2], whole[30:, 1::2]]
    for stream, part in enumerate(parts):
        fk.normal_(part, rng=fk.Key(1, stream))
    for stream, part in enumerate(parts):
        assert part.tobytes() == fk.normal(part.shape, rng=fk.Key(1, stream)).tobytes()


def test_values_of_a_transposed_view_depend_on_its_own_indices() -> None:
    weights = np.empty((300, 200), np.float32)
    fk.kaiming_normal_(weights.T, rng=7)
    assert np.array_equal(weights.T, fk.kaiming_normal((200, 300), rng=7))


@every_dtype
@pytest.mark.parametrize("kind", [np.matrix, np.ma.MaskedArray])
def test_subclasses_of_arrays_are_filled(dtype: Any, kind: Any) -> None:
    out = np.zeros((6, 10), dtype).view(kind)[:, ::2]
    assert fk.normal_(out, rng=KEY) is out
    assert np.asarray(out).tobytes() == fk.normal((6, 5), dtype, rng=KEY).tobytes()


# ---- errors: overlapping memory ----


def overlapping(floats: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    return {
        "a broadcast made writable": as_strided(floats, (5, 6), (0, 4)),
        "a broadcast of one number": as_strided(floats, (1000,), (0,)),
        "sliding windows": as_strided(floats, (90, 11), (4, 4)),
        "windows with strides": as_strided(floats, (90, 11), (8, 4)),
        "elements that share bytes": as_strided(floats, (100,), (3,)),
        "backwards over itself": as_strided(floats[500:], (20, 20), (-4, 4)),
        "two axes that meet once": as_strided(floats, (4, 6), (20, 4)),  # 1 x 20 is 5 x 4
        "three axes that meet once": as_strided(floats, (3, 3, 4), (20, 12, 8)),
        "behind an axis of one": as_strided(floats, (1, 5, 5), (0, 4, 8)),
    }


@pytest.mark.parametrize("name", overlapping(np.zeros(1000, np.float32)))
def test_array_that_overlaps_itself_raises(name: str) -> None:
    memory, generator = guarded(4000), fk.Generator(0)
    out = overlapping(memory.view(np.float32))[name]
    message = f"normal_: out must not overlap itself, got strides {out.strides} for shape {out.shape} of {out.dtype}"
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        fk.normal_(out, rng=generator)
    assert str(refusal.value) == message
    assert (memory == GUARD_BYTE).all()
    assert generator.next_key().stream == 1


def addresses(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> list[int]:
    """Return the addresses of the bytes of all elements."""
    places = (
        range(0, size * stride, stride) if stride else [0] * size for size, stride in zip(shape, strides, strict=True)
    )
    return [sum(at) + byte for at in itertools.product(*places) for byte in range(itemsize)]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(-14, 14)), max_size=4), st.sampled_from([2, 4, 8]))
def test_overlap_is_detected_exactly(axes: list[tuple[int, int]], itemsize: int) -> None:
    """Interleaved layouts are accepted, and layouts in which two elements share a byte are not."""
    shape, strides = tuple(size for size, _ in axes), tuple(stride for _, stride in axes)
    used = addresses(shape, strides, itemsize)
    memory = guarded(256 * 8)
    out = np.ndarray(shape, f"f{itemsize}", memory, -min(used) + 8, strides)
    if len(set(used)) == len(used):
        check(memory, out)
    else:
        with pytest.raises(ValueError, match="out must not overlap itself"):
            fk.normal_(out, rng=KEY)
        assert (memory == GUARD_BYTE).all()


# ---- other objects with memory ----


def memory_objects(tmp_path: Path) -> dict[str, tuple[Any, NDArray[Any]]]:
    """Return objects of several types with memory of 24 numbers, each with an array of the same memory."""
    numbers, doubles, raw = array.array("f", bytes(96)), array.array("d", bytes(192)), bytearray(96)
    mapped = np.memmap(tmp_path / "weights", np.float32, "w+", shape=(4, 6))
    exported = np.zeros((4, 12), np.float32)[:, ::2]
    return {
        "array.array": (numbers, np.frombuffer(numbers, "f4")),
        "array.array of doubles": (doubles, np.frombuffer(doubles)),
        "memoryview": (memoryview(raw).cast("f", (4, 6)), np.frombuffer(raw, "f4").reshape(4, 6)),
        "memoryview, stepped": (memoryview(doubles)[::-2], np.frombuffer(doubles)[::-2]),
        "memmap": (mapped, mapped),
        "DLPack": (Exporter(exported), exported),
        "old DLPack": (Torchlike(exported), exported),
    }


class Exporter:
    """An object that exports memory by DLPack only."""

    def __init__(self, memory: NDArray[Any]) -> None:
        self.memory = memory

    def __dlpack__(self, **options: Any) -> Any:
        return self.memory.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.memory.__dlpack_device__()


class Torchlike(Exporter):
    """An object of an old DLPack version, without a flag for writable memory, that converts to a writable array."""

    def __dlpack__(self, **_options: Any) -> Any:
        return self.memory.__dlpack__()

    def __array__(self, *_arguments: Any, **_options: Any) -> NDArray[Any]:
        return self.memory


class Jaxlike(Torchlike):
    """An object that converts to a read-only array."""

    def __array__(self, *_arguments: Any, **_options: Any) -> NDArray[Any]:
        locked = self.memory.view()
        locked.flags.writeable = False
        return locked


class Copying(Torchlike):
    """An object that converts to a writable copy."""

    def __array__(self, *_arguments: Any, **_options: Any) -> NDArray[Any]:
        return self.memory.copy()


class NotConvertible(Exporter):
    """An object that does not convert to an array."""

    def __dlpack__(self, **_options: Any) -> Any:
        return self.memory.__dlpack__()


@pytest.mark.parametrize("kind", [Jaxlike, Copying, NotConvertible])
def test_read_only_memory_of_old_dlpack_versions_raises(kind: type[Exporter]) -> None:
    memory, generator = np.zeros((4, 6), np.float32), fk.Generator(0)
    with pytest.raises(
        ValueError,
        match=rf"^normal_: out must be writable, but NumPy \S+ imports its type {kind.__name__} by DLPack as read-only",
    ):
        fk.normal_(kind(memory), rng=generator)
    assert not memory.any()
    assert generator.next_key().stream == 1


OWNERS = [
    "array.array",
    "array.array of doubles",
    "memoryview",
    "memoryview, stepped",
    "memmap",
    "DLPack",
    "old DLPack",
]


@pytest.mark.parametrize("name", OWNERS)
def test_any_object_with_writable_memory_is_filled(name: str, tmp_path: Path) -> None:
    if name == "DLPack" and np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("this NumPy imports all DLPack memory as read-only")
    out, seen = memory_objects(tmp_path)[name]
    assert fk.normal_(out, rng=KEY) is out
    assert seen.tobytes() == fk.normal(seen.shape, seen.dtype, rng=KEY).tobytes()


def test_memory_mapped_file_contains_the_values(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "weights", ">f4", "w+", shape=(50, 40))
    fk.normal_(mapped, rng=KEY)
    mapped.flush()
    assert np.array_equal(np.fromfile(tmp_path / "weights", ">f4").reshape(50, 40), fk.normal((50, 40), rng=KEY))


class OnAnotherDevice(Exporter):
    """An object whose memory is not on the CPU."""

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("this memory is a GPU's")

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


def test_memory_of_another_device_raises() -> None:
    with pytest.raises(TypeError, match="out must export CPU memory to NumPy by DLPack, but its type OnAnotherDevice"):
        fk.normal_(OnAnotherDevice(np.zeros(3)), rng=KEY)


def test_read_only_memory_of_any_object_raises(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(96))
    locked = np.zeros((4, 6), np.float32)
    locked.flags.writeable = False
    for out in (
        memoryview(bytes(96)).cast("f"),
        memoryview(array.array("f", bytes(96))).toreadonly(),
        np.memmap(tmp_path / "weights", np.float32, "r", shape=(4, 6)),
        locked,
        locked.T,
        np.broadcast_to(np.float32(1), (4, 6)),
    ):
        with pytest.raises(ValueError, match="out must be writable, got a read-only array of shape "):
            fk.normal_(out, rng=KEY)
        assert not np.any(np.asarray(out) != np.asarray(out).flat[0])


def test_jax_array_raises() -> None:
    jax_numpy = pytest.importorskip("jax.numpy")
    out = jax_numpy.zeros((4, 6), "float32")
    with pytest.raises(ValueError, match="out must be writable"):
        fk.normal_(out, rng=KEY)
    assert not np.asarray(out).any()


def test_torch_tensors_are_filled_in_place() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.float64, torch.float16):
        whole = torch.zeros((4, 12), dtype=dtype)
        for out in (whole, whole.T, whole[:, ::2], whole[1:, 3:5]):
            assert fk.normal_(out, rng=KEY) is out
            expected = fk.normal(tuple(out.shape), str(dtype).removeprefix("torch."), rng=KEY)
            assert out.contiguous().numpy().tobytes() == expected.tobytes()
    learning = torch.zeros((4, 6), requires_grad=True)
    with pytest.raises(TypeError, match="out must export CPU memory to NumPy by DLPack, but its type Tensor "):
        fk.normal_(learning, rng=KEY)
    assert not learning.detach().numpy().any()


def test_fill_imports_only_numpy() -> None:
    program = (
        "import fastkaiming as fk, sys; fk.normal((3, 4), rng=1); print({'ml_dtypes', 'jax', 'torch'} & {*sys.modules})"
    )
    assert python(program).stdout == "set()\n"
