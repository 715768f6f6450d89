"""torch's methods and functions are the same objects within accelerate(), before it and after it."""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import fastkaiming as fk

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
nn, accelerate = torch.nn, fk_torch.accelerate

from test_torch import SEED, take_seed, values  # noqa: E402

METHODS = {"normal_": torch.Tensor.normal_, "uniform_": torch.Tensor.uniform_}
# torch's deprecated names without an underscore cannot be pickled, within a block or not.
FUNCTIONS = {name: getattr(nn.init, name) for name in nn.init.__all__ if name.endswith("_") or name == "calculate_gain"}
OBJECTS = [*METHODS.values(), *FUNCTIONS.values()]


def current() -> list[Any]:
    return [*(getattr(torch.Tensor, name) for name in METHODS), *(getattr(nn.init, name) for name in FUNCTIONS)]


@pytest.fixture
def seed() -> int:
    torch.manual_seed(SEED)
    return take_seed()


def test_names_refer_to_torchs_own_objects() -> None:
    with accelerate():
        assert all(map(isinstance, current(), map(type, OBJECTS)))
        assert [found is expected for found, expected in zip(current(), OBJECTS, strict=True)] == [True] * len(OBJECTS)
        assert nn.Parameter.normal_ is torch.Tensor.normal_ is METHODS["normal_"]
        assert torch.overrides.resolve_name(torch.Tensor.normal_) == "torch.Tensor.normal_"


def test_objects_can_be_pickled_within_a_block_and_after_it() -> None:
    kept_before = {"objects": OBJECTS, "partial": partial(nn.init.kaiming_uniform_, a=1)}
    with accelerate():
        kept_within = {"objects": current(), "partial": partial(nn.init.kaiming_uniform_, a=1)}
        pickled = [pickle.dumps(kept) for kept in (kept_before, kept_within)]
        loaded = [pickle.loads(each) for each in pickled]
        copied = copy.deepcopy(kept_within)
    pickled += [pickle.dumps(kept) for kept in (kept_before, kept_within)]
    for each in (*loaded, copied, *map(pickle.loads, pickled)):
        assert each["objects"] == OBJECTS
        assert each["partial"].func is nn.init.kaiming_uniform_


def test_private_replacement_can_be_pickled() -> None:
    with accelerate():
        kept = nn.init._no_grad_trunc_normal_
        assert pickle.loads(pickle.dumps(kept)) is kept
    assert pickle.loads(pickle.dumps(kept)) is kept


def test_bound_methods_can_be_pickled() -> None:
    tensor = torch.zeros(3)
    with accelerate():
        bound = tensor.normal_
        assert bound.__name__ == "normal_"
        assert pickle.loads(pickle.dumps(bound)).__self__.tolist() == [0, 0, 0]
    assert pickle.loads(pickle.dumps(bound)).__self__.tolist() == [0, 0, 0]


# ---- __torch_function__ ----

CALLS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "normal_": (torch.Tensor.normal_, lambda tensor: tensor.normal_()),
    "normal_(0.5, std=2)": (torch.Tensor.normal_, lambda tensor: tensor.normal_(0.5, std=2.0)),
    "normal_(generator=)": (torch.Tensor.normal_, lambda tensor: tensor.normal_(generator=torch.Generator())),
    "uniform_": (torch.Tensor.uniform_, lambda tensor: tensor.uniform_(-1, 1)),
    "Tensor.uniform_": (torch.Tensor.uniform_, lambda tensor: torch.Tensor.uniform_(tensor, -1, 1)),
    "init.normal_": (nn.init.normal_, lambda tensor: nn.init.normal_(tensor)),
    "init.uniform_": (nn.init.uniform_, lambda tensor: nn.init.uniform_(tensor, b=2.0)),
    "init.constant_": (nn.init.constant_, lambda tensor: nn.init.constant_(tensor, 1.0)),
    "init.kaiming_uniform_": (nn.init.kaiming_uniform_, lambda tensor: nn.init.kaiming_uniform_(tensor, a=1)),
    "init.kaiming_normal_": (torch.Tensor.normal_, lambda tensor: nn.init.kaiming_normal_(tensor)),
    "init.xavier_normal_": (torch.Tensor.normal_, lambda tensor: nn.init.xavier_normal_(tensor)),
}
# Functions that return a table; the tables are filled outside of a block and within one.
TABLES: dict[str, Callable[[Any], dict[Any, Any]]] = {
    "outside": lambda handler: {found: handler for found, _ in CALLS.values()},
    "within": lambda handler: accelerate(lambda: dict.fromkeys(current(), handler))(),
}


def subclass_with(table: dict[Any, Any]) -> Any:
    class Handled(torch.Tensor):  # type: ignore[name-defined, misc]
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in table:
                return table[func](func, types, args[1:], {**(kwargs or {}), "tensor": None})
            return super().__torch_function__(func, types, args, kwargs)

    return torch.zeros(4, 6).as_subclass(Handled)


def shown(call: tuple[Any, ...]) -> str:
    return repr(call).split("Generator object")[0]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("filled", TABLES)
def test_torch_function_finds_the_object_in_a_table(name: str, filled: str) -> None:
    """The arguments are those outside of a block, too."""
    calls: list[Any] = []
    tensor = subclass_with(TABLES[filled](lambda *call: calls.append(call)))
    expected, call = CALLS[name]
    call(tensor)
    with accelerate():
        call(tensor)
    call(tensor)
    assert len(calls) >= 3
    assert {each[0] is expected for each in calls} == {True}
    per_run = len(calls) // 3
    assert [shown(each) for each in calls[:per_run]] * 3 == [shown(each) for each in calls]


class Table(torch.overrides.TorchFunctionMode):  # type: ignore[name-defined, misc]
    """A mode that records the functions that it finds in a table, and calls all functions."""

    def __init__(self, table: dict[Any, str]) -> None:
        super().__init__()
        self.table: dict[Any, str] = table
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.table:
            self.seen.append(self.table[func])
        return func(*args, **(kwargs or {}))


def fill() -> list[Any]:
    torch.manual_seed(SEED)
    return [
        torch.empty(4, 6).normal_(),
        nn.Parameter(torch.empty(4, 6), requires_grad=False).uniform_(-1.0, to=1.0),
        nn.init.kaiming_uniform_(torch.empty(4, 6)),
        nn.Linear(6, 4).weight.detach(),
        nn.init.trunc_normal_(nn.Parameter(torch.empty(4, 6))).detach(),
    ]


def test_function_modes_find_the_objects_and_fastkaiming_performs_the_fills(seed: int) -> None:
    """The values are the same, whether a mode is entered within the block or the block within the mode."""
    table = {method: f"Tensor.{name}" for name, method in METHODS.items()}
    table |= {function: f"init.{name}" for name, function in FUNCTIONS.items()}
    with Table(table) as plain_mode:
        plain = fill()
    with accelerate():
        expected = fill()
    assert np.array_equal(values(expected[0]), fk.normal((4, 6), rng=seed))
    assert not any(map(torch.equal, plain, expected))
    for modes in (1, 2):
        for block_is_outside in (True, False):
            mode, other = Table(table), Table({}) if modes == 2 else torch.device("cpu")
            managers = [accelerate(), mode, other] if block_is_outside else [mode, other, accelerate()]
            with managers[0], managers[1], managers[2]:
                found = fill()
            assert all(map(torch.equal, found, expected))
            assert mode.seen == plain_mode.seen[: len(mode.seen)]
            assert mode.seen == ["Tensor.normal_", "Tensor.uniform_", *2 * ["init.kaiming_uniform_"], "init.uniform_"]


def test_function_mode_can_fill_another_tensor() -> None:
    """The fills of code that a mode calls are fastkaiming's, as are all fills in a block."""

    class Redirect(torch.overrides.TorchFunctionMode):  # type: ignore[name-defined, misc]
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is METHODS["normal_"]:
                torch.Tensor.uniform_(other, 0.0, 2.0)
                return hidden.normal_()  # recorded by autograd
            return func(*args, **(kwargs or {}))

    other, weight = torch.empty(4, 6), torch.ones(4, 6, requires_grad=True)
    hidden = weight * 2
    torch.manual_seed(SEED)
    expected = fk_torch.uniform_(torch.empty(4, 6), 0.0, 2.0)
    plain = torch.empty(4, 6).normal_()
    torch.manual_seed(SEED)
    with accelerate(), Redirect():
        assert torch.zeros(3).normal_() is hidden
    assert torch.equal(other, expected)
    assert torch.equal(hidden.detach(), plain)
    hidden.sum().backward()
    assert not weight.grad.any()


def test_errors_of_torch_are_raised_within_a_function_mode() -> None:
    calls: list[Callable[[], Any]] = [
        lambda: torch.zeros(3).normal_(0.0, -1.0),
        lambda: nn.Parameter(torch.zeros(3)).uniform_(),
    ]
    for call in calls:
        with pytest.raises(RuntimeError) as expected:
            call()
        with accelerate(), Table({}), pytest.raises(RuntimeError) as found:
            call()
        assert str(found.value) == str(expected.value)


# ---- how the methods are looked up ----


def test_super_and_getattr_find_the_replacement(seed: int) -> None:
    class Quiet(nn.Parameter):  # type: ignore[name-defined, misc]
        def normal_(self, *args: Any, **kwargs: Any) -> Any:
            return super().normal_(*args, **kwargs)

    name = "normal_"
    with accelerate():
        torch.manual_seed(SEED)
        tensor = getattr(torch.empty(50), name)()
        torch.manual_seed(SEED)
        subclass = Quiet(torch.empty(50), requires_grad=False).normal_()
    assert np.array_equal(values(tensor), fk.normal(50, rng=seed))
    torch.manual_seed(SEED)
    assert torch.equal(subclass, torch.empty(50).normal_())  # torch fills subclasses


def test_method_that_is_looked_up_on_the_class_is_torchs() -> None:
    plain = torch.empty(50).normal_(generator=torch.Generator().manual_seed(1))
    with accelerate():
        found = torch.Tensor.normal_(torch.empty(50), generator=torch.Generator().manual_seed(1))
    assert torch.equal(found, plain)


def test_function_that_is_imported_within_a_block_is_torchs() -> None:
    """Other code may keep it, and may later assign it to torch.nn.init, as transformers does."""
    with accelerate():
        names = dict(vars(nn.init))
    assert {name for name, value in vars(nn.init).items() if value is not names[name]} == {"_no_grad_trunc_normal_"}
