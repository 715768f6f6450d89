"""The context manager ``accelerate()``, within which fastkaiming performs torch's in-place random fills.

torch's Python code fills tensors by calling their methods ``normal_`` and ``uniform_``. While any ``with`` block is
open, these methods are replaced. A replacement calls the original method unless it is called within a block. A
TorchDispatchMode could intercept the fills as well, but it would slow down every operation in the block by some
microseconds, and it would also intercept ``torch.randn``.
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
from fastkaiming.torch._initializers import RecordingTensor, make_try_fill, try_fill, try_fill_trunc_normal
from fastkaiming.torch._named_writes import active_writes
from fastkaiming.torch._tensors import is_fillable
from fastkaiming.torch._warnings import with_warning_at_caller

F = TypeVar("F", bound=Callable[..., Any])


class Acceleration:
    """The return value of :func:`accelerate`: a context manager that is also a decorator."""

    def __init__(self) -> None:
        self._token: Token[Acceleration | None] | None = None  # set while the block is open

    def enclosing(self) -> "Acceleration | None":
        """Return the block within which this one was entered, or None."""
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
        with suppress(ValueError):  # exited in a different context than entered, for example by an async fixture
            _innermost.reset(token)

    def __call__(self, function: F) -> F:
        """Return a function that calls the given one within a new block."""
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"accelerate() must decorate a function, not {_validation.describe(function)}")
        runs_later = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
        if any(kind(function) for kind in runs_later):
            raise TypeError(
                f"accelerate() must decorate a function that is not a generator or coroutine function, got "
                f"{_validation.describe(function)}: use a with block inside it instead"
            )

        @wraps(function)
        def accelerated(*args: Any, **kwargs: Any) -> Any:
            with Acceleration():
                return function(*args, **kwargs)

        return accelerated  # type: ignore[return-value]


@overload
def accelerate() -> Acceleration: ...
@overload
def accelerate(function: F) -> F: ...
def accelerate(function: Callable[..., Any] | None = None) -> Any:
    """Fill CPU tensors from fastkaiming's streams within a ``with`` block or a decorated function.

    Within the block, fastkaiming performs the fills of the tensor methods ``normal_`` and ``uniform_``. This covers
    everything in torch, in other libraries and in your own code that calls them: the constructors of :mod:`torch.nn`,
    the functions of :mod:`torch.nn.init`, and transformers' models that are created from a configuration.
    ``torch.nn.init.trunc_normal_`` is replaced as well. Each fill takes one seed from its ``generator`` argument, or
    from the generator that ``torch.manual_seed`` seeds; this seed determines all values.

    torch performs all other fills:

    - tensors on other devices, of dtypes other than float32, float64, float16 and bfloat16, or of subclasses other than
      Parameter and DTensor;
    - fills that autograd records, or that a transform of :mod:`torch.func`, a tracer or another TorchDispatchMode
      observes;
    - functions that create a tensor or fill one given as ``out=``, such as ``torch.randn``;
    - fills that do not call the two methods, such as ``torch.ops.aten.normal_``.

    Other threads are not affected, unless they run in a copy of the block's context, as with ``asyncio.to_thread``. A
    forked child process keeps only the blocks that the forking thread is in. Blocks can be nested.

    Parameters
    ----------
    function : callable, optional
        The function to decorate; ``@accelerate`` is the same as ``@accelerate()``. Generator and coroutine functions
        cannot be decorated, because their bodies run after the call has returned. Use a ``with`` block inside them.

    Returns
    -------
    context manager or callable
        The decorated function if ``function`` is given; otherwise a context manager, which can also be used as a
        decorator.

    Raises
    ------
    TypeError
        If the decorated object is not a function, or if it is a generator or coroutine function.

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
_open_blocks: dict[Acceleration, int] = {}  # maps each block to the thread that entered it
# A signal handler or a finalizer may need the lock while the code that it interrupts, in the same thread, holds it.
_lock = threading.RLock()


def _is_active() -> bool:
    return _innermost.get() in _open_blocks  # a copy of a block's context can outlive the block


def _enter(block: Acceleration) -> None:
    with _lock:
        if block in _open_blocks:
            raise RuntimeError(
                "a block of accelerate() must be exited before it is entered again: call accelerate() for a new block"
            )
        _open_blocks[block] = threading.get_ident()
        _replace_or_restore()


def _leave(block: Acceleration) -> None:
    with _lock:
        _open_blocks.pop(block, None)  # a forked child may have removed it already
        _replace_or_restore()


def _replace_or_restore() -> None:
    """Replace torch's functions if any block is open, and restore them otherwise."""
    while True:
        is_any_open = bool(_open_blocks)
        for patch in _PATCHES:
            if is_any_open:
                patch.apply()
            else:
                patch.undo()
        if is_any_open == bool(_open_blocks):  # otherwise a signal handler has entered or left a block meanwhile
            return


def _drop_blocks_of_other_threads() -> None:
    """In a forked child process, keep only the blocks that its only thread can be in.

    These are the blocks that the thread entered itself, and the blocks that enclose its current context, as in a thread
    of ``asyncio.to_thread``. The other threads do not exist in the child, so their blocks would never be left. At the
    time of the fork, another thread may have held the lock and may have replaced only some of torch's functions.
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
    """An attribute of torch and its replacement; an attribute that other code has replaced is left unchanged."""

    def __init__(self, owner: Any, name: str, make_replacement: Callable[[Any], Any]) -> None:
        self.owner, self.name = owner, name
        self.is_inherited = name not in vars(owner)
        self.original = getattr(owner, name)
        self.replacement = make_replacement(self.original)

    def apply(self) -> None:
        if getattr(self.owner, self.name) is self.original:
            setattr(self.owner, self.name, self.replacement)

    def undo(self) -> None:
        if getattr(self.owner, self.name) is not self.replacement:
            return
        if self.is_inherited:
            with suppress(AttributeError):  # a signal handler may have left a block meanwhile
                delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.original)


def _make_method(record: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return a function that makes the replacement of a tensor method; ``record`` records the method's distribution."""

    def make_replacement(original: Any) -> Any:
        @wraps(original)
        def method(self: Any, *args: Any, generator: torch.Generator | None = None, **kwargs: Any) -> Any:
            if is_compiling() or not _is_active() or not is_fillable(self):
                return original(self, *args, generator=generator, **kwargs)
            if has_torch_function_variadic(self):
                return handle_torch_function(method, (self,), self, *args, generator=generator, **kwargs)
            if not _is_recorded_by_autograd(self) and try_fill(record, self, args, kwargs, generator):
                return self
            return original(self, *args, generator=generator, **kwargs)

        return method

    return make_replacement


def _is_recorded_by_autograd(tensor: torch.Tensor) -> bool:
    return bool(tensor.requires_grad and torch.is_grad_enabled())


def _make_initializer(original: Any) -> Any:
    """Return the replacement of a function of torch.nn.init.

    The replaced methods would suffice, but the Python code of torch's function takes longer than a small fill.
    """
    try_fill_with = make_try_fill(original)
    original = with_warning_at_caller(original)

    @wraps(original)
    def function(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        can_fill = (
            not is_compiling() and _is_active() and is_fillable(tensor) and not has_torch_function_variadic(tensor)
        )
        return tensor if can_fill and try_fill_with(tensor, args, kwargs) else original(tensor, *args, **kwargs)

    return function


def _make_trunc_normal(original: Any) -> Any:
    """Return the replacement of the private function that ``torch.nn.init.trunc_normal_`` calls.

    ``trunc_normal_`` itself is not replaced, because other modules may have imported it by name.
    """
    original = with_warning_at_caller(original)

    @wraps(original)
    def function(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        writes = active_writes.get()
        if writes is not None and writes.write_trunc_normal(tensor, *args[:4]):
            return tensor
        if is_compiling() or not _is_active() or not is_fillable(tensor):
            return original(tensor, *args, **kwargs)
        if not _is_recorded_by_autograd(tensor) and try_fill_trunc_normal(tensor, *args, **kwargs):
            return tensor
        return original(tensor, *args, **kwargs)

    return function


_PATCHES = (
    _Patch(torch.Tensor, "normal_", _make_method(RecordingTensor.normal_)),
    _Patch(torch.Tensor, "uniform_", _make_method(RecordingTensor.uniform_)),
    _Patch(init, "_no_grad_trunc_normal_", _make_trunc_normal),
    _Patch(init, "uniform_", _make_initializer),
    _Patch(init, "normal_", _make_initializer),
    _Patch(init, "xavier_uniform_", _make_initializer),
    _Patch(init, "xavier_normal_", _make_initializer),
    _Patch(init, "kaiming_uniform_", _make_initializer),
    _Patch(init, "kaiming_normal_", _make_initializer),
)
