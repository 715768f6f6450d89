"""Parameters that init_module_ cannot fill: each error names the parameter, the true reason, and what to do."""

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
nn = torch.nn


class ParameterSubclass(nn.Parameter):  # type: ignore[name-defined, misc]
    pass


class TensorSubclass(torch.Tensor):  # type: ignore[name-defined, misc]
    pass


class Quantized(torch.Tensor):  # type: ignore[name-defined, misc]
    """A tensor without memory of its own, like the quantized weights of torchao."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls: Any, stored: Any) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, stored.shape, dtype=torch.float32, device=stored.device)

    def __init__(self, stored: Any) -> None:
        self.stored = stored

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return cls(args[0].stored)
        raise NotImplementedError(func)


def freed(*shape: int) -> Any:
    parameter = nn.Parameter(torch.ones(shape))
    parameter.untyped_storage().resize_(0)
    return parameter


def shrunk(*shape: int) -> Any:
    parameter = nn.Parameter(torch.ones(shape))
    parameter.untyped_storage().resize_(4)
    return parameter


def partitioned(parameter: Any) -> Any:
    """Return the parameter as DeepSpeed ZeRO-3 leaves it between two uses."""
    parameter.ds_shape = parameter.shape
    parameter.data = torch.empty(0)
    return parameter


def emptied(parameter: Any, *shape: int) -> Any:
    parameter.data = torch.empty(*(shape or (0,)))
    return parameter


def inference(make: Callable[[], Any]) -> Any:
    with torch.inference_mode():
        return make()


REASONS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a subclass of Parameter": (
        lambda: ParameterSubclass(torch.ones(3, 3)),
        TypeError,
        r"must be a torch.nn.Parameter or a DTensor, got a ParameterSubclass, a subclass .*: initialize .* 'keep'",
    ),
    "a subclass of Tensor": (
        lambda: nn.Parameter(torch.ones(3, 3).as_subclass(TensorSubclass)),
        TypeError,
        r"must be a torch.nn.Parameter or a DTensor, got a TensorSubclass, a subclass .*: initialize .* 'keep'",
    ),
    "a wrapper": (
        lambda: nn.Parameter(Quantized(torch.ones(3, 3, dtype=torch.int8))),
        TypeError,
        r"must have memory of its own, got a Quantized, which wraps other tensors, .*: initialize .* before .* 'keep'",
    ),
    "freed storage": (
        lambda: freed(3, 3),
        ValueError,
        r"must have memory, but its storage has been freed or made smaller, got 0 of 36 bytes: gather it first",
    ),
    "storage that is too small": (
        lambda: shrunk(3, 3),
        ValueError,
        r"must have memory, but its storage has been freed or made smaller, got 4 of 36 bytes: gather it first",
    ),
    "a parameter of ZeRO-3": (
        lambda: partitioned(nn.Parameter(torch.ones(3, 3))),
        ValueError,
        r"must have its \(3, 3\) elements in memory, got shape \(0,\), because DeepSpeed .*GatheredParameters",
    ),
    "empty data": (
        lambda: emptied(nn.Parameter(torch.ones(3, 3))),
        ValueError,
        r"must have elements, got shape \(0,\): if a library has moved its values elsewhere, .*'keep' if .* empty",
    ),
    "empty data with two axes": (
        lambda: emptied(nn.Parameter(torch.ones(3, 3)), 0, 3),
        ValueError,
        r"must have elements, got shape \(0, 3\): if a library has moved",
    ),
    "sparse": (
        lambda: nn.Parameter(torch.eye(3).to_sparse()),
        TypeError,
        r"must be a dense tensor, got the layout torch.sparse_coo: .* 'keep'",
    ),
    "sparse rows": (
        lambda: nn.Parameter(torch.eye(3).to_sparse_csr()),
        TypeError,
        r"must be a dense tensor, got the layout torch.sparse_csr: .* 'keep'",
    ),
    "mkldnn": (
        lambda: nn.Parameter(torch.eye(3).to_mkldnn()),
        TypeError,
        r"must be a dense tensor, got the layout torch._mkldnn: .* 'keep'",
    ),
    "nested": (
        lambda: nn.Parameter(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])),
        TypeError,
        r"must be a dense tensor, got a nested tensor: .* 'keep'",
    ),
    "jagged": (
        lambda: nn.Parameter(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)),
        TypeError,
        r"must be a dense tensor, got a nested tensor: .* 'keep'",
    ),
    "meta": (
        lambda: nn.Parameter(torch.ones(3, 3, device="meta")),
        ValueError,
        r"must have memory, got the meta device: call to_empty\(device='cpu'\) first",
    ),
    "complex": (
        lambda: nn.Parameter(torch.ones(3, 3, dtype=torch.complex64)),
        TypeError,
        r"must be a dense tensor on the CPU of dtype .*, or .* 'keep', got a Parameter of torch.complex64 on cpu",
    ),
    "float8": (
        lambda: nn.Parameter(torch.ones(3, 3).to(torch.float8_e4m3fn)),
        TypeError,
        r"must be a dense tensor on the CPU of dtype .*, or .* 'keep', got a Parameter of torch.float8_e4m3fn on cpu",
    ),
    "an inference tensor": (
        lambda: inference(lambda: nn.Parameter(torch.ones(3, 3))),
        ValueError,
        r"must not be an inference tensor outside of torch.inference_mode\(\)",
    ),
    "expanded": (
        lambda: nn.Parameter(torch.ones(3, 1).expand(3, 3)),
        ValueError,
        r"must not overlap itself, got strides \(1, 0\) for shape \(3, 3\): replace it by a copy",
    ),
    "overlapping rows": (
        lambda: nn.Parameter(torch.ones(5).as_strided((3, 3), (1, 1))),
        ValueError,
        r"must not overlap itself, got strides \(1, 1\) for shape \(3, 3\): replace it by a copy",
    ),
    "a negated view": (
        lambda: nn.Parameter(torch.ones(3, 3, dtype=torch.complex64).conj().imag),
        ValueError,
        r"must not be a negated view: call resolve_neg\(\) first",
    ),
}


@pytest.mark.filterwarnings("ignore:(Sparse CSR|The PyTorch API of nested tensors)")
@pytest.mark.parametrize("kind", REASONS)
def test_reason_is_true(kind: str) -> None:
    make, error, message = REASONS[kind]
    for rules in ({}, {"layer.w": "normal"}):
        module = nn.ModuleDict({"first": nn.Linear(3, 3), "layer": nn.ParameterDict({"w": make()})})
        before = module["first"].weight.detach().clone()
        with pytest.raises(error, match=f"^init_module_: parameter 'layer.w' {message}"):
            fk_torch.init_module_(module, rules=rules)
        assert torch.equal(module["first"].weight, before)
        report = fk_torch.init_module_(module, rules={"layer.w": "keep"})
        assert report.kept == ("layer.w",)


LAYERS: dict[str, Callable[[], Any]] = {
    "Linear": lambda: nn.Linear(3, 4),
    "Conv2d": lambda: nn.Conv2d(3, 4, 2, padding=0),
    "Embedding": lambda: nn.Embedding(3, 4, padding_idx=0),
    "LayerNorm": lambda: nn.LayerNorm(3),
    "BatchNorm1d": lambda: nn.BatchNorm1d(3),
    "LSTM": lambda: nn.LSTM(3, 4),
    "MultiheadAttention": lambda: nn.MultiheadAttention(4, 2),
    "PReLU": lambda: nn.PReLU(3),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("empty", [partitioned, emptied])
def test_layers_with_empty_data_are_not_reported_as_filled(kind: str, empty: Callable[[Any], Any]) -> None:
    module = LAYERS[kind]()
    for parameter in module.parameters():
        empty(parameter)
    with pytest.raises(ValueError, match=r"^init_module_: parameter '.*' must have .*elements.*, got shape \(0,\)"):
        fk_torch.init_module_(module)


def test_gathered_parameters_are_filled() -> None:
    module = nn.Linear(3, 4)
    for parameter in module.parameters():
        data = parameter.data
        partitioned(parameter)
        parameter.data = data
    assert set(fk_torch.init_module_(module).filled) == {"weight", "bias"}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(0, 4),
        lambda: nn.Linear(4, 0),
        lambda: nn.Embedding(0, 4),
        lambda: nn.LayerNorm((2, 0)),
        lambda: torch.nn.utils.parametrizations.weight_norm(nn.Linear(0, 4)),
    ],
)
def test_layers_without_units_are_valid(make: Callable[[], Any]) -> None:
    module = make()
    assert set(fk_torch.init_module_(module).filled) == {name for name, _ in module.named_parameters()}


# ---- DTensors ----


@pytest.fixture
def mesh() -> Any:
    distributed = pytest.importorskip("torch.distributed")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield distributed.device_mesh.init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def test_reason_is_true_for_dtensors(mesh: Any) -> None:
    tensor = torch.distributed.tensor

    def check(local: Any, placement: Any, message: str, **shape: Any) -> None:
        whole = tensor.DTensor.from_local(local, mesh, [placement], run_check=False, **shape)
        module = nn.ModuleDict({"first": nn.Linear(3, 3), "layer": nn.ParameterDict({"w": nn.Parameter(whole)})})
        before = module["first"].weight.detach().clone()
        with pytest.raises((TypeError, ValueError), match=f"^init_module_: {message}"):
            fk_torch.init_module_(module)
        assert torch.equal(module["first"].weight, before)

    check(
        torch.ones(3, 3),
        tensor.Partial(),
        r"parameter 'layer.w' must not be a DTensor of partial sums, got the placements .*Partial.*: redistribute it",
    )
    check(
        torch.ones(3, 3),
        tensor.Shard(0),
        r"the local tensor of parameter 'layer.w' must have the shape that its placements .* define, got \(3, 3\) for",
        shape=(7, 3),
        stride=(3, 1),
    )
    check(
        torch.ones(3, 1).expand(3, 3),
        tensor.Replicate(),
        r"the local tensor of parameter 'layer.w' must not overlap itself, got strides \(1, 0\)",
    )
    check(
        torch.ones(3, 3, dtype=torch.complex64),
        tensor.Shard(0),
        r"the local tensor of parameter 'layer.w' must be a dense tensor .*, got a Tensor of torch.complex64 on cpu",
    )
    check(
        freed(3, 3).detach(),
        tensor.Shard(0),
        r"the local tensor of parameter 'layer.w' must have memory, but its storage has been freed .* 0 of 36 bytes",
    )
    check(
        torch.ones(3, 3, device="meta"),
        tensor.Shard(0),
        r"parameter 'layer.w' must have memory, got the meta device",
    )
