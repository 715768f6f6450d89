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
    message = (
        f"fans need a shape of at least two axes, got {shape}: "
        "pass fan=, or call a function that needs no fan, such as zeros_ or normal_"
    )
    in_place, functional = getattr(fk, name), getattr(fk, name.removesuffix("_"))
    assert message_of(lambda: in_place(weights(shape)), ValueError) == f"{name}: {message}"
    assert message_of(lambda: functional(shape), ValueError) == f"{name.removesuffix('_')}: {message}"
    assert in_place(weights(shape), fan=3).shape == shape
    assert functional(shape, fan=3).shape == shape


def test_error_of_kaiming_names_fan_but_that_of_fans_does_not() -> None:
    message = message_of(lambda: fk.kaiming(5), ValueError)
    assert message.startswith("kaiming: fans need a shape of at least two axes, got (5,): pass fan=, ")
    assert message_of(lambda: fk.fans(5), ValueError) == "fans: fans need a shape of at least two axes, got (5,)"
