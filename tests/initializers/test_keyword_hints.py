"""Arguments of other libraries, and arguments in the wrong place: errors name the function and the right argument."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastkaiming as fk

FUNCTIONAL = [name.removesuffix("_") for name in fk.__all__ if name.removesuffix("_") in fk.__all__ and name[-1] == "_"]
DTYPES = "dtype must be float32, float64, float16, bfloat16, float8_e4m3fn, or float8_e5m2, not "
SHAPES = "shape must be an integer or a sequence of integers, not "
BY_NAME = (
    ": dtype is the second argument of {}, so pass the shape as one tuple, and the arguments after dtype by their names"
)


def message_of(call: Callable[[], object]) -> str:
    with pytest.raises(TypeError) as raised:
        call()
    assert raised.type is TypeError
    assert raised.value.__cause__ is None
    return str(raised.value)


# ---- keywords ----


@pytest.mark.parametrize("keyword", ["seed", "key", "generator", "random_state", "rngs"])
@pytest.mark.parametrize("name", FUNCTIONAL)
def test_keywords_for_rng(name: str, keyword: str) -> None:
    function = getattr(fk, name)
    takes = "; it takes " + ", ".join(inspect.signature(function).parameters)
    expected = f"{name}() got an unexpected keyword argument {keyword!r}{takes}; did you mean 'rng'?"
    for arguments in ((), ((3, 4),), ((3, 4), np.float64)):
        assert message_of(lambda: function(*arguments, **{keyword: 3})) == expected  # noqa: B023
    assert message_of(lambda: function(shape=(3, 4), dtype="float32", **{keyword: 3})) == expected
    assert function((3, 4), rng=3).shape == (3, 4)


@pytest.mark.parametrize(
    ("name", "keyword", "meant"),
    [
        *(("uniform", keyword, "low") for keyword in ("a", "minval", "lower", "min", "from")),
        *(("uniform", keyword, "high") for keyword in ("b", "maxval", "upper", "max", "to", "hight")),
        *(("trunc_normal", keyword, "a") for keyword in ("low", "minval")),
        *(("trunc_normal", keyword, "b") for keyword in ("high", "maxval")),
        *(("normal", keyword, "mean") for keyword in ("loc", "mu")),
        *(("normal", keyword, "std") for keyword in ("scale", "stddev", "sigma")),
        *(("trunc_normal", keyword, "std") for keyword in ("scale", "stddev")),
        *(("kaiming_normal", keyword, "a") for keyword in ("negative_slope", "alpha", "param")),
        *(("kaiming_normal", keyword, "nonlinearity") for keyword in ("activation", "nonlinearty")),
        *(("kaiming_normal", keyword, "layout") for keyword in ("in_axis", "out_axis", "batch_axis")),
        *(("kaiming_normal", keyword, "threads") for keyword in ("num_threads", "n_jobs")),
        *(("kaiming_normal", "group", "groups"), ("normal", "size", "shape")),
        *(("variance_scaling", "dist", "distribution"), ("variance_scaling", "fan_mode", "mode")),
    ],
)
def test_keywords_of_other_libraries(name: str, keyword: str, meant: str) -> None:
    message = message_of(lambda: getattr(fk, name)((3, 4), **{keyword: 1}))
    assert message.startswith(f"{name}() got an unexpected keyword argument {keyword!r}; it takes shape, dtype, ")
    assert message.endswith(f"; did you mean {meant!r}?")


@pytest.mark.parametrize(
    ("name", "keyword"),
    [
        *(("kaiming_uniform", "low"), ("kaiming_uniform", "b"), ("he_normal", "negative_slope")),
        *(("uniform", "std"), ("trunc_normal", "negative_slope"), ("normal", "device"), ("kaiming_normal", "std")),
    ],
)
def test_keywords_without_a_counterpart(name: str, keyword: str) -> None:
    function = getattr(fk, name)
    takes = ", ".join(inspect.signature(function).parameters)
    message = message_of(lambda: function((3, 4), **{keyword: 1}))
    assert message == f"{name}() got an unexpected keyword argument {keyword!r}; it takes {takes}"


@pytest.mark.parametrize(("keyword", "hint"), [("lower", "; pass a=lower * std"), ("upper", "; pass b=upper * std")])
def test_keywords_for_bounds_in_units_of_std(keyword: str, hint: str) -> None:
    """JAX multiplies these bounds by std, but fastkaiming and torch do not."""
    message = message_of(lambda: fk.trunc_normal((3, 4), **{keyword: 2.0}))  # type: ignore[arg-type]
    assert message.endswith("; it takes shape, dtype, mean, std, a, b, rng, global_shape, index, threads" + hint)
    jax = pytest.importorskip("jax.nn").initializers
    values = jax.truncated_normal(stddev=0.1, lower=-1.0, upper=1.0)(pytest.importorskip("jax").random.key(0), (1000,))
    assert 0.09 < abs(values).max() < 0.12


@pytest.mark.parametrize("keyword", ["out", "tensor", "array"])
def test_keywords_for_an_existing_array(keyword: str) -> None:
    message = message_of(lambda: fk.kaiming_normal(**{keyword: np.zeros((3, 4))}))  # type: ignore[arg-type]
    assert message.startswith(f"kaiming_normal() got an unexpected keyword argument {keyword!r}; it takes shape, ")
    assert message.endswith("; call kaiming_normal_ to fill an existing array")


def test_calls_that_do_not_fit_the_signature() -> None:
    kaiming_normal: Any = fk.kaiming_normal
    takes = "; it takes " + ", ".join(inspect.signature(kaiming_normal).parameters)
    assert message_of(lambda: kaiming_normal()) == f"kaiming_normal() missing a required argument: 'shape'{takes}"
    message = message_of(lambda: kaiming_normal((3, 4), "float32", 0, "fan_in", "relu", 1.0))
    assert message == f"kaiming_normal() too many positional arguments{takes}"
    assert message_of(lambda: kaiming_normal(dtype="float32")).startswith(
        "kaiming_normal() missing a required argument"
    )


def test_errors_of_pythons_own_binding_name_the_in_place_functions() -> None:
    """Python raises these errors before any code of fastkaiming runs, so there is no hint."""
    for name in ("kaiming_normal_", "uniform_", "fill_", "init_"):
        message = message_of(lambda name=name: getattr(fk, name)(np.zeros((3, 4)), seed=3))  # type: ignore[misc]
        assert message.startswith(f"{name}() got an unexpected keyword argument 'seed'")


def test_errors_of_a_callback_are_not_those_of_the_call() -> None:
    def fail(_: Any, __: Any) -> None:
        raise TypeError("fail() missing 1 required positional argument")

    with fk.progress(fail):
        assert message_of(lambda: fk.normal((3, 4))) == "fail() missing 1 required positional argument"


# ---- shape and dtype ----


def test_array_in_the_place_of_a_shape() -> None:
    weights: Any = np.zeros((3, 4), np.float32)
    message = message_of(lambda: fk.kaiming_normal(weights))
    assert message.startswith(f"kaiming_normal: {SHAPES}ndarray ")
    assert message.endswith(": pass its shape, or call kaiming_normal_ to fill it")
    assert message_of(lambda: fk.uniform(weights)).endswith(": pass its shape, or call uniform_ to fill it")
    for name, call in {"kaiming": lambda: fk.kaiming(weights), "fans": lambda: fk.fans(weights)}.items():
        message = message_of(call)
        assert message.startswith(f"{name}: {SHAPES}ndarray ")
        assert message.endswith(": pass its shape")
    assert message_of(lambda: fk.fans(np.array([3, 4]))).endswith(": pass tuple(shape)")  # type: ignore[arg-type]
    assert not weights.any()


def test_tensor_or_key_in_the_place_of_a_shape() -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    hint = ": pass its shape, or call kaiming_normal_ to fill it"
    assert message_of(lambda: fk.kaiming_normal(torch.zeros(3, 4))).endswith(hint)
    assert fk.kaiming_normal(torch.zeros(3, 4).shape).shape == (3, 4)
    kaiming_normal: Any = fk.kaiming_normal
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        message = message_of(lambda key=key: kaiming_normal(key, (3, 4)))  # type: ignore[misc]
        assert message.startswith(f"kaiming_normal: {SHAPES}")
        assert message.endswith(": call an initializer of fastkaiming.jax, which takes keys of JAX")


def test_sizes_as_separate_arguments() -> None:
    message = message_of(lambda: fk.kaiming_normal(3, 4))  # type: ignore[arg-type]
    assert message == f"kaiming_normal: {DTYPES}int 4{BY_NAME.format('kaiming_normal')}"
    message = message_of(lambda: fk.uniform(3, 4, 5))  # type: ignore[arg-type]
    assert message == f"uniform: {DTYPES}int 4{BY_NAME.format('uniform')}"


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [
        *(("float17", "; did you mean 'float16'?"), ("fp16", "; did you mean 'float16'?")),
        *(("bf16", "; did you mean 'bfloat16'?"), ("FP32", "; did you mean 'float32'?")),
        ("torch.float32", "; did you mean 'float32'?"),
        *((argument, BY_NAME.format("kaiming_normal")) for argument in (0.2, 4, "fan_in", "relu", (3, 4))),
    ],
)
def test_dtype(dtype: Any, hint: str) -> None:
    message = message_of(lambda: fk.kaiming_normal((3, 4), dtype))
    assert message == f"kaiming_normal: {DTYPES}{type(dtype).__name__} {dtype!r}{hint}"


def test_dtype_in_the_place_of_a_shape() -> None:
    kaiming_normal: Any = fk.kaiming_normal
    for dtype in (np.float32, np.dtype("float32"), "float32"):
        message = message_of(lambda dtype=dtype: kaiming_normal(dtype, (3, 4)))  # type: ignore[misc]
        assert message.startswith(f"kaiming_normal: {SHAPES}")
        assert message.endswith(": pass the shape before the dtype")


def test_dtypes_of_torch() -> None:
    torch = pytest.importorskip("torch")
    for name in ("float32", "float64", "float16", "bfloat16", "float8_e5m2"):
        message = message_of(lambda name=name: fk.kaiming_normal((3, 4), getattr(torch, name)))  # type: ignore[misc]
        assert message == f"kaiming_normal: {DTYPES}dtype torch.{name}; did you mean {name!r}?"
    assert message_of(lambda: fk.kaiming_normal((3, 4), torch.int32)).endswith(f"{DTYPES}dtype torch.int32")


# ---- a text in the place of a number ----


@pytest.mark.parametrize(
    ("name", "arguments", "keywords", "message"),
    [
        ("kaiming_normal_", ("fan_in",), {}, "a must be a real number, not str 'fan_in': pass mode='fan_in'"),
        ("kaiming_uniform_", ("relu",), {}, "a must be a real number, not str 'relu': pass nonlinearity='relu'"),
        ("kaiming_normal_", (), {"gain": "relu"}, "not str 'relu': pass gain=calculate_gain('relu')"),
        ("xavier_normal_", ("tanh",), {}, "not str 'tanh': pass gain=calculate_gain('tanh')"),
        ("xavier_uniform_", (), {"gain": "LeakyReLU"}, "not str 'LeakyReLU': pass gain=calculate_gain('leaky_relu')"),
        ("variance_scaling_", ("fan_out",), {}, "scale must be a real number, not str 'fan_out': pass mode='fan_out'"),
        ("variance_scaling_", ("uniform",), {}, "not str 'uniform': pass distribution='uniform'"),
        ("kaiming_normal_", ("0.1",), {}, "a must be a real number, not str '0.1'"),
        ("trunc_normal_", (), {"a": "relu"}, "a must be a real number, not str 'relu'"),
    ],
)
def test_text_in_the_place_of_a_number(
    name: str, arguments: tuple[Any, ...], keywords: dict[str, Any], message: str
) -> None:
    out = np.zeros((3, 4), np.float32)
    functional = name.removesuffix("_")
    texts = {
        message_of(lambda: getattr(fk, name)(out, *arguments, **keywords)).removeprefix(f"{name}: "),
        message_of(lambda: getattr(fk, functional)((3, 4), "f4", *arguments, **keywords)).removeprefix(
            f"{functional}: "
        ),
    }
    (text,) = texts
    assert text.endswith(message)
    assert text.startswith(("a must be a real number, not ", "gain must be a real number, not ", "scale must be a re"))
    assert not out.any()


def test_gain_that_the_hint_names_works() -> None:
    expected = fk.kaiming_normal((3, 4), gain=2**0.5, rng=1)
    assert np.array_equal(fk.kaiming_normal((3, 4), gain=fk.calculate_gain("relu"), rng=1), expected)


# ---- rules ----


@pytest.mark.parametrize(
    ("rule", "end"),
    [
        ("uniform(a=-1, b=1)", "got an unexpected keyword argument 'a'; did you mean 'low'?"),
        ("normal(stddev=0.02)", "got an unexpected keyword argument 'stddev'; did you mean 'std'?"),
        ("kaiming_uniform_(slope=0.1)", "got an unexpected keyword argument 'slope'; did you mean 'a'?"),
        ("normal(sdt=2)", "got an unexpected keyword argument 'sdt'"),
        ("normal(seed=2)", "got an unexpected keyword argument 'seed'"),
    ],
)
def test_keywords_in_rules(rule: str, end: str) -> None:
    weights: Any = np.zeros((3, 4), np.float32)
    message = message_of(lambda: fk.init_({"w": weights}, rules={"*": rule}))
    assert message == f"init_: the rule '*' has arguments that do not fit, got {rule!r}: {end}"
