"""A block of code in which torch's in-place random fills are ours, and outside of which nothing is changed.

torch's Python code fills tensors by their methods ``normal_`` and ``uniform_``, which are replaced for as long as any
block is open, and pass on what is not asked for within one. A TorchDispatchMode would see the fills as well, but it
costs every operation of the block some microseconds; and it is by methods that ``torch.randn`` stays as it is.
"""

import inspect
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar, overload

import torch
from torch.compiler import is_compiling
from torch.nn import init
from torch.overrides import handle_torch_function, has_torch_function_variadic

from fastkaiming import _validation
from fastkaiming.torch._initializers import RecordingTensor, try_fill, try_fill_like, try_fill_trunc_normal
from fastkaiming.torch._tensors import is_fillable

F = TypeVar("F", bound=Callable[..., Any])


class Acceleration:
    """What :func:`accelerate` returns: use it as a context manager, or to decorate a function."""

    def __init__(self) -> None:
        self._token: Token[Acceleration | None] | None = None  # while the block is open

    def enclosing(self) -> "Acceleration | None":
        """Return the block in which this one was entered."""
        block = None if self._token is None else self._token.old_value
        return block if isinstance(block, Acceleration) else None

    def __enter__(self) -> None:
        _enter(self)
        self._token = _innermost.set(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        assert token is not None
        _leave(self)
        with suppress(ValueError):  # where it is left in another context than it was entered in, by async fixtures say
            _innermost.reset(token)

    def __call__(self, function: F) -> F:
        """Return a function that runs in a block of its own."""
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"accelerate() must decorate a function, not {_validation.shown(function)}")
        runs_later = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
        if any(kind(function) for kind in runs_later):
            raise TypeError(
                f"accelerate() must decorate a function that has run when it returns, not "
                f"{_validation.shown(function)}: open a with block inside of it"
            )

        @wraps(function)
        def accelerated(*args: Any, **named: Any) -> Any:
            with Acceleration():
                return function(*args, **named)

        return accelerated  # type: ignore[return-value]


@overload
def accelerate() -> Acceleration: ...
@overload
def accelerate(function: F) -> F: ...
def accelerate(function: Callable[..., Any] | None = None) -> Any:
    """Fill tensors on the CPU from fastkaiming's streams within the ``with`` block, or the function decorated.

    What ``normal_`` and ``uniform_`` fill is ours there, and all that torch, a library or your own code builds on them:
    the constructors of :mod:`torch.nn`, the functions of :mod:`torch.nn.init`, a model of transformers from its
    configuration. ``torch.nn.init.trunc_normal_`` is ours as a whole. What decides the values is the seed that each
    fill draws from its ``generator``, or from the one that ``torch.manual_seed`` sets.

    Left to torch are tensors of other devices, of other dtypes than float32, float64, float16 and bfloat16, and of
    subclasses other than Parameter and DTensor; what autograd, a transform of :mod:`torch.func`, a tracer or another
    TorchDispatchMode is to see; the functions that make a tensor, such as ``torch.randn``, or fill one by ``out=``; and
    what is not called by the methods' names: ``torch.ops.aten.normal_``, say. Other threads are not affected, unless
    they run in a copy of the block's context, as those of ``asyncio.to_thread`` do. A forked child process keeps only
    the blocks that the forking thread is in. Blocks can be nested.

    Parameters
    ----------
    function : callable, optional
        A function to decorate: ``@accelerate`` is ``@accelerate()``. Generators and coroutines, which run after they
        have been called, open a ``with`` block themselves.

    Returns
    -------
    context manager, or the decorated function
        A context manager that decorates functions too.

    Raises
    ------
    TypeError
        What is decorated is no function, or one whose body runs later.

    Examples
    --------
    >>> import torch
    >>> import fastkaiming.torch as init
    >>> with init.accelerate():
    ...     layer = torch.nn.Linear(4096, 4096)
    >>> layer.weight.abs().max() <= 4096**-0.5
    tensor(True)
    """
    return Acceleration() if function is None else Acceleration()(function)


_innermost: ContextVar[Acceleration | None] = ContextVar("fastkaiming.torch.innermost", default=None)
_open_blocks: dict[Acceleration, int] = {}  # each with the thread that entered it
# A signal handler or a finalizer may need the lock while the code that it interrupts, in the same thread, holds it.
_lock = threading.RLock()


def _is_active() -> bool:
    return _innermost.get() in _open_blocks  # a copy of a block's context can outlive the block


def _enter(block: Acceleration) -> None:
    with _lock:
        if block in _open_blocks:
            raise RuntimeError(
                "a block of accelerate() must be left before it is entered again: call accelerate() anew"
            )
        _open_blocks[block] = threading.get_ident()
        _replace_or_restore()


def _leave(block: Acceleration) -> None:
    with _lock:
        _open_blocks.pop(block, None)  # a forked child may have dropped it
        _replace_or_restore()


def _replace_or_restore() -> None:
    """Replace torch's functions if any block is open, and restore them if none is, whatever was done before."""
    while True:
        is_any_open = bool(_open_blocks)
        for replacement in _PATCHES:
            if is_any_open:
                replacement.make()
            else:
                replacement.undo()
        if is_any_open == bool(_open_blocks):  # otherwise a signal handler has entered or left a block meanwhile
            return


def _drop_blocks_of_other_threads() -> None:
    """Keep, in a forked child, the blocks that its only thread can be in.

    Those are the blocks that the thread entered itself and those that surround its current context, as in a thread of
    ``asyncio.to_thread``. The other threads do not exist in the child, so nobody would leave their blocks. One of them
    may have held the lock at the time of the fork, and may have replaced some of torch's functions and not the others.
    """
    global _lock
    _lock = threading.RLock()
    kept = set()
    block = _innermost.get()
    while block is not None and block not in kept:
        kept.add(block)
        block = block.enclosing()
    thread = threading.get_ident()
    for block, entered_by in list(_open_blocks.items()):
        if entered_by != thread and block not in kept:
            del _open_blocks[block]
    _replace_or_restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_blocks_of_other_threads)


class _Patch:
    """A name of torch's, and what stands there while blocks are open. A name that others have replaced is theirs."""

    def __init__(self, place: Any, name: str, ours_of: Callable[[Any], Any]) -> None:
        self.place, self.name = place, name
        self.is_inherited = name not in vars(place)
        self.theirs = getattr(place, name)
        self.ours = ours_of(self.theirs)

    def make(self) -> None:
        if getattr(self.place, self.name) is self.theirs:
            setattr(self.place, self.name, self.ours)

    def undo(self) -> None:
        if getattr(self.place, self.name) is not self.ours:
            return
        if self.is_inherited:
            with suppress(AttributeError):  # where a signal handler has left a block meanwhile
                delattr(self.place, self.name)
        else:
            setattr(self.place, self.name, self.theirs)


def _method(ask: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return what makes a method of tensors ours."""

    def ours_of(theirs: Any) -> Any:
        @wraps(theirs)
        def method(self: Any, *args: Any, generator: torch.Generator | None = None, **named: Any) -> Any:
            if is_compiling() or not _is_active() or not is_fillable(self):
                return theirs(self, *args, generator=generator, **named)
            if has_torch_function_variadic(self):
                return handle_torch_function(method, (self,), self, *args, generator=generator, **named)
            if not _is_recorded(self) and try_fill(ask, self, args, named, generator):
                return self
            return theirs(self, *args, generator=generator, **named)

        return method

    return ours_of


def _is_recorded(tensor: torch.Tensor) -> bool:
    """Tell whether autograd wants to see the fill."""
    return bool(tensor.requires_grad and torch.is_grad_enabled())


def _initializer(theirs: Any) -> Any:
    """Make a function of torch.nn.init ours, whose Python takes longer than the fill of a small tensor."""
    drawn_from = try_fill_like(theirs)

    @wraps(theirs)
    def function(tensor: Any, *args: Any, **named: Any) -> Any:
        is_deferrable = (
            not is_compiling() and _is_active() and is_fillable(tensor) and not has_torch_function_variadic(tensor)
        )
        return tensor if is_deferrable and drawn_from(tensor, args, named) else theirs(tensor, *args, **named)

    return function


def _truncated(theirs: Any) -> Any:
    """Make torch's truncated normal ours behind the name by which other modules have imported it."""

    @wraps(theirs)
    def function(tensor: Any, *args: Any, **named: Any) -> Any:
        if is_compiling() or not _is_active() or not is_fillable(tensor):
            return theirs(tensor, *args, **named)
        if not _is_recorded(tensor) and try_fill_trunc_normal(tensor, *args, **named):
            return tensor
        return theirs(tensor, *args, **named)

    return function


_PATCHES = (
    _Patch(torch.Tensor, "normal_", _method(RecordingTensor.normal_)),
    _Patch(torch.Tensor, "uniform_", _method(RecordingTensor.uniform_)),
    _Patch(init, "_no_grad_trunc_normal_", _truncated),
    _Patch(init, "uniform_", _initializer),
    _Patch(init, "normal_", _initializer),
    _Patch(init, "xavier_uniform_", _initializer),
    _Patch(init, "xavier_normal_", _initializer),
    _Patch(init, "kaiming_uniform_", _initializer),
    _Patch(init, "kaiming_normal_", _initializer),
)
