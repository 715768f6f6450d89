"""Fills in compiled, scripted, traced and exported code, as docs/torch.md describes them."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
nn, accelerate = torch.nn, fk_torch.accelerate

from test_torch import SEED  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:.torch:FutureWarning", "ignore::torch.jit.TracerWarning"
)


@accelerate  # type: ignore[untyped-decorator]
def decorated(tensor: Any) -> Any:
    return tensor.normal_()


def in_a_block(tensor: Any) -> Any:
    with accelerate():
        return tensor.normal_()


CALLS: dict[str, Callable[[Any], Any]] = {
    "uniform_": fk_torch.uniform_,
    "normal_": fk_torch.normal_,
    "xavier_uniform_": fk_torch.xavier_uniform_,
    "xavier_normal_": fk_torch.xavier_normal_,
    "kaiming_uniform_": fk_torch.kaiming_uniform_,
    "kaiming_normal_": fk_torch.kaiming_normal_,
    "orthogonal_": fk_torch.orthogonal_,
    "sparse_": lambda tensor: fk_torch.sparse_(tensor, 0.5),
    "torch's kaiming_uniform_": nn.init.kaiming_uniform_,
    "torch's orthogonal_": nn.init.orthogonal_,
    "method": lambda tensor: tensor.uniform_(-1.0, 1.0),
    "method of the class": lambda tensor: torch.Tensor.normal_(tensor),
    "decorated": decorated,
    "in a block": in_a_block,
}
TORCHS: dict[str, Callable[[Any], Any]] = {  # the same calls of torch
    **{name: getattr(nn.init, name) for name in CALLS if hasattr(nn.init, name)},
    "sparse_": lambda tensor: nn.init.sparse_(tensor, 0.5),
    "decorated": lambda tensor: tensor.normal_(),
    "in a block": lambda tensor: tensor.normal_(),
}
ACCELERATED = {**CALLS, "method of the class": lambda tensor: tensor.normal_()}
FULLY = [  # backends that generate code from the operations of torch
    "aot_eager",
    pytest.param(
        "inductor", marks=[pytest.mark.extended, pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")]
    ),
]
each_call = pytest.mark.parametrize("name", CALLS)


def values(function: Callable[[Any], Any], within: Callable[[], AbstractContextManager[Any]] = nullcontext) -> Any:
    tensor = torch.zeros(6, 6)
    torch.manual_seed(SEED)
    with within():
        return function(tensor).clone()


def compiled(function: Callable[[Any], Any], backend: str) -> Callable[[Any], Any]:
    torch._dynamo.reset()
    result: Callable[[Any], Any] = torch.compile(lambda tensor: function(tensor), fullgraph=True, backend=backend)
    return result


@each_call
@pytest.mark.parametrize("backend", FULLY)
def test_torch_performs_the_fills_of_generated_code(name: str, backend: str) -> None:
    """It does not matter where the code is compiled and called."""
    expected = values(compiled(TORCHS.get(name, CALLS[name]), backend))
    for first, second in ((nullcontext, accelerate), (accelerate, nullcontext)):
        function = compiled(CALLS[name], backend)
        assert torch.equal(values(function, first), expected)
        assert torch.equal(values(function, second), expected)


@each_call
def test_backend_eager_calls_the_methods_of_tensors(name: str) -> None:
    """Therefore fastkaiming performs the fills if a block is open when the compiled code is called."""
    plain = values(TORCHS.get(name, CALLS[name]))
    own = values(ACCELERATED[name], accelerate)
    assert not torch.equal(plain, own)
    for first, second in ((nullcontext, accelerate), (accelerate, nullcontext)):
        function = compiled(CALLS[name], "eager")
        for within in (first, second):
            torch.testing.assert_close(values(function, within), plain if within is nullcontext else own)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_trunc_normal_has_a_graph_break_in_torch(backend: str) -> None:
    """The code of torch runs, whose loop ends when all values are within the bounds."""
    for init in (nn.init, fk_torch):
        with pytest.raises(torch._dynamo.exc.Unsupported, match="Data-dependent branching"):
            values(compiled(init.trunc_normal_, backend))
    for within in (nullcontext, accelerate):
        torch._dynamo.reset()
        found = [values(torch.compile(init.trunc_normal_, backend=backend), within) for init in (nn.init, fk_torch)]
        assert torch.equal(*found)
        assert not torch.equal(found[0], values(fk_torch.trunc_normal_))


def test_code_outside_of_the_graphs_is_not_compiled() -> None:
    """A graph break in a block ends the compiled code before the block."""

    def function(tensor: Any) -> Any:
        with accelerate():
            torch._dynamo.graph_break()
            return fk_torch.normal_(tensor)

    torch._dynamo.reset()
    assert torch.equal(values(torch.compile(function, backend="eager")), values(fk_torch.normal_))


@each_call
def test_torch_performs_the_fills_of_traced_code(name: str) -> None:
    expected = values(torch.jit.trace(TORCHS.get(name, CALLS[name]), torch.zeros(6, 6), check_trace=False))
    for traced_in, called_in in ((nullcontext, accelerate), (accelerate, nullcontext)):
        with traced_in():
            function = torch.jit.trace(CALLS[name], torch.zeros(6, 6), check_trace=False)
        assert torch.equal(values(function, called_in), expected)


def method(tensor: torch.Tensor) -> torch.Tensor:  # type: ignore[name-defined]
    return tensor.normal_()


def normal(tensor: torch.Tensor) -> torch.Tensor:  # type: ignore[name-defined]
    return nn.init.normal_(tensor)


def uniform(tensor: torch.Tensor) -> torch.Tensor:  # type: ignore[name-defined]
    return nn.init.uniform_(tensor)


def own_normal(tensor: torch.Tensor) -> torch.Tensor:  # type: ignore[name-defined]
    return fk_torch.normal_(tensor)


@pytest.mark.parametrize("function", [method, normal, uniform])
def test_torch_performs_the_fills_of_scripted_code(function: Callable[[Any], Any]) -> None:
    expected = values(function)
    for within in (nullcontext, accelerate):
        with within():
            scripted = torch.jit.script(function)
        for called_in in (nullcontext, accelerate):
            assert torch.equal(values(scripted, called_in), expected)


def test_functions_of_fastkaiming_cannot_be_scripted() -> None:
    with pytest.raises(RuntimeError, match="undefined value"):
        torch.jit.script(own_normal)


class Exported(nn.Module):  # type: ignore[name-defined, misc]
    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, tensor: Any) -> Any:
        return self.function(tensor.clone())


@each_call
@pytest.mark.parametrize("strict", [False, True])
def test_torch_performs_the_fills_of_exported_programs(name: str, strict: bool) -> None:
    def exported(function: Callable[[Any], Any]) -> Any:
        torch._dynamo.reset()
        return torch.export.export(Exported(function), (torch.zeros(6, 6),), strict=strict).module()

    expected = values(exported(TORCHS.get(name, CALLS[name])))
    for exported_in, called_in in ((nullcontext, accelerate), (accelerate, nullcontext)):
        with exported_in():
            program = exported(CALLS[name])
        assert torch.equal(values(program, called_in), expected)
