"""Warnings are torch's, and point at the line that called the initializer."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest

import fastkaiming as fk

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
torch_init, nn = torch.nn.init, torch.nn

Call = Callable[[Any], object]


class Subclass(torch.Tensor):  # type: ignore[name-defined, misc]
    pass


class Mode(torch.overrides.TorchFunctionMode):  # type: ignore[name-defined, misc]
    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@contextmanager
def accelerated_mode() -> Iterator[None]:
    with fk_torch.accelerate(), Mode():
        yield


def warnings_of(call: Callable[[], object]) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return caught


def lines_of(call: Call, module: Any) -> list[tuple[str, int]]:
    return [(each.filename, each.lineno) for each in warnings_of(lambda: call(module))]


def line_of(call: Any) -> tuple[str, int]:
    return call.__code__.co_filename, call.__code__.co_firstlineno


def empty(shape: tuple[int, ...], **options: Any) -> Any:
    return torch.empty(shape, **options)


# Each call is in a line of its own, which is the line that its warnings must point at.
WITHOUT_ELEMENTS: dict[str, Call] = {
    "kaiming_normal_": lambda module: module.kaiming_normal_(empty((0, 3))),
    "kaiming_uniform_": lambda module: module.kaiming_uniform_(empty((0, 3)), 1.0, mode="fan_out"),
    "a parameter": lambda module: module.kaiming_normal_(nn.Parameter(empty((0, 3)))),
    "bfloat16": lambda module: module.kaiming_normal_(empty((3, 0), dtype=torch.bfloat16)),
    "int64": lambda module: module.kaiming_uniform_(empty((3, 0), dtype=torch.int64)),
    "the meta device": lambda module: module.kaiming_normal_(empty((0, 3), device="meta")),
    "a subclass": lambda module: module.kaiming_normal_(empty((0, 3)).as_subclass(Subclass)),
    "an overriding subclass": lambda module: module.kaiming_uniform_(empty((0, 3)).as_subclass(Subclass)),
}
DISTANT_MEAN: dict[str, Call] = {
    "trunc_normal_": lambda module: module.trunc_normal_(empty((3, 4)), 5.0),
    "keywords": lambda module: module.trunc_normal_(empty((3, 4)), std=0.1, a=0.5, b=1.0),
    "a transposed tensor": lambda module: module.trunc_normal_(empty((3, 4)).T, 5.0),
    "a parameter": lambda module: module.trunc_normal_(nn.Parameter(empty((3, 4))), 5.0),
    "bfloat16": lambda module: module.trunc_normal_(empty((3, 4), dtype=torch.bfloat16), 5.0),
    "no elements": lambda module: module.trunc_normal_(empty((0, 4)), 5.0),
    "a subclass": lambda module: module.trunc_normal_(empty((3, 4)).as_subclass(Subclass), 5.0),
    "the meta device": lambda module: module.trunc_normal_(empty((3, 4), device="meta"), 5.0),
}
CALLS = {f"{name} without elements": call for name, call in WITHOUT_ELEMENTS.items()} | {
    f"{name} with a distant mean": call for name, call in DISTANT_MEAN.items()
}
SILENT = {"the meta device with a distant mean"}
CONTEXTS: dict[str, tuple[Callable[[], AbstractContextManager[Any]], Any]] = {
    "fastkaiming": (nullcontext, fk_torch),
    "accelerate": (fk_torch.accelerate, torch_init),
    "fastkaiming in accelerate": (fk_torch.accelerate, fk_torch),
    "no_grad": (torch.no_grad, fk_torch),
    "a function mode": (Mode, fk_torch),
    "a device": (lambda: torch.device("cpu"), fk_torch),
    "a function mode in accelerate": (accelerated_mode, torch_init),
}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", CALLS)
def test_warning_points_at_the_call(name: str, context: str) -> None:
    call, (enter, module) = CALLS[name], CONTEXTS[context]
    expected = [(each.category, str(each.message)) for each in warnings_of(lambda: call(torch_init))]
    assert len(expected) == (name not in SILENT)
    with enter():
        found = warnings_of(lambda: call(module))
    assert [(each.category, str(each.message)) for each in found] == expected
    lines = [(each.filename, each.lineno) for each in found]
    if name.endswith("without elements"):
        assert lines == lines_without_elements(call, context)
    else:
        assert lines == [line_of(call)] * len(expected)


def lines_without_elements(call: Call, context: str) -> list[tuple[str, int]]:
    """Return the lines at which the warnings about tensors without elements are reported.

    Blocks of ``accelerate()`` do not replace the functions of torch that warn about them.
    """
    enter, module = CONTEXTS[context]
    if module is not torch_init:
        return [line_of(call)]
    with Mode() if enter is accelerated_mode else nullcontext():
        return lines_of(call, torch_init)


def test_values_are_those_of_calls_without_warnings() -> None:
    for call in DISTANT_MEAN.values():
        torch.manual_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = call(fk_torch)
        torch.manual_seed(1)
        found: Any = None
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            found = call(fk_torch)
        assert found.is_meta or torch.equal(found, expected)


def test_warning_that_is_an_error_is_raised_before_the_fill() -> None:
    for tensor in (torch.zeros(3, 4), torch.zeros(3, 4).as_subclass(Subclass)):
        for enter, module in CONTEXTS.values():
            state = torch.get_rng_state()
            with warnings.catch_warnings(), enter():
                warnings.simplefilter("error")
                with pytest.raises(UserWarning, match="mean is more than 2 std"):
                    module.trunc_normal_(tensor, 5.0)
            assert not tensor.any()
            assert torch.equal(torch.get_rng_state(), state)


def test_warnings_of_other_code_are_still_shown() -> None:
    class Warning_(torch.Tensor):  # type: ignore[name-defined, misc]  # noqa: N801
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            warnings.warn("from the subclass", UserWarning, stacklevel=1)
            return super().__torch_function__(func, types, args, kwargs)

    tensor = torch.empty(0, 3).as_subclass(Warning_)
    messages = [str(each.message) for each in warnings_of(lambda: fk_torch.kaiming_uniform_(tensor))]
    no_op = "Initializing zero-element tensors is a no-op"
    assert messages.count(no_op) == 1
    assert set(messages[messages.index(no_op) + 1 :]) == {"from the subclass"}


def test_errors_of_calls_that_would_warn_are_torchs() -> None:
    for module in (fk_torch, torch_init):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(TypeError, match=r"^kaiming_normal_\(\) got an unexpected keyword argument 'man'$"):
                module.kaiming_normal_(torch.empty(0, 3), man=1)
            with pytest.raises(AttributeError, match="'list' object has no attribute "):
                module.kaiming_normal_([])


# ---- deprecated names ----


@pytest.mark.parametrize("name", [name for name in torch_init.__all__ if f"{name}_" in torch_init.__all__])
def test_warning_about_a_deprecated_name_points_at_the_call(name: str) -> None:
    arguments = {"constant": (1.0,), "sparse": (0.5,)}.get(name, ())
    shape = (3, 3, 3) if name == "dirac" else (3, 4)
    call: Call = lambda module: getattr(module, name)(torch.empty(shape), *arguments)  # noqa: E731
    for enter, module in CONTEXTS.values():
        with enter():
            (found,) = warnings_of(lambda: call(module))  # noqa: B023
        assert found.category is FutureWarning
        assert (found.filename, found.lineno) == line_of(call)


def test_both_warnings_of_a_deprecated_name_point_at_the_call() -> None:
    call: Call = lambda module: module.kaiming_normal(torch.empty(0, 3))  # noqa: E731
    assert lines_of(call, fk_torch) == [line_of(call)] * 2
    expected = lines_of(call, torch_init)  # torch's own function calls torch's own function
    with fk_torch.accelerate():
        assert lines_of(call, torch_init) == expected


# ---- callers within other libraries ----


def test_warning_of_a_layer_points_at_the_layer_as_without_accelerate() -> None:
    expected = lines_of(lambda _: nn.Linear(0, 3, bias=False), None)
    assert len(expected) == 1
    with fk_torch.accelerate():
        assert lines_of(lambda _: nn.Linear(0, 3, bias=False), None) == expected


def test_warning_within_a_decorated_function_points_at_the_call() -> None:
    def reset(tensor: Any) -> None:
        torch_init.trunc_normal_(tensor, 5.0)

    (found,) = warnings_of(lambda: fk_torch.accelerate(reset)(torch.empty(3)))
    assert (found.filename, found.lineno) == (__file__, reset.__code__.co_firstlineno + 1)


# ---- DTensors ----


@pytest.fixture
def distribute() -> Iterator[Callable[[Any], Any]]:
    """Return a function that shards a tensor over two processes, of which only this one exists."""
    import torch.distributed as distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    mesh = init_device_mesh("cpu", (2,))
    yield lambda tensor: distribute_tensor(tensor, mesh, [Shard(0)])
    distributed.destroy_process_group()


@pytest.mark.parametrize("context", CONTEXTS)
def test_warning_about_a_dtensor_points_at_the_call(distribute: Callable[[Any], Any], context: str) -> None:
    enter, module = CONTEXTS[context]
    tensor, without_elements = distribute(torch.zeros(4, 6)), distribute(torch.zeros(4, 0))
    calls: list[Call] = [
        lambda module: module.trunc_normal_(tensor, 5.0),
        lambda module: module.trunc_normal_(nn.Parameter(tensor), 5.0),
        lambda module: module.kaiming_normal_(without_elements),
        lambda module: module.kaiming_uniform_(without_elements),
    ]
    with enter():
        found = [lines_of(call, module) for call in calls]
    without = [lines_without_elements(call, context) for call in calls[2:]]
    assert found == [*([line_of(call)] for call in calls[:2]), *without]
    assert tensor.to_local().any()


# ---- whole models ----


def test_warnings_about_unused_rules_point_at_the_call() -> None:
    rules = {"*": "ones", "missing": "zeros"}
    call: Call
    for call in (
        lambda _: fk.init_({"w": np.zeros((3, 4), np.float32)}, rules=rules),
        lambda _: fk_torch.init_module_(nn.Linear(3, 4), rules=rules),
    ):
        for enter in (nullcontext, fk_torch.accelerate):
            with enter():
                assert lines_of(call, None) == [line_of(call)]
