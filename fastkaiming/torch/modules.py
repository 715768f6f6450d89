"""A module at once: every parameter by its qualified name, with rules for torch's own layers."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from fastkaiming import aliases, checks, hugepages
from fastkaiming.generator import Rng
from fastkaiming.rules import (
    DEFAULT_RULES,
    InitReport,
    Job,
    Rules,
    about_unused,
    carry_out,
    first_matches,
    parsed,
    read,
    unused_of,
)
from fastkaiming.torch import tensors
from fastkaiming.torch.tensors import Block

Blocks: TypeAlias = Sequence[Block]


def init_module_(
    module: nn.Module,
    rng: Rng | torch.Generator = 0,
    rules: Rules | None = None,
    *,
    threads: int | None = None,
) -> InitReport:
    """Fill every parameter of a module in place, each from the stream of its own qualified name.

    What a parameter gets depends on the seed, its name, its shape and its rule, and not on the other parameters, nor on
    how a DTensor is sharded: every rank fills its own part of what the whole would hold.

    Without ``rules``, or where none of them matches, the layer decides:

    ==================================== ============================================================================
    layer                                parameters
    ==================================== ============================================================================
    Linear, Bilinear                     weights ``kaiming_normal``
    Conv, ConvTranspose                  weights ``kaiming_normal``, their fans counted with groups and transposition
    Embedding, EmbeddingBag              ``normal(std=0.02)``, and zeros in the row of ``padding_idx``
    LayerNorm, RMSNorm, GroupNorm,       weights ones
    BatchNorm, InstanceNorm
    MultiheadAttention                   projections ``xavier_uniform``, each of a stack of three for itself;
                                         ``bias_k`` and ``bias_v`` ``xavier_normal``
    RNN, LSTM, GRU and their cells       all from the uniform distribution within 1 / sqrt(hidden_size), as torch has it
    PReLU                                0.25
    ==================================== ============================================================================

    All other biases are zeros. Other layers' parameters go by :data:`fastkaiming.DEFAULT_RULES`. Buffers, such as the
    running statistics of BatchNorm, are left alone.

    Parameters
    ----------
    module : torch.nn.Module
        Its parameters lie on the CPU, whole or as DTensors, and are of dtype float32, float64, float16 or bfloat16.
    rng : int, Generator, numpy.random.Generator or torch.Generator, default 0
        The seed, or what gives it. Every rank of a sharded module has to give the same.
    rules : mapping or sequence of pairs, optional
        As in :func:`fastkaiming.init_`, for the qualified names of parameters; a function gets the parameter itself.
    threads : int, optional
        At most so many threads, as in :func:`fastkaiming.fill_`.

    Returns
    -------
    InitReport
        By which rule each parameter was filled, which names are tied, and which patterns filled nothing.

    Raises
    ------
    TypeError
        ``module`` is no module, or an argument is of the wrong kind.
    ValueError
        A parameter that is on the meta device or another one than the CPU, or of another dtype, or that no rule fits.
        Nothing is written then.

    Warns
    -----
    UserWarning
        A rule of ``rules`` that filled no parameter.

    Examples
    --------
    >>> import torch
    >>> from fastkaiming.torch import init_module_
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.LayerNorm(32))
    >>> init_module_(model, rng=42, rules={"0.weight": "kaiming_uniform(nonlinearity='tanh')"}).filled["0.bias"]
    'Linear: zeros'
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, not {checks.shown(module)}")
    parameters: dict[str, torch.Tensor] = dict(module.named_parameters(remove_duplicate=False))
    blocks = {name: _blocks(name, parameter) for name, parameter in parameters.items()}
    tied = aliases.shared({name: its[0].memory for name, its in blocks.items() if its})
    given, standard = read({} if rules is None else rules), _standard_rules(module)
    chosen = {name: pattern or standard[name] for name, pattern in first_matches(parameters, given).items()}
    chosen = {name: chosen[tied.get(name, name)] for name in parameters}
    fillers = {rule: given.get(rule) or parsed(rule, rule.rpartition(": ")[2]) for rule in set(chosen.values())}
    untied = [name for name in parameters if name not in tied]
    jobs = [Job(name, chosen[name], fillers[chosen[name]], parameters[name], blocks[name]) for name in untied]
    with torch.no_grad():
        carry_out(jobs, tensors.seed_from(rng) if isinstance(rng, torch.Generator) else rng, threads)
    for name, row in _padding_rows(module):
        if chosen[name] not in given:
            _zero_row(blocks[name], row)
    torch.autograd.graph.increment_version([parameters[name] for name in untied])
    unused = unused_of(given, chosen)
    if unused:
        warnings.warn(about_unused(unused, parameters), UserWarning, stacklevel=2)
    return InitReport(chosen, tied, unused)


def _blocks(name: str, parameter: torch.Tensor) -> Blocks:
    blocks = tensors.blocks_of(parameter)
    if parameter.is_meta:
        raise ValueError(f"parameter {name!r} must have memory, got the meta device: call to_empty(device='cpu') first")
    if blocks is None:
        raise TypeError(
            f"parameter {name!r} must be a dense tensor on the CPU of dtype float32, float64, float16 or bfloat16, "
            f"got a {type(parameter).__name__} of {parameter.dtype} on {parameter.device}"
        )
    for block in blocks:
        hugepages.advise(block.memory)
    return blocks


# ---- the rules of layers ----

_BIASES = "*bias*"


def _uniform_in_hidden(layer: Any) -> dict[str, str]:
    bound = layer.hidden_size**-0.5 if layer.hidden_size else 0.0
    return {"*": f"uniform({-bound!r}, {bound!r})"}


def _attention(layer: nn.MultiheadAttention) -> dict[str, str]:
    stacked = f"xavier_uniform(fan={layer.embed_dim})"
    return {"in_proj_weight": stacked, "bias_[kv]": "xavier_normal", _BIASES: "zeros", "*": "xavier_uniform"}


def _convolution(layer: _ConvNd) -> dict[str, str]:
    fans = f"groups={layer.groups}, transposed={layer.transposed}"
    return {_BIASES: "zeros", "*": f"kaiming_normal({fans})"}


def _of_any(rules: dict[str, str]) -> Callable[[Any], dict[str, str]]:
    return lambda _layer: rules


_matrix = _of_any({_BIASES: "zeros", "*": "kaiming_normal"})
_embedding = _of_any({"*": "normal(std=0.02)"})
_norm = _of_any({_BIASES: "zeros", "*": "ones"})

_LAYERS: Mapping[type, Callable[[Any], dict[str, str]]] = {
    nn.Linear: _matrix,
    nn.Bilinear: _matrix,
    _ConvNd: _convolution,
    nn.Embedding: _embedding,
    nn.EmbeddingBag: _embedding,
    nn.LayerNorm: _norm,
    nn.RMSNorm: _norm,
    nn.GroupNorm: _norm,
    _NormBase: _norm,
    nn.MultiheadAttention: _attention,
    nn.RNNBase: _uniform_in_hidden,
    nn.RNNCellBase: _uniform_in_hidden,
    nn.PReLU: _of_any({"*": "constant(0.25)"}),
}


def _standard_rules(module: nn.Module) -> dict[str, str]:
    """Return for each parameter the kind of its layer and the rule that this has for it."""
    rules = {}
    for path, layer in module.named_modules(remove_duplicate=False):
        kind = next((kind for kind in type(layer).__mro__ if kind in _LAYERS), None)
        for name, _ in layer.named_parameters(recurse=False, remove_duplicate=False):
            qualified = f"{path}.{name}" if path else name
            known, by = (DEFAULT_RULES, qualified) if kind is None else (_LAYERS[kind](layer), name)
            pattern = first_matches([by], known)[by]
            assert pattern is not None
            rules[qualified] = f"{(kind or type(layer)).__name__.strip('_')}: {known[pattern]}"
    return rules


def _padding_rows(module: nn.Module) -> Iterable[tuple[str, int]]:
    for path, layer in module.named_modules(remove_duplicate=False):
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.padding_idx is not None:
            yield f"{path}.weight" if path else "weight", layer.padding_idx


def _zero_row(blocks: Blocks, row: int) -> None:
    for memory, place in blocks:
        first = place["index"][0].start if place else 0
        if first <= row < first + len(memory):
            memory[row - first] = 0
