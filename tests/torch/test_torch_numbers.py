"""Numbers of other types than float: they are read at each call, errors are torch's, and nothing is kept alive."""

import gc
import sys
import weakref
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from processes import python

import fastkaiming as fk

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
nn = torch.nn

from test_torch import SEED  # noqa: E402


class Float(float):
    def __float__(self) -> float:
        return 100.0  # torch does not call it


class Int(int):
    pass


ACCEPTED: dict[str, tuple[Callable[[], Any], float]] = {
    "tensor": (lambda: torch.tensor(0.75), 0.75),
    "tensor of float64": (lambda: torch.tensor(0.75, dtype=torch.float64), 0.75),
    "tensor of bfloat16": (lambda: torch.tensor(0.75, dtype=torch.bfloat16), 0.75),
    "tensor of int64": (lambda: torch.tensor(1), 1.0),
    "frozen parameter": (lambda: nn.Parameter(torch.tensor(0.75), requires_grad=False), 0.75),
    "element of a tensor": (lambda: torch.tensor([0.25, 0.75])[1], 0.75),
    "np.float64": (lambda: np.float64(0.75), 0.75),
    "np.float32": (lambda: np.float32(0.75), 0.75),
    "np.float16": (lambda: np.float16(0.75), 0.75),
    "np.int64": (lambda: np.int64(1), 1.0),
    "np.bool": (lambda: np.bool_(True), 1.0),
    "bool": (lambda: True, 1.0),
    "int": (lambda: 1, 1.0),
    "subclass of float": (lambda: Float(0.75), 0.75),
    "subclass of int": (lambda: Int(1), 1.0),
}
REFUSED: dict[str, Callable[[], Any]] = {
    "tensor that requires grad": lambda: torch.tensor(0.75, requires_grad=True),
    "parameter": lambda: nn.Parameter(torch.tensor(0.75)),
    "tensor of bool": lambda: torch.tensor(True),  # some functions accept it
    "tensor with an axis": lambda: torch.tensor([0.75]),
    "tensor of two elements": lambda: torch.tensor([0.75, 0.5]),
    "complex tensor": lambda: torch.tensor(0.75 + 1j),
    "meta tensor": lambda: torch.tensor(0.75, device="meta"),
    "array without axes": lambda: np.array(0.75),
    "fraction": lambda: Fraction(3, 4),
    "complex": lambda: 0.75 + 0j,
    "str": lambda: "0.75",
    "large int": lambda: 10**400,
}
# Each function takes torch.nn.init or fastkaiming.torch, a tensor, and the number.
FILLS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "uniform_": lambda init, tensor, number: init.uniform_(tensor, 0.0, number),
    "uniform_(b=)": lambda init, tensor, number: init.uniform_(tensor, b=number),
    "normal_": lambda init, tensor, number: init.normal_(tensor, number, 2.0),
    "normal_(std=)": lambda init, tensor, number: init.normal_(tensor, std=number),
    "trunc_normal_": lambda init, tensor, number: init.trunc_normal_(tensor, number, 2.0, -1.0, 3.0),
    "trunc_normal_(std=)": lambda init, tensor, number: init.trunc_normal_(tensor, std=number),
}
METHODS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "Tensor.uniform_": lambda _, tensor, number: tensor.uniform_(0.0, number),
    "Tensor.uniform_(to=)": lambda _, tensor, number: tensor.uniform_(to=number),
    "Tensor.normal_": lambda _, tensor, number: tensor.normal_(number, 2.0),
    "Tensor.normal_(mean=, std=)": lambda _, tensor, number: tensor.normal_(mean=0.5, std=number),
}
# In these functions, torch computes with the number before it fills the tensor.
FORMULAS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "xavier_normal_": lambda init, tensor, number: init.xavier_normal_(tensor, number),
    "kaiming_uniform_": lambda init, tensor, number: init.kaiming_uniform_(tensor, number),
    "trunc_normal_(a=)": lambda init, tensor, number: init.trunc_normal_(tensor, a=number),
}


def outcome(fill: Any, init: Any, number: Any) -> Any:
    """Return the values of a fill, or the type and message of the error that it raises."""
    tensor = torch.zeros(4, 6)
    torch.manual_seed(SEED)
    try:
        assert fill(init, tensor, number) is tensor
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        assert not tensor.any()
        return type(error), str(error)
    return tensor.tolist()


def accelerated(fill: Any, init: Any, number: Any) -> Any:
    with fk_torch.accelerate():
        return outcome(fill, init, number)


@pytest.mark.parametrize("kind", ACCEPTED)
def test_numbers_of_all_types_give_the_values_of_a_float(kind: str) -> None:
    make, as_float = ACCEPTED[kind]
    for name, fill in (FILLS | METHODS).items():
        expected = accelerated(fill, fk_torch, as_float)
        for init in (nn.init, fk_torch):
            assert accelerated(fill, init, make()) == expected, name
        if name in FILLS:
            assert outcome(fill, fk_torch, make()) == expected, name


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor", "ignore:mean is more than 2 std")
@pytest.mark.parametrize("kind", [*ACCEPTED, *REFUSED])
def test_errors_for_numbers_are_torchs(kind: str) -> None:
    make = REFUSED[kind] if kind in REFUSED else ACCEPTED[kind][0]
    for name, fill in (FILLS | METHODS | FORMULAS).items():
        expected = outcome(fill, nn.init, make())
        within = [accelerated(fill, init, make()) for init in (nn.init, fk_torch)]
        for found in (*within, outcome(fill, fk_torch, make())):
            assert (found == expected) if isinstance(expected, tuple) else isinstance(found, list), name


@pytest.mark.parametrize("fill", [*FILLS.values(), *METHODS.values()], ids=[*FILLS, *METHODS])
def test_changed_tensor_is_read_again(fill: Any) -> None:
    number = torch.tensor(0.75)
    for value in (0.75, 0.125, 1.0):
        number.fill_(value)
        assert accelerated(fill, fk_torch, number) == accelerated(fill, fk_torch, value)


def test_number_can_be_an_element_of_the_filled_tensor() -> None:
    tensor = torch.full((1000,), 0.125)
    fk_torch.uniform_(tensor, 0.0, tensor[0])
    assert 0.1 < tensor.max() < 0.125


def test_torch_function_of_a_number_is_not_called() -> None:
    seen = []

    class Observed(torch.Tensor):  # type: ignore[name-defined, misc]
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return super().__torch_function__(func, types, args, kwargs)

    number = torch.tensor(0.75).as_subclass(Observed)
    seen.clear()
    for name in ("uniform_", "normal_(std=)", "Tensor.normal_"):
        fill = (FILLS | METHODS)[name]
        assert accelerated(fill, fk_torch, number) == accelerated(fill, fk_torch, 0.75)
    assert not seen


# ---- caches ----


class Number(float):
    """A number that weak references can refer to."""


def weakly_referenced() -> list[tuple[str, Any]]:
    return [
        ("tensor", torch.tensor(0.75)),
        ("element of a tensor", torch.tensor([0.25, 0.75])[1]),
        ("array", np.array(0.75)),
        ("float", Number(0.75)),
    ]


@pytest.mark.parametrize("fill", [*FILLS.values(), *METHODS.values()], ids=[*FILLS, *METHODS])
def test_numbers_are_not_kept_alive(fill: Any) -> None:
    for index, (kind, _) in enumerate(weakly_referenced()):
        number: Any = weakly_referenced()[index][1]
        reference = weakref.ref(number)
        for init in (nn.init, fk_torch):
            accelerated(fill, init, number)
        outcome(fill, fk_torch, number)
        del number
        if reference() is not None:
            gc.collect()
        assert reference() is None, kind


def test_scalars_of_numpy_are_not_kept_alive() -> None:
    """Weak references cannot refer to them, so references are counted."""
    for number in (np.float64(0.7512345), np.float32(0.7512345)):
        before = sys.getrefcount(number)
        for fill in (*FILLS.values(), *METHODS.values()):
            accelerated(fill, fk_torch, number)
            outcome(fill, fk_torch, number)
        fk.uniform_(np.empty(3), 0.0, number)  # type: ignore[arg-type]
        fk.normal(3, std=number)  # type: ignore[arg-type]
        assert sys.getrefcount(number) == before


def test_metadata_of_a_dtype_is_not_kept_alive() -> None:
    metadata = {"number": Number(0.75)}
    reference = weakref.ref(metadata["number"])
    array = np.empty(3, np.dtype(np.float32, metadata=metadata))
    for _ in range(2):
        fk.uniform_(array, 0.0, 0.7654321)
    expected = fk.uniform(3, np.float32, 0.0, 0.7654321, rng=1)
    assert np.array_equal(fk.uniform_(array, 0.0, 0.7654321, rng=1), expected)
    del array, metadata
    gc.collect()
    assert reference() is None


def test_mesh_of_a_dtensor_is_not_kept_alive() -> None:
    """The caches of torch keep the first of several equal meshes alive, so the program fills tensors on two of them."""
    program = """
import gc, weakref
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, empty
import fastkaiming.torch as init

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
empty((6, 4), device_mesh=init_device_mesh("cpu", (1,)), placements=[Shard(0)]).normal_()
mesh = init_device_mesh("cpu", (1,))
reference = weakref.ref(mesh)
tensor = init.normal_(empty((6, 4), device_mesh=mesh, placements=[Shard(0)]))
del mesh, tensor
gc.collect()
print(reference())
dist.destroy_process_group()
"""
    result = python(program)
    assert result.stdout == "None\n", result.stderr
