"""The default rules of ``init_module_`` for the parameters of torch's layers."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList, type_before_parametrizations

from fastkaiming.initializers._model import DEFAULT_RULES, Filler, parse_rule
from fastkaiming.initializers._patterns import first_matches
from fastkaiming.torch._parametrizations import norm_filler
from fastkaiming.torch._stacked import STACKED_LAYERS, declared_rules


class Rule(NamedTuple):
    """A function that fills a parameter, and the name of the rule in reports."""

    label: str  # a pattern from the user's rules, or the name of a layer and its rule
    filler: Filler
    text: str | None = None  # the rule as a string, if it is one


@cache
def parse_filler(text: str) -> Filler:
    """Return the filler of a rule; equal strings give the same object."""
    return parse_rule("the rule of a layer", text)


EMBEDDING_RULE = "normal(std=0.02)"


def _recurrent(layer: Any) -> dict[str, str]:
    bound = layer.hidden_size**-0.5 if layer.hidden_size else 0.0
    return dict.fromkeys(("weight_*", "bias_*"), f"uniform({-bound!r}, {bound!r})")


def _attention(layer: nn.MultiheadAttention) -> dict[str, str]:
    return {
        "in_proj_weight": f"xavier_uniform(fan={layer.embed_dim})",  # three matrices in one
        "?_proj_weight": "xavier_uniform",
        "bias_[kv]": "xavier_normal",
        "in_proj_bias": "zeros",
    }


def _convolution(layer: _ConvNd) -> dict[str, str]:
    return {"weight": f"kaiming_normal(groups={layer.groups}, transposed={layer.transposed})", "bias": "zeros"}


def _weight_rule(weight: str) -> Callable[[Any], dict[str, str]]:
    """Return a function that gives every layer the same rule for its weight, and zeros for its bias."""
    return lambda _layer: {"weight": weight, "bias": "zeros"}


_matrix, _norm, _embedding = _weight_rule("kaiming_normal"), _weight_rule("ones"), _weight_rule(EMBEDDING_RULE)

_LAYERS: Mapping[str, Callable[[Any], Mapping[str, str]]] = {
    f"{kind.__module__}.{kind.__qualname__}": rules
    for kind, rules in (
        (nn.Linear, _matrix),
        (nn.Bilinear, _matrix),
        (_ConvNd, _convolution),
        (nn.Embedding, _embedding),
        (nn.EmbeddingBag, _embedding),
        (nn.LayerNorm, _norm),
        (nn.RMSNorm, _norm),
        (nn.GroupNorm, _norm),
        (_NormBase, _norm),
        (nn.MultiheadAttention, _attention),
        (nn.RNNBase, _recurrent),
        (nn.RNNCellBase, _recurrent),
        (nn.PReLU, _weight_rule("constant(0.25)")),
    )
} | {"transformers.pytorch_utils.Conv1D": _weight_rule("kaiming_normal(layout='IO')"), **STACKED_LAYERS}

# The number of axes of a weight, for the layers whose rules take the fans from a shape without naming its axes. If the
# weight of a subclass has another number, what its axes mean is not known.
_WEIGHT_AXES: tuple[tuple[type, Callable[[Any], int]], ...] = (
    (nn.Linear, lambda _layer: 2),
    (nn.Bilinear, lambda _layer: 3),
    (_ConvNd, lambda layer: 2 + len(layer.kernel_size)),
)


def standard_rules(module: nn.Module) -> dict[str, Rule | None]:
    """Return the rule of each parameter: that of its layer, or else the default rule for its name.

    The rule is None if nothing is known about a parameter: its layer is not known, its name matches only the last
    default rule, and it does not have two axes.
    """
    rules: dict[str, Rule | None] = {}
    layers = dict(module.named_modules(remove_duplicate=False))
    for path, layer in layers.items():
        for name, _ in layer.named_parameters(recurse=False, remove_duplicate=False):
            qualified = f"{path}.{name}" if path else name
            owner, owner_name = layer, name
            if isinstance(layer, ParametrizationList):
                owner_path, _, owner_name = path.rpartition(".")
                owner = layers[owner_path.rpartition(".")[0]]
            rules[qualified] = _standard_rule(qualified, owner, owner_name, layer, name)
    return rules


def _standard_rule(qualified: str, owner: Any, owner_name: str, layer: Any, name: str) -> Rule | None:
    """Return the rule of one parameter, or None if none is known.

    If ``layer`` is a parametrization, the parameter ``name`` is one of the tensors from which it computes the parameter
    ``owner_name`` of the layer ``owner``. No rule is known if it computes it from several tensors.
    """
    kind = type_before_parametrizations(owner)
    filler = norm_filler(layer, name)
    if filler is not None:
        return Rule(f"{kind.__name__}: norms of the directions", filler)
    if layer is not owner and name != ("original1" if isinstance(layer[0], _WeightNorm) else "original"):
        return None
    axes = _number_of_axes(layer._parameters[name])
    known = _known_rules(owner, kind, axes)
    for candidate in (owner_name, owner_name.removesuffix("_orig"), owner_name.removesuffix("_v")):
        pattern = first_matches([candidate], known)[candidate]
        if pattern is not None:
            return _rule_from_text(kind, known[pattern])
    pattern = str(first_matches([qualified], DEFAULT_RULES)[qualified])
    return None if pattern == "*" and axes not in (2, None) else _rule_from_text(kind, DEFAULT_RULES[pattern])


def _known_rules(layer: Any, kind: type, axes: int | None) -> Mapping[str, str]:
    """Return the rules of a layer by patterns of parameter names; ``kind`` is its class before parametrizations.

    ``axes`` is the number of axes of the parameter that needs a rule.
    """
    by_class = next((_LAYERS[key](layer) for key in map(_qualified, kind.__mro__) if key in _LAYERS), {})
    expected = next((count(layer) for base, count in _WEIGHT_AXES if isinstance(layer, base)), axes)
    if axes not in (expected, None):
        by_class = {name: rule for name, rule in by_class.items() if name != "weight"}
    return {**by_class, **declared_rules(layer)}


def _number_of_axes(parameter: torch.Tensor) -> int | None:
    """Return the number of axes, or None if the parameter has no shape yet."""
    return None if nn.parameter.is_lazy(parameter) else parameter.dim()


def _rule_from_text(kind: type, text: str) -> Rule:
    return Rule(f"{kind.__name__}: {text}", parse_filler(text), text)


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


# The attributes in which layers of torch store the numbers of their units.
_SIZES = (
    *("in_features", "out_features", "in1_features", "in2_features", "in_channels", "out_channels", "num_embeddings"),
    *("embedding_dim", "num_features", "num_channels", "normalized_shape", "input_size", "hidden_size", "embed_dim"),
)


def parameters_without_units(module: nn.Module) -> set[str]:
    """Return the names of parameters without elements: those of layers that were created with a size of 0."""
    return {
        f"{path}.{name}" if path else name
        for path, layer in module.named_modules(remove_duplicate=False)
        if any(_is_zero(getattr(layer, size, None)) for size in _SIZES)
        for name, _ in layer.named_parameters(remove_duplicate=False)
    }


def _is_zero(size: object) -> bool:
    """Return whether a size, or one of the sizes in a tuple, is 0."""
    return 0 in size if isinstance(size, tuple) else type(size) is int and size == 0


def padding_rows(module: nn.Module) -> Iterable[tuple[str, int]]:
    """Yield the qualified name of the weight and the padding row of each embedding that has a padding row."""
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.padding_idx is not None:
            yield f"{path}.weight" if path else "weight", layer.padding_idx
