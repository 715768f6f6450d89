"""fastkaiming.jax has the names of jax.nn.initializers, and its initializers can be compared and pickled."""

import inspect
import pickle
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from processes import python

import fastkaiming as fk

jax = pytest.importorskip("jax")
fk_jax = import_module("fastkaiming.jax")
jax_init = jax.nn.initializers


def test_aliases_are_the_same_functions() -> None:
    assert fk_jax.kaiming_normal is fk_jax.he_normal
    assert fk_jax.kaiming_uniform is fk_jax.he_uniform
    assert fk_jax.xavier_normal is fk_jax.glorot_normal
    assert fk_jax.xavier_uniform is fk_jax.glorot_uniform


@pytest.mark.parametrize("name", [name for name in vars(jax_init) if not name.startswith("_")])
def test_every_name_has_the_signature_of_jax(name: str) -> None:
    assert name in fk_jax.__all__
    if name != "Initializer":  # a protocol, which the Initializer of fastkaiming satisfies
        assert signature_of(getattr(fk_jax, name)) == signature_of(getattr(jax_init, name))


def test_initializers_have_the_call_signature_of_jax() -> None:
    called = signature_of(jax_init.normal())
    assert signature_of(fk_jax.normal())[: len(called)] == called  # older releases have no out_sharding
    assert isinstance(fk_jax.normal(), jax_init.Initializer)


def signature_of(function: Callable[..., Any]) -> list[tuple[Any, ...]]:
    """Return the names, kinds and defaults of arguments; in older releases, the default of dtype is not None."""
    parameters = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.name == "dtype" or each.default) for each in parameters]


@pytest.mark.parametrize("name", ["constant", "delta_orthogonal", "ones", "orthogonal", "zeros"])
def test_remaining_functions_are_those_of_jax(name: str) -> None:
    assert getattr(fk_jax, name) is getattr(jax_init, name)


INITIALIZERS: list[Callable[[], Any]] = [
    lambda: fk_jax.he_normal(),
    lambda: fk_jax.he_normal(in_axis=[0, 1], out_axis=2),
    lambda: fk_jax.glorot_uniform(batch_axis=(0,), dtype="bfloat16"),
    lambda: fk_jax.variance_scaling(np.float32(0.5), "fan_out", "normal"),
    lambda: fk_jax.normal(jax.numpy.float32(0.5)),
    lambda: fk_jax.normal(0.25),
    lambda: fk_jax.uniform(0.25),
    lambda: fk_jax.truncated_normal(0.25, lower=-1),
]


@pytest.mark.parametrize("number", range(len(INITIALIZERS)))
def test_initializers_of_equal_settings_are_equal(number: int) -> None:
    one, again, *others = INITIALIZERS[number](), *(each() for each in INITIALIZERS[number:])
    assert (one == again, hash(one) == hash(again)) == (True, True)
    assert one not in others
    assert pickle.loads(pickle.dumps(one)) == one
    assert eval(repr(one), vars(fk_jax)) == one


def test_equal_initializers_are_traced_once() -> None:
    traced = []

    def jax_function(stddev: float) -> Callable[..., Any]:
        def init(_: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
            traced.append((stddev, shape))
            return jax.numpy.zeros(shape, dtype)

        return init

    def formula(_: tuple[int, ...], stddev: float) -> fk.Normal:
        return fk.Normal(0.0, stddev)

    for stddev, shape in ((1.0, (3,)), (1.0, (3,)), (2.0, (3,)), (1.0, (4,)), (1.0, (3,))):
        fk_jax.Initializer(formula, jax_function, (("stddev", stddev),), None)(jax.random.key(0), shape)
    assert traced == [(1.0, (3,)), (2.0, (3,)), (1.0, (4,))]


def test_missing_jax_error_names_the_extra_to_install() -> None:
    result = python("import sys; sys.modules['jax'] = None; import fastkaiming.jax")
    assert result.stderr.endswith(
        "ImportError: fastkaiming.jax needs jax: run pip install '.[jax]' in a checkout of fastkaiming\n"
    )


def test_importing_fastkaiming_does_not_import_jax() -> None:
    result = python("import sys, fastkaiming; print([name for name in sys.modules if name.startswith('jax')])")
    assert result.stdout == "[]\n", result.stderr
