"""What init_module_ leaves unchanged and lists in its report: buffers, and parameters without gradient."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastkaiming as fk

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
nn = torch.nn
prune = pytest.importorskip("torch.nn.utils.prune")


def uninitialized(make: Callable[[], Any]) -> Any:
    """Return a module on the CPU whose memory holds NaN, as that of ``to_empty`` may."""
    with torch.device("meta"):
        module = make()
    module.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.fill_(math.nan if tensor.is_floating_point() else 99)
    return module


# ---- buffers ----

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
NORMS: dict[str, Callable[[], Any]] = {
    "BatchNorm1d": lambda: nn.BatchNorm1d(3),
    "BatchNorm2d": lambda: nn.BatchNorm2d(3, affine=False),
    "BatchNorm3d": lambda: nn.BatchNorm3d(3, momentum=None),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(3),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(3, track_running_stats=True),
}


@pytest.mark.parametrize("kind", NORMS)
def test_buffers_get_their_defaults(kind: str) -> None:
    module = nn.ModuleDict({"layer": uninitialized(NORMS[kind])})
    report = fk_torch.init_module_(module, buffers=True)
    layer = module["layer"]
    assert layer.running_mean.tolist() == [0.0] * 3
    assert layer.running_var.tolist() == [1.0] * 3
    assert layer.num_batches_tracked.item() == 0
    assert {name: report.filled[f"layer.{name}"] for name in STATISTICS} == {
        "running_mean": f"{kind}: zeros",
        "running_var": f"{kind}: ones",
        "num_batches_tracked": f"{kind}: zeros",
    }
    assert report.kept == ()


def test_buffers_are_listed_if_they_are_left_alone() -> None:
    module = nn.ModuleDict({"layer": uninitialized(lambda: nn.BatchNorm1d(3))})
    report = fk_torch.init_module_(module)
    assert report.kept == tuple(f"layer.{name}" for name in STATISTICS)
    assert set(report.filled) == {"layer.weight", "layer.bias"}
    assert module["layer"].running_mean.isnan().all()


def test_a_layer_without_statistics_has_no_buffers() -> None:
    for buffers in (False, True):
        assert fk_torch.init_module_(nn.BatchNorm1d(3, track_running_stats=False), buffers=buffers).kept == ()


class Custom(nn.Module):  # type: ignore[name-defined, misc]
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.full((3,), 7.0))
        self.register_buffer("scratch", torch.full((3,), 7.0), persistent=False)
        self.register_buffer("absent", None)


def test_other_buffers_are_left_alone_and_listed() -> None:
    """They are arguments of constructors, masks, and the buffers of unknown layers; only persistent ones are listed."""
    module = nn.ModuleDict(
        {
            "custom": Custom(),
            "loss": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])),
            "bce": nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0])),
            "pruned": prune.random_unstructured(nn.Linear(3, 3, bias=False), "weight", 0.5),
            "norm": nn.BatchNorm1d(2),
        }
    )
    module["again"] = module["loss"]
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    others = ("custom.running_mean", "loss.weight", "bce.pos_weight", "pruned.weight_mask")
    statistics = tuple(f"norm.{name}" for name in STATISTICS)
    assert fk_torch.init_module_(module).kept == others + statistics
    assert fk_torch.init_module_(module, buffers=True).kept == others
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())


@pytest.mark.parametrize("buffers", [1, None, "yes"])
def test_buffers_must_be_a_flag(buffers: Any) -> None:
    with pytest.raises(TypeError, match="buffers must be True or False, not"):
        fk_torch.init_module_(nn.Linear(3, 3), buffers=buffers)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: nn.BatchNorm1d(3, affine=False, device="meta"),
            ValueError,
            r"buffer '1.running_mean' must have memory, got the meta device: call to_empty\(device='cpu'\) first",
        ),
        (lambda: nn.LazyBatchNorm1d(affine=False), TypeError, r"buffer '1.running_mean' must have a shape: first run"),
    ],
)
def test_buffers_without_memory_raise_before_anything_is_written(
    make: Callable[[], Any], kind: type[Exception], message: str
) -> None:
    module = nn.Sequential(nn.Linear(3, 3), make())
    before = module[0].weight.detach().clone()
    with pytest.raises(kind, match=message):
        fk_torch.init_module_(module, buffers=True)
    assert torch.equal(module[0].weight, before)


# ---- parameters without gradient ----


def test_parameters_without_gradient_are_kept_and_listed() -> None:
    module = nn.ModuleDict({"base": nn.Linear(3, 3), "head": nn.Linear(3, 3)})
    module["base"].requires_grad_(False)
    module["positions"] = nn.ParameterList([nn.Parameter(torch.arange(3), requires_grad=False)])
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    report = fk_torch.init_module_(module, rng=5)
    assert report.kept == ("base.weight", "base.bias", "positions.0")
    assert set(report.filled) == {"head.weight", "head.bias"}
    assert all(torch.equal(module.get_parameter(name), before[name]) for name in report.kept)
    expected = fk.kaiming_normal((3, 3), rng=fk.Generator(5).key("head.weight"))
    assert np.array_equal(module["head"].weight.detach().numpy(), expected)


def test_rule_of_the_user_fills_a_parameter_without_gradient() -> None:
    module = nn.Linear(3, 3).requires_grad_(False)
    report = fk_torch.init_module_(module, rng=5, rules={"*weight": "kaiming_normal"})
    assert (report.filled, report.kept) == ({"weight": "*weight"}, ("bias",))
    expected = fk.kaiming_normal((3, 3), rng=fk.Generator(5).key("weight"))
    assert np.array_equal(module.weight.detach().numpy(), expected)


def test_tied_parameter_without_gradient_is_kept_under_all_names() -> None:
    module = nn.ModuleDict({"embedding": nn.Embedding(5, 4, padding_idx=2), "head": nn.Linear(4, 5, bias=False)})
    module["head"].weight = module["embedding"].weight
    module.requires_grad_(False)
    before = module["head"].weight.clone()
    report = fk_torch.init_module_(module, rng=5)
    assert (report.filled, report.kept) == ({}, ("embedding.weight", "head.weight"))
    assert report.shared == {"head.weight": "embedding.weight"}
    assert torch.equal(module["head"].weight, before)


def test_kept_parameters_need_no_memory_that_can_be_filled() -> None:
    """For example the quantized weights of a model whose adapters are trained."""
    module = nn.ModuleDict({"adapter": nn.Linear(3, 3)})
    module["base"] = nn.ParameterList([nn.Parameter(torch.ones(3, dtype=torch.int8), requires_grad=False)])
    module["other"] = nn.ParameterList([nn.Parameter(torch.ones(3, device="meta"), requires_grad=False)])
    assert fk_torch.init_module_(module).kept == ("base.0", "other.0")


def test_parameters_with_the_rule_keep_are_listed() -> None:
    module = nn.Linear(3, 3)
    report = fk_torch.init_module_(module, rules={"bias": "keep"})
    assert report.kept == ("bias",)
    assert report.filled["bias"] == "bias"


def test_parameter_that_shares_the_memory_of_a_filled_one_is_not_kept() -> None:
    """Its values change, so the report must not say that they did not."""
    weight = torch.zeros(3, 3)
    module = nn.ParameterDict({"frozen": nn.Parameter(weight, requires_grad=False), "used": nn.Parameter(weight)})
    report = fk_torch.init_module_(module, rng=5)
    assert report.kept == ()
    assert report.shared == {"frozen": "used"}
    assert np.array_equal(weight.numpy(), fk.kaiming_normal((3, 3), rng=fk.Generator(5).key("used")))
