"""Error messages name the public function that was called, and hints name the argument or the function that works."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastkaiming as fk

IN_PLACE = sorted(name for name in fk.__all__ if name.endswith("_") and not name.startswith("_") and name != "init_")
WITH_FAN = [name for name in IN_PLACE if "fan" in inspect.signature(getattr(fk, name)).parameters]
FUNCTIONAL = [name.removesuffix("_") for name in IN_PLACE if name.removesuffix("_") in fk.__all__]
OF_ARRAYS = "nonlinearity must be a function of NumPy arrays or floats, not "
NO_THREADS = "threads must be an integer from 1 to 1024, got 0"
OTHERS: dict[str, tuple[Callable[[], object], str]] = {
    "calculate_gain": (lambda: fk.calculate_gain("leaky_relu", math.nan), "param must be finite, got nan"),
    "fans": (lambda: fk.fans((3, 4), layout="O"), "layout must have one 'O' (outputs), "),
    "init_": (lambda: fk.init_({"w": weights()}, threads=0), NO_THREADS),
    "kaiming": (lambda: fk.kaiming((3, 4), gain=-1.0), "gain must not be negative, got -1.0"),
    "set_num_threads": (lambda: fk.set_num_threads(0), "n must be an integer from 1 to 1024, got 0"),
    "shard_slices": (lambda: fk.shard_slices((), 2), "shape must have at least one axis, got ()"),
}
RAISE_NO_MESSAGE_ABOUT_ARGUMENTS = {"available_isas", "get_num_threads", "isa"}


def weights(shape: tuple[int, ...] = (4, 6)) -> Any:
    return np.zeros(shape, np.float32)


def in_place_call(name: str, *arguments: Any, **keywords: Any) -> Any:
    """Call a function that fills an array, with the further arguments that it requires."""
    required = {"fill_": (fk.Normal(),), "constant_": (1.0,)}.get(name, ())
    return getattr(fk, name)(*(arguments or (weights(),)), *required, **keywords)


def message_of(call: Callable[[], object], kind: type[Exception]) -> str:
    with pytest.raises(kind) as raised:
        call()
    assert raised.type is kind
    return str(raised.value)


# ---- the name of the function ----


@pytest.mark.parametrize("name", IN_PLACE)
def test_errors_name_the_in_place_function(name: str) -> None:
    assert message_of(lambda: in_place_call(name, threads=0), ValueError) == f"{name}: {NO_THREADS}"
    message = message_of(lambda: in_place_call(name, weights().astype(int)), TypeError)
    assert message.startswith(f"{name}: out must be of dtype float32, ")
    message = message_of(lambda: in_place_call(name, rng="nine"), TypeError)
    assert message.startswith(f"{name}: rng must be None, an integer, ")
    message = message_of(lambda: in_place_call(name, index=()), ValueError)
    assert message == f"{name}: global_shape and index must be given together, got index and no global_shape"
    in_place_call(name)  # fills that follow, with parameters from the cache, raise the same errors
    assert message_of(lambda: in_place_call(name, rng=-1), ValueError).startswith(f"{name}: rng must be an integer fr")


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_errors_name_the_functional_variant(name: str) -> None:
    function = getattr(fk, name)
    assert message_of(lambda: function((3, 4), threads=0), ValueError) == f"{name}: {NO_THREADS}"
    message = message_of(lambda: function((3, -4)), ValueError)
    assert message.startswith(f"{name}: shape[1] must be an integer from 0 to ")
    assert message_of(lambda: function((3, 4), int), TypeError).startswith(f"{name}: dtype must be float32, ")
    assert message_of(lambda: function(2**63), ValueError).startswith(f"{name}: shape must be within NumPy's limits ")


@pytest.mark.parametrize("name", OTHERS)
def test_errors_name_other_functions(name: str) -> None:
    call, message = OTHERS[name]
    assert message_of(call, ValueError).startswith(f"{name}: {message}")


def test_error_of_progress_names_it() -> None:
    not_callable: Any = 3
    with pytest.raises(TypeError) as raised, fk.progress(not_callable):
        pass
    assert str(raised.value) == "progress: callback must be callable, not int 3"


def test_all_functions_are_tested() -> None:
    functions = {name for name in fk.__all__ if inspect.isroutine(getattr(fk, name))}
    tested = {*IN_PLACE, *FUNCTIONAL, *OTHERS, "progress"}
    assert functions - tested == RAISE_NO_MESSAGE_ABOUT_ARGUMENTS


def test_error_of_init_names_it_before_the_array() -> None:
    message = message_of(lambda: fk.init_({"w": weights((3,))}), ValueError)
    assert message.startswith("init_: array 'w', by the rule '*': fans need a shape of at least two axes, got (3,)")
    message = message_of(lambda: fk.init_({"w": weights().astype(int)}), TypeError)
    assert message.startswith("init_: array 'w', by the rule '*': out must be of dtype float32, ")


@pytest.mark.parametrize("kind", [TypeError, ValueError])
def test_errors_of_callbacks_are_not_changed(kind: type[Exception]) -> None:
    error = kind("from the callback")

    def fail(*_: Any) -> None:
        raise error

    calls: list[Callable[[], object]] = [
        lambda: fk.kaiming_normal_(weights(), nonlinearity=fail, rng=1),
        lambda: fk.kaiming_normal((3, 4), nonlinearity=fail, rng=1),
        lambda: fk.kaiming((3, 4), nonlinearity=fail),
        lambda: fk.calculate_gain(fail),
    ]
    for call in calls:
        with pytest.raises(kind) as raised:
            call()
        assert raised.value is error
        assert error.args == ("from the callback",)
    for call in (
        lambda: fk.normal_(weights()),
        lambda: fk.normal((3, 4)),
        lambda: fk.init_({"w": weights()}),
    ):
        with fk.progress(fail), pytest.raises(kind) as raised:
            call()
        assert raised.value is error
        assert error.args == ("from the callback",)


def test_errors_keep_their_traceback_and_have_no_context() -> None:
    with pytest.raises(ValueError, match="must not be negative") as raised:
        fk.normal((3, 4), std=-1.0)
    assert raised.value.__context__ is None
    assert raised.traceback[-1].frame.code.name == "not_negative"


# ---- shapes without fans ----


@pytest.mark.parametrize("shape", [(), (5,), (0,)])
@pytest.mark.parametrize("name", WITH_FAN)
def test_error_of_a_shape_without_fans_names_fan(name: str, shape: tuple[int, ...]) -> None:
    message = f"fans need a shape of at least two axes, got {shape}: pass fan=, or use zeros_ or normal_"
    in_place, functional = getattr(fk, name), getattr(fk, name.removesuffix("_"))
    assert message_of(lambda: in_place(weights(shape)), ValueError) == f"{name}: {message}"
    assert message_of(lambda: functional(shape), ValueError) == f"{name.removesuffix('_')}: {message}"
    assert in_place(weights(shape), fan=3).shape == shape
    assert functional(shape, fan=3).shape == shape


def test_error_of_kaiming_names_fan_but_that_of_fans_does_not() -> None:
    message = message_of(lambda: fk.kaiming(5), ValueError)
    assert message.startswith("kaiming: fans need a shape of at least two axes, got (5,): pass fan=, ")
    assert message_of(lambda: fk.fans(5), ValueError) == "fans: fans need a shape of at least two axes, got (5,)"


# ---- names in other spellings ----


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *(("ReLU", "relu"), ("RELU", "relu"), ("nn.ReLU", "relu"), ("torch.nn.ReLU", "relu"), ("relu ", "relu")),
        *(("LeakyReLU", "leaky_relu"), ("leaky-relu", "leaky_relu"), ("leakyrelu", "leaky_relu")),
        *(("lrelu", "leaky_relu"), ("GELU", "gelu"), ("Swish", "swish"), ("SiLU", "silu"), ("Tanh", "tanh")),
        *(("gelu_new", "gelu_tanh"), ("gelu_pytorch_tanh", "gelu_tanh"), ("GELUTanh", "gelu_tanh")),
        *(("Sigmoid", "sigmoid"), ("SELU", "selu"), ("ELU", "elu"), ("Mish", "mish"), ("Softplus", "softplus")),
        *(("identity", "linear"), ("none", "linear"), ("Linear", "linear"), ("logistic", "sigmoid")),
        *(("Conv2d", "conv2d"), ("ConvTranspose2d", "conv_transpose2d"), ("conv2D", "conv2d")),
        *(("sigmiod", "sigmoid"), ("leaky_rellu", "leaky_relu")),
    ],
)
def test_nonlinearity_in_another_spelling(name: str, meant: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "kaiming_normal_": lambda: fk.kaiming_normal_(weights(), nonlinearity=name),
        "kaiming_uniform": lambda: fk.kaiming_uniform((3, 4), nonlinearity=name),
        "kaiming": lambda: fk.kaiming((3, 4), nonlinearity=name),
        "calculate_gain": lambda: fk.calculate_gain(name),
    }
    for function, call in calls.items():
        message = message_of(call, ValueError)
        assert message.startswith(f"{function}: nonlinearity must be one of 'linear', ")
        assert message.endswith(f", got {name!r}; did you mean {meant!r}?")
    assert fk.calculate_gain(meant) > 0


def test_unknown_nonlinearity() -> None:
    for name in ("sine", "hardswish", "softmax", ""):
        message = message_of(lambda name=name: fk.calculate_gain(name), ValueError)  # type: ignore[misc]
        assert message.endswith(f"'swish', 'softplus', got {name!r}: for another nonlinearity, pass a function")


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: fk.kaiming_normal_(weights(), mode="FAN_IN"), "fan_in"),
        (lambda: fk.kaiming_normal_(weights(), mode="fanout"), "fan_out"),
        (lambda: fk.variance_scaling_(weights(), mode="fan-avg"), "fan_avg"),
        (lambda: fk.variance_scaling_(weights(), distribution="Normal"), "normal"),
        (lambda: fk.kaiming((3, 4), "truncated-normal"), "truncated_normal"),
        (lambda: fk.kaiming((3, 4), "unifrom"), "uniform"),
    ],
)
def test_mode_or_distribution_in_another_spelling(call: Callable[[], object], meant: str) -> None:
    assert message_of(call, ValueError).endswith(f"; did you mean {meant!r}?")


def test_name_that_resembles_none_of_the_options() -> None:
    assert message_of(lambda: fk.kaiming((3, 4), mode="sum"), ValueError).endswith("'fan_geo_avg', got 'sum'")


def torch_nonlinearities(torch: Any) -> list[tuple[Any, str]]:
    nn, functional = torch.nn, torch.nn.functional
    return [
        *((nonlinearity, "; did you mean 'relu'?") for nonlinearity in (nn.ReLU, nn.ReLU(), torch.relu)),
        *((nonlinearity, "; did you mean 'relu'?") for nonlinearity in (functional.relu, nn.functional.relu_)),
        *((nonlinearity, "; did you mean 'gelu'?") for nonlinearity in (nn.GELU, nn.GELU(), functional.gelu)),
        *((nonlinearity, "; did you mean 'silu'?") for nonlinearity in (nn.SiLU(), functional.silu)),
        *((nonlinearity, "; did you mean 'tanh'?") for nonlinearity in (nn.Tanh(), torch.tanh, functional.tanh)),
        *((nonlinearity, "; did you mean 'sigmoid'?") for nonlinearity in (nn.Sigmoid(), torch.sigmoid)),
        *((nonlinearity, "; did you mean 'linear'?") for nonlinearity in (nn.Identity, nn.Linear, nn.Linear(3, 4))),
        (nn.GELU(approximate="tanh"), "; did you mean 'gelu_tanh'?"),
        (nn.LeakyReLU(0.2), "; did you mean 'leaky_relu' with a=0.2?"),
        (functional.leaky_relu, "; did you mean 'leaky_relu'?"),
        (nn.ELU(alpha=0.5), "; did you mean 'elu' with a=0.5?"),
        *(
            (nonlinearity, ": pass lambda z: function(torch.from_numpy(z)).detach().numpy()")
            for nonlinearity in (functional.hardswish, nn.Softmax(0), nn.Hardtanh, nn.Sequential(nn.ReLU()))
        ),
    ]


def test_nonlinearity_of_torch() -> None:
    torch = pytest.importorskip("torch")
    for nonlinearity, hint in torch_nonlinearities(torch):
        message = message_of(
            lambda f=nonlinearity: fk.kaiming_normal_(weights(), nonlinearity=f),  # type: ignore[misc]
            TypeError,
        )
        assert message.startswith(f"kaiming_normal_: {OF_ARRAYS}{type(nonlinearity).__name__} ")
        assert message.endswith(hint)
    message = message_of(lambda: fk.calculate_gain(torch.nn.LeakyReLU(0.2)), TypeError)
    assert message.startswith(f"calculate_gain: {OF_ARRAYS}LeakyReLU ")
    assert message.endswith("; did you mean 'leaky_relu' with param=0.2?")


def test_nonlinearities_that_accept_arrays_are_still_evaluated() -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    expected = math.sqrt(2)
    for nonlinearity in (jax.nn.relu, lambda z: torch.relu(torch.from_numpy(z)).numpy()):
        assert fk.calculate_gain(nonlinearity) == pytest.approx(expected, rel=1e-6)
