"""The random names of :mod:`torch.nn.init`: they draw what torch's own would, from fastkaiming's streams.

What an initializer draws is asked of torch itself, by its own function on a stand-in that only keeps the answer: so
formulas, defaults and errors are torch's. Where the tensor or the answer is not ours to draw, torch draws.
"""

import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache, wraps
from typing import Any

import torch
from numpy.typing import NDArray
from torch.compiler import is_compiling
from torch.nn import init
from torch.overrides import handle_torch_function, has_torch_function_variadic

from fastkaiming import _core
from fastkaiming._fill import fill
from fastkaiming._fill.kernel_params import kernel_params
from fastkaiming.distributions import Distribution, Normal, TruncatedNormal, Uniform
from fastkaiming.torch import _tensors
from fastkaiming.torch._tensors import is_fillable

Function = Callable[..., Any]

_ENDS = {"from": 0.0, "to": 1.0}
_increment_version = torch._C._increment_version  # of a tuple; torch.autograd.graph's makes one first


class RecordingTensor:
    """Has the shape of a tensor, and keeps the distribution that it is asked to be filled with."""

    def __init__(self, shape: torch.Size, dtype: torch.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self.answer: Distribution | None = None

    def dim(self) -> int:
        """Return the number of axes."""
        return len(self.shape)

    def size(self, axis: int) -> int:
        """Return the size of an axis."""
        return int(self.shape[axis])

    def normal_(self, mean: float = 0.0, std: float = 1.0, *, generator: None = None) -> None:  # noqa: ARG002
        """Keep a normal distribution."""
        self.answer = Normal(mean, std)

    def uniform_(self, *ends: float, generator: None = None, **named: float) -> None:  # noqa: ARG002
        """Keep a uniform distribution."""
        low, high = (_ENDS | dict(zip(tuple(_ENDS)[: len(ends)], ends, strict=True)) | named).values()
        if high - low <= _tensors.format_of(self.dtype).greatest:  # torch refuses a greater difference
            self.answer = Uniform(low, high)

    def truncated(self, mean: float, std: float, a: float, b: float) -> None:
        """Keep a truncated normal distribution; torch divides by its ``std``."""
        self.answer = TruncatedNormal(mean, std, a, b) if std > 0 else None


def try_fill(
    ask: Function,
    tensor: torch.Tensor,
    args: tuple[Any, ...],
    named: Mapping[str, Any],
    generator: torch.Generator | None,
) -> bool:
    """Fill a tensor that may be ours with what ``ask`` tells a stand-in for it; return False where torch has to."""
    if generator is not None and not isinstance(generator, torch.Generator):
        return False
    if named:
        ask, args = _by_names(ask, tuple(named)), (*args, *named.values())
    filled = True
    try:
        if type(tensor) in _tensors.PLAIN:
            filled = _fill(tensor, ask, args, generator, None, None, None) is not None
        else:
            filled = _fill_blocks(tensor, _answer(ask, tensor, args), generator)
    finally:  # a fill that is interrupted has written a part
        if filled:
            _increment_version((tensor,))
    return filled


def _fill_blocks(tensor: torch.Tensor, answer: Distribution | None, generator: torch.Generator | None) -> bool:
    """Fill this process's part of a DTensor."""
    blocks = None if answer is None else _tensors.memory_blocks(tensor)
    if answer is None or blocks is None:
        return False
    seed = _tensors.seed_from_generator(generator)
    for memory, place in blocks:
        fill.fill_(memory, answer, rng=seed, **place)
    return True


@lru_cache(maxsize=1024)
def _by_names(ask: Function, names: tuple[str, ...]) -> Function:
    """Return a function that takes the arguments of these names as its last ones."""

    def rule(stand_in: RecordingTensor, *settings: Any) -> None:
        args, named = settings[: -len(names)], settings[-len(names) :]
        ask(stand_in, *args, **dict(zip(names, named, strict=True)))

    return rule


def _answer(rule: Function, tensor: torch.Tensor, settings: tuple[Any, ...]) -> Distribution | None:
    """Return what a tensor is to be filled from, or None where torch has to fill it."""
    if tensor.dtype not in _tensors.DTYPES or tensor.is_nested:
        return None
    if all(type(setting) in _REMEMBERED for setting in settings):
        return _remembered_answer(rule, tensor.shape, tensor.dtype, *settings)
    return _new_answer(rule, tensor.shape, tensor.dtype, *settings)


def _new_answer(rule: Function, shape: torch.Size, dtype: torch.dtype, *settings: Any) -> Distribution | None:
    if 0 in shape:
        return None
    stand_in = RecordingTensor(shape, dtype)
    try:
        rule(stand_in, *settings)
        if stand_in.answer is not None:
            kernel_params(stand_in.answer, _tensors.format_of(dtype))
    except Exception:  # whatever it is, torch raises it again when it is called in earnest
        return None
    return stand_in.answer


_REMEMBERED = (float, int, str, bool, type(None))  # types whose values do not change
_remembered_answer = lru_cache(maxsize=4096, typed=True)(_new_answer)  # typed: True equals 1, but is no number to torch


def _prepared(
    tensor: torch.Tensor, rule: Function, settings: tuple[Any, ...], *_: Any
) -> tuple[NDArray[Any] | None, _core.Template | None]:
    """Return the memory of a tensor and what is drawn into it, or None for both where torch has to fill it."""
    blocks = _tensors.memory_blocks(tensor)
    answer = None if blocks is None else _answer(rule, tensor, settings)
    if blocks is None or answer is None:
        return None, None
    memory = blocks[0].memory
    return memory, fill.template(answer, memory.dtype, _tensors.format_of(tensor.dtype))


_fill = fill.entry(
    _prepared,
    _tensors.seed_from_generator,
    tensor_types=_tensors.PLAIN,
    storage_of=torch.Tensor.untyped_storage,
    exchange=getattr(torch.Tensor, "__dlpack_c_exchange_api__", None),
).fill_by_shape


def with_public_module(function: Function) -> Function:
    """Give a function of torch's the module in which ours of its name is found, by pickle for one."""
    function.__module__, function.__qualname__ = "fastkaiming.torch", function.__name__
    return function


def deprecated(function: Function) -> Function:
    """Return what torch still has under the name without an underscore: the function, and a warning."""
    new = function.__name__
    old = new.removesuffix("_")

    @with_public_module
    @wraps(getattr(init, old))
    def initializer(*args: Any, **named: Any) -> Any:
        text = f"`nn.init.{old}` is now deprecated in favor of `nn.init.{new}`."
        warnings.warn(text, FutureWarning, stacklevel=2)
        return function(*args, **named)

    return initializer


def try_fill_like(theirs: Function) -> Callable[[torch.Tensor, tuple[Any, ...], Mapping[str, Any]], bool]:
    """Return what fills a tensor that may be ours as an initializer of torch's would, or returns False."""
    most = theirs.__code__.co_argcount - 2  # between the tensor, which comes first, and the generator, which comes last

    def drawn_from(tensor: torch.Tensor, args: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
        if len(args) > most:
            return (
                len(args) == most + 1
                and "generator" not in named
                and try_fill(theirs, tensor, args[:most], named, args[most])
            )
        if "generator" in named:
            others = dict(named)
            return try_fill(theirs, tensor, args, others, others.pop("generator"))
        return try_fill(theirs, tensor, args, named, None)

    return drawn_from


def _ours(theirs: Function) -> Function:
    """Return an initializer of torch's whose random numbers are ours."""
    drawn_from = try_fill_like(theirs)

    @with_public_module
    @wraps(theirs)
    def initializer(tensor: Any, *args: Any, **named: Any) -> Any:
        if is_compiling() or not is_fillable(tensor):
            return theirs(tensor, *args, **named)
        if has_torch_function_variadic(tensor):
            return handle_torch_function(initializer, (tensor,), tensor, *args, **named)
        return tensor if drawn_from(tensor, args, named) else theirs(tensor, *args, **named)

    return initializer


uniform_ = _ours(init.uniform_)
normal_ = _ours(init.normal_)
xavier_uniform_ = _ours(init.xavier_uniform_)
xavier_normal_ = _ours(init.xavier_normal_)
kaiming_uniform_ = _ours(init.kaiming_uniform_)
kaiming_normal_ = _ours(init.kaiming_normal_)

_theirs_truncated = init.trunc_normal_


@with_public_module
@wraps(init.trunc_normal_)
def trunc_normal_(
    tensor: Any,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: torch.Generator | None = None,
) -> Any:
    """Fill as torch.nn.init.trunc_normal_ does."""
    numbers = (mean, std, a, b)
    if is_compiling() or not is_fillable(tensor):
        return _theirs_truncated(tensor, *numbers, generator=generator)
    if has_torch_function_variadic(tensor):
        return handle_torch_function(trunc_normal_, (tensor,), tensor, *numbers, generator=generator)
    if try_fill_trunc_normal(tensor, *numbers, generator):
        return tensor
    return _theirs_truncated(tensor, *numbers, generator=generator)


def try_fill_trunc_normal(
    tensor: Any, mean: float, std: float, a: float, b: float, generator: torch.Generator | None = None
) -> bool:
    """Fill a tensor that may be ours, and warn as torch does; return False where torch has to."""
    numbers = (mean, std, a, b)
    if (
        _warns_about_bounds(*numbers)
        and _tensors.memory_blocks(tensor) is not None
        and _answer(RecordingTensor.truncated, tensor, numbers)
    ):
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. "
            "The distribution of values may be incorrect.",
            stacklevel=3,
        )
    return try_fill(RecordingTensor.truncated, tensor, numbers, {}, generator)


def _warns_about_bounds(mean: Any, std: Any, a: Any, b: Any) -> bool:
    """Tell whether torch warns of the bounds of a truncated normal distribution."""
    try:
        return bool(mean < a - 2 * std or mean > b + 2 * std)
    except (TypeError, ValueError):  # they are no numbers, which torch says when it is called in earnest
        return False
