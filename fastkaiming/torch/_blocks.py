"""The open ``with`` blocks of ``accelerate()``, and the contexts in which they apply."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token

open_blocks: set["Block"] = set()


class Block:
    """A ``with`` block while it runs. A block that is entered again is a new object."""

    def __init__(self, *, check_ranks: bool) -> None:
        self.check_ranks = check_ranks
        self.thread = threading.get_ident()
        self._token: Token[Block | None] | None = None

    def begin(self) -> None:
        """Make this block the innermost one of the current context."""
        self._token = _innermost.set(self)

    def enclosing(self) -> "Block | None":
        """Return the block within which this one began, which may have been left since, or None."""
        block = None if self._token is None else self._token.old_value
        return block if isinstance(block, Block) else None


_innermost: ContextVar[Block | None] = ContextVar("fastkaiming.torch.innermost", default=None)


def innermost_open() -> Block | None:
    """Return the innermost open block of the current context, or None.

    Blocks need not be left in the reverse order, and a copy of a context can outlive its blocks.
    """
    block = _innermost.get()
    while block is not None and block not in open_blocks:
        block = block.enclosing()
    return block


def checks_ranks() -> bool:
    """Return True unless an open block of the current context turns the comparison of ranks off."""
    block = _innermost.get()
    while block is not None and (block.check_ranks or block not in open_blocks):
        block = block.enclosing()
    return block is None


def forget_left_blocks() -> None:
    """Make the innermost open block the innermost one of the current context."""
    token = _innermost.set(innermost_open())
    if token.old_value in open_blocks:  # a signal handler has entered it meanwhile
        _innermost.reset(token)


@contextmanager
def no_block() -> Iterator[None]:
    """Let torch perform the fills of the current context, even if blocks are open."""
    token = _innermost.set(None)
    try:
        yield
    finally:
        _innermost.reset(token)
