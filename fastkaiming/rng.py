"""Which values are drawn: keys, and generators that hand them out.

A key is a 64-bit seed and a 64-bit stream number. It stands for one sequence of random words, of which every element of
a fill takes its own by its index: a key is a value, not a state, and gives the same numbers every time.
"""

import os
import sys
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import Any, TypeAlias, Union, final

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _core, _validation

_LAST = 2**64 - 1  # the last seed, stream and word
_FIRST = 1  # the first stream that a generator hands out; an integer seed uses stream 0
_NAMED = 2**63  # streams from here on belong to names
_MAX_WORDS = sys.maxsize // np.dtype(np.uint32).itemsize  # in one array


@final
@dataclass(frozen=True, slots=True)
class Key:
    """Which random words a fill uses: a seed, and a stream of that seed.

    Use one key for one array. Arrays that are filled from the same key come from the same random words: they are equal
    if they have the same distribution, and correlated if they do not.

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
        object.__setattr__(self, "seed", _validation.integer("seed", seed, 0, _LAST))
        object.__setattr__(self, "stream", _validation.integer("stream", stream, 0, _LAST))

    @property
    def philox_key(self) -> int:
        """The 64-bit key of Philox4x32-10 that the seed is mixed into: docs/stream-v1.md, section 2."""
        return _core.philox_key(self.seed)

    def words(self, n: int, start: int = 0) -> NDArray[np.uint32]:
        """Return ``n`` raw words of the stream from word number ``start`` on, the output of Philox4x32-10 itself.

        An element of float32 and of the narrower dtypes takes one word, or shares two with its neighbour if it is
        normal; one of float64 takes two: docs/stream-v1.md, section 3.

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
        start = _validation.integer("start", start, 0, _LAST)
        n = _validation.integer("n", n, 0, min(_LAST + 1 - start, _MAX_WORDS))
        words = np.empty(n, np.uint32)
        _core.fill(words, _core.WORDS_U32, self.philox_key, self.stream, start)
        return words


def _valid_key(seed: int, stream: int) -> Key:
    """Return a key of numbers that need no check."""
    key = _new_key(Key)
    _set_seed(key, seed)
    _set_stream(key, stream)
    return key


_new_key = object.__new__
_set_seed, _set_stream = (vars(Key)[name].__set__ for name in ("seed", "stream"))  # of its slots


def _streams_from(stream: int) -> "count[int]":
    """Return an iterator over the streams of a generator, less 2**63 each: the last sequential one is -1.

    ``next`` of an ``itertools.count`` is a single step for other threads and for signal handlers, also in builds of
    Python without the GIL. A lock would have two flaws: a forked process can inherit it while another thread holds it,
    and a signal handler can need it while the code that it interrupts holds it. The numbers are negative because
    ``count`` holds those as machine integers; at 2**63 - 1 it changes to a form that CPython 3.13 cannot print.
    """
    return count(stream - _NAMED)


@final
class Generator:
    """A source of keys with one seed: every fill that is given the generator takes its next stream.

    Two fills that are given the same integer share their values; two fills that are given one generator do not.
    Streams are counted from 1. Stream 0 belongs to the integer itself: a fill with ``rng=n`` and the fills with
    ``Generator(n)`` share no values.

    Threads may share a generator. Processes may not: a copy continues from the same stream as the original, and so does
    the one that a forked process inherits or that is sent to a worker, so both then return the same keys. Give each
    worker a key of its own instead, such as ``generator.key(f"worker/{i}")``. A generator can be pickled. It can only
    be unpickled under the same :data:`STREAM_VERSION`, because another version gives other values for the same streams.

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
    (Key(seed=42, stream=1), Key(seed=42, stream=2))
    >>> generator.key("encoder.weight") == fk.Generator(42).key("encoder.weight")
    True
    """

    __slots__ = ("_seed", "_streams")

    def __init__(self, seed: int | None = None) -> None:
        self._seed = _entropy() if seed is None else _validation.integer("seed", seed, 0, _LAST)
        self._streams = _streams_from(_FIRST)

    def __repr__(self) -> str:
        return f"Generator(seed={self._seed})"

    def __getstate__(self) -> dict[str, int]:
        # repr() is the only way to read a count without moving it; take() moves it beyond 0 at each refusal.
        number = min(int(repr(self._streams).removeprefix("count(").removesuffix(")")), 0)
        return {"stream_version": _core.STREAM_VERSION, "seed": self._seed, "next_stream": _NAMED + number}

    def __setstate__(self, state: Any) -> None:
        fields = state if isinstance(state, dict) else {}
        version, seed, upcoming = map(fields.get, ("stream_version", "seed", "next_stream"))
        if type(version) is int and version != _core.STREAM_VERSION:
            raise ValueError(
                f"the Generator was pickled under stream version {version} and cannot be unpickled under stream "
                f"version {_core.STREAM_VERSION}, which gives other values"
            )
        if not (
            len(fields) == 3
            and type(version) is type(seed) is type(upcoming) is int
            and 0 <= seed <= _LAST
            and _FIRST <= upcoming <= _NAMED
        ):
            raise ValueError(
                "the pickled state of a Generator must be a dict of stream_version, seed and next_stream, "
                f"not {_validation.shown(state)}"
            )
        self._seed, self._streams = seed, _streams_from(upcoming)

    @property
    def seed(self) -> int:
        """The seed of every key from this generator."""
        return self._seed

    def take(self) -> Key:
        """Return the key of the next stream: 1, 2, 3, and so on.

        Returns
        -------
        Key
            A key that this generator has not handed out before.

        Raises
        ------
        OverflowError
            The last stream that is not reserved for names, 2**63 - 1, has been handed out.
        """
        number = next(self._streams)
        if number >= 0:
            raise OverflowError(
                f"take() has handed out the last sequential stream of the generator, {_NAMED - 1}: use another seed"
            )
        return _valid_key(self._seed, _NAMED + number)

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
            streams that :meth:`take` returns.

        Raises
        ------
        TypeError
            ``name`` is no str.
        """
        digest = blake2b(_validation.text("name", name).encode(), digest_size=8).digest()
        return _valid_key(self._seed, _NAMED | int.from_bytes(digest, "little"))


# NumPy loads its own generators, a tenth of an import, only when somebody speaks of them.
Rng: TypeAlias = Union[int, Key, Generator, "np.random.Generator", None]


def key_from(rng: Rng) -> Key:
    """Return the key that a fill draws with, and take it from ``rng`` where that is a source of keys or seeds."""
    if isinstance(rng, Key):
        return rng
    if isinstance(rng, Generator):
        return rng.take()
    if rng is None:
        return _valid_key(_entropy(), 0)
    if isinstance(rng, np.random.Generator):
        return Key(int(rng.integers(_LAST, dtype=np.uint64, endpoint=True)))
    kinds = "None, an integer, a Key, a Generator or a numpy.random.Generator"
    return _valid_key(_validation.integer("rng", rng, 0, _LAST, kinds), 0)


def _entropy() -> int:
    return int.from_bytes(os.urandom(8), "little")
