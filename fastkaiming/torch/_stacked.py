"""Rules for the layers of transformers that store the weights of several linear layers, such as experts, in one tensor.

Such a tensor has the shape of a convolution's weights, so its fans are known only if the class of its layer is.
"""

from collections.abc import Callable, Mapping
from typing import Any

Rules = Mapping[str, str]  # maps patterns of parameter names to rules

OUTPUTS_FIRST, INPUTS_FIRST = "kaiming_normal(layout='BOI')", "kaiming_normal(layout='BIO')"
_EXPERTS = ("gate_up_proj", "gate_proj", "up_proj", "down_proj")


def _constant(rule: str, *names: str) -> Callable[[Any], Rules]:
    """Return a function that gives every layer the same rule for parameters of these names."""
    return lambda _layer: dict.fromkeys(names, rule)


def _dbrx(layer: Any) -> Rules:
    # The first axis contains the experts as well. Within an expert, w2 has the inputs before the outputs.
    return {"w2": f"kaiming_normal(fan={layer.ffn_hidden_size})"}


def declared_rules(layer: Any) -> Rules:
    """Return the rules of an expert layer that the decorator ``use_experts_implementation`` of transformers has marked.

    The decorator stores the orientation of the weights in the layer, because the functions that run the experts need
    it. The result is empty for other layers.
    """
    is_transposed, has_bias = getattr(layer, "is_transposed", None), getattr(layer, "has_bias", None)
    if not (isinstance(is_transposed, bool) and isinstance(has_bias, bool) and hasattr(layer, "_apply_gate")):
        return {}
    return dict.fromkeys(_EXPERTS, INPUTS_FIRST if is_transposed else OUTPUTS_FIRST)


def _qualified(name: str) -> str:
    model, _, kind = name.partition(".")
    return f"transformers.models.{model}.modeling_{model}.{kind}"


# The other layers, by class. Their forward functions show the orientation.
STACKED_LAYERS: Mapping[str, Callable[[Any], Rules]] = {
    _qualified(name): rules
    for name, rules in {
        "llama4.Llama4TextExperts": _constant(INPUTS_FIRST, *_EXPERTS),
        "gpt_oss.GptOssExperts": _constant(INPUTS_FIRST, *_EXPERTS),  # before it was decorated
        "longcat_flash.LongcatFlashExperts": _constant(OUTPUTS_FIRST, *_EXPERTS),
        "inkling.InklingSharedExperts": _constant(OUTPUTS_FIRST, *_EXPERTS),
        "step3p7.Step3p7Experts": _constant(OUTPUTS_FIRST, *_EXPERTS),
        "jetmoe.JetMoeParallelExperts": _constant(OUTPUTS_FIRST, "weight"),
        "granitemoe.GraniteMoeParallelExperts": _constant(OUTPUTS_FIRST, "weight"),
        "granitemoeshared.GraniteMoeSharedParallelExperts": _constant(OUTPUTS_FIRST, "weight"),
        "granitemoehybrid.GraniteMoeHybridParallelExperts": _constant(OUTPUTS_FIRST, "weight"),
        "moshi.MoshiFlexibleLinear": _constant(OUTPUTS_FIRST, "weight"),
        "kyutai_speech_to_text.KyutaiSpeechToTextFlexibleLinear": _constant(OUTPUTS_FIRST, "weight"),
        "csm.CsmCodebooksHead": _constant(INPUTS_FIRST, "weight"),
        "convbert.GroupedLinearLayer": _constant(INPUTS_FIRST, "weight"),
        "recurrent_gemma.RecurrentGemmaRglru": _constant(INPUTS_FIRST, "input_gate_weight", "recurrent_gate_weight"),
        "zamba.ZambaMambaMixer": _constant(OUTPUTS_FIRST, "x_proj_weight", "dt_proj_weight"),
        "dbrx.DbrxExpertGLU": _dbrx,
    }.items()
}
