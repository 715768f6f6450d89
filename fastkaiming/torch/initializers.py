"""The random names of :mod:`torch.nn.init`: they draw what torch's own would, from fastkaiming's streams.

What an initializer draws is asked of torch itself, by its own function on a stand-in that only keeps the answer: so
formulas, defaults and errors are torch's. Where the tensor or the answer is not ours to draw, torch draws.
"""

import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache, wraps
from typing import Any

import torch
from torch.nn import init
from torch.overrides import handle_torch_function, has_torch_function_variadic

from fastkaiming.distributions import Distribution, Normal, TruncatedNormal, Uniform
from fastkaiming.draws import draw
from fastkaiming.torch import tensors

Function = Callable[..., Any]

_ENDS = {"from": 0.0, "to": 1.0}


class StandIn:
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
        if high - low <= tensors.format_of(self.dtype).greatest:  # torch refuses a greater difference
            self.answer = Uniform(low, high)

    def truncated(self, mean: float, std: float, a: float, b: float) -> None:
        """Keep a truncated normal distribution; torch divides by its ``std``."""
        self.answer = TruncatedNormal(mean, std, a, b) if std > 0 else None


def drawn(
    ask: Function,
    tensor: torch.Tensor,
    args: tuple[Any, ...],
    named: Mapping[str, Any],
    generator: torch.Generator | None,
) -> bool:
    """Fill a tensor that may be ours with what ``ask`` tells a stand-in for it; return False where torch has to."""
    answer = _answer_to(ask, tensor, args, named)
    return answer is not None and tensors.fill_(tensor, answer, generator)


def _answer_to(
    ask: Function, tensor: torch.Tensor, args: tuple[Any, ...], named: Mapping[str, Any]
) -> Distribution | None:
    kinds = (*map(type, args), *map(type, named.values()))  # True equals 1, but is no number to torch
    try:
        return _remembered_answer(ask, tensor.shape, tensor.dtype, args, tuple(named.items()), kinds)
    except TypeError:  # what cannot be hashed is no number
        return None


@lru_cache(maxsize=4096)
def _remembered_answer(
    ask: Function,
    shape: torch.Size,
    dtype: torch.dtype,
    args: tuple[Any, ...],
    named: tuple[tuple[str, Any], ...],
    _kinds: tuple[type, ...],
) -> Distribution | None:
    if dtype not in tensors.DTYPES or 0 in shape:
        return None
    stand_in = StandIn(shape, dtype)
    try:
        ask(stand_in, *args, **dict(named))
        if stand_in.answer is not None:
            draw(stand_in.answer, tensors.format_of(dtype))
    except Exception:  # whatever it is, torch raises it again when it is called in earnest
        return None
    return stand_in.answer


def named_here(function: Function) -> Function:
    """Give a function of torch's the module in which ours of its name is found, by pickle for one."""
    function.__module__, function.__qualname__ = "fastkaiming.torch", function.__name__
    return function


def deprecated(function: Function) -> Function:
    """Return what torch still has under the name without an underscore: the function, and a warning."""
    new = function.__name__
    old = new.removesuffix("_")

    @named_here
    @wraps(getattr(init, old))
    def initializer(*args: Any, **named: Any) -> Any:
        text = f"`nn.init.{old}` is now deprecated in favor of `nn.init.{new}`."
        warnings.warn(text, FutureWarning, stacklevel=2)
        return function(*args, **named)

    return initializer


def _ours(theirs: Function) -> Function:
    """Return an initializer of torch's whose random numbers are ours."""
    most = theirs.__code__.co_argcount - 2  # between the tensor, which comes first, and the generator, which comes last

    @named_here
    @wraps(theirs)
    def initializer(tensor: Any, *args: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling() or not tensors.may_be_ours(tensor):
            return theirs(tensor, *args, **named)
        if has_torch_function_variadic(tensor):
            return handle_torch_function(initializer, (tensor,), tensor, *args, **named)
        settings = dict(named)
        generator = args[most] if len(args) > most else settings.pop("generator", None)
        valid = len(args) <= most + 1 and "generator" not in settings
        if valid and drawn(theirs, tensor, args[:most], settings, generator):
            return tensor
        return theirs(tensor, *args, **named)

    return initializer


uniform_ = _ours(init.uniform_)
normal_ = _ours(init.normal_)
xavier_uniform_ = _ours(init.xavier_uniform_)
xavier_normal_ = _ours(init.xavier_normal_)
kaiming_uniform_ = _ours(init.kaiming_uniform_)
kaiming_normal_ = _ours(init.kaiming_normal_)

_theirs_truncated = init.trunc_normal_


@named_here
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
    if torch.compiler.is_compiling() or not tensors.may_be_ours(tensor):
        return _theirs_truncated(tensor, *numbers, generator=generator)
    if has_torch_function_variadic(tensor):
        return handle_torch_function(trunc_normal_, (tensor,), tensor, *numbers, generator=generator)
    if truncated_normal_drawn(tensor, *numbers, generator):
        return tensor
    return _theirs_truncated(tensor, *numbers, generator=generator)


def truncated_normal_drawn(
    tensor: Any, mean: float, std: float, a: float, b: float, generator: torch.Generator | None = None
) -> bool:
    """Fill a tensor that may be ours, and warn as torch does; return False where torch has to."""
    numbers = (mean, std, a, b)
    valid = _answer_to(StandIn.truncated, tensor, numbers, {})
    far_out = valid and (mean < a - 2 * std or mean > b + 2 * std)
    if far_out and tensors.blocks_of(tensor) is not None:
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. "
            "The distribution of values may be incorrect.",
            stacklevel=3,
        )
    return drawn(StandIn.truncated, tensor, numbers, {}, generator)
