"""The context manager ``accelerate()``, within which fastkaiming performs torch's in-place random fills.

torch's Python code fills tensors by calling their methods ``normal_`` and ``uniform_``. While any ``with`` block is
open, these methods are replaced. A TorchDispatchMode could intercept the fills as well, but it would slow down every
operation in the block by some microseconds, and it would also intercept ``torch.randn``.
"""

import inspect
import os
import threading
from collections.abc import Callable
from functools import partial, partialmethod, wraps
from types import MethodType, TracebackType, WrapperDescriptorType
from typing import Any, TypeVar, overload

from torch.compiler import is_dynamo_compiling

from fastkaiming import _validation
from fastkaiming.torch import _replacements
from fastkaiming.torch._blocks import Block, forget_left_blocks, innermost_open, open_blocks
from fastkaiming.torch._checkpointing import checkpoint_patches

F = TypeVar("F", bound=Callable[..., Any])


class Acceleration:
    """The return value of :func:`accelerate`: a context manager that is also a decorator."""

    def __init__(self, *, check_ranks: bool = True) -> None:
        self._check_ranks = _validation.flag("check_ranks", check_ranks)
        self._block: Block | None = None  # set while the block is open

    def __enter__(self) -> None:
        if is_dynamo_compiling():  # torch performs the fills of compiled code, and it cannot compile the lock
            return
        with _lock:
            if self._block in open_blocks:
                raise RuntimeError(
                    "a block of accelerate() must be exited before it is entered again: call accelerate() for a new "
                    "block"
                )
            block = Block(check_ranks=self._check_ranks)
            open_blocks.add(block)
            self._block = block
            _replace_or_restore()
        block.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if is_dynamo_compiling():
            return
        block, self._block = self._block, None
        assert block is not None
        with _lock:
            open_blocks.discard(block)  # a forked child may have removed it already
            _replace_or_restore()
        forget_left_blocks()

    def __call__(self, function: F) -> F:
        """Return a function that calls the given one within a new block."""
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"accelerate() must decorate a function, not {_validation.describe(function)}")
        if _runs_later(function):
            raise TypeError(
                f"accelerate() must decorate a function that is not a generator or coroutine function, got "
                f"{_validation.describe(function)}: use a with block inside it instead"
            )

        @wraps(function)
        def accelerated(*args: Any, **kwargs: Any) -> Any:
            return _run_in_block(self._check_ranks, function, *args, **kwargs)

        return accelerated  # type: ignore[return-value]


def _runs_later(function: Any) -> bool:
    """Return True if the body of a function runs after the call, as those of generators and coroutines do."""
    if isinstance(function, partial | partialmethod):
        return _runs_later(function.func)
    if isinstance(function, staticmethod | MethodType):
        return _runs_later(function.__func__)
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    call = inspect.getattr_static(type(function), "__call__", None)
    is_python_code = call is not None and not isinstance(call, WrapperDescriptorType)
    return any(kind(function) for kind in kinds) or (is_python_code and _runs_later(call))


def _run_in_block(check_ranks: bool, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    with Acceleration(check_ranks=check_ranks):
        return function(*args, **kwargs)


@overload
def accelerate(*, check_ranks: bool = True) -> Acceleration: ...
@overload
def accelerate(function: F, *, check_ranks: bool = True) -> F: ...
def accelerate(function: Callable[..., Any] | None = None, *, check_ranks: bool = True) -> Any:
    """Fill CPU tensors from fastkaiming's streams within a ``with`` block or a decorated function.

    Within the block, fastkaiming performs the fills of the tensor methods ``normal_`` and ``uniform_``. This covers
    everything in torch, in other libraries and in your own code that calls them: the constructors of :mod:`torch.nn`,
    the functions of :mod:`torch.nn.init`, and transformers' models that are created from a configuration. The functions
    of :mod:`torch.nn.init` have the values of those of :mod:`fastkaiming.torch`. Each fill takes one seed from its
    ``generator`` argument, or from the generator that ``torch.manual_seed`` seeds; this seed determines all values.

    torch performs all other fills:

    - tensors on other devices, of dtypes other than float32, float64, float16 and bfloat16, or of subclasses other than
      Parameter and DTensor;
    - fills that autograd records, or that a transform of :mod:`torch.func`, a tracer or another TorchDispatchMode
      observes;
    - functions that create a tensor or fill one given as ``out=``, such as ``torch.randn``;
    - fills that do not call the two methods of a tensor, such as ``torch.ops.aten.normal_`` and
      ``torch.Tensor.normal_(tensor)``;
    - fills of code that is compiled by ``torch.compile``, except with the backend ``"eager"``, which calls the methods.

    Other threads are not affected, unless they run in a copy of the block's context, as with ``asyncio.to_thread``. A
    forked child process keeps only the blocks that the forking thread is in. Blocks can be nested, and left in any
    order.

    If ``torch.utils.checkpoint`` computes a function again during the backward pass, it does so within a block if and
    only if the forward pass of the function ran within one. Other implementations of activation checkpointing do not;
    decorate the function that they call twice.

    Parameters
    ----------
    function : callable, optional
        The function or callable object to decorate; ``@accelerate`` is the same as ``@accelerate()``. Generator and
        coroutine functions, and objects that call such a function, cannot be decorated, because their bodies run after
        the call has returned. Use a ``with`` block inside them.
    check_ranks : bool, default True
        Before each fill of a DTensor within the block, also by a function of :mod:`fastkaiming.torch`, the ranks of its
        mesh compare their seeds, distributions, shapes, dtypes and placements, and all of them raise a ValueError if
        these differ. With False, they are not compared, and the ranks do not communicate.

    Returns
    -------
    context manager or callable
        The decorated function if ``function`` is given; otherwise a context manager, which can also be used as a
        decorator.

    Raises
    ------
    TypeError
        If the decorated object is not callable, or is a class or a generator or coroutine function, or if
        ``check_ranks`` is not a bool.

    Examples
    --------
    >>> import torch
    >>> import fastkaiming.torch as init
    >>> with init.accelerate():
    ...     layer = torch.nn.Linear(4096, 4096)
    >>> layer.weight.abs().max() <= 4096**-0.5
    tensor(True)
    """
    acceleration = Acceleration(check_ranks=check_ranks)
    return acceleration if function is None else acceleration(function)


_PATCHES = (*_replacements.PATCHES, *checkpoint_patches(_run_in_block))
# A signal handler or a finalizer may need the lock while the code that it interrupts, in the same thread, holds it.
_lock = threading.RLock()


def _replace_or_restore() -> None:
    """Replace torch's functions if any block is open, and restore them otherwise."""
    while True:
        is_any_open = bool(open_blocks)
        for patch in _PATCHES:
            if is_any_open:
                patch.apply()
            else:
                patch.undo()
        if is_any_open == bool(open_blocks):  # otherwise a signal handler has entered or left a block meanwhile
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
    block = innermost_open()
    while block is not None:
        kept.add(block)
        block = block.enclosing()
    thread = threading.get_ident()
    for block in list(open_blocks):
        if block.thread != thread and block not in kept:
            open_blocks.discard(block)
    _replace_or_restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_blocks_of_other_threads)
