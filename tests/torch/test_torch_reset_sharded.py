"""``reset_module_`` for modules whose parameters are DTensors or have been emptied by a library."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
nn = torch.nn


@pytest.fixture
def mesh() -> Iterator[Any]:
    distributed = pytest.importorskip("torch.distributed")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield distributed.device_mesh.init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def sharded(make: Callable[[], Any], mesh: Any) -> Any:
    """Return a module with memory on the CPU that FSDP2 has sharded."""
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    with torch.device("meta"):
        module = make()
    fsdp.fully_shard(module, mesh=mesh)
    return module.to_empty(device="cpu")


# ---- parameters without elements ----


class Truncated(nn.Module):  # type: ignore[misc,name-defined]
    """A module whose weight may have no elements."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.out_features = shape[0]
        self.weight = nn.Parameter(torch.empty(shape))

    def reset_parameters(self) -> None:
        self.weight.data.normal_()
        nn.init.trunc_normal_(self.weight)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(0, 4),
        lambda: nn.Linear(4, 0),
        lambda: nn.Embedding(0, 4),
        lambda: nn.Embedding(3, 0, padding_idx=1),
        lambda: nn.LayerNorm((2, 0)),
        lambda: Truncated(0, 4),
    ],
)
def test_sharded_layers_without_units_are_valid(make: Callable[[], Any], mesh: Any) -> None:
    module = sharded(make, mesh)
    expected = {name for name, _ in module.named_parameters()}
    rules = {"weight": "normal"} if isinstance(module, Truncated) else None
    assert set(fk_torch.init_module_(module, 7, rules).filled) == expected
    report = fk_torch.reset_module_(module, 7)
    assert report.filled == fk_torch.reset_module_(make(), 7).filled


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")
def test_bias_of_a_layer_without_inputs_is_that_of_the_unsharded_layer(mesh: Any) -> None:
    weights = {"weight": "zeros", "bias": "normal"}
    for function, options in ((fk_torch.reset_module_, {}), (fk_torch.init_module_, {"rules": weights})):
        plain, divided = nn.Linear(0, 4), sharded(lambda: nn.Linear(0, 4), mesh)
        function(plain, 7, **options)
        function(divided, 7, **options)
        assert torch.equal(divided.bias.full_tensor(), plain.bias)


@pytest.mark.parametrize(
    ("placement", "shape", "message"),
    [
        ("Partial", (3, 3), r"parameter 'w' must not be a DTensor of partial sums, got the placements .*redistribute"),
        ("Shard", (7, 3), r"the local tensor of parameter 'w' must have the shape that .* define, got \(3, 3\) for"),
    ],
)
def test_reason_is_true_for_dtensors(placement: str, shape: tuple[int, int], message: str, mesh: Any) -> None:
    tensor = torch.distributed.tensor
    kinds = {"Partial": tensor.Partial(), "Shard": tensor.Shard(0)}
    layout = {"shape": shape, "stride": (3, 1)}
    whole = tensor.DTensor.from_local(torch.ones(3, 3), mesh, [kinds[placement]], run_check=False, **layout)
    with pytest.raises(ValueError, match=f"^reset_module_: {message}"):
        fk_torch.reset_module_(nn.ParameterDict({"w": nn.Parameter(whole)}), 7)


# ---- parameters whose elements a library has moved elsewhere ----


def emptied() -> Any:
    """Return a module as DeepSpeed ZeRO-3 leaves it between two uses."""
    module = nn.Sequential(nn.Linear(3, 4), nn.Embedding(5, 4), nn.LayerNorm(4))
    for parameter in [*module.parameters()][1:]:
        parameter.data = torch.empty(0)
    return module


def test_emptied_parameters_raise_an_error_before_any_code_runs() -> None:
    module = emptied()
    before = module[0].weight.detach().clone()
    message = r"parameter '0.bias' must have elements, got shape \(0,\): .* gather them first, or name .* in keep if"
    with pytest.raises(ValueError, match=f"^reset_module_: {message}"):
        fk_torch.reset_module_(module, 7)
    assert torch.equal(module[0].weight, before)
    module[0].bias.ds_shape = (4,)
    with pytest.raises(ValueError, match=r"must have its \(4,\) elements in memory, .*deepspeed.zero.Gathered"):
        fk_torch.reset_module_(module, 7)


def test_parameters_that_are_meant_to_be_empty_can_be_kept() -> None:
    module = emptied()
    module.tied = nn.ParameterDict({"bias": module[0].bias})
    report = fk_torch.reset_module_(module, 7, keep=["tied.*", "1.*", "2.*"])
    assert "0.bias" in report.filled
    assert module[0].bias.shape == (0,)


def test_buffers_may_be_empty() -> None:
    module = nn.Linear(3, 4)
    module.register_buffer("cache", torch.empty(0))
    assert fk_torch.reset_module_(module, 7).filled["cache"] == "no elements"


# ---- assignments to the data of a parameter ----


class Router(nn.Module):  # type: ignore[misc,name-defined]
    """A module whose ``init_weights`` writes to the weight of a layer with a given function."""

    def __init__(self, write: Callable[[Any, Any], None]) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 4, bias=False)
        self.write = write

    def init_weights(self) -> None:
        self.write(self.gate.weight, torch.randn(4, 8) * 0.02)


def assign(weight: Any, values: Any) -> None:
    weight.data = values


def assign_sharded(weight: Any, values: Any) -> None:
    weight.data = torch.distributed.tensor.distribute_tensor(values, weight.device_mesh, weight.placements)


def copy(weight: Any, values: Any) -> None:
    weight.data.copy_(values)


def copy_to_all(weight: Any, values: Any) -> None:
    weight.data[:] = values


@pytest.mark.parametrize("write", [assign, assign_sharded])
def test_data_of_a_sharded_parameter_cannot_be_assigned(write: Callable[[Any, Any], None], mesh: Any) -> None:
    module = sharded(lambda: Router(write), mesh)
    message = (
        r"parameter 'gate.weight' is sharded, and Router.init_weights must not assign to its data, .*"
        r"parameter.data.copy_\(...\) or parameter.data\[:\] = ..."
    )
    with pytest.raises(ValueError, match=f"^reset_module_: {message}"):
        fk_torch.reset_module_(module, 7)
    module.gate.weight.data = torch.zeros(4, 8)  # after the call, torch ignores it again


@pytest.mark.parametrize("write", [copy, copy_to_all])
def test_writes_to_the_data_of_a_sharded_parameter_are_valid(write: Callable[[Any, Any], None], mesh: Any) -> None:
    module, plain = sharded(lambda: Router(write), mesh), Router(assign)
    assert fk_torch.reset_module_(module, 7).filled == {"gate.weight": "Router.init_weights"}
    fk_torch.reset_module_(plain, 7)
    assert torch.equal(module.gate.weight.full_tensor(), plain.gate.weight)


def test_data_of_other_tensors_can_be_assigned(mesh: Any) -> None:
    def assign_to_temporary(weight: Any, values: Any) -> None:
        temporary = torch.empty(0)
        temporary.data = values
        weight.data.copy_(temporary)

    module = sharded(lambda: Router(assign_to_temporary), mesh)
    fk_torch.reset_module_(module, 7)
    assert 0.01 < module.gate.weight.full_tensor().std() < 0.03


@pytest.mark.parametrize("make", [lambda weight: weight.data, lambda weight: weight.clone()])
def test_data_can_be_assigned_if_nothing_changes(make: Callable[[Any], Any], mesh: Any) -> None:
    def assign_itself(weight: Any, values: Any) -> None:
        weight.data = make(weight)  # NaN, which does not equal itself
        weight.data.copy_(values)
        weight.data = make(weight)

    module = sharded(lambda: Router(assign_itself), mesh)
    with torch.no_grad():
        module.gate.weight.to_local().fill_(torch.nan)
    module.gate.reset_parameters = None
    fk_torch.reset_module_(module, 7)
    assert 0.01 < module.gate.weight.full_tensor().std() < 0.03


def test_transposed_data_cannot_be_assigned(mesh: Any) -> None:
    def transpose(weight: Any, values: Any) -> None:
        weight.data.copy_(values)
        weight.data = weight.data.t()

    with pytest.raises(ValueError, match="must not assign to its data"):
        fk_torch.reset_module_(sharded(lambda: Router(transpose), mesh), 7)
