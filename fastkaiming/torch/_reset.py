"""``reset_module_``: runs the initialization that a module itself has, with the fills from named streams."""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from fastkaiming import _validation
from fastkaiming._agreement import Fact
from fastkaiming._errors import named
from fastkaiming.initializers._model import InitReport, generator_from, quote_names
from fastkaiming.initializers._patterns import first_matches
from fastkaiming.rng import Key, Rng
from fastkaiming.torch import _ranks, _tensors
from fastkaiming.torch._accelerate import accelerate
from fastkaiming.torch._data_assignments import CheckedDataAssignments
from fastkaiming.torch._fillable import empty_error
from fastkaiming.torch._layers import parameters_without_units
from fastkaiming.torch._named_writes import NamedWrites, active_writes
from fastkaiming.torch._parametrizations import has_spectral_norm, restart_power_iteration


def reset_module_(
    module: nn.Module,
    rng: Rng | torch.Generator = 0,
    *,
    keep: str | Sequence[str] = (),
    threads: int | None = None,
    check_ranks: bool = True,
) -> InitReport:
    """Run a module's own initialization, with each tensor filled from the stream of its qualified name.

    The distribution of every parameter and buffer is the one that the authors of the module chose, because their code
    runs:

    - ``reset_parameters`` or ``_reset_parameters`` of every module in it, first of the inner ones,
    - ``init_weights`` of every module that has it, as models of transformers and torchtitan do. For a model of
      transformers, it calls ``_init_weights`` for each module and ties the weights;
    - if a module has no ``init_weights``, but a method ``_init_weights`` that takes a module, as many models do that
      pass it to ``torch.nn.Module.apply``: this method for every module in it.

    Other methods that require arguments are not called. Code in a constructor does not run again: if a model
    initializes its weights in its constructor, as those of torchvision do, construct it within :func:`accelerate`
    instead.

    Every random fill of a parameter or a buffer, or of a part of it, takes its values from the stream of the tensor's
    name. The values depend only on the seed and on the tensor's name, shape, dtype and distribution. They do not depend
    on the other tensors, on the order in which the code runs, or on how a DTensor is sharded. All other random numbers
    that the code uses, for example for ``torch.nn.init.orthogonal_``, come from torch's default generator, which is
    seeded from ``rng`` and the name of the module whose code runs, and restored at the end. The weight of a
    convolution that is not contiguous is such a case, because torch fills a temporary tensor and copies it.

    Parameters
    ----------
    module : torch.nn.Module
        The module. Its tensors must be in the memory of the CPU, for example after
        ``module.to_empty(device="cpu")``.
    rng : int, Generator, numpy.random.Generator or torch.Generator, default 0
        The seed, or a generator that provides it. Every rank of a sharded module must pass the same seed, which
        excludes None. A Generator provides the same seed at every call; a torch.Generator provides a new one.
    keep : str or sequence of str
        Patterns of the names of parameters and buffers that may stay as they are, as in :func:`fastkaiming.init_`. By
        default, every tensor must be initialized by the code of the module.
    threads : int, optional
        The maximum number of threads, as in :func:`fastkaiming.fill_`.
    check_ranks : bool, default True
        If the module has DTensors, compare the seeds, ``keep`` and these DTensors between the ranks of their meshes
        before any code runs. If any rank differs or raises an error, all of them raise an error. The code of the module
        is not compared. With False, the ranks do not communicate.

    Returns
    -------
    InitReport
        For each parameter and buffer, the code that wrote to it last, and the names of tied parameters.

    Raises
    ------
    TypeError
        If an argument has the wrong type, or a parameter is uninitialized and has no shape yet. Nothing is changed.
    ValueError
        If a tensor is not in the memory of the CPU, if a parameter has no elements although its layer has units and no
        pattern of ``keep`` matches it, or if the ranks that share DTensors differ. Nothing is changed then. Also if no
        code of the module initializes a tensor that no pattern of ``keep`` matches, after all others have been
        initialized; if the code applies an operation to a sharded parameter whose result would depend on the sharding;
        and if it assigns to the ``data`` of a sharded parameter, which torch ignores.

    Examples
    --------
    >>> import torch
    >>> from fastkaiming.torch import reset_module_
    >>> with torch.device("meta"):
    ...     layer = torch.nn.Linear(64, 32)
    >>> layer = layer.to_empty(device="cpu")
    >>> reset_module_(layer, rng=42).filled
    {'weight': 'Linear.reset_parameters', 'bias': 'Linear.reset_parameters'}
    """
    with named("reset_module_"):
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, not {_validation.describe(module)}")
        tensors = _named_tensors(module)
        check = _validation.flag("check_ranks", check_ranks)
        with _tensors.restored_on_error(rng), _ranks.module_agreement(tensors, check_ranks=check) as agreement:
            patterns = _patterns(keep)
            for name, tensor in tensors.items():
                _check_memory(name, tensor)
            _check_elements(module, tensors, patterns)
            streams = generator_from(_tensors.seed_from_generator(rng) if isinstance(rng, torch.Generator) else rng)
            writes = NamedWrites(tensors, streams)
            agreement.key = Key(streams.seed)
            agreement.facts = [Fact(f"keep={patterns}"), *_ranks.facts_of_dtensors(tensors, {})]
        with torch.no_grad():
            with _restored_generator(), _without_ties(module), _active(writes):
                _reset(module, writes)
            tensors = _named_tensors(module)  # the code may have tied weights
            writes.perform_postponed([*tensors.values()], threads)
        return _report(tensors, writes, patterns)


def _patterns(keep: str | Sequence[str]) -> list[str]:
    if not isinstance(keep, Sequence):
        raise TypeError(f"keep must be a string or a sequence of strings, not {_validation.describe(keep)}")
    return [_validation.text("a pattern in keep", each) for each in ([keep] if isinstance(keep, str) else keep)]


def _named_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    parameters = module.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(module.named_buffers(remove_duplicate=False))}


def _check_memory(name: str, tensor: torch.Tensor) -> None:
    if isinstance(tensor, nn.parameter.UninitializedTensorMixin):
        raise TypeError(f"parameter {name!r} must have a shape: first run a forward pass of its lazy module")
    if tensor.is_meta:
        raise ValueError(f"parameter {name!r} must have memory, got the meta device: call to_empty(device='cpu') first")
    if not tensor.is_cpu:
        raise ValueError(f"parameter {name!r} must be in the memory of the CPU, got a tensor on {tensor.device}")


def _check_elements(module: nn.Module, tensors: Mapping[str, torch.Tensor], patterns: Sequence[str]) -> None:
    """Raise an error if a parameter has no elements, unless its layer has no units or a pattern matches its name."""
    without_units, kept = parameters_without_units(module), first_matches(tensors, patterns)
    valid = {id(tensors[name]) for name in tensors if name in without_units or kept[name] is not None}
    for name, parameter in module.named_parameters():
        if parameter.numel() == 0 and id(parameter) not in valid:
            raise empty_error(f"parameter {name!r}", parameter, "or name the parameter in keep")


@contextmanager
def _restored_generator() -> Iterator[None]:
    state = torch.default_generator.get_state()
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


@contextmanager
def _without_ties(module: nn.Module) -> Iterator[None]:
    """Replace all but the first occurrence of a tied parameter by tensors without memory, which code writes to in vain.

    In a constructor, parameters are tied after the layers have been initialized, and the first layer's values remain.
    """
    seen: set[int] = set()
    replaced: list[tuple[nn.Module, str, nn.Parameter, nn.Parameter]] = []
    for each in module.modules():
        for name, parameter in [*each._parameters.items()]:
            if parameter is not None and id(parameter) in seen:
                no_memory = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
                placeholder = nn.Parameter(no_memory, requires_grad=False)
                each._parameters[name] = placeholder
                replaced.append((each, name, parameter, placeholder))
            seen.add(id(parameter))
    try:
        yield
    finally:
        for each, name, parameter, placeholder in replaced:
            if each._parameters.get(name) is placeholder:  # otherwise the code has tied it again
                each._parameters[name] = parameter


@contextmanager
def _active(writes: NamedWrites) -> Iterator[None]:
    checked: AbstractContextManager[Any] = nullcontext()
    if writes.has_sharded():  # otherwise the calls of the code to torch are not slowed down
        checked = CheckedDataAssignments(writes)
    token = active_writes.set(writes)
    try:
        with accelerate(), writes, checked:
            yield
    finally:
        active_writes.reset(token)


def _reset(module: nn.Module, writes: NamedWrites) -> None:
    """Run the initialization of a module and of all modules in it, in the order in which constructors run it."""
    paths = {each: path for path, each in module.named_modules()}
    inner_modules: set[nn.Module] = set()  # of models of transformers, which initialize them themselves
    for each in paths:
        if _is_transformers_model(each) and each not in inner_modules:
            inner_modules.update(inner for inner in each.modules() if inner is not each)
    for each in _inner_first(module):
        for method in ("reset_parameters", "_reset_parameters"):
            _call(each, method, paths[each], writes)
        if each in inner_modules:
            continue
        if _takes(getattr(each, "init_weights", None)):
            with _transformers_model(each, paths, writes):
                _call(each, "init_weights", paths[each], writes)
        elif _takes(getattr(each, "_init_weights", None), each):
            for inner in _inner_first(each):
                _call(each, "_init_weights", paths[inner], writes, inner)


def _inner_first(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and all modules in it, each after the modules that it contains."""
    seen: set[nn.Module] = set()

    def visit(each: nn.Module) -> Iterator[nn.Module]:
        if each not in seen:
            seen.add(each)
            for child in each.children():
                yield from visit(child)
            yield each

    return visit(module)


def _call(module: nn.Module, method: str, path: str, writes: NamedWrites, *args: nn.Module) -> None:
    """Call a method of a module if it exists and can be called with these arguments."""
    function: Any = getattr(module, method, None)
    if _takes(function, *args):
        with writes.running(f"{_original_class(module).__name__}.{method}", path), _assigned_parametrizations(module):
            function(*args)


@contextmanager
def _assigned_parametrizations(module: nn.Module) -> Iterator[None]:
    """Assign the parametrized tensors of a module to their parametrizations at the end of the ``with`` block.

    A parametrized tensor is computed at each access, so what the code of the layer writes to it would be lost.
    """
    if not parametrize.is_parametrized(module):
        yield
        return
    with parametrize.cached():
        yield
        values = {name: getattr(module, name) for name in module.parametrizations}
    for name, value in values.items():
        parametrizations: Any = module.parametrizations[name]
        if any(hasattr(each, "right_inverse") for each in parametrizations):
            setattr(module, name, value)
        else:  # then the original has the values that the layer had when the parametrization was registered
            parametrizations.original.copy_(value)
        if has_spectral_norm(module, name):
            restart_power_iteration(module, name)


def _takes(function: Any, *args: nn.Module) -> bool:
    """Return True if an object is a function that requires exactly these arguments."""
    try:
        required = [each for each in inspect.signature(function).parameters.values() if each.default is each.empty]
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [each for each in required if each.kind not in variadic]
    return len(required) == len(args) and all(each.kind in kinds for each in required)


def _original_class(module: nn.Module) -> type:
    """Return the class of a module, without the class that ``fully_shard`` derives from it."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return next(kind for kind in type(module).__mro__ if fsdp is None or not issubclass(kind, fsdp.FSDPModule))


def _is_transformers_model(module: nn.Module) -> bool:
    transformers = sys.modules.get("transformers.modeling_utils")
    return transformers is not None and isinstance(module, transformers.PreTrainedModel)


@contextmanager
def _transformers_model(model: Any, paths: Mapping[nn.Module, str], writes: NamedWrites) -> Iterator[None]:
    """Prepare a model of transformers for a new initialization: clear its marks of what has been initialized.

    In the ``with`` block, torch's generator is seeded for each module that ``_init_weights`` initializes.
    """
    if not _is_transformers_model(model):
        yield
        return
    for marked in (*model.modules(), *_named_tensors(model).values()):
        if getattr(marked, "_is_hf_initialized", False):
            del marked._is_hf_initialized
    inner_models = [each for each in model.modules() if _is_transformers_model(each)]
    for inner in inner_models:
        inner._init_weights = _seeded(inner, paths, writes)
        # transformers skips some modules of a class that is not its own, and the one that fully_shard derives is not.
        inner.is_custom_code = _original_class(inner).is_custom_code  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for inner in inner_models:
            del inner._init_weights, inner.is_custom_code


def _seeded(model: Any, paths: Mapping[nn.Module, str], writes: NamedWrites) -> Callable[[nn.Module], None]:
    """Return the method ``_init_weights`` of a model, which seeds torch's generator for each module."""
    init_weights = model._init_weights

    def init_weights_of(module: nn.Module) -> None:
        with writes.running(f"{_original_class(model).__name__}._init_weights", paths[module]):
            init_weights(module)

    return init_weights_of


def _report(tensors: Mapping[str, torch.Tensor], writes: NamedWrites, patterns: Sequence[str]) -> InitReport:
    """Return the report, or raise an error if the code left a tensor unchanged that is not to be kept."""
    names: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), []).append(name)
    kept, filled, missing = first_matches(tensors, patterns), {}, []
    for first, *others in names.values():
        tensor = tensors[first]
        writer = writes.writer_of(tensor)
        if writer is None:
            pattern = next((kept[name] for name in (first, *others) if kept[name] is not None), None)
            writer = f"keep: {pattern}" if pattern is not None else "no elements" if tensor.numel() == 0 else None
        if writer is None:
            missing.append(first)
        else:
            filled[first] = writer
    if missing:
        raise ValueError(
            f"every tensor must be initialized by a method of the module or match a pattern of keep, got neither for "
            f"{quote_names(missing)}: if only the constructor sets them, set them and name them in keep"
        )
    return InitReport(filled, {name: first for first, *others in names.values() for name in others}, ())
