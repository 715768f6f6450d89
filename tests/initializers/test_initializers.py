"""The Kaiming and plain initializers: their distributions against formulas, and their errors."""

import ctypes
import ctypes.util
import inspect
import math
import pickle
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from marked_arrays import MARK, marked

import fastkaiming as fk

LAYOUT_RULE = (
    "layout must have one 'O' (outputs), one 'I' (inputs), any number of 'B' (batches) and at most one '*' "
    "(all other axes)"
)

DTYPES = "dtype must be float32, float64, float16, bfloat16, float8_e4m3fn, or float8_e5m2, not "

# shape, arguments, variance of the weights
VARIANCES: list[tuple[tuple[int, ...], dict[str, Any], float]] = [
    # torch.nn.init: gain**2 / fan, leaky_relu with a = 0 by default
    ((256, 128), {}, 2 / 128),
    ((256, 128), {"mode": "fan_out"}, 2 / 256),
    ((256, 128), {"mode": "fan_avg"}, 2 / 192),
    ((256, 64), {"mode": "fan_geo_avg"}, 2 / 128),
    ((256, 128), {"nonlinearity": "relu"}, 2 / 128),
    ((256, 128), {"nonlinearity": "relu", "a": 0.5}, 2 / 128),
    ((256, 128), {"a": 0.2}, 2 / 1.04 / 128),
    ((256, 128), {"a": math.sqrt(5)}, 1 / 3 / 128),  # torch.nn.Linear.reset_parameters
    ((256, 128), {"nonlinearity": "tanh"}, 25 / 9 / 128),
    ((256, 128), {"nonlinearity": "selu"}, 9 / 16 / 128),
    ((256, 128), {"nonlinearity": "linear"}, 1 / 128),
    ((64, 3, 7, 7), {"mode": "fan_out", "nonlinearity": "relu"}, 2 / 3136),  # torchvision's ResNet, conv1
    ((128, 16, 3, 3), {"groups": 4}, 2 / 144),
    ((128, 16, 3, 3), {"groups": 4, "mode": "fan_out"}, 2 / 288),
    ((16, 33, 3, 5), {"transposed": True}, 2 / 240),
    # Keras' HeNormal and JAX's he_normal for a convolution of 3 to 64 channels, 7 x 7; JAX's "fan_avg"
    ((7, 7, 3, 64), {"layout": "*IO"}, 2 / 147),
    ((7, 7, 3, 64), {"layout": "*IO", "mode": "fan_avg", "gain": 1.0}, 1 / 1641.5),
    ((8, 2048, 512), {"layout": "BOI*", "nonlinearity": "relu"}, 2 / 512),
    # overrides
    ((256, 128), {"gain": 3.0}, 9 / 128),
    ((256, 128), {"fan": 50}, 2 / 50),
    ((256,), {"fan": 0.5, "gain": 2}, 8.0),
    ((), {"fan": 8}, 2 / 8),
    ((256, 128), {"gain": 0.0}, 0.0),
    # with an explicit fan, layout and groups are not compared with the shape
    ((7,), {"fan": 8, "layout": "BBOI"}, 2 / 8),
    ((7, 5), {"fan": 8, "groups": 2, "mode": "fan_out"}, 2 / 8),
]


@pytest.mark.parametrize(("shape", "arguments", "variance"), VARIANCES)
def test_kaiming(shape: tuple[int, ...], arguments: dict[str, Any], variance: float) -> None:
    normal = fk.kaiming(shape, **arguments)
    assert isinstance(normal, fk.Normal)
    assert normal.mean == 0.0
    assert math.isclose(normal.std, math.sqrt(variance), rel_tol=4e-16)
    uniform = fk.kaiming(list(shape), "uniform", **arguments)
    assert isinstance(uniform, fk.Uniform)
    assert uniform.low == -uniform.high
    assert math.isclose(uniform.high, math.sqrt(3 * variance), rel_tol=6e-16)


@pytest.mark.parametrize(("shape", "arguments", "variance"), [case for case in VARIANCES if math.prod(case[0]) < 10**5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kaiming_fills_use_the_distribution_of_kaiming(
    dtype: Any, shape: tuple[int, ...], arguments: dict[str, Any], variance: float
) -> None:
    bound = math.sqrt(3) * math.sqrt(variance)
    for kaiming, family in ((fk.kaiming_normal_, "normal"), (fk.kaiming_uniform_, "uniform")):
        out = np.empty(shape, dtype)
        assert kaiming(out, **arguments, rng=fk.Key(1, 2)) is out
        plain = np.empty(shape, dtype)
        if family == "normal":
            fk.normal_(plain, std=math.sqrt(variance), rng=fk.Key(1, 2))
        else:
            fk.uniform_(plain, -bound, bound, rng=fk.Key(1, 2))
        # sqrt(2) / sqrt(fan) and sqrt(2 / fan) may differ by a rounding error, and then the values differ, too.
        assert np.allclose(out, plain, rtol=4 * np.finfo(dtype).eps, atol=0)


def test_plain_initializers_use_their_distribution() -> None:
    out, expected = np.empty((5, 7)), np.empty((5, 7))
    assert fk.uniform_(out, -2.0, 3.0, rng=1) is out
    assert np.array_equal(out, fk.fill_(expected, fk.Uniform(-2.0, 3.0), rng=1))
    assert np.array_equal(fk.uniform_(out, rng=1), fk.fill_(expected, fk.Uniform(0.0, 1.0), rng=1))
    assert fk.normal_(out, 2.0, 3.0, rng=1) is out
    assert np.array_equal(out, fk.fill_(expected, fk.Normal(2.0, 3.0), rng=1))
    assert np.array_equal(fk.normal_(out, rng=1), fk.fill_(expected, fk.Normal(0.0, 1.0), rng=1))


KAIMING: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"a": True}, TypeError, "a must be a real number, not bool True"),
    ({"a": "0.1"}, TypeError, "a must be a real number, not str '0.1'"),
    ({"a": [0.1]}, TypeError, "a must be a real number, not list [0.1]"),
    ({"a": np.array(0.1)}, TypeError, "a must be a real number, not ndarray array(0.1)"),
    ({"a": math.nan}, ValueError, "a must be finite, got nan"),
    ({"a": math.inf}, ValueError, "a must be finite, got inf"),
    ({"a": -1e160}, ValueError, "a must have a finite square, got -1e+160"),
    ({"a": math.nan, "gain": 1.0}, ValueError, "a must be finite, got nan"),
    ({"a": math.nan, "nonlinearity": "relu"}, ValueError, "a must be finite, got nan"),
    ({"a": math.nan, "nonlinearity": "sine"}, ValueError, "nonlinearity must be one of 'linear', "),
    ({"mode": "fan_sum"}, ValueError, "mode must be one of 'fan_in', 'fan_out', 'fan_avg', 'fan_geo_avg', got 'fan_s"),
    ({"mode": "fan_sum", "fan": 3}, ValueError, "mode must be one of "),
    ({"mode": None}, TypeError, "mode must be a str, not NoneType None"),
    ({"mode": {}}, TypeError, "mode must be a str, not dict {}"),
    ({"nonlinearity": "sine"}, ValueError, "nonlinearity must be one of 'linear', "),
    ({"nonlinearity": "sine", "gain": 1.0}, ValueError, "nonlinearity must be one of 'linear', "),
    ({"gain": -1.0}, ValueError, "gain must not be negative, got -1.0"),
    ({"gain": math.nan}, ValueError, "gain must be finite, got nan"),
    ({"gain": math.inf}, ValueError, "gain must be finite, got inf"),
    ({"gain": False}, TypeError, "gain must be a real number, not bool False"),
    ({"fan": 0}, ValueError, "fan must be positive, got 0"),
    ({"fan": -2.5}, ValueError, "fan must be positive, got -2.5"),
    ({"fan": math.nan}, ValueError, "fan must be finite, got nan"),
    ({"fan": True}, TypeError, "fan must be a real number, not bool True"),
    ({"layout": "OIHW"}, ValueError, f"{LAYOUT_RULE}, got 'OIHW'"),
    ({"layout": "OIHW", "fan": 3}, ValueError, f"{LAYOUT_RULE}, got "),
    ({"groups": 0}, ValueError, "groups must be an integer from 1 to "),
    ({"groups": 3, "mode": "fan_in"}, ValueError, "groups must divide the 4 channels of axis 'O', got 3"),
    ({"groups": 3, "mode": "fan_out"}, ValueError, "groups must divide the 4 channels of axis 'O', got 3"),
    ({"groups": 3, "transposed": True}, ValueError, "groups must divide the 4 channels of axis 'I', got 3"),
    ({"transposed": None}, TypeError, "transposed must be True or False, not NoneType None"),
    ({"threads": 0}, ValueError, "threads must be an integer from 1 to 1024, got 0"),
    ({"rng": 1.0}, TypeError, "rng must be None, an integer, a Key, a Generator or a numpy.random.Generator, not "),
    ({"global_shape": (8, 6)}, ValueError, "global_shape and index must be given together, got global_shape and no "),
]


@pytest.mark.parametrize("kaiming", [fk.kaiming_normal_, fk.kaiming_uniform_])
@pytest.mark.parametrize(("arguments", "error", "message"), KAIMING)
def test_kaiming_raises_before_anything_is_written(
    kaiming: Callable[..., Any], arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    out, generator = marked(), fk.Generator(0)
    with pytest.raises(error) as refusal:
        kaiming(out, **({"rng": generator} | arguments))
    assert str(refusal.value).startswith(f"{kaiming.__name__}: {message}")
    assert (out.view(np.uint8) == MARK).all()
    assert generator.next_key().stream == 1


@pytest.mark.parametrize(
    ("fill", "arguments", "message"),
    [
        (fk.kaiming_normal_, {"gain": 1e-60}, "std must be 0 or at least "),
        (fk.kaiming_normal_, {"gain": 1e60}, "std must not overflow float32, got "),
        (fk.kaiming_uniform_, {"gain": 1e-60}, "(high - low) / 2 must be 0 or at least "),
        (fk.kaiming_uniform_, {"gain": 1e60}, "low must not overflow float32, got -"),
        (fk.normal_, {"std": 1e-60}, "std must be 0 or at least "),
        (fk.normal_, {"std": 1e60}, "std must not overflow float32, got 1e+60"),
        (fk.normal_, {"std": -1.0}, "std must not be negative, got -1.0"),
        (fk.normal_, {"mean": math.nan}, "mean must be finite, got nan"),
        (fk.uniform_, {"low": 2.0}, "low must not be above high, got low=2.0 and high=1.0"),
        (fk.uniform_, {"high": math.inf}, "high must be finite, got inf"),
        (fk.uniform_, {"low": -1e60}, "low must not overflow float32, got -1e+60"),
        (fk.constant_, {"val": 1e60}, "the value of all elements must not overflow float32, got 1e+60"),
        (fk.constant_, {"val": math.nan}, "val must be finite, got nan"),
    ],
)
def test_parameters_that_do_not_fit_the_dtype_raise(
    fill: Callable[..., Any], arguments: dict[str, Any], message: str
) -> None:
    out, generator = marked(), fk.Generator(0)
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        fill(out, **arguments, rng=generator)
    assert str(refusal.value).startswith(f"{fill.__name__}: {message}")
    assert (out.view(np.uint8) == MARK).all()
    assert generator.next_key().stream == 1


@pytest.mark.parametrize("kaiming", [fk.kaiming_normal_, fk.kaiming_uniform_])
@pytest.mark.parametrize("shape", [(), (24,), (0,)])
def test_kaiming_needs_two_axes(kaiming: Callable[..., Any], shape: tuple[int, ...]) -> None:
    out = marked((24,))[: math.prod(shape)].reshape(shape)
    with pytest.raises(ValueError, match="fans need a shape of at least two axes") as refusal:
        kaiming(out)
    hint = ": pass fan=, or use zeros_ or normal_"
    assert str(refusal.value).endswith(f"got {shape}{hint}")
    assert (out.view(np.uint32) == 0x01010101 * MARK).all()  # an array without axes has no view of other sizes


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (
            [[1.0]],
            TypeError,
            "out must be a NumPy array or support the buffer protocol or DLPack, not list ",
        ),
        (marked(dtype=np.int32), TypeError, "out must be of dtype float32, float64, float16, bfloat16, "),
        (np.broadcast_to(marked((6,)), (4, 6)), ValueError, "out must be writable, got a read-only array of shape "),
    ],
)
@pytest.mark.parametrize("fill", [fk.kaiming_normal_, fk.kaiming_uniform_, fk.normal_, fk.uniform_])
def test_invalid_out_raises_as_in_fill(
    fill: Callable[..., Any], out: Any, error: type[Exception], message: str
) -> None:
    before = np.array(out)
    with pytest.raises(error) as refusal:
        fill(out)
    assert str(refusal.value).startswith(f"{fill.__name__}: {message}")
    assert np.array_equal(out, before, equal_nan=out.dtype.kind == "f" if isinstance(out, np.ndarray) else False)


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
@pytest.mark.parametrize("shape", [(5, 0), (0, 5), (0, 0), (4, 3, 0)])
def test_weights_without_elements_are_accepted(shape: tuple[int, ...], mode: str) -> None:
    out = np.empty(shape, np.float32)
    assert fk.kaiming_normal_(out, mode=mode) is out
    assert fk.kaiming_uniform_(out, mode=mode) is out


@pytest.mark.parametrize("arguments", [{"a": True}, {"groups": 3, "mode": "fan_out"}, {"threads": 0}, {"rng": -1}])
def test_other_arguments_are_checked_for_weights_without_elements(arguments: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match="must"):
        fk.kaiming_normal_(np.empty((4, 0), np.float32), **arguments)


def test_kaiming_raises_for_a_fan_of_0() -> None:
    with pytest.raises(ValueError, match=r"fan_in must not be 0, got shape \(5, 0\)"):
        fk.kaiming((5, 0))


def test_cached_number_does_not_match_an_equal_bool() -> None:
    out = np.empty((4, 4), np.float32)
    for accepted, refused in (
        ({"a": 1}, {"a": True}),
        ({"gain": 1}, {"gain": True}),
        ({"transposed": False}, {"transposed": 0}),
    ):
        fk.kaiming_normal_(out, **accepted)
        with pytest.raises(TypeError, match=r"must be (a real number, not bool True|True or False, not int 0)"):
            fk.kaiming_normal_(out, **refused)


def test_kaiming_rejects_unknown_families() -> None:
    with pytest.raises(ValueError, match=r"distribution must be one of 'normal', .*'uniform', got 'cauchy'"):
        fk.kaiming((4, 4), "cauchy")


@pytest.mark.parametrize(
    ("family", "gain", "fan"), [("uniform", 1.7e308, 1), ("normal", 1e300, 1e-300), ("uniform", 1e300, 1e-300)]
)
def test_kaiming_overflow_message_states_gain_and_fan(family: str, gain: float, fan: float) -> None:
    with pytest.raises(ValueError, match="must not overflow") as refusal:
        fk.kaiming((4, 4), family, gain=gain, fan=fan)
    expected = f"kaiming: gain / sqrt(fan) must not overflow {family}, got gain={gain} and fan={float(fan)}"
    assert str(refusal.value) == expected


VARIANTS = [
    (fk.uniform, fk.uniform_),
    (fk.normal, fk.normal_),
    (fk.trunc_normal, fk.trunc_normal_),
    (fk.kaiming_normal, fk.kaiming_normal_),
    (fk.kaiming_uniform, fk.kaiming_uniform_),
    (fk.xavier_normal, fk.xavier_normal_),
    (fk.xavier_uniform, fk.xavier_uniform_),
    (fk.variance_scaling, fk.variance_scaling_),
]


@pytest.mark.parametrize(("variant", "in_place"), VARIANTS)
def test_functional_variant_returns_the_values_of_the_in_place_function(
    variant: Callable[..., Any], in_place: Callable[..., Any]
) -> None:
    for dtype in map(np.dtype, ("<f4", ">f4", "f8", "f2", ml_dtypes.bfloat16)):
        expected = in_place(np.empty((6, 9), dtype), 0.25, rng=3)
        assert np.array_equal(variant((6, 9), dtype, 0.25, rng=3), expected)
        assert variant([6, 9], dtype, rng=3).dtype == dtype
    assert variant((6, 9)).dtype == np.float32


@pytest.mark.parametrize(("variant", "in_place"), VARIANTS)
def test_functional_variant_has_the_signature_of_the_in_place_function(
    variant: Callable[..., Any], in_place: Callable[..., Any]
) -> None:
    assert variant.__name__ + "_" == in_place.__name__
    assert getattr(fk, variant.__name__) is variant is pickle.loads(pickle.dumps(variant))
    shape, dtype, *others = inspect.signature(variant).parameters.values()
    assert (shape.name, dtype.name, dtype.default) == ("shape", "dtype", np.float32)
    assert others == list(inspect.signature(in_place).parameters.values())[1:]


@pytest.mark.parametrize(
    ("shape", "dtype", "error", "message"),
    [
        ((4, -1), np.float32, ValueError, "shape[1] must be an integer from 0 to "),
        ((4, 2.5), np.float32, TypeError, "shape[1] must be an integer, not float 2.5"),
        (None, np.float32, TypeError, "shape must be an integer or a sequence of integers, not NoneType None"),
        (2**63, np.float32, ValueError, "shape must be within NumPy's limits for an array of float32, got (9223"),
        (
            (2**62, 0, 4),
            np.float64,
            ValueError,
            "shape must be within NumPy's limits for an array of float64, got (4611",
        ),
        ((1,) * 99, np.float32, ValueError, "shape must be within NumPy's limits for an array of float32, got (1, 1, "),
        ((4, 4), np.int32, TypeError, DTYPES + "int32"),
        ((4, 4), object, TypeError, DTYPES + "object"),
        ((4, 4), None, TypeError, DTYPES + "None"),
        ((4, 4), "f4,f4", TypeError, DTYPES + "[('f0', '"),
        ((4, 4), "float17", TypeError, DTYPES + "str 'float17'"),
    ],
)
@pytest.mark.parametrize("variant", [variant for variant, _ in VARIANTS])
def test_functional_variant_rejects_invalid_arguments(
    variant: Callable[..., Any], shape: Any, dtype: Any, error: type[Exception], message: str
) -> None:
    generator = fk.Generator(0)
    with pytest.raises(error) as refusal:
        variant(shape, dtype, rng=generator)
    assert str(refusal.value).startswith(f"{variant.__name__}: {message}")
    assert generator.next_key().stream == 1


TINY = 2.0**-60


@contextmanager
def upward_rounding() -> Iterator[None]:
    """Set a rounding mode and flags as another library may leave them."""
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    before = library.fegetround()
    if library.fesetround({"x86_64": 0x800, "aarch64": 0x400000}[platform.machine()]):
        pytest.skip("the rounding mode cannot be set from here")
    try:
        yield
    finally:
        library.fesetround(before)


@pytest.mark.skipif(
    platform.machine() not in {"x86_64", "aarch64"}, reason="the name of its rounding mode is not known"
)
@pytest.mark.parametrize(
    "columns", [3, 5, 7, 11, 13]
)  # upwards, sqrt(2 / columns) or its float32 comes out differently
def test_values_do_not_depend_on_the_rounding_mode(columns: int) -> None:
    expected = np.float32(math.sqrt(2) / math.sqrt(columns)) * fk.normal((29, columns), rng=7)
    with upward_rounding():
        assert 1.0 + TINY > 1.0  # the mode is active, and this is not a compile-time constant
        got = fk.kaiming_normal((29, columns), rng=7)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize(
    ("dtype", "shown"),
    [
        (0.2, "float 0.2: dtype is the second argument of kaiming_normal, so .*"),
        (4, "int 4: dtype is the second argument of kaiming_normal, so .*"),
        ("bfloat17", r"str 'bfloat17'; did you mean 'bfloat16'\?"),
        ("complex64", "complex64"),
    ],
)
def test_invalid_dtype_raises(dtype: Any, shown: str) -> None:
    with pytest.raises(TypeError, match=f"^kaiming_normal: {DTYPES}{shown}$"):
        fk.kaiming_normal((3, 4), dtype)
