"""The attributes of torch that are replaced while a block of ``accelerate()`` is open.

A replacement calls torch's own function unless it is called within a block. Public names keep their identity:
``torch.Tensor.normal_`` and the functions of ``torch.nn.init`` are torch's own objects within a block, too. Therefore
they can be pickled, and ``__torch_function__`` finds them in tables. Only ``tensor.normal_`` is another function.
"""

import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from types import MethodType
from typing import Any

import torch
from torch.compiler import is_dynamo_compiling
from torch.nn import init
from torch.overrides import has_torch_function_variadic
from torch.utils._python_dispatch import TorchDispatchMode

from fastkaiming.torch._blocks import innermost_open, no_block
from fastkaiming.torch._initializers import RecordingTensor, try_fill, try_fill_trunc_normal
from fastkaiming.torch._named_writes import active_writes
from fastkaiming.torch._tensors import is_fillable
from fastkaiming.torch._warnings import with_warning_at_caller


class Patch:
    """An attribute of torch and its replacement; an attribute that other code has replaced is left unchanged."""

    def __init__(self, owner: Any, name: str, replacement: Any) -> None:
        self.owner, self.name, self.replacement = owner, name, replacement
        self.original = inspect.getattr_static(owner, name)
        self.is_inherited = name not in vars(owner)

    def apply(self) -> None:
        """Replace the attribute."""
        if vars(self.owner).get(self.name, self.original) is self.original:
            setattr(self.owner, self.name, self.replacement)

    def undo(self) -> None:
        """Restore the attribute."""
        if vars(self.owner).get(self.name) is not self.replacement:
            return
        if self.is_inherited:
            with suppress(AttributeError):  # a signal handler may have left a block meanwhile
                delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.original)


class _Method(staticmethod):  # type: ignore[type-arg]
    """A method that is torch's own object if it is looked up on a class, and the replacement on a tensor.

    It is a staticmethod because torch.compile cannot trace other descriptors in a class of torch.
    """

    __slots__ = ("replacement",)  # every fill reads it

    def __init__(self, original: Any, replacement: Callable[..., Any]) -> None:
        super().__init__(original)
        self.replacement = replacement

    def __get__(self, tensor: Any, owner: Any = None) -> Any:
        return self.__func__ if tensor is None else MethodType(self.replacement, tensor)


def _method(name: str) -> _Method:
    """Return the replacement of a tensor method."""
    original, record = getattr(torch.Tensor, name), _RECORDERS[name]

    @wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (
            is_dynamo_compiling()
            or innermost_open() is None
            or not is_fillable(self)
            or (self.requires_grad and torch.is_grad_enabled())  # autograd records the fill
        ):
            return original(self, *args, **kwargs)
        if has_torch_function_variadic(self):
            with _FillsOfFunctionModes():
                return original(self, *args, **kwargs)
        return self if try_fill(record, self, args, kwargs) else original(self, *args, **kwargs)

    return _Method(original, method)


def _can_fill(tensor: torch.Tensor) -> bool:
    """Return True if fastkaiming can fill a tensor, and autograd does not record the fill."""
    return is_fillable(tensor) and not (tensor.requires_grad and torch.is_grad_enabled())


_RECORDERS = {"normal_": RecordingTensor.normal_, "uniform_": RecordingTensor.uniform_}


_RECORDERS_OF_OPERATIONS = {getattr(torch.ops.aten, name).default: record for name, record in _RECORDERS.items()}


class _FillsOfFunctionModes(TorchDispatchMode):  # type: ignore[misc]
    """Performs the fills of code that a TorchFunctionMode calls, because torch passes its own methods to the mode."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Perform a fill, or let torch perform the operation."""
        record, kwargs = _RECORDERS_OF_OPERATIONS.get(func), kwargs or {}
        if record is not None and _can_fill(args[0]) and try_fill(record, args[0], args[1:], kwargs):
            return args[0]
        return func(*args, **kwargs)


_torch_trunc_normal = init._no_grad_trunc_normal_
_call_torch_trunc_normal = with_warning_at_caller(_torch_trunc_normal)


def trunc_normal(tensor: Any, *args: Any, **kwargs: Any) -> Any:
    """Replace the private function that ``torch.nn.init.trunc_normal_`` calls.

    torch's function calls the methods of the tensor, but until no value is out of bounds, which takes more time.
    """
    if is_dynamo_compiling():
        return _torch_trunc_normal(tensor, *args, **kwargs)
    writes = active_writes.get()
    if writes is not None and writes.write_trunc_normal(tensor, *args[:4]):
        return tensor
    if innermost_open() is not None and is_fillable(tensor) and try_fill_trunc_normal(tensor, *args, **kwargs):
        return tensor
    with no_block():  # all values are torch's, as those of fastkaiming.torch.trunc_normal_ are in this case
        return _call_torch_trunc_normal(tensor, *args, **kwargs)


PATCHES = (
    *(Patch(torch.Tensor, name, _method(name)) for name in _RECORDERS),
    Patch(init, "_no_grad_trunc_normal_", trunc_normal),
)
