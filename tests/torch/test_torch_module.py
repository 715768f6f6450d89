"""init_module_: the rule of each parameter by name and by layer; tied weights, padding rows, errors."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastkaiming as fk

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
nn = torch.nn
parametrize = torch.nn.utils.parametrize
prune = pytest.importorskip("torch.nn.utils.prune")

from test_torch import values  # noqa: E402


def key(name: str, seed: int = 5) -> fk.Key:
    return fk.Generator(seed).key(name)


def relu_std(fan_in: int) -> float:
    return math.sqrt(2 / fan_in)


# The expected parameters of a layer with the name "layer".
LAYERS: dict[str, tuple[Callable[[], Any], dict[str, Callable[[tuple[int, ...], fk.Key], Any]]]] = {
    "Linear": (
        lambda: nn.Linear(24, 12),
        {
            "weight": lambda shape, k: fk.normal(shape, std=relu_std(24), rng=k),
            "bias": lambda shape, _: np.zeros(shape),
        },
    ),
    "grouped Conv2d": (
        lambda: nn.Conv2d(8, 6, 3, groups=2),
        {"weight": lambda shape, k: fk.normal(shape, std=relu_std(4 * 9), rng=k)},
    ),
    "grouped ConvTranspose1d": (
        lambda: nn.ConvTranspose1d(8, 6, 5, groups=2),
        {"weight": lambda shape, k: fk.normal(shape, std=relu_std(4 * 5), rng=k)},
    ),
    "Embedding": (lambda: nn.Embedding(9, 4), {"weight": lambda shape, k: fk.normal(shape, std=0.02, rng=k)}),
    "LayerNorm": (
        lambda: nn.LayerNorm(7),
        {"weight": lambda shape, _: np.ones(shape), "bias": lambda shape, _: np.zeros(shape)},
    ),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(7), {"weight": lambda shape, _: np.ones(shape)}),
    "RMSNorm": (lambda: nn.RMSNorm(7), {"weight": lambda shape, _: np.ones(shape)}),
    "GroupNorm": (lambda: nn.GroupNorm(2, 6), {"bias": lambda shape, _: np.zeros(shape)}),
    "MultiheadAttention": (
        lambda: nn.MultiheadAttention(16, 2, add_bias_kv=True),
        {
            "in_proj_weight": lambda shape, k: fk.uniform(
                shape, low=-math.sqrt(3) * 16**-0.5, high=math.sqrt(3) * 16**-0.5, rng=k
            ),
            "in_proj_bias": lambda shape, _: np.zeros(shape),
            "bias_k": lambda shape, k: fk.xavier_normal(shape, rng=k),
            "out_proj.weight": lambda shape, k: fk.normal(shape, std=relu_std(16), rng=k),
        },
    ),
    "attention of other widths": (
        lambda: nn.MultiheadAttention(16, 2, kdim=8, vdim=4),
        {"k_proj_weight": lambda shape, k: fk.xavier_uniform(shape, rng=k)},
    ),
    "LSTM": (
        lambda: nn.LSTM(3, 25),
        {
            "weight_ih_l0": lambda shape, k: fk.uniform(shape, low=-0.2, high=0.2, rng=k),
            "bias_hh_l0": lambda shape, k: fk.uniform(shape, low=-0.2, high=0.2, rng=k),
        },
    ),
    "GRUCell": (
        lambda: nn.GRUCell(3, 4),
        {"weight_hh": lambda shape, k: fk.uniform(shape, low=-0.5, high=0.5, rng=k)},
    ),
    "PReLU": (lambda: nn.PReLU(3), {"weight": lambda shape, _: np.full(shape, 0.25)}),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_each_layer_has_its_default_rules(kind: str) -> None:
    make, expected = LAYERS[kind]
    module = nn.ModuleDict({"layer": make()})
    report = fk_torch.init_module_(module, rng=5)
    assert set(report.filled) == {name for name, _ in module.named_parameters()}
    for name, core in expected.items():
        parameter = module.get_parameter(f"layer.{name}")
        expected_values = core(tuple(parameter.shape), key(f"layer.{name}"))
        assert np.array_equal(values(parameter), expected_values.astype(np.float64)), name


class Unknown(nn.Module):  # type: ignore[name-defined, misc]
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(6, 8))
        self.norm_scale = nn.Parameter(torch.empty(6))


def test_unknown_layers_use_the_default_rules_for_names() -> None:
    module = Unknown()
    report = fk_torch.init_module_(module, rng=5)
    assert report.filled == {"kernel": "Unknown: kaiming_normal(layout='OI')", "norm_scale": "Unknown: ones"}
    assert np.array_equal(values(module.kernel), fk.kaiming_normal((6, 8), rng=key("kernel")))


def test_user_rules_take_precedence_over_layer_rules() -> None:
    module = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))
    seen = []

    def record(parameter: Any, rng: fk.Key) -> None:
        seen.append((parameter, rng))

    report = fk_torch.init_module_(module, rng=5, rules={"0.weight": "kaiming_uniform(a=1)", "1.bias": record})
    assert report.filled == {
        "0.weight": "0.weight",
        "0.bias": "Linear: zeros",
        "1.weight": "Linear: kaiming_normal",
        "1.bias": "1.bias",
    }
    assert np.array_equal(values(module[0].weight), fk.kaiming_uniform((6, 8), a=1, rng=key("0.weight")))
    assert seen[0][0] is module[1].bias
    assert seen[0][1] == key("1.bias")
    with pytest.warns(UserWarning, match="some rules filled no array: no name matches 'x'"):
        assert fk_torch.init_module_(module, rules={"x": "zeros"}).unused == ("x",)


def test_values_do_not_depend_on_other_layers_or_their_order() -> None:
    small, large = nn.ModuleDict({"a": nn.Linear(5, 4)}), nn.ModuleDict({"b": nn.Linear(9, 9), "a": nn.Linear(5, 4)})
    for module in (small, large):
        fk_torch.init_module_(module, rng=5)
    assert torch.equal(small["a"].weight, large["a"].weight)


def test_every_kind_of_seed_is_accepted() -> None:
    def weight(rng: Any) -> Any:
        module = nn.Linear(6, 5)
        fk_torch.init_module_(module, rng)
        return module.weight

    word = int(torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=torch.Generator().manual_seed(3)))
    for rng, seed in ((7, 7), (fk.Generator(7), 7), (torch.Generator().manual_seed(3), word % 2**64)):
        assert np.array_equal(values(weight(rng)), fk.kaiming_normal((5, 6), rng=key("weight", seed)))


def language_model() -> Any:
    """Return a model whose output layer, the first in sorted order, shares the weight of the embedding, as in GPT-2."""
    model = nn.ModuleDict({"wte": nn.Embedding(20, 8), "lm_head": nn.Linear(8, 20, bias=False)})
    model["lm_head"].weight = model["wte"].weight
    return model


def test_tied_parameters_use_the_name_registered_first() -> None:
    model = language_model()
    report = fk_torch.init_module_(model, rng=5)
    assert report.shared == {"lm_head.weight": "wte.weight"}
    assert report.filled == dict.fromkeys(("wte.weight", "lm_head.weight"), "Embedding: normal(std=0.02)")
    assert np.array_equal(values(model["wte"].weight), fk.normal((20, 8), std=0.02, rng=key("wte.weight")))


def test_embedding_rule_takes_precedence_for_tied_weights() -> None:
    module = nn.ModuleDict({"head": nn.Linear(8, 20, bias=False), "embedding": nn.Embedding(20, 8, padding_idx=3)})
    module["head"].weight = module["embedding"].weight
    report = fk_torch.init_module_(module, rng=5)
    assert report.shared == {"embedding.weight": "head.weight"}
    expected = fk.normal((20, 8), std=0.02, rng=key("head.weight"))
    expected[3] = 0
    assert np.array_equal(values(module["head"].weight), expected)


@pytest.mark.parametrize("pattern", ["wte.weight", "lm_head*"])
def test_rule_can_match_any_name_of_a_tied_parameter(pattern: str) -> None:
    model = language_model()
    report = fk_torch.init_module_(model, rules={pattern: "ones"})
    assert set(report.filled.values()) == {pattern}
    assert values(model["wte"].weight).min() == 1


def test_views_of_the_same_memory_are_filled_once() -> None:
    weight = torch.empty(6, 4)
    module = nn.ParameterDict([(name, nn.Parameter(weight.data)) for name in ("b", "a")])
    assert fk_torch.init_module_(module, rng=5).shared == {"a": "b"}
    assert np.array_equal(values(module["a"]), fk.kaiming_normal((6, 4), rng=key("b")))


# ---- parametrizations, subclasses and special parameters ----


def normalized(layer: Any, old: bool, **settings: Any) -> Any:
    normalize = torch.nn.utils.weight_norm if old else torch.nn.utils.parametrizations.weight_norm
    return normalize(layer, **settings)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_normalization_gives_the_weight_of_the_layer(old: bool, dim: int | None) -> None:
    """The weight equals the directions, which are filled with the fans of the layer."""
    module = nn.ModuleDict({"layer": normalized(nn.ConvTranspose1d(8, 6, 5, groups=2), old, dim=dim)})
    report = fk_torch.init_module_(module, rng=5)
    name = "layer.weight_v" if old else "layer.parametrizations.weight.original1"
    assert report.filled[name] == "ConvTranspose1d: kaiming_normal(groups=2, transposed=True)"
    directions = fk.normal((8, 3, 5), std=relu_std(4 * 5), rng=key(name))
    module["layer"](torch.zeros(1, 8, 4))  # the hook of the old variant computes the weight
    assert np.allclose(values(module["layer"].weight), directions, rtol=1e-5)
    assert values(module["layer"].bias).max() == 0


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_reparametrized_embedding_with_a_padding_row_is_filled() -> None:
    for old in (True, False):
        module = normalized(nn.Embedding(9, 4, padding_idx=2), old)
        fk_torch.init_module_(module, rng=5)
        module(torch.tensor([2]))
        assert 0.01 < module.weight.std() < 0.03
    pruned = prune.random_unstructured(nn.Embedding(9, 4, padding_idx=2), "weight", 0.5)
    assert fk_torch.init_module_(pruned).filled == {"weight_orig": "Embedding: normal(std=0.02)"}


def test_parametrization_of_one_tensor_uses_the_layer_rule() -> None:
    module = torch.nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 6, 3, groups=2))
    report = fk_torch.init_module_(module, rng=5)
    assert report.filled["parametrizations.weight.original"] == "Conv2d: kaiming_normal(groups=2, transposed=False)"


def test_parametrization_of_several_tensors_can_have_user_rules() -> None:
    module = parametrize.register_parametrization(nn.Linear(3, 3), "weight", Product())
    report = fk_torch.init_module_(module, rules={"*.original0": "xavier_normal", "*.original1": "ones"})
    assert set(report.filled.values()) == {"Linear: zeros", "*.original0", "*.original1"}


def test_parameters_added_by_a_subclass_use_rules_for_names() -> None:
    class Adapted(nn.Linear):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__(6, 4)
            self.lora_bias = nn.Parameter(torch.ones(4))
            self.lora_A = nn.Parameter(torch.ones(2, 6))

    report = fk_torch.init_module_(Adapted())
    assert report.filled == {
        "weight": "Adapted: kaiming_normal",
        "bias": "Adapted: zeros",
        "lora_bias": "Adapted: zeros",
        "lora_A": "Adapted: kaiming_normal(layout='OI')",
    }


def test_conv1d_of_transformers_has_inputs_first() -> None:
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D(256, 64)  # from 64 to 256
    fk_torch.init_module_(conv1d, rng=5)
    assert np.array_equal(values(conv1d.weight), fk.normal((64, 256), std=relu_std(64), rng=key("weight")))


def test_keep_rule_leaves_any_tensor_unchanged() -> None:
    module = nn.ModuleDict({"frozen": nn.Linear(3, 3), "head": nn.Linear(3, 2)})
    module["ids"] = nn.ParameterList(
        [nn.Parameter(torch.arange(3), requires_grad=False), torch.empty(2, device="meta")]
    )
    before = [values(parameter).copy() for parameter in module["frozen"].parameters()]
    report = fk_torch.init_module_(module, rng=5, rules={"frozen.*": "keep", "ids.*": "keep"})
    assert all(map(np.array_equal, map(values, module["frozen"].parameters()), before))
    assert module["ids"][0].tolist() == [0, 1, 2]
    assert report.filled["frozen.weight"] == "frozen.*"
    assert np.array_equal(values(module["head"].weight), fk.kaiming_normal((2, 3), rng=key("head.weight")))


def test_versions_are_incremented_if_a_rule_function_raises() -> None:
    module = nn.Linear(3, 3)
    version = module.weight._version

    def broken(_parameter: Any, **_key: fk.Key) -> None:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        fk_torch.init_module_(module, rng=5, rules={"bias": broken})
    assert np.array_equal(values(module.weight), fk.kaiming_normal((3, 3), rng=key("weight")))
    assert module.weight._version > version


def test_padding_row_is_zero_unless_a_rule_fills_it() -> None:
    module = nn.ModuleDict({"e": nn.Embedding(20, 8, padding_idx=-3)})
    fk_torch.init_module_(module, rng=5)
    expected = fk.normal((20, 8), std=0.02, rng=key("e.weight"))
    expected[17] = 0
    assert np.array_equal(values(module["e"].weight), expected)
    fk_torch.init_module_(module, rules={"*": "ones"})
    assert values(module["e"].weight).min() == 1


def test_versions_are_incremented_and_buffers_unchanged() -> None:
    module = nn.BatchNorm1d(4)
    module.running_mean.fill_(3.0)
    versions = [parameter._version for parameter in module.parameters()]
    fk_torch.init_module_(module)
    assert all(parameter._version > version for parameter, version in zip(module.parameters(), versions, strict=True))
    assert module.running_mean.tolist() == [3.0] * 4


def test_every_floating_dtype_is_filled() -> None:
    for dtype in ("float64", "float16", "bfloat16"):
        module = nn.Linear(8, 6, dtype=getattr(torch, dtype))
        fk_torch.init_module_(module, rng=5)
        expected = fk.kaiming_normal((6, 8), dtype, rng=key("weight"))
        assert np.array_equal(values(module.weight), expected.astype(np.float64))


def inference(make: Callable[..., Any]) -> Any:
    with torch.inference_mode():
        return make(3, 3)


class Product(nn.Module):  # type: ignore[name-defined, misc]
    """A parametrization that computes a weight from two tensors."""

    def forward(self, left: Any, right: Any) -> Any:
        return left * right

    def right_inverse(self, weight: Any) -> Any:
        return weight, torch.ones_like(weight)


BAD_CALLS: dict[str, tuple[Callable[[], Any], dict[str, Any], type[Exception], str]] = {
    "not a module": (lambda: 3, {}, TypeError, r"module must be a torch.nn.Module, not int 3"),
    "the meta device": (
        lambda: nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, device="meta")),
        {},
        ValueError,
        r"parameter '1.weight' must have memory, got the meta device: call to_empty\(device='cpu'\) first",
    ),
    "complex numbers": (
        lambda: nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, dtype=torch.complex64)),
        {},
        TypeError,
        r"parameter '1.weight' must be a dense tensor on the CPU .*, got a Parameter of torch.complex64 on cpu",
    ),
    "a lazy layer": (
        lambda: nn.LazyLinear(3),
        {},
        TypeError,
        r"must have a shape: first run a forward pass of its lazy",
    ),
    "an expanded tensor": (
        lambda: nn.ParameterDict({"weight": nn.Parameter(torch.zeros(3, 1).expand(3, 3))}),
        {},
        ValueError,
        r"parameter 'weight' must not overlap itself, got strides \(1, 0\) for shape \(3, 3\)",
    ),
    "an inference tensor": (
        lambda: inference(nn.Linear),
        {},
        ValueError,
        r"parameter 'weight' must not be an inference tensor outside of torch.inference_mode\(\)",
    ),
    "vectors without rules": (
        lambda: nn.ParameterDict({"gamma": nn.Parameter(torch.zeros(3)), "scale": nn.Parameter(torch.zeros(()))}),
        {},
        ValueError,
        r"got none for 'gamma' of shape \(3,\), 'scale' of shape \(\): add .* reset_module_, .* authors$",
    ),
    "a parametrization of several tensors": (
        lambda: parametrize.register_parametrization(nn.Linear(3, 3), "weight", Product()),
        {},
        ValueError,
        r"must have a rule .*, got none for 'parametrizations.weight.original0' of shape \(3, 3\), ",
    ),
    "a misspelt rule": (
        lambda: nn.Linear(3, 3),
        {"rules": {"*": "kaimin_normal"}},
        ValueError,
        r"the rule '\*' must name one of .*; did you mean 'kaiming_normal'",
    ),
    "threads": (lambda: nn.Linear(3, 3), {"threads": 0}, ValueError, r"threads must be an integer from 1"),
    "a key": (lambda: nn.Linear(3, 3), {"rng": fk.Key(3)}, TypeError, r"rng must be None, an integer"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
@pytest.mark.parametrize(("make", "arguments", "error", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_errors_are_raised_before_anything_is_written(
    make: Callable[[], Any], arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    module = make()
    state = {name: values(p).copy() for name, p in module.state_dict().items() if is_plain(p)} if module != 3 else {}
    with pytest.raises(error, match=f"^init_module_: .*{message}"):
        fk_torch.init_module_(module, **arguments)
    assert all(np.array_equal(values(module.state_dict()[name]), before) for name, before in state.items())


def test_error_of_reset_module_names_it() -> None:
    with pytest.raises(TypeError, match=r"^reset_module_: module must be a torch\.nn\.Module, not int 3$"):
        fk_torch.reset_module_(3)


def is_plain(parameter: Any) -> bool:
    return type(parameter) is torch.Tensor and not parameter.is_meta and not parameter.is_complex()
