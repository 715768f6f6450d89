"""``init_module_``: fills every parameter of a module according to its qualified name and its layer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from fastkaiming import _validation
from fastkaiming._agreement import Fact
from fastkaiming._errors import named
from fastkaiming._fill.fill import distribution_of
from fastkaiming.initializers import _shared_memory
from fastkaiming.initializers._fans import LAYOUT_CHOICES
from fastkaiming.initializers._model import (
    Filler,
    FillTask,
    InitReport,
    Rules,
    generator_from,
    is_deferrable,
    is_keep,
    parse_rules,
    quote_names,
    run_fill_tasks,
    unused_patterns,
    warn_about_unused,
)
from fastkaiming.initializers._patterns import first_matches
from fastkaiming.rng import Key, Rng
from fastkaiming.torch import _ranks, _tensors
from fastkaiming.torch._buffers import BufferDefault, default_buffers, persistent_buffers
from fastkaiming.torch._fillable import check_memory, fillable_regions
from fastkaiming.torch._layers import (
    EMBEDDING_RULE,
    Rule,
    padding_rows,
    parameters_without_units,
    parse_filler,
    standard_rules,
)
from fastkaiming.torch._parametrizations import Derived, NormFiller, derived_tensors
from fastkaiming.torch._tensors import Region

# The rule of a parameter that does not require gradients and that no pattern of the user matches.
_FROZEN = Rule("requires_grad=False", parse_filler("keep"))


def init_module_(
    module: nn.Module,
    rng: Rng | torch.Generator = 0,
    rules: Rules | None = None,
    *,
    buffers: bool = False,
    threads: int | None = None,
    check_ranks: bool = True,
) -> InitReport:
    """Fill every parameter of a module in place by rules, each from the stream of its qualified name.

    Use this function for an initialization of your own. To run the initialization that the authors of a model chose,
    for example after ``to_empty()``, use :func:`reset_module_` instead.

    The values of a parameter depend only on the seed and on its name, shape, dtype and rule. They do not depend on
    other parameters or on how a DTensor is sharded: every rank fills its local part of the same whole tensor.

    A parameter that no pattern of ``rules`` matches is filled by the default rule of its layer:

    ==================================== ============================================================================
    layer                                parameters
    ==================================== ============================================================================
    Linear, Bilinear                     weights ``kaiming_normal``
    Conv, ConvTranspose                  weights ``kaiming_normal``, with fans that account for groups and transposition
    Conv1D of transformers               weights ``kaiming_normal``, with inputs as the first axis
    experts of transformers, and other   weights ``kaiming_normal``, with the fans of one expert, in the orientation of
    layers of it with stacked weights    the layer
    Embedding, EmbeddingBag              ``normal(std=0.02)``, and zeros in the row of ``padding_idx``
    LayerNorm, RMSNorm, GroupNorm        weights ones
    BatchNorm, InstanceNorm              weights ones
    MultiheadAttention                   projections of queries, keys and values ``xavier_uniform``, each with its own
                                         fans even if one matrix holds all three; ``bias_k`` and ``bias_v``
                                         ``xavier_normal``; the output projection is a Linear
    RNN, LSTM, GRU and their cells       all parameters uniform within 1 / sqrt(hidden_size), as in torch
    PReLU                                0.25
    ==================================== ============================================================================

    All other biases of these layers are zeros. A subclass of a layer uses the rules of the layer for the parameters
    that it inherits. Its other parameters, and the parameters of other layers, are filled according to
    :data:`fastkaiming.DEFAULT_RULES`, whose last rule is ``kaiming_normal`` for parameters with two axes. With fewer or
    more axes, a parameter that no other rule matches needs a rule in ``rules``: what its axes mean is not known. The
    default rules do not know which parameters have to start at a special value, such as ``lora_B`` of a LoRA adapter,
    which has to start at zero: pass rules for them.

    A parameter that does not require gradients is kept as it is unless a pattern of ``rules`` matches it. A tied
    parameter is filled from the stream of the name that was registered first. A pattern of ``rules`` applies if it
    matches any of the names. If no pattern does, the default rule of an Embedding takes precedence over those of other
    layers.

    The parametrizations of :mod:`torch.nn.utils` give the weights that their names promise. With ``weight_norm``, the
    directions are filled like the weight itself, and the magnitudes are set to their norms. With ``orthogonal``, the
    weight is the orthogonal factor of the values of the rule, or, with ``use_trivialization=False``, the result of its
    map for these values. With ``spectral_norm``, the vectors of the power iteration are computed from the new weight,
    so that the largest singular value is 1 at once. torch computes these factors and vectors, and their last bits may
    depend on the machine. Other buffers are not changed by default.

    Parameters
    ----------
    module : torch.nn.Module
        The module. Its parameters must be CPU tensors or DTensors of dtype float32, float64, float16 or bfloat16,
        unless they are kept.
    rng : int, Generator, numpy.random.Generator or torch.Generator, default 0
        The seed, or a generator that provides it. Every rank of a sharded module must pass the same seed, which
        excludes None. A Generator provides the same seed at every call; a torch.Generator provides a new one.
    rules : mapping or sequence of pairs, optional
        Patterns of qualified names and their rules, as in :func:`fastkaiming.init_`. If a rule is a function, it is
        called with the parameter and with ``rng=``, a :class:`fastkaiming.Key`. A rule such as ``"kaiming_normal"``
        without a layout reads three or more axes as torch does, as those of a convolution.
    buffers : bool, default False
        If True, set the buffers of torch's layers to the values of a new layer: the running statistics of BatchNorm and
        InstanceNorm, and the vectors of ``spectral_norm`` also for a weight that is kept. Use this after
        ``to_empty()``, which leaves any values in the memory. Other buffers are never changed.
    threads : int, optional
        The maximum number of threads, as in :func:`fastkaiming.fill_`.
    check_ranks : bool, default True
        If the module has DTensors, compare the seeds, the arguments and these DTensors between the ranks of their
        meshes before anything is filled. If any rank differs or raises an error, all of them raise an error. With
        False, the ranks do not communicate.

    Returns
    -------
    InitReport
        The rule of each parameter and of each buffer that was set, the tied names, the patterns of rules that filled no
        parameter, and the parameters and persistent buffers that were kept.

    Raises
    ------
    TypeError
        If ``module`` is not a module, if an argument has the wrong type, or if a parameter is not on the CPU, has
        another dtype, is sparse, nested or of a tensor subclass, or is uninitialized and has no shape yet. No parameter
        is changed.
    ValueError
        If a parameter is on the meta device, has no elements although its layer has units, has no memory, is a DTensor
        of partial sums, overlaps itself, or has no suitable rule; if a combination of parametrizations is not
        supported; or if the ranks that share DTensors differ. No parameter is changed.

    Warns
    -----
    UserWarning
        If a rule of ``rules`` filled no parameter.

    Examples
    --------
    >>> import torch
    >>> from fastkaiming.torch import init_module_
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.LayerNorm(32))
    >>> init_module_(model, rng=42, rules={"0.weight": "kaiming_uniform(nonlinearity='tanh')"}).filled["0.bias"]
    'Linear: zeros'
    """
    with named("init_module_"):
        report = _init_module(module, rng, rules, buffers, threads, check_ranks)
    warn_about_unused(report.unused, dict(module.named_parameters(remove_duplicate=False)))
    return report


class _Plan(NamedTuple):
    """What a call writes, and what it reports."""

    tasks: Sequence[FillTask]
    zero_rows: Sequence[tuple[Sequence[Region], int]]  # of embeddings, after the tasks
    derived: Sequence[Derived]
    defaults: Sequence[BufferDefault]
    report: InitReport


def _init_module(
    module: nn.Module, rng: Rng | torch.Generator, rules: Rules | None, buffers: bool, threads: int | None, check: bool
) -> InitReport:
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, not {_validation.describe(module)}")
    parameters: dict[str, torch.Tensor] = dict(module.named_parameters(remove_duplicate=False))
    check_ranks = _validation.flag("check_ranks", check)
    with _tensors.restored_on_error(rng), _ranks.module_agreement(parameters, check_ranks=check_ranks) as agreement:
        sets_buffers = _validation.flag("buffers", buffers)
        user_rules = parse_rules({} if rules is None else rules)
        plan = _plan(module, parameters, user_rules, sets_buffers)
        streams = generator_from(_tensors.seed_from_generator(rng) if isinstance(rng, torch.Generator) else rng)
        agreement.key = Key(streams.seed)
        agreement.facts = [
            *_ranks.facts_of_rules(user_rules),
            Fact(f"buffers={sets_buffers}"),
            *_ranks.facts_of_dtensors(parameters, plan.report.filled),
        ]
    try:
        with torch.no_grad():
            run_fill_tasks(plan.tasks, streams, threads)
            for embedding_regions, row in plan.zero_rows:
                _zero_row(embedding_regions, row)
            for each in plan.derived:
                each.compute()
            for default in plan.defaults:
                default.buffer.fill_(default.value)
    finally:  # a function in the rules may raise after other parameters have been filled
        torch.autograd.graph.increment_version([task.whole for task in plan.tasks])
    return plan.report


def _plan(
    module: nn.Module, parameters: Mapping[str, torch.Tensor], user_rules: Mapping[str, Filler], sets_buffers: bool
) -> _Plan:
    """Return what to write, or raise the error that says why a parameter or buffer cannot be written."""
    names = _tied_names(parameters)
    found = _choose_rules(names, parameters, user_rules, standard_rules(module))
    filled = [name for name, rule in found.items() if rule is None or not is_keep(rule.filler)]
    empty = parameters_without_units(module)
    regions = {name: fillable_regions(name, parameters[name], may_be_empty=name in empty) for name in filled}
    chosen = _known_rules(found, parameters)
    names = _merge_shared_memory(names, regions, {n: parameters[n] for n in names if chosen[n] is _FROZEN})
    tasks = [
        FillTask(name, chosen[name].label, chosen[name].filler, parameters[name], regions[name])
        for name in filled
        if name in names
    ]
    tasks.sort(key=lambda task: isinstance(task.filler, NormFiller))  # norms are computed from filled directions
    first_of = {name: first for first, all_names in names.items() for name in all_names}
    padding = [(first_of[name], row) for name, row in padding_rows(module) if name in first_of]
    rows = [(regions[name], row) for name, row in padding if chosen[name].filler is parse_filler(EMBEDDING_RULE)]
    derived = [*_derived_of(module, [name for name in first_of if first_of[name] in regions], sets_buffers)]
    _check_divided(derived, {name: chosen[first] for name, first in first_of.items()}, parameters)
    defaults = [*default_buffers(module)] if sets_buffers else []
    _check_buffers(module, derived, defaults)
    rule_of = {name: chosen[first].label for name, first in first_of.items() if chosen[first] is not _FROZEN}
    written = {name: each.label for each in derived for name in each.buffers}
    written |= {default.name: default.label for default in defaults}
    kept = [name for name in parameters if is_keep(chosen[first_of[name]].filler)]
    kept += [name for name in persistent_buffers(module) if name not in written]
    shared = {name: first for name, first in first_of.items() if name != first}
    filled_by = {name: rule_of[name] for name in parameters if name in rule_of}
    report = InitReport({**filled_by, **written}, shared, unused_patterns(user_rules, rule_of), tuple(kept))
    return _Plan(tasks, rows, derived, defaults, report)


def _tied_names(parameters: Mapping[str, torch.Tensor]) -> dict[str, list[str]]:
    """Return a dict that maps the first name of each parameter to all its names, in the order of registration."""
    names: dict[int, list[str]] = {}
    for name, parameter in parameters.items():
        names.setdefault(id(parameter), []).append(name)
    return {all_names[0]: all_names for all_names in names.values()}


def _merge_shared_memory(
    names: Mapping[str, list[str]], regions: Mapping[str, Sequence[Region]], frozen: Mapping[str, torch.Tensor]
) -> dict[str, list[str]]:
    """Return ``names`` with the parameters that are views of the same memory merged into one entry.

    ``regions`` is the memory of the parameters to be filled. A parameter in ``frozen`` changes nevertheless if it is a
    view of such memory.
    """
    kept = {name: _tensors.memory_regions(parameter) or () for name, parameter in frozen.items()}
    memory = {name: each[0].memory for name, each in {**regions, **kept}.items() if each}
    shared = _shared_memory.find_shared(memory)
    merged: dict[str, list[str]] = {}
    firsts: dict[str, str] = {}
    for name in sorted(names, key=frozen.__contains__):
        first = firsts.setdefault(shared.get(name, name), name)
        merged.setdefault(first, []).extend(names[name])
    return merged


# ---- the choice of a rule ----


def _choose_rules(
    names: Mapping[str, Sequence[str]],
    parameters: Mapping[str, torch.Tensor],
    user_rules: Mapping[str, Filler],
    layer_rules: Mapping[str, Rule | None],
) -> dict[str, Rule | None]:
    """Return for each parameter the first user rule that matches any of its names, or else the rule of its layer."""
    matches = first_matches([name for all_names in names.values() for name in all_names], user_rules)
    order = {pattern: number for number, pattern in enumerate(user_rules)}
    chosen: dict[str, Rule | None] = {}
    for first, all_names in names.items():
        matched = [pattern for pattern in map(matches.__getitem__, all_names) if pattern is not None]
        if matched:
            pattern = min(matched, key=order.__getitem__)
            chosen[first] = Rule(pattern, user_rules[pattern])
        else:
            chosen[first] = _layer_rule(all_names, layer_rules) if parameters[first].requires_grad else _FROZEN
    return chosen


def _layer_rule(names: Sequence[str], layer_rules: Mapping[str, Rule | None]) -> Rule | None:
    """Return the rule of the layer of a parameter, if there is one.

    If several layers share the parameter, the rule of an embedding takes precedence, because the output layer of a
    language model often shares the weight of the embedding.
    """
    rules = [rule for rule in map(layer_rules.__getitem__, names) if rule is not None]
    return next((rule for rule in rules if rule.filler is parse_filler(EMBEDDING_RULE)), rules[0] if rules else None)


def _known_rules(found: Mapping[str, Rule | None], parameters: Mapping[str, torch.Tensor]) -> dict[str, Rule]:
    """Return the rules, or raise one error for all parameters for which none is known."""
    unknown = [name for name, rule in found.items() if rule is None]
    if unknown:
        shapes = quote_names(unknown, [tuple(parameters[name].shape) for name in unknown])
        layouts = ""
        if any(parameters[name].dim() > 2 for name in unknown):
            layouts = f"; a rule that depends on the fans must say what three or more axes mean: {LAYOUT_CHOICES}"
        raise ValueError(
            "parameters must have a rule if neither their layers nor their names determine one, got none for "
            f"{shapes}: add rules for them, or call reset_module_, which runs the initialization of the module's "
            f"authors{layouts}"
        )
    return {name: rule for name, rule in found.items() if rule is not None}


# ---- parametrizations and buffers ----


def _derived_of(module: nn.Module, filled: Sequence[str], sets_buffers: bool) -> Iterator[Derived]:
    """Yield what parametrizations have to compute: from filled parameters, or their buffers if these are to be set.

    Raise ValueError if a parametrization does not support that its parameter is filled.
    """
    names = set(filled)
    for each in derived_tensors(module):
        if names.intersection(each.parameters):
            if each.unsupported is not None:
                raise ValueError(each.unsupported)
            yield each
        elif sets_buffers and each.buffers and not each.rewrites:
            yield each


def _check_divided(
    derived: Sequence[Derived], rules: Mapping[str, Rule], parameters: Mapping[str, torch.Tensor]
) -> None:
    """Raise ValueError if a rule fills a parameter with zeros that a normalization divides by its norm."""
    for each in derived:
        if each.divided is not None and _is_constant_zero(rules[each.divided].filler, parameters[each.divided]):
            rule = rules[each.divided].label
            raise ValueError(
                f"parameter {each.divided!r} must not be filled with zeros, because a normalization divides it by its "
                f"norm, got the rule {rule!r}"
            )


def _is_constant_zero(filler: Filler, parameter: torch.Tensor) -> bool:
    if is_keep(filler) or not is_deferrable(filler) or parameter.numel() == 0:
        return False
    empty = np.empty((0,) * parameter.dim(), np.float32)
    index = (slice(0),) * parameter.dim()
    try:
        distribution = distribution_of(filler, empty, rng=0, global_shape=tuple(parameter.shape), index=index)
    except (TypeError, ValueError):  # the fill raises it again and names the parameter
        return False
    return distribution.mean == distribution.std == 0


def _check_buffers(module: nn.Module, derived: Sequence[Derived], defaults: Sequence[BufferDefault]) -> None:
    """Raise an error if a buffer that is to be written has no memory."""
    buffers = dict(module.named_buffers())
    written = {name: buffers[name] for each in derived for name in each.buffers if name in buffers}
    for name, buffer in (written | {default.name: default.buffer for default in defaults}).items():
        check_memory(f"buffer {name!r}", buffer)


def _zero_row(regions: Sequence[Region], row: int) -> None:
    for memory, shard_kwargs in regions:
        first = shard_kwargs["index"][0].start if shard_kwargs else 0
        if first <= row < first + len(memory):
            memory[row - first] = 0
