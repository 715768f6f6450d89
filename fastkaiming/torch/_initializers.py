"""The random functions of :mod:`torch.nn.init`, which fill tensors from fastkaiming's streams.

To find the distribution, torch's own function is called with a :class:`RecordingTensor`, which records the distribution
and fills nothing. Formulas, defaults and errors are therefore torch's. If fastkaiming cannot fill the tensor, or cannot
represent the distribution, torch's function fills it.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache, wraps
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.compiler import is_dynamo_compiling
from torch.nn import init
from torch.overrides import handle_torch_function, has_torch_function_variadic

from fastkaiming import _core, _errors
from fastkaiming._fill import fill
from fastkaiming._fill.kernel_params import kernel_params
from fastkaiming.distributions import Distribution, Normal, TruncatedNormal, Uniform
from fastkaiming.rng import Key
from fastkaiming.torch import _ranks, _tensors
from fastkaiming.torch._blocks import checks_ranks
from fastkaiming.torch._tensors import PLAIN_TYPES, is_fillable
from fastkaiming.torch._warnings import DISTANT_MEAN, has_distant_mean, warn_at_caller, with_warning_at_caller

Function = Callable[..., Any]

_UNIFORM_DEFAULTS = {"from": 0.0, "to": 1.0}
# Every fill calls this function. The public torch.autograd.graph.increment_version is a slower wrapper of it.
_increment_version = torch._C._increment_version


class RecordingTensor:
    """An object with the shape of a tensor that records the distribution of a fill instead of filling anything."""

    def __init__(self, shape: torch.Size, dtype: torch.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self.distribution: Distribution | None = None

    def dim(self) -> int:
        """Return the number of axes."""
        return len(self.shape)

    def size(self, axis: int) -> int:
        """Return the size of an axis."""
        return int(self.shape[axis])

    def normal_(self, mean: Any = 0.0, std: Any = 1.0, *, generator: None = None) -> None:  # noqa: ARG002
        """Record a normal distribution."""
        self.distribution = Normal(_as_float(mean), _as_float(std))

    def uniform_(self, *bounds: Any, generator: None = None, **kwargs: Any) -> None:  # noqa: ARG002
        """Record a uniform distribution."""
        positional = dict(zip(tuple(_UNIFORM_DEFAULTS)[: len(bounds)], bounds, strict=True))
        low, high = map(_as_float, (_UNIFORM_DEFAULTS | positional | kwargs).values())
        if high - low <= _tensors.format_of(self.dtype).largest:  # torch raises an error if the difference is larger
            self.distribution = Uniform(low, high)

    def trunc_normal_(self, *numbers: Any) -> None:
        """Record a truncated normal distribution, or none if ``std`` is 0, because torch divides by it."""
        _check_trunc_normal(*numbers)
        mean, std, a, b = map(_as_float, numbers)
        self.distribution = TruncatedNormal(mean, std, a, b) if std > 0 else None


def _check_trunc_normal(mean: Any, std: Any, a: Any, b: Any) -> None:
    """Raise an error if torch does, which computes with the arguments as they are."""
    for bound in (a, b):
        math.erf((bound - mean) / std / math.sqrt(2.0))


def _as_float(value: Any) -> float:
    """Return the number that torch reads from an argument, or raise TypeError if torch may not accept it."""
    if isinstance(value, float):
        return float.__float__(value)  # torch does not call __float__ of a subclass
    if isinstance(value, int):
        return int.__float__(value)
    if isinstance(value, torch.Tensor):
        with torch._C.DisableTorchFunction():  # torch does not call __torch_function__ of a number
            if not value.dim() and not value.requires_grad:
                return float(value.item())
    if isinstance(value, np.bool_ | np.integer | np.floating):
        return float(value)
    raise TypeError(f"not a number: {value}")


def try_fill(
    record: Function,
    tensor: torch.Tensor,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    generator: torch.Generator | None = None,
) -> bool:
    """Fill a tensor and return True, or leave it unchanged and return False if torch has to fill it.

    The distribution is the one that ``record(recorder, *args, **kwargs)`` records in a :class:`RecordingTensor`. The
    generator may be among the keyword arguments.
    """
    if kwargs:
        kwargs = dict(kwargs)
        generator = kwargs.pop("generator", generator)
        if kwargs:
            record, args = _bind_keywords(record, tuple(kwargs)), (*args, *kwargs.values())
    if type(tensor) not in PLAIN_TYPES:
        return _fill_dtensor(tensor, record, args, generator)
    if generator is not None and not isinstance(generator, torch.Generator):
        return False
    filled = True
    try:
        filled = _fill(tensor, record, args, generator, None, None, None) is not None
    finally:  # an interrupted fill has already written a part of the tensor
        if filled:
            _increment_version((tensor,))
    return filled


def _fill_dtensor(tensor: torch.Tensor, record: Function, args: tuple[Any, ...], generator: Any) -> bool:
    """Fill the local part of a DTensor and return True, or return False if torch has to fill it."""
    hint = "call torch.manual_seed with the same integer on every rank, or pass generators in the same state"
    source = torch.default_generator if generator is None else generator
    with (
        _errors.named(record.__name__),
        _tensors.restored_on_error(source),
        _ranks.agreement([tensor], hint, check_ranks=checks_ranks()) as agreement,
    ):
        distribution = recorded_distribution(record, tensor, args) if isinstance(source, torch.Generator) else None
        regions = None if distribution is None else _tensors.memory_regions(tensor)
        rule = "torch's own function" if regions is None else repr(distribution)
        agreement.facts = [_ranks.fact(f"{rule} for a DTensor", tensor)]
        if regions is not None:
            agreement.key = Key(_tensors.seed_from_generator(generator))
    if distribution is None or regions is None:
        return False
    try:
        for memory, shard_kwargs in regions:
            fill.fill_(memory, distribution, rng=agreement.key, **shard_kwargs)
    finally:
        _increment_version((tensor,))
    return True


@lru_cache(maxsize=1024)
def _bind_keywords(record: Function, names: tuple[str, ...]) -> Function:
    """Return a function that takes the keyword arguments of these names as its last positional arguments."""

    def record_positional(recorder: RecordingTensor, *values: Any) -> None:
        args, keyword_values = values[: -len(names)], values[-len(names) :]
        record(recorder, *args, **dict(zip(names, keyword_values, strict=True)))

    record_positional.__name__ = record.__name__
    return record_positional


def recorded_distribution(record: Function, tensor: torch.Tensor, args: tuple[Any, ...]) -> Distribution | None:
    """Return the distribution that a tensor is to be filled from, or None if torch has to fill it."""
    if tensor.dtype not in _tensors.DTYPES or tensor.is_nested:
        return None
    if all(type(arg) in _IMMUTABLE for arg in args):
        return _cached_distribution(record, tensor.shape, tensor.dtype, *args)
    return _new_distribution(record, tensor.shape, tensor.dtype, *args)


def _new_distribution(record: Function, shape: torch.Size, dtype: torch.dtype, *args: Any) -> Distribution | None:
    if 0 in shape:
        return None
    recorder = RecordingTensor(shape, dtype)
    try:
        record(recorder, *args)
        if recorder.distribution is not None:
            kernel_params(recorder.distribution, _tensors.format_of(dtype))
    except Exception:  # torch raises the error again when its function is called with the tensor itself
        return None
    return recorder.distribution


_IMMUTABLE = (float, int, str, bool, type(None))
# typed=True, because True equals 1, but calculate_gain does not accept True as a slope.
_cached_distribution = lru_cache(maxsize=4096, typed=True)(_new_distribution)


def _prepare(
    tensor: torch.Tensor, record: Function, args: tuple[Any, ...], *_: Any
) -> tuple[NDArray[Any] | None, _core.Template | None]:
    """Return the memory of a tensor and the template of its fill, or None for both if torch has to fill it."""
    regions = _tensors.memory_regions(tensor)
    distribution = None if regions is None else recorded_distribution(record, tensor, args)
    if regions is None or distribution is None:
        return None, None
    memory = regions[0].memory
    return memory, fill.template(distribution, memory.dtype, _tensors.format_of(tensor.dtype))


_fill = fill.make_entry_point(
    _prepare,
    _tensors.seed_from_generator,
    tensor_types=PLAIN_TYPES,
    storage_of=torch.Tensor.untyped_storage,
    exchange=getattr(torch.Tensor, "__dlpack_c_exchange_api__", None),
).fill_by_shape


def set_public_module(function: Function) -> Function:
    """Set ``__module__`` to ``fastkaiming.torch``, so that pickle, for example, finds the function there."""
    function.__module__, function.__qualname__ = "fastkaiming.torch", function.__name__
    return function


def deprecated(function: Function) -> Function:
    """Return the deprecated variant of a function: its name has no underscore, and it warns as torch's variant does."""
    new = function.__name__
    old = new.removesuffix("_")

    @set_public_module
    @wraps(getattr(init, old))
    def initializer(*args: Any, **kwargs: Any) -> Any:
        text = f"`nn.init.{old}` is now deprecated in favor of `nn.init.{new}`."
        warnings.warn(text, FutureWarning, stacklevel=2)
        return function(*args, **kwargs)

    return initializer


def _make_initializer(torch_function: Function) -> Function:
    """Return a function with the signature of an initializer of torch that fills from fastkaiming's streams."""
    call_torch = with_warning_at_caller(torch_function)
    max_args = torch_function.__code__.co_argcount - 2  # without the tensor, which is first, and the generator, last

    @set_public_module
    @wraps(torch_function)
    def initializer(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        if is_dynamo_compiling() or not is_fillable(tensor):
            return call_torch(tensor, *args, **kwargs)
        if has_torch_function_variadic(tensor):
            return handle_torch_function(initializer, (tensor,), tensor, *args, **kwargs)
        if len(args) <= max_args:
            is_filled = try_fill(torch_function, tensor, args, kwargs)
        else:
            is_filled = (
                len(args) == max_args + 1
                and "generator" not in kwargs
                and try_fill(torch_function, tensor, args[:max_args], kwargs, args[max_args])
            )
        return tensor if is_filled else call_torch(tensor, *args, **kwargs)

    return initializer


uniform_ = _make_initializer(init.uniform_)
normal_ = _make_initializer(init.normal_)
xavier_uniform_ = _make_initializer(init.xavier_uniform_)
xavier_normal_ = _make_initializer(init.xavier_normal_)
kaiming_uniform_ = _make_initializer(init.kaiming_uniform_)
kaiming_normal_ = _make_initializer(init.kaiming_normal_)

_torch_trunc_normal = with_warning_at_caller(init.trunc_normal_)


@set_public_module
@wraps(init.trunc_normal_)
def trunc_normal_(
    tensor: Any,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: torch.Generator | None = None,
) -> Any:
    """Fill a tensor from a truncated normal distribution, as torch.nn.init.trunc_normal_ does."""
    numbers = (mean, std, a, b)
    if is_dynamo_compiling() or not is_fillable(tensor):
        return _torch_trunc_normal(tensor, *numbers, generator=generator)
    if has_torch_function_variadic(tensor):
        return handle_torch_function(trunc_normal_, (tensor,), tensor, *numbers, generator=generator)
    if try_fill_trunc_normal(tensor, *numbers, generator):
        return tensor
    return _torch_trunc_normal(tensor, *numbers, generator=generator)


def try_fill_trunc_normal(
    tensor: Any, mean: float, std: float, a: float, b: float, generator: torch.Generator | None = None
) -> bool:
    """Fill a tensor, warn as torch does and return True, or return False if torch has to fill it."""
    numbers = (mean, std, a, b)
    if (
        has_distant_mean(*numbers)
        and _tensors.memory_regions(tensor) is not None
        and recorded_distribution(RecordingTensor.trunc_normal_, tensor, numbers)
    ):
        warn_at_caller(DISTANT_MEAN)
    return try_fill(RecordingTensor.trunc_normal_, tensor, numbers, {}, generator)
