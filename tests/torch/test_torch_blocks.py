"""Blocks of accelerate() that are left in any order, and objects that can or cannot be decorated."""

import contextvars
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial, partialmethod
from itertools import permutations
from types import MethodType
from typing import Any

import numpy as np
import pytest

import fastkaiming as fk

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
accelerate, nn = fk_torch.accelerate, torch.nn

from test_torch import SEED, take_seed, values  # noqa: E402


def fill() -> Any:
    torch.manual_seed(SEED)
    return torch.empty(50).normal_()


PLAIN = fill()
torch.manual_seed(SEED)
OWN = torch.from_numpy(fk.normal(50, rng=take_seed()))


def is_active() -> bool:
    """Return whether fastkaiming performs fills."""
    found = fill()
    assert torch.equal(found, PLAIN) or torch.equal(found, OWN)
    return bool(torch.equal(found, OWN))


def leave(block: Any) -> None:
    block.__exit__(None, None, None)


@pytest.mark.parametrize("order", [*permutations(range(3))])
@pytest.mark.parametrize("within", [False, True])
def test_blocks_can_be_left_in_any_order(order: tuple[int, ...], within: bool) -> None:
    with accelerate() if within else nullcontext():
        blocks = [accelerate() for _ in range(3)]
        for block in blocks:
            block.__enter__()
        for left, index in enumerate(order, 1):
            leave(blocks[index])
            assert is_active() == (within or left < 3)
        with blocks[0]:
            assert is_active()
        assert is_active() == within
    assert not is_active()


def test_blocks_of_generators_that_run_alternately() -> None:
    def steps() -> Iterator[bool]:
        with accelerate():
            yield is_active()
            yield is_active()
        yield is_active()

    first, second = steps(), steps()
    assert [next(first), next(second), next(first), next(second)] == [True] * 4
    assert [next(first), is_active(), next(second), is_active()] == [True, True, False, False]


def test_block_can_be_entered_again_within_a_block_that_it_enclosed() -> None:
    outer, inner = accelerate(), accelerate()
    for leave_first in (inner, outer):
        outer.__enter__()
        inner.__enter__()
        leave(outer)
        assert is_active()
        outer.__enter__()
        assert is_active()
        leave(leave_first)
        assert is_active()
        leave(outer if leave_first is inner else inner)
        assert not is_active()


def test_enclosing_block_stays_active_if_the_inner_one_is_left_in_another_context() -> None:
    inner = accelerate()
    with accelerate():
        inner.__enter__()
        contextvars.Context().run(leave, inner)
        assert is_active()
    assert not is_active()


def test_context_of_an_earlier_entry_is_not_affected_when_the_block_is_entered_again() -> None:
    block = accelerate()
    with block:
        copied = contextvars.copy_context()
        assert copied.run(is_active)
    with block:
        assert not copied.run(is_active)


# ---- the decorator ----


async def coroutine(*_: Any) -> None: ...
def generator(*_: Any) -> Any:
    yield


async def asynchronous_generator(*_: Any) -> Any:
    yield


def instance(call: Any) -> Any:
    """Return an object whose class has this ``__call__``."""
    return type("Callable", (), {"__call__": call})()


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "function": lambda function: function,
    "partial": lambda function: partial(partial(function, 1), 2),
    "bound method": lambda function: MethodType(function, 1),
    "static method": staticmethod,
    "object": instance,
    "object with a static method": lambda function: instance(staticmethod(function)),
    "object with a partial method": lambda function: instance(partialmethod(function, 1)),
    "object with a partial": lambda function: instance(partial(function, 1)),
    "object with an object": lambda function: instance(instance(function)),
    "partial of an object": lambda function: partial(instance(function), 1),
    "bound method of an object": lambda function: instance(function).__call__,
}


@pytest.mark.parametrize("wrap", list(WRAPPERS.values()), ids=WRAPPERS)
@pytest.mark.parametrize("function", [coroutine, generator, asynchronous_generator])
def test_objects_whose_body_runs_later_cannot_be_decorated(wrap: Any, function: Any) -> None:
    with pytest.raises(TypeError, match="must decorate a function that is not a generator or coroutine"):
        accelerate(wrap(function))


@pytest.mark.parametrize("wrap", list(WRAPPERS.values()), ids=WRAPPERS)
def test_other_callable_objects_can_be_decorated(wrap: Any) -> None:
    decorated = accelerate(wrap(lambda *_: is_active()))
    assert decorated()
    assert not is_active()


def test_partial_of_a_class_can_be_decorated() -> None:
    torch.manual_seed(SEED)
    layer = accelerate(partial(nn.Linear, 4))(3)
    torch.manual_seed(SEED)
    assert np.array_equal(values(layer.weight), fk.kaiming_uniform((3, 4), a=5**0.5, rng=take_seed()))
