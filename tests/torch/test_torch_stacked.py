"""Weights with three or more axes: fans of known layers, and errors where the meaning of the axes is not known."""

import math
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastkaiming as fk
from fastkaiming import checkpoint

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
nn = torch.nn

CHOICES = r"layout='BOI'.*layout='BIO'.*layout='OI\*'"


def check_std(parameter: Any, name: str, std: float, seed: int = 5) -> None:
    """Check that a parameter has the normal values of its stream with this standard deviation."""
    expected = fk.normal(tuple(parameter.shape), std=std, rng=fk.Generator(seed).key(name))
    assert np.array_equal(parameter.detach().numpy(), expected), (name, parameter.detach().std(), std)


# ---- the layers of torch ----

LAYERS: dict[str, tuple[Callable[[], Any], int]] = {  # a layer, and the inputs of one of its outputs
    "Conv1d": (lambda: nn.Conv1d(6, 10, 3), 6 * 3),
    "grouped Conv3d": (lambda: nn.Conv3d(6, 10, (1, 2, 3), groups=2), 3 * 6),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(6, 10, (3, 5)), 6 * 15),
    "grouped ConvTranspose3d": (lambda: nn.ConvTranspose3d(6, 10, 2, groups=2), 3 * 8),
    "Bilinear": (lambda: nn.Bilinear(6, 5, 10), 30),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_of_torch_have_their_fans(kind: str) -> None:
    make, fan_in = LAYERS[kind]
    layer = make()
    fk_torch.init_module_(layer, rng=5)
    check_std(layer.weight, "weight", math.sqrt(2 / fan_in))


# ---- the stacked weights in layers of transformers ----

HIDDEN, INNER = 64, 96
SIZES = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_local_experts": 3, "num_experts": 3}
MOE_SIZES = SIZES | {"moe_intermediate_size": INNER, "n_routed_experts": 3, "moe_num_experts": 3}
GATED = {"gate_up_proj": HIDDEN, "down_proj": INNER}

# The model, the layer, and the number of inputs that the forward function of the layer multiplies with each weight.
STACKED: dict[str, tuple[str, Callable[[Any, Any], Any], dict[str, int]]] = {
    "MixtralExperts": ("mixtral", lambda kind, config: kind(config(**SIZES)), GATED),
    "Qwen2MoeExperts": ("qwen2_moe", lambda kind, config: kind(config(**MOE_SIZES)), GATED),
    "Qwen3MoeExperts": ("qwen3_moe", lambda kind, config: kind(config(**MOE_SIZES)), GATED),
    "DeepseekV3Experts": ("deepseek_v3", lambda kind, config: kind(config(**MOE_SIZES)), GATED),
    "GraniteMoeExperts": ("granitemoe", lambda kind, config: kind(config(**SIZES)), GATED),
    "PhimoeExperts": ("phimoe", lambda kind, config: kind(config(**SIZES)), GATED),
    "OlmoeExperts": ("olmoe", lambda kind, config: kind(config(**SIZES)), GATED),
    "GptOssExperts": ("gpt_oss", lambda kind, config: kind(config(**SIZES)), GATED),
    "Llama4TextExperts": ("llama4", lambda kind, config: kind(config(**SIZES)), GATED),
    "AriaExperts": ("aria", lambda kind, config: kind(config(**MOE_SIZES)), GATED),
    "NemotronHExperts": (
        "nemotron_h",
        lambda kind, config: kind(config(**MOE_SIZES)),
        {"up_proj": HIDDEN, "down_proj": INNER},
    ),
    "JetMoeParallelExperts": ("jetmoe", lambda kind, _config: kind(3, HIDDEN, INNER), {"weight": HIDDEN}),
    "GroupedLinearLayer": ("convbert", lambda kind, _config: kind(192, 288, 3), {"weight": HIDDEN}),
    "CsmCodebooksHead": ("csm", lambda kind, _config: kind(HIDDEN, 4, INNER), {"weight": HIDDEN}),
    "MoshiFlexibleLinear": ("moshi", lambda kind, _config: kind(HIDDEN, INNER, 3), {"weight": HIDDEN}),
}
CONFIGS = {
    "mixtral": "MixtralConfig",
    "qwen2_moe": "Qwen2MoeConfig",
    "qwen3_moe": "Qwen3MoeConfig",
    "deepseek_v3": "DeepseekV3Config",
    "granitemoe": "GraniteMoeConfig",
    "phimoe": "PhimoeConfig",
    "olmoe": "OlmoeConfig",
    "gpt_oss": "GptOssConfig",
    "llama4": "Llama4TextConfig",
    "aria": "AriaTextConfig",
    "nemotron_h": "NemotronHConfig",
    "jetmoe": "JetMoeConfig",
    "convbert": "ConvBertConfig",
    "csm": "CsmConfig",
    "moshi": "MoshiConfig",
}


@pytest.mark.parametrize("kind", STACKED)
def test_each_expert_has_the_fans_of_one_layer(kind: str) -> None:
    """Both orientations: outputs before inputs, and inputs before outputs."""
    transformers = pytest.importorskip("transformers")
    model, make, inputs = STACKED[kind]
    module = import_module(f"transformers.models.{model}.modeling_{model}")
    if not hasattr(module, kind):
        pytest.skip("this version of transformers does not have the layer")
    layers = nn.ModuleDict({"experts": make(getattr(module, kind), getattr(transformers, CONFIGS[model]))})
    fk_torch.init_module_(layers, rng=5)
    for name, fan_in in inputs.items():
        parameter = layers["experts"].get_parameter(name)
        assert parameter.dim() == 3
        assert sorted({fan_in} & set(parameter.shape)) == [fan_in]
        check_std(parameter, f"experts.{name}", math.sqrt(2 / fan_in))
    for name, parameter in layers["experts"].named_parameters():
        if name not in inputs:
            assert not parameter.any(), name  # biases


def test_block_diagonal_gates_have_the_fans_of_one_block() -> None:
    transformers = pytest.importorskip("transformers")
    module = pytest.importorskip("transformers.models.recurrent_gemma.modeling_recurrent_gemma")
    layer = module.RecurrentGemmaRglru(transformers.RecurrentGemmaConfig(num_attention_heads=2, lru_width=96))
    fk_torch.init_module_(layer, rng=5, rules={"recurrent_param": "zeros"})
    check_std(layer.input_gate_weight, "input_gate_weight", math.sqrt(2 / 48))


def test_weights_of_dbrx_experts_have_the_fans_of_one_expert() -> None:
    """They have two axes, the first of which contains the experts as well."""
    module = pytest.importorskip("transformers.models.dbrx.modeling_dbrx")
    sizes = {"ffn_hidden_size": INNER, "moe_num_experts": 3}
    config = pytest.importorskip("transformers").DbrxConfig(d_model=HIDDEN, ffn_config=sizes).ffn_config
    experts = module.DbrxExperts(config)
    fk_torch.init_module_(experts, rng=5)
    for name, fan_in in {"mlp.w1": HIDDEN, "mlp.v1": HIDDEN, "mlp.w2": INNER}.items():
        check_std(experts.get_parameter(name), name, math.sqrt(2 / fan_in))


# ---- layers that are not known ----


class StackedLinear(nn.Linear):  # type: ignore[name-defined, misc]
    """A subclass whose weight has another number of axes than the weight of its base class."""

    def __init__(self) -> None:
        super().__init__(6, 5)
        self.weight = nn.Parameter(torch.zeros(3, 5, 6))


class StackedConv(nn.Conv2d):  # type: ignore[name-defined, misc]
    def __init__(self) -> None:
        super().__init__(6, 5, 3)
        self.weight = nn.Parameter(torch.zeros(2, 5, 6, 3, 3))


def parameter(*shape: int) -> Any:
    return nn.ParameterDict({"w": nn.Parameter(torch.zeros(shape))})


UNKNOWN: dict[str, tuple[Callable[[], Any], str]] = {
    "a parameter": (lambda: parameter(8, 512, 128), "'unknown.w' of shape (8, 512, 128)"),
    "four axes": (lambda: parameter(4, 3, 2, 2), "'unknown.w' of shape (4, 3, 2, 2)"),
    "axes of size 1": (lambda: parameter(1, 1, 8), "'unknown.w' of shape (1, 1, 8)"),
    "a subclass of Linear": (StackedLinear, "'unknown.weight' of shape (3, 5, 6)"),
    "a subclass of Conv2d": (StackedConv, "'unknown.weight' of shape (2, 5, 6, 3, 3)"),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_axes_of_unknown_layers_need_a_rule(kind: str) -> None:
    make, shown = UNKNOWN[kind]
    module = nn.ModuleDict({"known": nn.Linear(3, 3), "unknown": make()})
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    with pytest.raises(ValueError, match=f"got none for {re.escape(shown)}: .*reset_module_.*{CHOICES}"):
        fk_torch.init_module_(module, rng=5)
    assert all(torch.equal(parameter, before[name]) for name, parameter in module.named_parameters())


def test_rules_with_a_layout_give_the_fans() -> None:
    shape = (8, 512, 128)
    for layout, fan_in in {"BOI": 128, "BIO": 512, "OI*": 512 * 128}.items():
        module = nn.ParameterDict({"w": nn.Parameter(torch.empty(shape))})
        fk_torch.init_module_(module, rng=5, rules={"w": f"kaiming_normal(layout={layout!r})"})
        check_std(module["w"], "w", math.sqrt(2 / fan_in))


def test_rule_of_the_user_without_a_layout_is_a_convolution_of_torch() -> None:
    module = nn.ParameterDict({"kernel": nn.Parameter(torch.empty(6, 4, 3, 3))})
    fk_torch.init_module_(module, rng=5, rules={"kernel": "kaiming_normal"})
    check_std(module["kernel"], "kernel", math.sqrt(2 / 36))


def test_default_rules_without_fans_apply_to_any_number_of_axes() -> None:
    module = nn.ParameterDict(
        {"pos_embed": nn.Parameter(torch.empty(1, 7, 8)), "norm": nn.Parameter(torch.empty(4, 1, 1))}
    )
    fk_torch.init_module_(module, rng=5)
    check_std(module["pos_embed"], "pos_embed", 0.02)
    assert module["norm"].min() == 1


# ---- checkpoints ----


def stds(source: Any, **arguments: Any) -> dict[str, float]:
    plan = checkpoint.plan(source, **arguments)
    return {tensor.name: tensor.distribution.std for tensor in plan.tensors if tensor.distribution is not None}


MIXTRAL_FANS = {"w1": 6144, "w2": 16384, "w3": 6144}  # the number of columns of each matrix


def test_checkpoint_of_a_config_has_the_fans_of_one_expert(tmp_path: Path) -> None:
    """Mixtral 8x22B with one of its layers."""
    transformers = pytest.importorskip("transformers")
    transformers.MixtralConfig(
        hidden_size=6144,
        intermediate_size=16384,
        num_hidden_layers=1,
        num_attention_heads=48,
        num_key_value_heads=8,
        vocab_size=100,
        architectures=["MixtralForCausalLM"],
    ).save_pretrained(tmp_path)
    found = stds(tmp_path, rules={"*.experts.*": "kaiming_normal"})
    experts = {name.split(".")[-2]: std for name, std in found.items() if ".experts." in name}
    assert experts == pytest.approx({name: math.sqrt(2 / fan) for name, fan in MIXTRAL_FANS.items()})


def test_checkpoint_of_a_module_needs_a_rule_for_unknown_axes() -> None:
    module = nn.ParameterDict({"w": nn.Parameter(torch.empty(8, 512, 128, device="meta"))})
    with pytest.raises(ValueError, match=r"tensor 'w'.*\(8, 512, 128\).*'BOI'.*'BIO'.*'OI\*'"):
        checkpoint.plan(module)
    assert stds(module, rules={"w": "kaiming_normal(layout='BIO')"}) == {"w": math.sqrt(2 / 512)}
    with pytest.raises(ValueError, match=r"tensor 'weight'.*\(3, 5, 6\).*'BOI'.*'BIO'.*'OI\*'"):
        checkpoint.plan(StackedLinear())
