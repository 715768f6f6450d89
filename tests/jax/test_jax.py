"""fastkaiming.jax has JAX's distributions and errors and fastkaiming's values, also under jit and vmap."""

import math
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from processes import python
from semantics_table import ROWS, ULP, numbers_of, read

import fastkaiming as fk

jax = pytest.importorskip("jax")
fk_jax = import_module("fastkaiming.jax")
jax_init = jax.nn.initializers

SHAPE = (48, 80)


def same(array: Any, expected: Any) -> bool:
    """Return True if a JAX array has the dtype, shape and bits of a NumPy array."""
    values = np.asarray(array)
    return bool(
        isinstance(array, jax.Array)
        and values.dtype == expected.dtype
        and values.shape == expected.shape
        and values.tobytes() == expected.tobytes()
    )


VALUES: dict[str, tuple[Callable[..., Any], dict[str, Any], Callable[..., Any], dict[str, Any]]] = {
    "he_normal": (fk_jax.he_normal, {}, fk.variance_scaling, {"scale": 2.0, "layout": "*IO"}),
    "he_uniform": (fk_jax.he_uniform, {}, fk.he_uniform, {"layout": "*IO"}),
    "lecun_normal": (fk_jax.lecun_normal, {}, fk.lecun_normal, {"layout": "*IO"}),
    "lecun_uniform": (fk_jax.lecun_uniform, {}, fk.lecun_uniform, {"layout": "*IO"}),
    "glorot_normal": (fk_jax.glorot_normal, {}, fk.variance_scaling, {"mode": "fan_avg", "layout": "*IO"}),
    "glorot_uniform": (fk_jax.glorot_uniform, {}, fk.xavier_uniform, {"layout": "*IO"}),
    "normal": (fk_jax.normal, {}, fk.normal, {"std": 0.01}),
    "uniform": (fk_jax.uniform, {}, fk.uniform, {"high": 0.01}),
    "truncated_normal": (fk_jax.truncated_normal, {}, fk.trunc_normal, {"std": 0.01, "a": -0.02, "b": 0.02}),
    "torch's axes": (fk_jax.he_uniform, {"in_axis": 1, "out_axis": 0}, fk.he_uniform, {}),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_equal_those_of_the_numpy_initializers(name: str) -> None:
    make_initializer, arguments, functional, settings = VALUES[name]
    expected = functional(SHAPE, rng=42, **settings)
    initializer = make_initializer(**arguments)
    assert same(initializer(jax.random.key(42), SHAPE), expected)
    assert same(fk_jax.make(initializer, 42, SHAPE), expected)


@pytest.mark.parametrize(
    ("words", "implementation", "key"),
    [
        ((0, 42), "threefry2x32", fk.Key(42)),
        ((3, 5), "threefry2x32", fk.Key(3 * 2**32 + 5)),
        ((2**32 - 1, 2**32 - 1), "threefry2x32", fk.Key(2**64 - 1)),
        ((0, 42, 7, 9), "rbg", fk.Key(42, 7 * 2**32 + 9)),
    ],
)
def test_words_of_a_key_are_seed_and_stream(words: tuple[int, ...], implementation: str, key: fk.Key) -> None:
    jax_key = jax.random.wrap_key_data(np.array(words, np.uint32), impl=implementation)
    assert same(fk_jax.normal(1.0)(jax_key, SHAPE), fk.normal(SHAPE, rng=key))


def test_raw_keys_are_accepted() -> None:
    expected = fk.normal(SHAPE, rng=7)
    assert same(fk_jax.normal(1.0)(jax.random.PRNGKey(7), SHAPE), expected)
    assert same(fk_jax.make(fk_jax.normal(1.0), np.array([0, 7], np.uint32), SHAPE), expected)


@pytest.mark.parametrize("row", [row for row in ROWS if row.startswith("jax ")])
def test_distributions_equal_those_recorded_from_jax(row: str) -> None:
    _, name, dimensions, texts, family, *hexadecimals = row.split(" ")
    shape = tuple(map(int, dimensions.split("x")))
    found_family, found = numbers_of(getattr(fk_jax, name)(**read(texts)).distribution(shape))
    assert found_family == family
    assert found == pytest.approx(list(map(float.fromhex, hexadecimals)), rel=2 * ULP, abs=0.0)


@pytest.mark.parametrize(
    ("shape", "axes", "fan_in", "fan_out"),
    [
        ((6, 4, 5), {"in_axis": 0, "out_axis": (1, 2)}, 6, 20),  # from the embedding to heads times head size
        ((4, 5, 6), {"in_axis": (0, 1), "out_axis": 2}, 20, 6),  # and in the other direction
        ((2, 3, 6, 4, 5), {"in_axis": 2, "out_axis": (3, 4), "batch_axis": (0, 1)}, 6, 20),
        ((3, 3, 6, 4), {"in_axis": [-2], "out_axis": [-1]}, 54, 36),
        ((7, 3, 6, 4), {"batch_axis": 0}, 18, 12),
        ((5, 4), {"in_axis": 0, "out_axis": ()}, 20, 4),
        ((5,), {"in_axis": 0, "out_axis": ()}, 5, 1),
    ],
)
def test_fans_of_several_axes_equal_jaxs(
    shape: tuple[int, ...], axes: dict[str, Any], fan_in: int, fan_out: int
) -> None:
    means = {"fan_avg": (fan_in + fan_out) / 2, "fan_geo_avg": math.sqrt(fan_in * fan_out)}
    for mode, fan in {"fan_in": fan_in, "fan_out": fan_out, **means}.items():
        chosen = fk_jax.variance_scaling(3.0, mode, "normal", **axes).distribution(shape)
        assert chosen.std == pytest.approx(math.sqrt(3.0 / fan), rel=4 * ULP)
        unit = jax_init.variance_scaling(3.0, mode, "uniform", **axes)(jax.random.key(0), shape)
        assert float(abs(unit).max()) <= 3 / math.sqrt(fan)  # JAX has the same scale


KEY = jax.random.key(0)
BAD_CALLS: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...]]] = {
    "an integer for a key": (lambda module: module.he_normal(), (42, SHAPE)),
    "no key": (lambda module: module.normal(), (None, SHAPE)),
    "two keys": (lambda module: module.he_normal(), (jax.random.split(KEY), SHAPE)),
    "three words": (lambda module: module.normal(), (np.zeros(3, np.uint32), SHAPE)),
    "floats for words": (lambda module: module.normal(), (np.zeros(2, np.float32), SHAPE)),
    "a vector": (lambda module: module.he_normal(), (KEY, (3,))),
    "a string for a shape": (lambda module: module.normal(), (KEY, "ab")),
    "a fraction in a shape": (lambda module: module.uniform(), (KEY, (2.5, 3))),
    "integers": (lambda module: module.normal(), (KEY, SHAPE, np.int32)),
    "integers as the default": (lambda module: module.uniform(dtype=np.int32), (KEY, SHAPE)),
    "an unknown dtype": (lambda module: module.he_uniform(), (KEY, SHAPE, "nope")),
    "an unknown mode": (lambda module: module.variance_scaling(1.0, "fan", "normal"), (KEY, SHAPE)),
    "an unknown distribution": (
        lambda module: module.variance_scaling(1.0, "fan_in", "untruncated_normal"),
        (KEY, SHAPE),
    ),
    "an axis out of range": (lambda module: module.he_normal(in_axis=2), (KEY, SHAPE)),
    "a string for a scale": (lambda module: module.variance_scaling("2", "fan_in", "normal"), (KEY, SHAPE)),
    "a string for a stddev": (lambda module: module.normal("wide"), (KEY, SHAPE)),
    "a sharding": (lambda module: module.normal(), (KEY, SHAPE, np.float32, jax.sharding.PartitionSpec("x"))),
}


def error_of(call: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[type[Exception], str]:
    try:
        call(*arguments)
    except Exception as error:
        return type(error), str(error)
    pytest.fail("no error was raised")


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_calls_raise_the_errors_of_jax(name: str) -> None:
    initializer_of, arguments = BAD_CALLS[name]
    assert error_of(initializer_of(fk_jax), arguments) == error_of(initializer_of(jax_init), arguments)


def test_float_equal_to_a_cached_size_raises_the_error_of_jax() -> None:
    initializer = fk_jax.normal()
    initializer(KEY, (1, 2))
    assert error_of(initializer, (KEY, (1, 2.0))) == error_of(jax_init.normal(), (KEY, (1, 2.0)))


def test_shape_can_be_a_list() -> None:
    assert same(fk_jax.normal(1.0)(jax.random.key(5), [3, 2]), fk.normal((3, 2), rng=5))


@pytest.mark.parametrize(
    ("initializer", "dtype", "message"),
    [
        (fk_jax.normal(-1.0), np.float32, r"std must not be negative, got -1\.0"),
        (fk_jax.variance_scaling(-2.0, "fan_in", "normal"), np.float32, r"scale must not be negative, got -2\.0"),
        (fk_jax.uniform(math.inf), np.float32, "high must be finite, got inf"),
        (fk_jax.normal(1e4), np.float16, "must not overflow float16"),
        (fk_jax.truncated_normal(1.0, lower=2.0, upper=1.0), np.float32, "low must be below high, got .*low=2.0"),
    ],
)
def test_arguments_that_only_fastkaiming_rejects_raise_value_error(initializer: Any, dtype: Any, message: str) -> None:
    generator, name = fk.Generator(7), repr(initializer).partition("(")[0]
    with pytest.raises(ValueError, match=f"^{name}: .*{message}"):
        initializer(KEY, SHAPE, dtype)
    with pytest.raises(ValueError, match=f"^make: .*{message}"):
        fk_jax.make(initializer, generator, SHAPE, dtype)
    with pytest.raises(ValueError, match=f"^{name}: .*{message}"):
        jax.jit(lambda key: initializer(key, SHAPE, dtype))(KEY)
    assert generator.next_key().stream == 1  # nothing was taken


def test_jit_and_vmap_give_the_values_of_eager_calls() -> None:
    initializer = fk_jax.glorot_normal()
    keys = jax.random.split(jax.random.key(3), 4)
    eager = np.stack([np.asarray(initializer(key, SHAPE)) for key in keys])
    compiled = jax.jit(initializer, static_argnums=1)
    assert same(compiled(keys[2], SHAPE), eager[2])
    assert same(
        jax.jit(lambda: initializer(jax.random.key(42), SHAPE))(), np.asarray(initializer(jax.random.key(42), SHAPE))
    )
    assert same(jax.vmap(lambda key: initializer(key, SHAPE))(keys), eager)
    assert same(jax.jit(jax.vmap(lambda key: initializer(key, SHAPE)))(keys), eager)
    assert len({plane.tobytes() for plane in eager}) == len(keys)
    nested = jax.vmap(jax.vmap(lambda key: initializer(key, SHAPE)))(keys.reshape(2, 2))
    assert same(nested, eager.reshape(2, 2, *SHAPE))
    assert jax.vmap(lambda key: fk_jax.normal()(key, (3, 2, 0), np.float16))(keys).shape == (4, 3, 2, 0)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_narrow_dtypes_equal_those_of_the_numpy_initializers(name: str) -> None:
    dtype = np.dtype(getattr(jax.numpy, name))
    expected = fk.he_uniform(SHAPE, dtype, layout="*IO", rng=42)
    key = jax.random.key(42)
    assert same(fk_jax.he_uniform()(key, SHAPE, dtype), expected)
    assert same(fk_jax.he_uniform(dtype=dtype)(key, SHAPE), expected)
    assert same(jax.jit(lambda key: fk_jax.he_uniform()(key, SHAPE, dtype))(key), expected)
    assert same(fk_jax.make(fk_jax.he_uniform(dtype=dtype), 42, SHAPE), expected)


def test_unsupported_dtypes_are_filled_by_jax() -> None:
    expected = np.asarray(jax_init.he_normal()(KEY, SHAPE, np.complex64))
    assert same(fk_jax.he_normal()(KEY, SHAPE, np.complex64), expected)
    with pytest.raises(TypeError, match=r"dtype must be float32, .* not complex64"):
        fk_jax.make(fk_jax.he_normal(), 0, SHAPE, np.complex64)


def test_float64_is_filled_if_jax_enables_it() -> None:
    program = """
import jax, numpy as np, fastkaiming as fk
from fastkaiming.jax import he_normal, make
expected = fk.variance_scaling((48, 80), np.float64, scale=2.0, layout="*IO", rng=42)
key = jax.random.key(42)
jitted = jax.jit(lambda key: he_normal()(key, (48, 80)))
made = [he_normal()(key, (48, 80)), jitted(key), make(he_normal(), 42, (48, 80))]
assert all(each.dtype == np.float64 and (np.asarray(each) == expected).all() for each in made), made
assert he_normal()(key, (48, 80), np.float32).dtype == np.float32
assert make(fk.Normal(0.0, 1.0), 42, (3,)).dtype == np.float64
"""
    result = python(program, JAX_ENABLE_X64="1")
    assert result.returncode == 0, result.stderr


def test_float64_becomes_float32_with_a_warning_if_jax_disables_it() -> None:
    with pytest.warns(UserWarning, match="float64"):
        assert fk_jax.normal()(KEY, SHAPE, np.float64).dtype == np.float32
    with pytest.warns(UserWarning, match="float64"):
        assert fk_jax.make(fk_jax.normal(), 0, (3, 5), np.float64).dtype == np.float32


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,)])
def test_small_and_empty_shapes_are_filled(shape: tuple[int, ...]) -> None:
    assert same(fk_jax.normal(1.0)(jax.random.key(5), shape), fk.normal(shape, rng=5))
    assert same(fk_jax.make(fk.Normal(0.0, 1.0), 5, shape), fk.normal(shape, rng=5))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (0, 2, 3), [2, 0, 3], np.array([4, 0])], ids=str)
@pytest.mark.parametrize("dtype", [None, np.float16, np.complex64])
def test_arrays_without_elements_have_no_fans(shape: Any, dtype: Any) -> None:
    expected = np.empty(tuple(map(int, shape)), dtype or np.float32)
    for initializer in (
        fk_jax.glorot_uniform(),
        fk_jax.lecun_normal(),
        fk_jax.he_normal(dtype=dtype),
        fk_jax.variance_scaling(1.0, "fan_out", "normal", in_axis=0, out_axis=1),
    ):
        assert same(initializer(KEY, shape, dtype), expected)
        assert same(jax.jit(lambda key, init=initializer: init(key, shape, dtype))(KEY), expected)
        assert same(jax.vmap(lambda key, init=initializer: init(key, shape, dtype))(KEY[None]), expected[None])
        if dtype is not np.complex64:
            assert same(fk_jax.make(initializer, 0, shape, dtype), expected)


@pytest.mark.parametrize(
    ("initializer", "dtype", "kind", "message"),
    [
        (fk_jax.variance_scaling(-2.0, "fan_in", "normal"), None, ValueError, r"scale must not be negative, got -2\.0"),
        (fk_jax.variance_scaling(1.0, "fan", "normal"), None, ValueError, "fan"),
        (fk_jax.variance_scaling(1.0, "fan_in", "wide"), None, ValueError, "wide"),
        (fk_jax.he_normal(in_axis=2), None, IndexError, "tuple index out of range"),
        (fk_jax.he_normal(), np.int32, ValueError, "int32"),
    ],
)
def test_bad_settings_raise_errors_even_if_the_array_has_no_elements(
    initializer: Any, dtype: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        initializer(KEY, (0, 3), dtype)
    with pytest.raises(kind, match=message):
        fk_jax.make(initializer, 0, (0, 3), dtype)


def test_settings_can_be_scalars_of_jax() -> None:
    assert same(fk_jax.normal(jax.numpy.float32(0.5))(jax.random.key(5), SHAPE), fk.normal(SHAPE, std=0.5, rng=5))


def test_make_accepts_every_kind_of_rng() -> None:
    normal, generator = fk.Normal(0.0, 1.0), fk.Generator(9)
    for rng, key in (
        (9, fk.Key(9)),
        (fk.Key(9, 4), fk.Key(9, 4)),
        (generator, fk.Key(9, 1)),
        (generator, fk.Key(9, 2)),
        (jax.random.key(9), fk.Key(9)),
    ):
        assert same(fk_jax.make(normal, rng, SHAPE), fk.normal(SHAPE, rng=key))
    seed = int(np.random.default_rng(1).integers(2**64 - 1, dtype=np.uint64, endpoint=True))
    assert same(fk_jax.make(normal, np.random.default_rng(1), SHAPE), fk.normal(SHAPE, rng=seed))
    assert not (fk_jax.make(normal, None, SHAPE) == fk_jax.make(normal, None, SHAPE)).all()


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            (jax_init.he_normal(), 0, SHAPE),
            TypeError,
            "^make: initializer must be an initializer of fastkaiming.jax, .* not func",
        ),
        ((fk.Normal(0.0, 1.0), "0", SHAPE), TypeError, "^make: rng must be None, an integer, .* not str '0'"),
        ((fk.Normal(0.0, 1.0), -1, SHAPE), ValueError, "^make: rng must be an integer from 0"),
        (
            (fk.Normal(0.0, 1.0), 0, SHAPE, None, "x"),
            TypeError,
            "^make: sharding must be a .*Sharding or None, not str 'x'",
        ),
        ((fk.Normal(0.0, 1.0), 0, SHAPE, np.int32), TypeError, "^make: dtype must be float32, .* not int32"),
        ((fk.Normal(0.0, 1.0), SHAPE, KEY), TypeError, r"^make: rng must be None, an integer, .* not tuple \(48, 80\)"),
        ((fk_jax.he_normal(), 0, (3,)), ValueError, "^Can't compute input and output sizes of a 1-dimensional"),
    ],
)
def test_make_raises_errors_for_bad_arguments(arguments: tuple[Any, ...], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        fk_jax.make(*arguments)


@pytest.mark.parametrize("rng", ["key", "closed", 42])
def test_make_cannot_be_traced(rng: Any) -> None:
    def made(key: Any) -> Any:
        return fk_jax.make(fk_jax.normal(), {"key": key, "closed": KEY}.get(rng, rng), SHAPE)

    with pytest.raises(TypeError, match=r"^make: a call cannot be traced, for example by .*: call the initializer"):
        jax.jit(made)(KEY)


def test_uniform_with_negative_scale_is_negative_as_in_jax() -> None:
    for module in (fk_jax, jax_init):
        values = np.asarray(module.uniform(-2.0)(KEY, SHAPE))
        assert -2.0 <= values.min() < -1.9
        assert -0.1 < values.max() <= 0.0


def test_filled_memory_is_not_copied_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    filled: list[int] = []
    arrays = sys.modules["fastkaiming.jax._arrays"]

    def fill(out: Any, *arguments: Any, **settings: Any) -> Any:
        filled.append(out.ctypes.data)
        return fk.fill_(out, *arguments, **settings)

    monkeypatch.setattr(arrays, "fill_", fill)
    array = fk_jax.he_normal()(KEY, (512, 512))
    if array.device.platform != "cpu":
        pytest.skip("the default device is not a CPU")
    assert array.unsafe_buffer_pointer() in filled


def test_flax_linen_accepts_the_initializers() -> None:
    linen = pytest.importorskip("flax.linen")
    layer = linen.Dense(256, kernel_init=fk_jax.he_uniform(), bias_init=fk_jax.normal(0.5))
    params = layer.init(jax.random.key(0), np.ones((1, 1024), np.float32))["params"]
    assert_spread(params["kernel"], (1024, 256), math.sqrt(2 / 1024), math.sqrt(6 / 1024))
    assert params["bias"].shape == (256,)
    again = jax.jit(layer.init)(jax.random.key(0), np.ones((1, 1024), np.float32))["params"]
    assert same(again["kernel"], np.asarray(params["kernel"]))


def test_flax_nnx_accepts_the_initializers() -> None:
    nnx = pytest.importorskip("flax.nnx")
    layer = nnx.Conv(64, 128, (3, 3), kernel_init=fk_jax.he_uniform(), rngs=nnx.Rngs(0))
    assert_spread(layer.kernel[...], (3, 3, 64, 128), math.sqrt(2 / 576), math.sqrt(6 / 576))


def test_equinox_accepts_the_weights() -> None:
    equinox = pytest.importorskip("equinox")
    layer = equinox.nn.Linear(1024, 256, key=jax.random.key(0))
    init = fk_jax.he_uniform(in_axis=1, out_axis=0)
    weight = init(jax.random.key(42), layer.weight.shape, layer.weight.dtype)
    layer = equinox.tree_at(lambda each: each.weight, layer, weight)
    assert same(layer.weight, fk.he_uniform((256, 1024), rng=42))
    assert layer(np.ones(1024, np.float32)).shape == (256,)


def assert_spread(values: Any, shape: tuple[int, ...], std: float, bound: float) -> None:
    array = np.asarray(values, np.float64)
    assert array.shape == shape
    assert abs(array).max() <= np.float32(bound)
    assert array.std() == pytest.approx(std, rel=5 / math.sqrt(array.size))


def test_benchmark_runs() -> None:
    program = "import runpy, sys; sys.argv[1:] = ['--quick']; sys.path.insert(0, 'benchmarks')\n"
    result = python(program + "runpy.run_path('benchmarks/jax_fills.py', run_name='__main__')")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("against JAX\n") == 5
