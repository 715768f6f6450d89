"""Within accelerate(), every function of torch.nn.init has the values and errors of fastkaiming.torch's function."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
nn = torch.nn

from test_torch import SEED  # noqa: E402

CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("uniform_", (-0.5, 0.5)),
    ("normal_", (0.5, 2.0)),
    ("trunc_normal_", (0.0, 0.02, -0.04, 0.04)),
    ("trunc_normal_", (0.0, 1.0, 0.5, 2.0)),  # torch samples these by another method
    ("trunc_normal_", (0.0, 0.0)),  # torch's error
    ("constant_", (0.3,)),
    ("ones_", ()),
    ("zeros_", ()),
    ("eye_", ()),
    ("dirac_", ()),
    ("xavier_uniform_", (1.5,)),
    ("xavier_normal_", ()),
    ("kaiming_uniform_", (5**0.5,)),
    ("kaiming_normal_", (0, "fan_out", "relu")),
    ("orthogonal_", ()),
    ("sparse_", (0.3,)),
    ("xavier_normal", ()),  # torch has deprecated the names without an underscore
    ("orthogonal", ()),
]


def parameter() -> Any:
    return nn.Parameter(torch.zeros(4, 6))


def function_view(tensor: Any) -> Any:
    class View(torch.autograd.Function):  # type: ignore[name-defined, misc]
        @staticmethod
        def forward(_ctx: Any, given: Any) -> Any:
            return given.view(given.shape)

        @staticmethod
        def backward(_ctx: Any, grad: Any) -> Any:
            return grad

    return View.apply(tensor)


def without_grad(make: Callable[[], Any]) -> Any:
    with torch.no_grad():
        return make()


# Functions that return a tensor and the tensor of which it is a view.
TENSORS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "parameter": lambda: 2 * (parameter(),),
    "frozen parameter": lambda: 2 * (nn.Parameter(torch.zeros(4, 6), requires_grad=False),),
    "leaf": lambda: 2 * (torch.zeros(4, 6, requires_grad=True),),
    "not a leaf": lambda: 2 * (parameter() * 2,),
    "plain": lambda: 2 * (torch.zeros(4, 6),),
    "bfloat16": lambda: 2 * (torch.zeros(4, 6, dtype=torch.bfloat16),),
    "integers": lambda: 2 * (torch.zeros(4, 6, dtype=torch.int64),),
    "complex": lambda: 2 * (torch.zeros(4, 6, dtype=torch.complex64),),
    "three axes": lambda: 2 * (nn.Parameter(torch.zeros(4, 6, 3)),),
    "one axis": lambda: 2 * (parameter().detach()[0],),
    "no elements": lambda: 2 * (nn.Parameter(torch.zeros(0, 6)),),
    "view of a parameter": lambda: ((p := parameter()).view(6, 4), p),
    "transposed parameter": lambda: ((p := parameter()).T, p),
    "part of a parameter": lambda: ((p := parameter())[1:3, ::2], p),
    "output of unbind": lambda: ((p := nn.Parameter(torch.zeros(2, 4, 6))).unbind()[1], p),
    "output of a custom function": lambda: (function_view(p := parameter()), p),
    "detached view of a parameter": lambda: ((p := parameter()).detach()[:2], p),
    "view created without grad": lambda: ((p := parameter()), without_grad(lambda: p[1:3]))[::-1],
    "view of a plain tensor": lambda: ((t := torch.zeros(6, 8))[1:5, 1:7], t),
    "expanded view": lambda: ((t := torch.zeros(4, 1)).expand(4, 6), t),
    "view of a tensor that is not a leaf": lambda: ((h := parameter() * 2)[1:], h),
}


def outcome(function: Callable[..., Any], kind: str, args: tuple[Any, ...], grad: bool) -> list[Any]:
    """Return the values, the state of torch's generator, and the type and message of the error."""
    with torch.set_grad_enabled(True):
        tensor, base = TENSORS[kind]()
    version, error = tensor._version, None
    torch.manual_seed(SEED)
    with torch.set_grad_enabled(grad):
        try:
            assert function(tensor, *args) is tensor
        except (RuntimeError, TypeError, ValueError, ZeroDivisionError, NotImplementedError) as raised:
            error = (type(raised), str(raised))
    is_changed = tensor._version > version
    return [base.detach().tolist(), torch.get_rng_state().tolist(), error, is_changed, tensor.requires_grad]


@pytest.mark.filterwarnings("ignore:Initializing zero", "ignore:mean is more than 2 std", "ignore:`nn.init.*deprecated")
@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("grad", [True, False])
def test_functions_of_torch_equal_those_of_fastkaiming(kind: str, grad: bool) -> None:
    for name, args in CALLS:
        plain = outcome(getattr(nn.init, name), kind, args, grad)
        expected = outcome(getattr(fk_torch, name), kind, args, grad)
        assert expected[2:] == plain[2:], name  # the errors are torch's
        with fk_torch.accelerate():
            assert outcome(getattr(nn.init, name), kind, args, grad) == expected, name
            assert outcome(getattr(fk_torch, name), kind, args, grad) == expected, name


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("grad", [True, False])
def test_methods_raise_an_error_where_torchs_do(kind: str, grad: bool) -> None:
    """Under grad mode, torch's methods raise an error for a parameter and for most of its views."""
    for name in ("normal_", "uniform_"):
        plain = outcome(getattr(torch.Tensor, name), kind, (), grad)
        with fk_torch.accelerate():
            found = outcome(lambda tensor, name=name: getattr(tensor, name)(), kind, (), grad)
        assert found[2:] == plain[2:]


def test_truncated_normal_fill_of_a_parameter_is_one_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function of torch fills again and again until no value is out of bounds, which takes 100 times as long."""
    weight = nn.Parameter(torch.empty(64, 64))
    expected = fk_torch.trunc_normal_(torch.empty(64, 64), generator=torch.Generator().manual_seed(SEED))
    with fk_torch.accelerate():
        monkeypatch.setattr(torch, "where", lambda *_: pytest.fail("torch's own function was called"))
        nn.init.trunc_normal_(weight, generator=torch.Generator().manual_seed(SEED))
    assert torch.equal(weight.detach(), expected)


def test_trunc_normal_that_cannot_be_represented_is_torchs() -> None:
    """Two numbers of float16 lie between these bounds only if both bounds are included."""
    found = []
    for function in (nn.init.trunc_normal_, fk_torch.trunc_normal_):
        for within in (nullcontext, fk_torch.accelerate):
            tensor = torch.zeros(8, dtype=torch.float16)
            torch.manual_seed(SEED)
            with within():
                function(tensor, 0.0, 1.0, 1.0, 1.0004)
            found.append((tensor.tolist(), torch.get_rng_state().tolist()))
    assert found == found[:1] * 4
