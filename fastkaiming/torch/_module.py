"""A module at once: every parameter by its qualified name, by the first rule for it or by its layer."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import nn

from fastkaiming import _validation
from fastkaiming.initializers import _shared_memory
from fastkaiming.initializers._model import (
    DEFAULT_RULES,
    Filler,
    FillTask,
    InitReport,
    Rules,
    first_matches,
    is_keep,
    parse_rules,
    quote_names,
    run_fill_tasks,
    unused_patterns,
    warn_about_unused,
)
from fastkaiming.rng import Rng
from fastkaiming.torch import _tensors
from fastkaiming.torch._layers import EMBEDDING, Norms, Rule, filler_of, padding_rows, standard_rules
from fastkaiming.torch._tensors import Block

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
    Conv1D of transformers               the same, its axes the other way round
    Embedding, EmbeddingBag              ``normal(std=0.02)``, and zeros in the row of ``padding_idx``
    LayerNorm, RMSNorm, GroupNorm        weights ones
    BatchNorm, InstanceNorm              weights ones
    MultiheadAttention                   projections of queries, keys and values ``xavier_uniform``, each of a stack of
                                         three for itself; ``bias_k`` and ``bias_v`` ``xavier_normal``; the projection
                                         of the output is a Linear
    RNN, LSTM, GRU and their cells       all from the uniform distribution within 1 / sqrt(hidden_size), as torch has it
    PReLU                                0.25
    ==================================== ============================================================================

    Their biases are zeros. Subclasses are what they derive from, for the parameters that they have of it; other
    parameters, and those of other layers, go by :data:`fastkaiming.DEFAULT_RULES`. Of a weight normalization, the
    directions are drawn as the weight would be, and the magnitudes are their norms. Buffers, such as the running
    statistics of BatchNorm, are left alone; parameters that require no gradient are not, unless a rule keeps them.

    A tied parameter goes by the name under which it was registered first. Any of its names finds it a rule of
    ``rules``, and without one an Embedding comes before other layers.

    Parameters
    ----------
    module : torch.nn.Module
        Its parameters lie on the CPU, whole or as DTensors, and are of dtype float32, float64, float16 or bfloat16.
    rng : int, Generator, numpy.random.Generator or torch.Generator, default 0
        The seed, or what gives it. Every rank of a sharded module has to give the same. A Generator gives its seed
        each time, a torch.Generator another one.
    rules : mapping or sequence of pairs, optional
        As in :func:`fastkaiming.init_`, for the qualified names of parameters; a function gets the parameter itself,
        and ``rng=``, a :class:`fastkaiming.Key`. What has the rule ``"keep"`` may be any tensor.
    threads : int, optional
        At most so many threads, as in :func:`fastkaiming.fill_`.

    Returns
    -------
    InitReport
        By which rule each parameter was filled, which names are tied, and which patterns filled nothing.

    Raises
    ------
    TypeError
        ``module`` is no module, an argument is of the wrong kind, or a parameter is on another device than the CPU, of
        another dtype, or still without a shape. Nothing is written then.
    ValueError
        A parameter that is on the meta device, overlaps itself, or has no rule that fits. Nothing is written then.

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
        raise TypeError(f"module must be a torch.nn.Module, not {_validation.shown(module)}")
    parameters: dict[str, torch.Tensor] = dict(module.named_parameters(remove_duplicate=False))
    names = _names_of_each(parameters)
    given, standard = parse_rules({} if rules is None else rules), standard_rules(module)
    chosen = {name: _chosen(its_names, given, standard) for name, its_names in names.items()}
    filled = [name for name, rule in chosen.items() if not is_keep(rule.filler)]
    blocks = {name: _blocks(name, parameters[name]) for name in filled}
    _refuse_vectors_without_fans(chosen, parameters)
    names = _merge_shared_memory(names, blocks)
    jobs = [
        FillTask(name, chosen[name].label, chosen[name].filler, parameters[name], blocks[name])
        for name in filled
        if name in names
    ]
    jobs.sort(key=lambda job: isinstance(job.filler, Norms))  # after what it is the norm of
    first_of = {name: first for first, its_names in names.items() for name in its_names}
    padding = [(first_of[name], row) for name, row in padding_rows(module) if name in first_of]
    rows = [(blocks[name], row) for name, row in padding if chosen[name].filler is filler_of(EMBEDDING)]
    try:
        with torch.no_grad():
            run_fill_tasks(
                jobs, _tensors.seed_from_generator(rng) if isinstance(rng, torch.Generator) else rng, threads
            )
            for its_blocks, row in rows:
                _zero_row(its_blocks, row)
    finally:  # a function among the rules may raise when others have been carried out
        torch.autograd.graph.increment_version([parameters[job.name] for job in jobs])
    rule_of = {name: chosen[first_of[name]].label for name in parameters}
    unused = unused_patterns(given, rule_of)
    warn_about_unused(unused, parameters)
    shared = {name: first for name, first in first_of.items() if name != first}
    return InitReport(rule_of, shared, unused)


def _names_of_each(parameters: Mapping[str, torch.Tensor]) -> dict[str, list[str]]:
    """Return all names of every parameter, in the order of registration, by the first of them."""
    names: dict[int, list[str]] = {}
    for name, parameter in parameters.items():
        names.setdefault(id(parameter), []).append(name)
    return {its_names[0]: its_names for its_names in names.values()}


def _merge_shared_memory(names: Mapping[str, list[str]], blocks: Mapping[str, Blocks]) -> dict[str, list[str]]:
    """Return the same for memory, of which several parameters may be views."""
    shared = _shared_memory.find_shared({name: its[0].memory for name, its in blocks.items() if its})
    joined: dict[str, list[str]] = {}
    firsts: dict[str, str] = {}
    for name, its_names in names.items():
        first = firsts.setdefault(shared.get(name, name), name)
        joined.setdefault(first, []).extend(its_names)
    return joined


def _blocks(name: str, parameter: torch.Tensor) -> Blocks:
    blocks = _tensors.memory_blocks(parameter)
    if blocks is None or parameter.is_meta:
        raise _refusal(name, parameter)
    return blocks


def _refusal(name: str, parameter: torch.Tensor) -> Exception:
    """Return why a parameter cannot be filled."""
    if isinstance(parameter, nn.parameter.UninitializedTensorMixin):
        return TypeError(f"parameter {name!r} must have a shape: run a forward pass of its lazy module first")
    if parameter.is_meta:
        return ValueError(
            f"parameter {name!r} must have memory, got the meta device: call to_empty(device='cpu') first"
        )
    if parameter.is_inference() and not torch.is_inference_mode_enabled():
        return ValueError(f"parameter {name!r} must not be an inference tensor outside of torch.inference_mode()")
    if parameter.dtype in _tensors.DTYPES and parameter.is_cpu and parameter.layout is torch.strided:
        return ValueError(
            f"parameter {name!r} must not overlap itself, got strides {parameter.stride()} "
            f"for shape {tuple(parameter.shape)}"
        )
    return TypeError(
        f"parameter {name!r} must be a dense tensor on the CPU of dtype float32, float64, float16 or bfloat16, "
        f"or have the rule 'keep', got a {type(parameter).__name__} of {parameter.dtype} on {parameter.device}"
    )


# ---- which rule ----


def _chosen(names: Sequence[str], given: Mapping[str, Filler], standard: Mapping[str, Rule | None]) -> Rule:
    """Return the first given rule that any name of a parameter matches, or else that of a layer that it belongs to.

    Of layers that share it, an embedding decides: it is from there that a language model's last layer takes its weight.
    """
    matches = [pattern for pattern in first_matches(names, given).values() if pattern is not None]
    if matches:
        pattern = min(matches, key=list(given).index)
        return Rule(pattern, given[pattern])
    rules = [rule for rule in map(standard.__getitem__, names) if rule is not None]
    if not rules:
        raise ValueError(f"parameter {names[0]!r} of a parametrization must have a rule, got none")
    return next((rule for rule in rules if rule.filler is filler_of(EMBEDDING)), rules[0])


def _refuse_vectors_without_fans(chosen: Mapping[str, Rule], parameters: Mapping[str, torch.Tensor]) -> None:
    """Refuse at once all parameters that are left to the last of the default rules, and have no fans for it."""
    last = filler_of(DEFAULT_RULES["*"])
    lost = [name for name, rule in chosen.items() if rule.filler is last and parameters[name].dim() < 2]
    if lost:
        example = {"*" + lost[0].rpartition(".")[2]: "ones"}
        raise ValueError(
            f"parameters of fewer than two axes must have a rule, rules={example} for example, got none for "
            f"{quote_names(lost)}"
        )


def _zero_row(blocks: Blocks, row: int) -> None:
    for memory, place in blocks:
        first = place["index"][0].start if place else 0
        if first <= row < first + len(memory):
            memory[row - first] = 0
