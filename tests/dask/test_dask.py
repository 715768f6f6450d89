"""Lazy Dask arrays have the values of one eager call, for any chunks and on any scheduler."""

import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import processes
import pytest
from numpy.typing import DTypeLike, NDArray

import fastkaiming as fk
from fastkaiming._system import threads

da = pytest.importorskip("dask.array")
lazy = pytest.importorskip("fastkaiming.dask")

KEY = fk.Key(0x0123456789ABCDEF, 2**63 + 9)
NAMES = [name for name in fk.__all__ if f"{name}_" in fk.__all__]
DTYPES = ["float32", "float64", "float16", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ">f4"]


def same(array: Any, eager: NDArray[Any]) -> bool:
    """Return True if a lazy array has the shape, dtype and, after it is computed, the bits of an eager array."""
    computed = array.compute(scheduler="synchronous")
    is_alike = (array.shape, array.dtype) == (eager.shape, eager.dtype) == (computed.shape, computed.dtype)
    return is_alike and computed.tobytes() == eager.tobytes()


def softsign(x: NDArray[Any]) -> NDArray[Any]:
    result: NDArray[Any] = x / (1.0 + abs(x))
    return result


# ---- values ----


def test_every_functional_variant_has_a_lazy_variant() -> None:
    assert len(NAMES) == 12
    assert {name for name in NAMES if callable(getattr(lazy, name, None))} == set(NAMES)
    assert sorted(lazy.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_signature_has_chunks_instead_of_shard_arguments_and_threads(name: str) -> None:
    eager = inspect.signature(getattr(fk, name)).parameters
    found = inspect.signature(getattr(lazy, name)).parameters
    assert set(found) == set(eager) - {"global_shape", "index", "threads"} | {"chunks"}
    assert {each for each in set(found) - {"chunks"} if found[each].default != eager[each].default} == {"rng"}
    assert {each for each in set(found) - {"chunks"} if found[each].kind != eager[each].kind} == set()
    assert (found["rng"].default, found["chunks"].default) == (0, "auto")
    assert found["chunks"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", NAMES)
def test_values_equal_those_of_the_functional_variant(name: str) -> None:
    chunks = ((5, 1, 20, 4), (1, 16))  # fans are computed from the whole shape
    array = getattr(lazy, name)((30, 17), chunks=chunks, rng=KEY)
    assert array.chunks == chunks
    assert same(array, getattr(fk, name)((30, 17), rng=KEY))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((), "auto"),
        (7, 3),
        ((300, 11), "auto"),
        ((300, 11), -1),
        ((300, 11), (1, 11)),
        ((300, 11), (300, 1)),
        ((9, 6), ((4, 0, 5), (1, 5))),
        ((4, 5, 6), {0: 2, 2: 5}),
        ((0,), "auto"),
        ((3, 0, 5), (2, 1, 2)),
        ((64, 64), "1kiB"),
        ([6], np.int64(4)),
    ],
    ids=str,
)
def test_values_do_not_depend_on_the_chunks(shape: Any, chunks: Any, dtype: DTypeLike) -> None:
    assert same(lazy.normal(shape, dtype, 0.5, 2.0, chunks=chunks, rng=KEY), fk.normal(shape, dtype, 0.5, 2.0, rng=KEY))


@pytest.mark.parametrize(
    ("name", "positional", "named"),
    [
        ("kaiming_normal", (0.5, "fan_out"), {"layout": "*IO", "groups": 1}),
        ("kaiming_uniform", (), {"nonlinearity": softsign}),
        ("kaiming_uniform", (), {"nonlinearity": lambda x: abs(x)}),
        ("variance_scaling", (3.0,), {"mode": "fan_avg", "distribution": "uniform"}),
        ("trunc_normal", (0.0, 1.0, -1.0), {"b": math.inf}),
        ("xavier_normal", (), {"gain": 2.0, "transposed": True}),
    ],
)
def test_arguments_reach_every_chunk(name: str, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    shape, dtype = (8, 3, 6), np.float64
    array = getattr(lazy, name)(shape, dtype, *positional, chunks=(3, 2, 4), rng=KEY, **named)
    assert same(array, getattr(fk, name)(shape, dtype, *positional, rng=KEY, **named))


def test_default_rng_is_seed_0() -> None:
    assert same(lazy.kaiming_normal((4, 4)), fk.kaiming_normal((4, 4), rng=0))


def test_generator_gives_each_array_one_stream() -> None:
    rng = fk.Generator(5)
    with pytest.raises(ValueError, match="chunks"):
        lazy.normal((6, 6), chunks=(2, 2, 2), rng=rng)  # raises before it takes a stream
    arrays = [lazy.normal((6, 6), chunks=2, rng=rng) for _ in range(2)]
    for stream, array in [*enumerate(arrays, 1)] * 2:  # computing takes no stream
        assert same(array, fk.normal((6, 6), rng=fk.Key(5, stream)))


def test_rng_none_chooses_a_seed_when_the_array_is_created() -> None:
    one, other = (lazy.uniform(50, chunks=7, rng=None) for _ in range(2))
    assert one.name != other.name
    assert same(one, one.compute())
    assert not same(one, other.compute())


# ---- names and graphs ----


def test_equal_arguments_give_equal_names() -> None:
    def name(shape: Any = (6, 4), dtype: DTypeLike = np.float32, *args: Any, **named: Any) -> str:
        return str(lazy.kaiming_normal(shape, dtype, *args, **{"chunks": 2, "rng": 1, **named}).name)

    equal = [
        name(),
        name([6, 4], "float32", 0.0),
        *(name(a=zero, groups=np.int64(1)) for zero in (0, -0.0, np.float64(0.0), np.float32(0.0))),
        name(chunks=((2, 2, 2), (2, 2))),
        name(rng=fk.Key(1), mode="fan_in"),
    ]
    assert len(set(equal)) == 1
    assert equal[0].startswith("kaiming_normal-")
    others = [
        *(name(dtype=dtype) for dtype in DTYPES[1:]),
        *(name(**each) for each in ({"rng": 2}, {"rng": fk.Key(1, 1)}, {"chunks": 3}, {"a": 0.5}, {"fan": 4})),
        *(name(**each) for each in ({"groups": 2}, {"transposed": True}, {"gain": np.float32(0.1)}, {"gain": 0.1})),
        *(name(nonlinearity=each) for each in ("relu", softsign, np.tanh)),
        name((4, 6), chunks=((2, 2), (2, 2, 2))),
        str(lazy.kaiming_uniform((6, 4), chunks=2, rng=1).name).replace("uniform", "normal"),
    ]
    assert len({*equal, *others}) == 1 + len(others)


def test_names_are_the_same_in_every_process() -> None:
    program = "import fastkaiming.dask as lazy; print(lazy.he_normal((6, 4), 'float16', chunks=2, rng=3).name)"
    names = {processes.python(program, PYTHONHASHSEED=seed).stdout.strip() for seed in ("1", "2")}
    assert names == {lazy.he_normal((6, 4), "float16", chunks=2, rng=3).name}


def test_importing_fastkaiming_does_not_import_dask() -> None:
    program = "import sys, fastkaiming; print('dask' in sys.modules)"
    assert processes.python(program).stdout == "False\n"


def test_missing_dask_error_names_the_extra_to_install() -> None:
    result = processes.python("import sys; sys.modules['dask'] = None; import fastkaiming.dask")
    assert result.stderr.endswith(
        "ImportError: fastkaiming.dask needs dask: run pip install '.[dask]' in a checkout of fastkaiming\n"
    )


@pytest.fixture
def cpu_counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets an item for each fill that uses the default number of threads."""
    counts: list[int] = []

    def count() -> int:
        counts.append(1)
        return 1

    monkeypatch.setattr(threads, "get_num_threads", count)
    return counts


def fills_of(compute: Callable[[], object]) -> list[int]:
    """Return the number of elements of each fill within a function."""
    totals: list[int] = []
    with fk.progress(lambda done, total: totals.append(total) if done == total else None):
        compute()
    return totals


def test_every_chunk_is_filled_once_by_one_thread(cpu_counts: list[int]) -> None:
    assert fills_of(lambda: fk.kaiming_normal((4096, 1024))) == [4096 * 1024]
    assert cpu_counts == [1]  # a fill of this size uses the default number of threads
    array = lazy.kaiming_normal((3 * 4096, 1024), chunks=(4096, 1024))
    assert fills_of(lambda: array.compute(scheduler="synchronous")) == [4096 * 1024] * 3
    assert cpu_counts == [1]


def test_only_the_computed_chunks_are_filled() -> None:
    array = lazy.kaiming_normal((10**6, 10**5), chunks=(10, 10**5))
    assert array.npartitions == 10**5
    part = array[123_456:123_466, :5]  # lies in two chunks
    assert len(part.__dask_graph__().layers) == 2
    assert fills_of(lambda: part.compute(scheduler="synchronous")) == [10**6] * 2


def test_one_chunk_of_a_terabyte_array_can_be_computed() -> None:
    array = lazy.normal((2**20, 2**20), chunks=(16, 2**20), rng=KEY)
    shard = fk.normal_(
        np.empty((2, 5), np.float32),
        rng=KEY,
        global_shape=(2**20, 2**20),
        index=(slice(2**19 + 1, 2**19 + 3), slice(2**20 - 5, 2**20)),
    )
    assert same(array[2**19 + 1 : 2**19 + 3, -5:], shard)


def test_arrays_can_be_used_in_dask_operations() -> None:
    array = lazy.normal((50, 40), np.float64, chunks=(20, 15), rng=KEY)
    eager = fk.normal((50, 40), np.float64, rng=KEY)
    assert same(array.rechunk((7, 40)).T[:, ::-1], eager.T[:, ::-1].copy())
    np.testing.assert_allclose((array @ array.T).sum(), (eager @ eager.T).sum(), rtol=1e-12)


def test_threads_can_store_into_a_memmap(tmp_path: Path) -> None:
    path, shape = tmp_path / "w.npy", (1000, 300)
    array = lazy.he_uniform(shape, ml_dtypes.bfloat16, chunks=(128, 77), rng=KEY)
    target = np.lib.format.open_memmap(path, "w+", np.uint16, shape)
    da.store(array.view(np.uint16), target, lock=False, scheduler="threads")
    assert np.array_equal(np.load(path), fk.he_uniform(shape, ml_dtypes.bfloat16, rng=KEY).view(np.uint16))


def test_zarr_stores_the_bytes_of_an_unsupported_dtype(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    array = lazy.he_uniform((100, 30), ml_dtypes.bfloat16, chunks=(32, 30), rng=KEY)
    array.view(np.uint16).to_zarr(str(tmp_path / "w.zarr"))
    stored = zarr.open(str(tmp_path / "w.zarr"), mode="r")[:].view(ml_dtypes.bfloat16)
    assert same(array, stored)


# ---- errors ----


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"shape": (3, -1)}, ValueError, r"shape\[1\] must be an integer from 0"),
        ({"shape": 3}, ValueError, "at least two axes"),
        ({"dtype": np.int32}, TypeError, "dtype must be float32, float64, .* not int32"),
        ({"a": math.nan}, ValueError, "a must be finite, got nan"),
        ({"mode": "fan"}, ValueError, "mode must be one of 'fan_in'"),
        ({"nonlinearity": [1]}, TypeError, "nonlinearity must be a str or a callable"),
        ({"gain": -1.0}, ValueError, "gain must not be negative"),
        ({"gain": 1e30, "dtype": np.float16}, ValueError, "float16"),
        ({"layout": "OOI"}, ValueError, "layout must have one 'O'"),
        ({"rng": -1}, ValueError, "rng must be an integer from 0"),
        ({"rng": "7"}, TypeError, "rng must be None, an integer, a Key"),
        ({"threads": 2}, TypeError, "unexpected keyword argument 'threads'"),
        ({"index": (slice(0, 1), slice(0, 1))}, TypeError, "unexpected keyword argument 'index'"),
        ({"chunks": (1, 1, 1)}, ValueError, "Chunks and shape must be of the same length"),
        ({"chunks": ((1, 1), 4)}, ValueError, "Chunks do not add up to shape"),
        ({"chunks": ((2.5, 0.5), 4)}, ValueError, r"chunks must add up to shape \(3, 4\), got tuple"),
        ({"chunks": ((4, -1), 4)}, ValueError, r"chunks\[0\] must be an integer from 0 to 3, got 4"),
        ({"chunks": (math.nan, 4)}, ValueError, "unknown"),
    ],
    ids=str,
)
def test_bad_arguments_raise_errors_when_the_array_is_created(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        lazy.kaiming_normal(**{"shape": (3, 4), **arguments})


@pytest.mark.parametrize("name", NAMES)
def test_errors_name_the_function(name: str) -> None:
    function = getattr(lazy, name)
    for arguments, message in (
        ({"dtype": int}, "dtype must be float32, "),
        ({"rng": "7"}, "rng must be None, an integer, "),
        ({"shape": (4, 2.5)}, "shape[1] must be an integer, not float 2.5"),
    ):
        with pytest.raises(TypeError) as raised:
            function(**{"shape": (4, 6), **arguments})
        assert str(raised.value).startswith(f"{name}: {message}")
    wrong = {"uniform": {"low": 2.0}, "normal": {"std": -1.0}, "trunc_normal": {"std": -1.0}}.get(name, {"fan": -1.0})
    with pytest.raises(ValueError, match=f"^{name}: (low|std|fan) must "):
        function((4, 6), **wrong)


def test_missing_shape_raises_type_error() -> None:
    with pytest.raises(TypeError, match=r"normal\(\) missing a required argument: 'shape'"):
        lazy.normal()


def test_argument_of_another_library() -> None:
    takes = r"it takes shape, dtype, mean, std, chunks, rng; did you mean 'rng'\?$"
    with pytest.raises(TypeError, match=rf"^normal\(\) got an unexpected keyword argument 'seed'; {takes}"):
        lazy.normal((3, 4), seed=2)


def test_misspelt_argument_error_lists_the_arguments() -> None:
    takes = r"it takes shape, dtype, mean, std, chunks, rng; did you mean 'chunks'\?$"
    with pytest.raises(TypeError, match=rf"^normal\(\) got an unexpected keyword argument 'chunk'; {takes}"):
        lazy.normal((3, 4), chunk=2)


# ---- a cluster ----

ROWS, COLUMNS = 14 * 1024, 8 * 1024  # 448 MiB in float32
WORKERS, MEMORY = 2, 192 << 20  # 384 MiB in all; Python and Dask use half of it


class NpyFile:
    """A .npy file that each task opens itself, because a memmap would be pickled to the workers as a copy."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __setitem__(self, index: tuple[slice, ...], chunk: NDArray[Any]) -> None:
        np.load(self.path, mmap_mode="r+")[index] = chunk


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, memory_limit=MEMORY, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def weights() -> Any:
    array = lazy.kaiming_normal((ROWS, COLUMNS), chunks=(256, COLUMNS), nonlinearity="relu", rng=KEY)
    assert array.nbytes > WORKERS * MEMORY
    return array


def assert_holds_the_weights(stored: Any) -> None:
    assert (stored.shape, stored.dtype) == ((ROWS, COLUMNS), np.float32)
    for part in fk.shard_slices((ROWS, COLUMNS), 11):  # shards that do not coincide with the chunks
        shard = np.empty((part[0].stop - part[0].start, COLUMNS), np.float32)
        fk.kaiming_normal_(shard, nonlinearity="relu", rng=KEY, global_shape=(ROWS, COLUMNS), index=part)
        assert np.array_equal(stored[part], shard)


@pytest.mark.parametrize("nonlinearity", ["relu", softsign, lambda x: x * abs(x)], ids=["name", "function", "lambda"])
def test_cluster_computes_the_same_values(client: Any, nonlinearity: str | Callable[[Any], Any]) -> None:
    array = lazy.kaiming_uniform((90, 70), np.float16, nonlinearity=nonlinearity, chunks=(40, 30), rng=KEY)
    computed = client.compute(array).result()
    assert np.array_equal(computed, fk.kaiming_uniform((90, 70), np.float16, nonlinearity=nonlinearity, rng=KEY))
    assert [*client.run(lambda: fk.__file__).values()] == [fk.__file__] * WORKERS


@pytest.mark.parametrize("dtype", [each for each in DTYPES if each is not ml_dtypes.float8_e5m2], ids=str)
def test_cluster_sends_every_dtype_but_float8_e5m2(client: Any, dtype: DTypeLike) -> None:
    computed = client.compute(lazy.normal((90, 70), dtype, chunks=(40, 30), rng=KEY)).result()
    eager = fk.normal((90, 70), dtype, rng=KEY)
    assert (computed.dtype, computed.tobytes()) == (eager.dtype, eager.tobytes())


def test_cluster_sends_float8_e5m2_as_bytes(client: Any) -> None:
    array = lazy.normal((90, 70), ml_dtypes.float8_e5m2, chunks=(40, 30), rng=KEY)
    computed = client.compute(array.view(np.uint8)).result()
    assert np.array_equal(computed, fk.normal((90, 70), ml_dtypes.float8_e5m2, rng=KEY).view(np.uint8))


@pytest.mark.usefixtures("client")
def test_cluster_stores_more_than_its_memory_with_zarr(weights: Any, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    target = zarr.open(str(tmp_path / "w.zarr"), mode="w", shape=weights.shape, chunks=weights.chunksize, dtype="f4")
    da.store(weights, target, lock=False)
    assert_holds_the_weights(zarr.open(str(tmp_path / "w.zarr"), mode="r"))


@pytest.mark.usefixtures("client")
def test_cluster_stores_more_than_its_memory_in_a_npy_file(weights: Any, tmp_path: Path) -> None:
    path = tmp_path / "w.npy"
    np.lib.format.open_memmap(path, "w+", weights.dtype, weights.shape)
    da.store(weights, NpyFile(path), lock=False)
    assert_holds_the_weights(np.load(path, mmap_mode="r"))
