"""Which values are drawn: keys, and generators that hand them out.

A key is a 64-bit seed and a 64-bit stream number. It stands for one sequence of random words, of which every element of
a fill takes its own by its index: a key is a value, not a state, and gives the same numbers every time.
"""

import os
import sys
import threading
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias, Union, final

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _core, checks

_LAST = 2**64 - 1  # the last seed, stream and word
_NAMED = 2**63  # streams from here on belong to names, those below to counting
_MOST_WORDS = sys.maxsize // np.dtype(np.uint32).itemsize  # in one array


@final
@dataclass(frozen=True, slots=True)
class Key:
    """Which random words a fill uses: a seed, and a stream of that seed.

    Parameters
    ----------
    seed : int
        From 0 to 2**64 - 1.
    stream : int, default 0
        From 0 to 2**64 - 1. Streams of one seed are independent of each other.

    Raises
    ------
    TypeError
        A seed or stream that is no integer.
    ValueError
        A seed or stream out of range.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.Key(42)
    Key(seed=42, stream=0)
    >>> hex(fk.Key(42).philox_key)
    '0xe2270e8ac82d917f'
    """

    seed: int
    stream: int

    def __init__(self, seed: int, stream: int = 0) -> None:
        object.__setattr__(self, "seed", checks.integer("seed", seed, 0, _LAST))
        object.__setattr__(self, "stream", checks.integer("stream", stream, 0, _LAST))

    @property
    def philox_key(self) -> int:
        """The 64-bit Philox key that the seed is mixed into; see the section "Words" of the stream's specification."""
        return _core.philox_key(self.seed)

    def words(self, n: int, start: int = 0) -> NDArray[np.uint32]:
        """Return ``n`` raw words of the stream from word number ``start`` on, the output of Philox4x32-10 itself.

        Parameters
        ----------
        n : int
            How many words, at most as many as an array can hold.
        start : int, default 0
            The first word; start + n is at most 2**64.

        Returns
        -------
        numpy.ndarray
            ``n`` words of dtype uint32.

        Raises
        ------
        TypeError
            ``n`` or ``start`` is no integer.
        ValueError
            ``n`` or ``start`` is out of range.
        """
        start = checks.integer("start", start, 0, _LAST)
        n = checks.integer("n", n, 0, min(_LAST + 1 - start, _MOST_WORDS))
        words = np.empty(n, np.uint32)
        _core.fill(words, _core.WORDS_U32, self.philox_key, self.stream, start)
        return words


def _valid_key(seed: int, stream: int) -> Key:
    """Return a key of numbers that need no check."""
    key = object.__new__(Key)
    object.__setattr__(key, "seed", seed)
    object.__setattr__(key, "stream", stream)
    return key


@final
class Generator:
    """A source of keys with one seed: every fill that is given the generator takes its next stream.

    Two fills given the same integer share their values; two fills given one generator do not. Threads may share it.
    A copy, or what is unpickled, goes on from the same stream as the original, each on its own from there.

    Parameters
    ----------
    seed : int, optional
        From 0 to 2**64 - 1; by default 64 bits of the operating system's entropy.

    Raises
    ------
    TypeError
        A seed that is no integer.
    ValueError
        A seed out of range.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> generator = fk.Generator(42)
    >>> generator.take(), generator.take()
    (Key(seed=42, stream=0), Key(seed=42, stream=1))
    >>> generator.key("encoder.weight") == fk.Generator(42).key("encoder.weight")
    True
    """

    __slots__ = ("_lock", "_next", "_seed")

    def __init__(self, seed: int | None = None) -> None:
        self._seed = _entropy() if seed is None else checks.integer("seed", seed, 0, _LAST)
        self._next = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Generator(seed={self._seed})"

    def __getstate__(self) -> tuple[int, int]:
        with self._lock:
            return self._seed, self._next

    def __setstate__(self, state: tuple[int, int]) -> None:
        self._seed, self._next = state
        self._lock = threading.Lock()

    @property
    def seed(self) -> int:
        """The seed of every key from this generator."""
        return self._seed

    def take(self) -> Key:
        """Return the key of the next stream: 0, 1, 2, and so on.

        Returns
        -------
        Key
            A key that this generator has not handed out before.
        """
        with self._lock:
            stream = self._next
            self._next += 1
        return _valid_key(self._seed, stream)

    def key(self, name: str) -> Key:
        """Return the key of a name; it does not depend on what was taken before, and takes nothing.

        Parameters
        ----------
        name : str
            Any name; a parameter's path in its model, as a rule.

        Returns
        -------
        Key
            The stream is 2**63 plus 63 bits of the BLAKE2b digest of the name's UTF-8 bytes, so it is never one of the
            streams taken by counting.

        Raises
        ------
        TypeError
            ``name`` is no str.
        """
        digest = blake2b(checks.text("name", name).encode(), digest_size=8).digest()
        return _valid_key(self._seed, _NAMED | int.from_bytes(digest, "little"))


# NumPy loads its own generators, a tenth of an import, only when somebody speaks of them.
Rng: TypeAlias = Union[int, Key, Generator, "np.random.Generator", None]


def key_from(rng: Rng) -> Key:
    """Return the key that a fill draws with, and take it from ``rng`` where that is a source of keys or seeds."""
    if isinstance(rng, Key):
        return rng
    if isinstance(rng, Generator):
        return rng.take()
    if type(rng) is int:
        return _remembered(rng)
    if rng is None:
        return _valid_key(_entropy(), 0)
    if isinstance(rng, np.random.Generator):
        return Key(int(rng.integers(_LAST, dtype=np.uint64, endpoint=True)))
    return _seeded(rng)


def _seeded(seed: int) -> Key:
    kinds = "None, an integer, a Key, a Generator or a numpy.random.Generator"
    return _valid_key(checks.integer("rng", seed, 0, _LAST, kinds), 0)


_remembered = lru_cache(maxsize=1024)(_seeded)  # a key takes longer to make than a small array to fill


def _entropy() -> int:
    return int.from_bytes(os.urandom(8), "little")
