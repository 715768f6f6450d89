"""Shards have the values of the whole tensor, for any division and any size of it."""

import itertools
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import reference_parts
from extended import ISAS
from hypothesis import given
from hypothesis import strategies as st
from reference_parts import bits

import fastkaiming as fk
from fastkaiming import _core

SEED, STREAM = 0x0123456789ABCDEF, 2**63 + 9
KEY = fk.Key(SEED, STREAM)
DTYPES = [
    np.dtype(np.float32),
    np.dtype(np.float64),
    np.dtype(np.float16),
    np.dtype(ml_dtypes.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn),
    np.dtype(ml_dtypes.float8_e5m2),
]
DISTRIBUTIONS: list[fk.Normal | fk.Uniform] = [fk.Normal(0.25, 1.5), fk.Uniform(-0.75, 1.25)]
TRUNCATED = [fk.TruncatedNormal(0.25, 1.5, *ends) for ends in ((-2.75, 3.25), (-1.0, 150.0), (1.0, math.inf))]
THREADS = (1, 2, 3, 7)

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
every_distribution = pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda d: type(d).__name__)


@pytest.fixture(params=ISAS, scope="module")
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.select_isa(request.param)
    yield _core.isa()
    _core.select_isa(before)


# ---- divided tensors ----


def slice_of(numbers: range) -> slice:
    """Return a slice that selects these indices. A slice that ends at index 0 with a negative step needs stop None."""
    return slice(numbers.start, numbers.stop if numbers.stop >= 0 else None, numbers.step)


@st.composite
def axis_cuts(draw: st.DrawFn, size: int) -> list[slice]:
    """Return slices that partition an axis: ranges of any length, even 0, or strided slices; each may be reversed."""
    if draw(st.booleans()):
        inner = draw(st.lists(st.integers(0, size), max_size=3).map(sorted))
        parts = [range(*cut) for cut in itertools.pairwise([0, *inner, size])]
    else:
        step = draw(st.integers(1, 5))
        parts = [range(first, size, step) for first in range(step)]
    reversed_or_not = [part[::-1] if draw(st.booleans()) else part for part in parts]
    return [slice_of(part) if part else slice(size, size) for part in reversed_or_not]


@st.composite
def cut_tensors(draw: st.DrawFn) -> tuple[tuple[int, ...], list[tuple[slice, ...]]]:
    """Return a shape, of which one axis may be long, and the indices of shards that partition it."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    sizes[draw(st.integers(0, len(sizes) - 1))] = draw(st.integers(1, 9) | st.integers(250, 1100))
    return tuple(sizes), list(itertools.product(*(draw(axis_cuts(size)) for size in sizes)))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("distribution", [*DISTRIBUTIONS, *TRUNCATED], ids=str)
@every_dtype
@given(cut=cut_tensors(), threads=st.sampled_from(THREADS), order=st.sampled_from("CF"))
def test_shards_equal_the_whole_tensor(
    dtype: Any, distribution: Any, cut: tuple[tuple[int, ...], list[tuple[slice, ...]]], threads: int, order: Any
) -> None:
    shape, indices = cut
    whole = fk.fill_(np.empty(shape, dtype), distribution, rng=KEY)
    together = np.zeros(shape, dtype)
    for index in indices:
        part = np.zeros(whole[index].shape, dtype, order)
        fk.fill_(part, distribution, rng=KEY, global_shape=shape, index=index, threads=threads)
        together[index] = part
    assert np.array_equal(bits(together), bits(whole))


LARGE: dict[str, tuple[slice, ...]] = {
    "rows": (slice(100, 1300), slice(None)),
    "columns": (slice(None), slice(300, 900)),
    "a few columns": (slice(None), slice(7, 19)),
    "one column": (slice(None), slice(700, 701)),
    "every other row": (slice(1, None, 2), slice(None)),
    "every other column": (slice(None), slice(1, None, 2)),
    "every fifth, backwards": (slice(None, None, -5), slice(None, None, -5)),
}


@pytest.mark.usefixtures("isa")
@every_dtype
@pytest.mark.parametrize("index", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("threads", [1, 3])
def test_shards_of_several_work_units(dtype: Any, index: tuple[slice, ...], threads: int) -> None:
    shape = (1400, 1023)
    whole = fk.fill_(np.empty(shape, dtype), DISTRIBUTIONS[0], rng=KEY)
    part = np.zeros(whole[index].shape, dtype)
    fk.fill_(part, DISTRIBUTIONS[0], rng=KEY, global_shape=shape, index=index, threads=threads)
    assert part.tobytes() == whole[index].tobytes()


def test_whole_tensor_is_a_valid_shard() -> None:
    for shape in ((), (1,), (3, 1, 5), (0, 4)):
        whole, part = (fk.fill_(np.zeros(shape), fk.Normal(), rng=KEY) for _ in range(2))
        fk.fill_(part, fk.Normal(), rng=KEY, global_shape=shape, index=(slice(None),) * len(shape))
        assert part.tobytes() == whole.tobytes()


def test_empty_shard_takes_a_stream() -> None:
    generator = fk.Generator(0)
    out = np.empty((0, 4), np.float32)
    assert fk.fill_(out, fk.Normal(), rng=generator, global_shape=(8, 4), index=np.s_[8:9, :]) is out
    assert generator.next_key().stream == 2


# ---- tensors larger than memory ----


def check(dtype: Any, distribution: Any, shape: tuple[int, ...], index: tuple[slice, ...], threads: int = 1) -> None:
    wanted = reference_parts.part(dtype, distribution, KEY, shape, index)
    for order in "CF":
        part = np.zeros(wanted.shape, dtype, order)  # type: ignore[call-overload]
        fk.fill_(part, distribution, rng=KEY, global_shape=shape, index=index, threads=threads)
        assert np.array_equal(bits(part), wanted), (shape, index, order)


def around(middle: int, reach: int, step: int = 1) -> slice:
    return slice(middle - reach, middle + reach + 1, step)


# The carry is within a row of this many columns; between two rows; in 2^31 rows of 8, within a buffer of rows.
WIDTHS = [3 * 2**15 + 7, 2**17, 8, 1]


@pytest.mark.usefixtures("isa")
@every_distribution
@every_dtype
@pytest.mark.parametrize("multiple", [1, 5])
@pytest.mark.parametrize("width", WIDTHS)
def test_shards_at_a_carry_of_the_block_number(dtype: Any, distribution: Any, width: int, multiple: int) -> None:
    """Beyond 2^32 blocks, the upper word of the counter is not 0: in runs, in buffers of rows and within one row."""
    seam = multiple * 2**32 * (2 if dtype == np.float64 else 4)
    row, column = divmod(seam, width)
    shape = (row + 100, width)
    rows = around(row, 2)
    cuts = [(around(row, 40), slice(max(column - 3, 0), column + 3))]
    if width > 1000:
        cuts += [(rows, slice(max(column - reach, 0), column + reach)) for reach in (1, 6, 40, 700)]
        cuts += [(rows, slice(max(column - 40, 0), column + 40, step)) for step in (2, 3, 7)]
        cuts += [(slice(row + 2, row - 3, -1), slice(column + 39, column - 41 if column > 40 else None, -2))]
    else:
        cuts += [(around(row, 90), slice(None)), (around(row, 90, 3), slice(None, None, -1))]
    for index in cuts:
        check(dtype, distribution, shape, index, threads=1 + multiple % 2)


HUGE: list[tuple[tuple[int, ...], tuple[slice, ...]]] = [
    ((2**64,), np.s_[2**64 - 50 :,]),
    ((2**64,), np.s_[: 2**64 - 60 : -3,]),
    ((2**64,), np.s_[:: 2**60 + 1,]),
    ((2**64,), np.s_[2**63 - 600 : 2**63 + 600,]),
    ((2**64 - 1,), np.s_[-50:,]),
    ((2**32, 2**32), np.s_[-5:, -70:]),
    ((2**32, 2**32), np.s_[:: 2**30 + 1, :: 2**29 + 3]),
    ((2**32, 2**32), np.s_[2**31 - 2 : 2**31 + 2, :600]),
    ((2**63, 2), np.s_[-40:, ::-1]),
    ((2, 2**63), np.s_[::-1, -300:]),
    ((1, 2**64, 1), np.s_[:, -9:, :]),
    ((2**16,) * 4, np.s_[-3:, -1:, ::-20000, -5:]),
    ((3, 2**20, 7, 2**38 // 5), np.s_[1:, -2:, ::3, -11::2]),
    ((2,) * 64, (slice(1, 2),) * 58 + (slice(None, None, -1),) * 6),
]


@pytest.mark.usefixtures("isa")
@every_distribution
@every_dtype
@pytest.mark.parametrize(("shape", "index"), HUGE, ids=str)
def test_shards_of_tensors_of_up_to_2_64_elements(
    dtype: Any, distribution: Any, shape: tuple[int, ...], index: tuple[slice, ...]
) -> None:
    if len(shape) > 32 and np.lib.NumpyVersion(np.__version__) < "2.0.0":
        pytest.skip("this NumPy's arrays have at most 32 axes")
    check(dtype, distribution, shape, index)


# ---- errors ----

TOGETHER = "global_shape and index must be given together, got "
WHOLE = np.s_[:, :]

REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"global_shape": (8, 6)}, ValueError, TOGETHER + "global_shape and no index"),
    ({"index": WHOLE}, ValueError, TOGETHER + "index and no global_shape"),
    (
        {"global_shape": "46", "index": WHOLE},
        TypeError,
        "global_shape must be an integer or a sequence of integers, no",
    ),
    ({"global_shape": (4, 6.0), "index": WHOLE}, TypeError, "global_shape[1] must be an integer, not float 6.0"),
    ({"global_shape": (4, -6), "index": WHOLE}, ValueError, "global_shape[1] must be an integer from 0 to "),
    ({"global_shape": (2**64 + 1, 6), "index": WHOLE}, ValueError, "global_shape[0] must be an integer from 0 to "),
    (
        {"global_shape": (2**32, 2**32 + 1), "index": WHOLE},
        ValueError,
        "global_shape must hold at most 2**64 elements, got (4294967296, 4294967297)",
    ),
    (
        {"global_shape": (4, 6), "index": slice(4)},
        TypeError,
        "index must be a sequence of slices, not slice slice(None",
    ),
    (
        {"global_shape": (4, 6), "index": iter(WHOLE)},
        TypeError,
        "index must be a sequence of slices, not tuple_iterator",
    ),
    ({"global_shape": (4, 6), "index": "::"}, TypeError, "index must be a sequence of slices, not str '::'"),
    ({"global_shape": (4, 6), "index": 3}, TypeError, "index must be a sequence of slices, not int 3"),
    (
        {"global_shape": (4, 6), "index": np.s_[:, :, :]},
        ValueError,
        "index must have a slice for each axis of global_shape (4, 6), got 3 of them",
    ),
    (
        {"global_shape": (4, 6), "index": ()},
        ValueError,
        "index must have a slice for each axis of global_shape (4, 6), g",
    ),
    (
        {"global_shape": 24, "index": WHOLE},
        ValueError,
        "index must have a slice for each axis of global_shape (24,), go",
    ),
    ({"global_shape": (4, 6), "index": np.s_[:, 0]}, TypeError, "index[1] must be a slice, not int 0"),
    ({"global_shape": (4, 6), "index": np.s_[..., :]}, TypeError, "index[0] must be a slice, not ellipsis Ellipsis"),
    ({"global_shape": (4, 6), "index": np.s_[None, :]}, TypeError, "index[0] must be a slice, not NoneType None"),
    (
        {"global_shape": (4, 6), "index": (range(4), slice(6))},
        TypeError,
        "index[0] must be a slice, not range range(0, 4",
    ),
    (
        {"global_shape": (4, 6), "index": np.s_[:, ::0]},
        ValueError,
        "index[1] must be a slice of integers or None and a step other than 0, got slice(None, None, 0)",
    ),
    (
        {"global_shape": (4, 6), "index": np.s_[0:4.0, :]},
        TypeError,
        "index[0] must be a slice of integers or None and a step other than 0, got slice(0, 4.0, None)",
    ),
    (
        {"global_shape": (4, 6), "index": np.s_["a":, :]},
        TypeError,
        "index[0] must be a slice of integers or None and a ",
    ),
    (
        {"global_shape": (8, 6), "index": np.s_[:3, :]},
        ValueError,
        "out must have the shape of global[index], (3, 6), got (4, 6)",
    ),
    (
        {"global_shape": (6, 4), "index": WHOLE},
        ValueError,
        "out must have the shape of global[index], (6, 4), got (4, 6)",
    ),
    (
        {"global_shape": (4, 6, 1), "index": np.s_[:, :, :]},
        ValueError,
        "out must have the shape of global[index], (4, 6,",
    ),
    (
        {"global_shape": (24,), "index": np.s_[:,]},
        ValueError,
        "out must have the shape of global[index], (24,), got (4,",
    ),
    (
        {"global_shape": (8, 6), "index": np.s_[6:, :]},
        ValueError,
        "out must have the shape of global[index], (2, 6), got",
    ),
    (
        {"global_shape": (8, 6), "index": np.s_[9:, :]},
        ValueError,
        "out must have the shape of global[index], (0, 6), got",
    ),
    (
        {"global_shape": (2**64,), "index": np.s_[:,]},
        ValueError,
        "out must have the shape of global[index], (18446744073709551616,), got (4, 6)",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED)
@pytest.mark.parametrize("fill", [fk.normal_, fk.uniform_, partial(fk.kaiming_normal_, fan=2), fk.trunc_normal_])
def test_invalid_shard_raises_and_writes_and_takes_nothing(
    fill: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    out, generator = np.empty((4, 6), np.float32), fk.Generator(0)
    out.view(np.uint8)[...] = 0xA5
    with pytest.raises(error) as refusal:
        fill(out, rng=generator, **arguments)
    name = getattr(fill, "func", fill).__name__
    assert str(refusal.value).startswith(f"{name}: {message}")
    assert (out.view(np.uint8) == 0xA5).all()
    assert generator.next_key().stream == 1


# ---- shard_slices ----


@given(st.lists(st.integers(0, 2**16), min_size=1, max_size=4), st.integers(1, 300), st.data())
def test_shard_slices_divide_an_axis_evenly_and_in_order(shape: list[int], parts: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    cuts = fk.shard_slices(shape, parts, axis)
    assert len(cuts) == parts
    sizes = []
    end = 0
    for cut in cuts:
        assert [(one.start, one.stop) for at, one in enumerate(cut) if at != axis % len(shape)] == [
            (0, size) for at, size in enumerate(shape) if at != axis % len(shape)
        ]
        assert all(one.step is None for one in cut)
        assert cut[axis].start == end
        end = cut[axis].stop
        sizes.append(cut[axis].stop - cut[axis].start)
    assert end == shape[axis]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


def test_shard_slices_examples() -> None:
    assert fk.shard_slices((10, 4), 3) == [np.s_[0:4, 0:4], np.s_[4:7, 0:4], np.s_[7:10, 0:4]]
    assert fk.shard_slices((2, 3), parts=2, axis=-1) == [np.s_[0:2, 0:2], np.s_[0:2, 2:3]]
    assert fk.shard_slices(2, 3) == [np.s_[0:1,], np.s_[1:2,], np.s_[2:2,]]
    assert fk.shard_slices((2**64,), 2) == [np.s_[0 : 2**63,], np.s_[2**63 : 2**64,]]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((4, -1), 2), ValueError, "shape[1] must be an integer from 0 to "),
        (("4", 2), TypeError, "shape must be an integer or a sequence of integers, not str '4'"),
        (((2**33, 2**33), 2), ValueError, "shape must hold at most 2**64 elements, got "),
        (((), 2), ValueError, "shape must have at least one axis, got ()"),
        (((4, 6), 0), ValueError, "parts must be an integer from 1 to 18446744073709551616, got 0"),
        (((4, 6), 2.0), TypeError, "parts must be an integer, not float 2.0"),
        (((4, 6), True), TypeError, "parts must be an integer, not bool True"),
        (((4, 6), 2, 2), ValueError, "axis must be an integer from -2 to 1, got 2"),
        (((4, 6), 2, -3), ValueError, "axis must be an integer from -2 to 1, got -3"),
        (((4, 6), 2, None), TypeError, "axis must be an integer, not NoneType None"),
    ],
)
def test_invalid_arguments_of_shard_slices_raise(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as refusal:
        fk.shard_slices(*arguments)
    assert str(refusal.value).startswith(f"shard_slices: {message}")
