"""A block of code in which torch's in-place random fills are ours, and outside of which nothing is changed.

torch's Python code fills tensors by their methods ``normal_`` and ``uniform_``, which are replaced for as long as any
block is open, and pass on what is not asked for within one. A TorchDispatchMode would see the fills as well, but it
costs every operation of the block some microseconds; and it is by methods that ``torch.randn`` stays as it is.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

import torch
from torch.nn import init
from torch.overrides import handle_torch_function, has_torch_function_variadic
from torch.utils._python_dispatch import _get_current_dispatch_mode

from fastkaiming.torch import initializers
from fastkaiming.torch.initializers import StandIn, drawn, truncated_normal_drawn

_active: ContextVar[bool] = ContextVar("fastkaiming.torch.active", default=False)
_lock = threading.Lock()
_open_blocks = 0
_replaced: list[tuple[Any, str, Any, bool]] = []  # where, name, what was there, whether it was there itself


@contextmanager
def accelerate() -> Iterator[None]:
    """Fill tensors on the CPU from fastkaiming's streams within the ``with`` block, or the function decorated.

    What ``normal_`` and ``uniform_`` fill is ours there, and all that torch, a library or your own code builds on them:
    the constructors of :mod:`torch.nn`, the functions of :mod:`torch.nn.init`, a model of transformers from its
    configuration. ``torch.nn.init.trunc_normal_`` is ours as a whole. What decides the values is the seed that each
    fill draws from its ``generator``, or from the one that ``torch.manual_seed`` sets.

    Left to torch are tensors of other devices, of other dtypes than float32, float64, float16 and bfloat16, and of
    subclasses other than Parameter and DTensor; what autograd records; what another TorchDispatchMode is to see; and
    the functions that make a tensor, such as ``torch.randn``, or fill one by ``out=``. Other threads are not affected,
    nor those started within the block. Blocks can be nested.

    Examples
    --------
    >>> import torch
    >>> import fastkaiming.torch as init
    >>> with init.accelerate():
    ...     layer = torch.nn.Linear(4096, 4096)
    >>> layer.weight.abs().max() <= 4096**-0.5
    tensor(True)
    """
    _open()
    token = _active.set(True)
    try:
        yield
    finally:
        _active.reset(token)
        _close()


def _open() -> None:
    global _open_blocks
    with _lock:
        if _open_blocks == 0:
            for place, name, make in _REPLACEMENTS:
                if hasattr(place, name):
                    _replaced.append((place, name, getattr(place, name), name in vars(place)))
                    setattr(place, name, make(getattr(place, name)))
        _open_blocks += 1


def _close() -> None:
    global _open_blocks
    with _lock:
        _open_blocks -= 1
        while _open_blocks == 0 and _replaced:
            place, name, original, was_its_own = _replaced.pop()
            if was_its_own:
                setattr(place, name, original)
            else:
                delattr(place, name)


def _method(ask: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return what makes a method of tensors ours."""

    def make(theirs: Any) -> Any:
        @wraps(theirs)
        def method(self: Any, *args: Any, generator: torch.Generator | None = None, **named: Any) -> Any:
            if not _active.get() or _torch_has_to(self):
                return theirs(self, *args, generator=generator, **named)
            if has_torch_function_variadic(self):
                return handle_torch_function(method, (self,), self, *args, generator=generator, **named)
            if drawn(ask, self, args, named, generator):
                return self
            return theirs(self, *args, generator=generator, **named)

        return method

    return make


def _torch_has_to(tensor: torch.Tensor) -> bool:
    """Tell whether autograd or a mode wants to see the fill."""
    return (tensor.requires_grad and torch.is_grad_enabled()) or _get_current_dispatch_mode() is not None


def _initializer(ours: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return what makes a function of torch.nn.init ours: its way to the method, without its detours."""

    def make(theirs: Any) -> Any:
        @wraps(theirs)
        def function(*args: Any, **named: Any) -> Any:
            chosen = ours if _active.get() and _get_current_dispatch_mode() is None else theirs
            return chosen(*args, **named)

        return function

    return make


def _truncated(theirs: Any) -> Any:
    """Make torch's truncated normal ours behind the name by which other modules have imported it."""

    @wraps(theirs)
    def function(tensor: Any, *args: Any, **named: Any) -> Any:
        if _active.get() and not _torch_has_to(tensor) and truncated_normal_drawn(tensor, *args, **named):
            return tensor
        return theirs(tensor, *args, **named)

    return function


_REPLACEMENTS: list[tuple[Any, str, Callable[[Any], Any]]] = [
    (torch.Tensor, "normal_", _method(StandIn.normal_)),
    (torch.Tensor, "uniform_", _method(StandIn.uniform_)),
    (init, "_no_grad_trunc_normal_", _truncated),
    *(
        (init, name, _initializer(getattr(initializers, name)))
        for name in (
            "uniform_",
            "normal_",
            "trunc_normal_",
            "xavier_uniform_",
            "xavier_normal_",
            "kaiming_uniform_",
            "kaiming_normal_",
        )
    ),
]
