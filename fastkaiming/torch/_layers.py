"""What torch's own layers have for their parameters, where no rule is given: init_module_'s table, as code."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList, type_before_parametrizations
from torch.nn.utils.weight_norm import WeightNorm

from fastkaiming.initializers._model import DEFAULT_RULES, Filler, first_matches, parse_rule


class Rule(NamedTuple):
    """What fills a parameter, and what a report calls it."""

    label: str  # in the report: a pattern of the user's, or a layer and what it has
    filler: Filler
    text: str | None = None  # the rule as a text, where it is one


@cache
def filler_of(text: str) -> Filler:
    """Return one filler for equal texts."""
    return parse_rule("a layer's", text)


EMBEDDING = "normal(std=0.02)"


def _recurrent(layer: Any) -> dict[str, str]:
    bound = layer.hidden_size**-0.5 if layer.hidden_size else 0.0
    return dict.fromkeys(("weight_*", "bias_*"), f"uniform({-bound!r}, {bound!r})")


def _attention(layer: nn.MultiheadAttention) -> dict[str, str]:
    return {
        "in_proj_weight": f"xavier_uniform(fan={layer.embed_dim})",  # three in a stack
        "?_proj_weight": "xavier_uniform",
        "bias_[kv]": "xavier_normal",
        "in_proj_bias": "zeros",
    }


def _convolution(layer: _ConvNd) -> dict[str, str]:
    return {"weight": f"kaiming_normal(groups={layer.groups}, transposed={layer.transposed})", "bias": "zeros"}


def _of_any(weight: str) -> Callable[[Any], dict[str, str]]:
    return lambda _layer: {"weight": weight, "bias": "zeros"}


_matrix, _norm, _embedding = _of_any("kaiming_normal"), _of_any("ones"), _of_any(EMBEDDING)

_LAYERS: Mapping[str, Callable[[Any], dict[str, str]]] = {
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
        (nn.PReLU, _of_any("constant(0.25)")),
    )
} | {"transformers.pytorch_utils.Conv1D": _of_any("kaiming_normal(layout='IO')")}


def standard_rules(module: nn.Module) -> dict[str, Rule | None]:
    """Return for each parameter what its layer has for it, or else what the default rules have for its name."""
    rules: dict[str, Rule | None] = {}
    layers = dict(module.named_modules(remove_duplicate=False))
    for path, layer in layers.items():
        for name, _ in layer.named_parameters(recurse=False, remove_duplicate=False):
            qualified = f"{path}.{name}" if path else name
            owner, its_name = layer, name
            if isinstance(layer, ParametrizationList):
                owner_path, _, its_name = path.rpartition(".")
                owner = layers[owner_path.rpartition(".")[0]]
            rules[qualified] = _standard_rule(qualified, owner, its_name, layer, name)
    return rules


def _standard_rule(qualified: str, owner: Any, its_name: str, layer: Any, name: str) -> Rule | None:
    """Return the rule of one parameter, or of what a parametrization makes the owner's parameter ``its_name`` of.

    None stands for one of several tensors of a parametrization that says nothing of them.
    """
    kind = type_before_parametrizations(owner)
    norm = _norm_of(layer, name)
    if norm is not None:
        return Rule(f"{kind.__name__}: norms of the directions", norm)
    if layer is not owner and name != ("original1" if isinstance(layer[0], _WeightNorm) else "original"):
        return None
    known = next((_LAYERS[key](owner) for key in map(_qualified, kind.__mro__) if key in _LAYERS), {})
    for candidate in (its_name, its_name.removesuffix("_orig"), its_name.removesuffix("_v")):
        pattern = first_matches([candidate], known)[candidate]
        if pattern is not None:
            return _rule_from_text(kind, known[pattern])
    text = DEFAULT_RULES[str(first_matches([qualified], DEFAULT_RULES)[qualified])]
    return _rule_from_text(kind, text)


def _rule_from_text(kind: type, text: str) -> Rule:
    return Rule(f"{kind.__name__}: {text}", filler_of(text), text)


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


@dataclass(frozen=True)
class Norms:
    """Fills the magnitudes of a weight normalization, so that the weight is what its directions were drawn as."""

    directions: torch.Tensor
    axis: int

    def __call__(self, magnitudes: torch.Tensor, rng: object) -> None:  # noqa: ARG002
        """Fill the magnitudes, which nothing random decides."""
        magnitudes.copy_(torch.norm_except_dim(self.directions, 2, self.axis))


def _norm_of(layer: Any, name: str) -> Norms | None:
    """Return what fills a parameter that holds magnitudes, by either of torch's two weight normalizations."""
    if isinstance(layer, ParametrizationList):
        is_it = isinstance(layer[0], _WeightNorm) and name == "original0"
        return Norms(layer.original1, layer[0].dim) if is_it else None
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and name == f"{hook.name}_g":
            return Norms(getattr(layer, f"{hook.name}_v"), hook.dim)
    return None


def padding_rows(module: nn.Module) -> Iterable[tuple[str, int]]:
    """Return the name that the weight of each embedding with a padding row has by itself, and the row."""
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.padding_idx is not None:
            yield f"{path}.weight" if path else "weight", layer.padding_idx
