"""Keys, which select the random values of a fill, and generators of keys.

A key is a 64-bit seed and a 64-bit stream number. It identifies a sequence of random words (32-bit integers), and every
element of a fill uses the words at its own index. A key has no state: it gives the same values every time.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import Any, TypeAlias, Union, final

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _core, _hints, _validation

_MAX_UINT64 = 2**64 - 1  # the largest seed, stream number and word number
_FIRST_STREAM = 1  # the first stream of a generator; an integer seed uses stream 0
_FIRST_NAMED_STREAM = 2**63  # streams from this number on are reserved for names
_MAX_WORDS = sys.maxsize // np.dtype(np.uint32).itemsize  # in one array


@final
@dataclass(frozen=True, slots=True)
class Key:
    """A seed and a stream of that seed, which select the random words of a fill.

    Use each key for one array only. Arrays that are filled from the same key use the same random words: they are equal
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
        If ``seed`` or ``stream`` is not an integer.
    ValueError
        If ``seed`` or ``stream`` is out of range.

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
        object.__setattr__(self, "seed", _validation.integer("seed", seed, 0, _MAX_UINT64))
        object.__setattr__(self, "stream", _validation.integer("stream", stream, 0, _MAX_UINT64))

    @property
    def philox_key(self) -> int:
        """The 64-bit key of Philox4x32-10 that is derived from the seed: see docs/stream-v1.md, section 2."""
        return _core.philox_key(self.seed)

    def words(self, n: int, start: int = 0) -> NDArray[np.uint32]:
        """Return ``n`` raw words of the stream, the output of Philox4x32-10, beginning with word number ``start``.

        An element of float32 or of a narrower dtype uses one word, but two neighbouring elements of a normal
        distribution share their two words. An element of float64 uses two words. See docs/stream-v1.md, section 3.

        Parameters
        ----------
        n : int
            The number of words, at most as many as an array can hold.
        start : int, default 0
            The number of the first word; ``start + n`` is at most 2**64.

        Returns
        -------
        numpy.ndarray
            ``n`` words of dtype uint32.

        Raises
        ------
        TypeError
            If ``n`` or ``start`` is not an integer.
        ValueError
            If ``n`` or ``start`` is out of range.
        """
        start = _validation.integer("start", start, 0, _MAX_UINT64)
        n = _validation.integer("n", n, 0, min(_MAX_UINT64 + 1 - start, _MAX_WORDS))
        words = np.empty(n, np.uint32)
        _core.fill(words, _core.WORDS_U32, self.philox_key, self.stream, start)
        return words


def _unchecked_key(seed: int, stream: int) -> Key:
    """Return a key without checking the seed and the stream."""
    key = _new_key(Key)
    _set_seed(key, seed)
    _set_stream(key, stream)
    return key


_new_key = object.__new__
_set_seed, _set_stream = (vars(Key)[name].__set__ for name in ("seed", "stream"))


def _streams_from(stream: int) -> "count[int]":
    """Return an iterator over the streams of a generator, with 2**63 subtracted from each: the last one is -1.

    ``next`` of an ``itertools.count`` is atomic for other threads and for signal handlers, also in builds of Python
    without the GIL. A lock could deadlock in two cases: a forked process inherits it while another thread holds it, or
    a signal handler needs it while the interrupted code holds it. The numbers are shifted below 0, because
    ``count`` stores a machine integer only below 2**63 - 1; from that number on, it uses a form that CPython 3.13
    cannot print.
    """
    return count(stream - _FIRST_NAMED_STREAM)


@final
class Generator:
    """A source of keys with one seed: every fill with ``rng=generator`` takes its next stream.

    Two fills with the same integer as ``rng`` use the same random words; two fills with the same generator do not.
    Streams are numbered from 1. Stream 0 is reserved for integers, so a fill with ``rng=n`` shares no random words with
    the fills of ``Generator(n)``.

    Threads can share a generator, but processes cannot: a copy in a forked process or in a worker continues from the
    same stream as the original, so both return the same keys. Give each worker a key of its own instead, such as
    ``generator.key(f"worker/{i}")``. A generator can be pickled. It can be unpickled only under the same
    :data:`STREAM_VERSION`, because another version gives other values for the same streams.

    Parameters
    ----------
    seed : int, optional
        From 0 to 2**64 - 1. By default it is 64 bits from the operating system's entropy.

    Raises
    ------
    TypeError
        If ``seed`` is not an integer.
    ValueError
        If ``seed`` is out of range.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> generator = fk.Generator(42)
    >>> generator.next_key(), generator.next_key()
    (Key(seed=42, stream=1), Key(seed=42, stream=2))
    >>> generator.key("encoder.weight") == fk.Generator(42).key("encoder.weight")
    True
    """

    __slots__ = ("_seed", "_streams")

    def __init__(self, seed: int | None = None) -> None:
        self._seed = _entropy() if seed is None else _validation.integer("seed", seed, 0, _MAX_UINT64)
        self._streams = _streams_from(_FIRST_STREAM)

    def __repr__(self) -> str:
        return f"Generator(seed={self._seed})"

    def __getstate__(self) -> dict[str, int]:
        # repr() is the only way to read a count without advancing it. A call of next_key() that raises OverflowError
        # still advances the count, so it may be greater than 0.
        number = min(int(repr(self._streams).removeprefix("count(").removesuffix(")")), 0)
        return {"stream_version": _core.STREAM_VERSION, "seed": self._seed, "next_stream": _FIRST_NAMED_STREAM + number}

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
            and 0 <= seed <= _MAX_UINT64
            and _FIRST_STREAM <= upcoming <= _FIRST_NAMED_STREAM
        ):
            raise ValueError(
                "the pickled state of a Generator must be a dict of stream_version, seed and next_stream, "
                f"not {_validation.describe(state)}"
            )
        self._seed, self._streams = seed, _streams_from(upcoming)

    @property
    def seed(self) -> int:
        """The seed of every key from this generator."""
        return self._seed

    def next_key(self) -> Key:
        """Return the key of the next stream: 1, 2, 3, and so on.

        Returns
        -------
        Key
            A key that this generator has not returned before.

        Raises
        ------
        OverflowError
            If the last stream that is not reserved for names, 2**63 - 1, has been returned already.
        """
        number = next(self._streams)
        if number >= 0:
            raise OverflowError(
                "next_key() has already returned the last sequential stream of the generator, "
                f"{_FIRST_NAMED_STREAM - 1}: use another seed"
            )
        return _unchecked_key(self._seed, _FIRST_NAMED_STREAM + number)

    def key(self, name: str) -> Key:
        """Return the key of a name. It does not depend on previous calls, and it does not advance the generator.

        Parameters
        ----------
        name : str
            Any name, usually the path of a parameter in its model.

        Returns
        -------
        Key
            Its stream is 2**63 plus 63 bits of the BLAKE2b digest of the name's UTF-8 bytes, so :meth:`next_key`
            never returns the same stream.

        Raises
        ------
        TypeError
            If ``name`` is not a str.
        """
        digest = blake2b(_validation.text("name", name).encode(), digest_size=8).digest()
        return _unchecked_key(self._seed, _FIRST_NAMED_STREAM | int.from_bytes(digest, "little"))


# A string, because naming numpy.random imports it, which would take a tenth of the import time of fastkaiming.
Rng: TypeAlias = Union[int, Key, Generator, "np.random.Generator", None]


def key_from(rng: Rng) -> Key:
    """Return the key of a fill. A generator is advanced by the key or seed that is taken from it."""
    if isinstance(rng, Key):
        return rng
    if isinstance(rng, Generator):
        return rng.next_key()
    if rng is None:
        return _unchecked_key(_entropy(), 0)
    if isinstance(rng, np.random.Generator):
        return Key(int(rng.integers(_MAX_UINT64, dtype=np.uint64, endpoint=True)))
    kinds = "None, an integer, a Key, a Generator or a numpy.random.Generator"
    return _unchecked_key(_validation.integer("rng", rng, 0, _MAX_UINT64, kinds, _hints.for_rng), 0)


@contextmanager
def restored_on_error(rng: object) -> Iterator[None]:
    """Restore the state of a generator if the ``with`` block raises an error, as if the block had not run."""
    state: Any = None
    if isinstance(rng, Generator):
        state = rng.__getstate__()
    elif isinstance(rng, np.random.Generator):
        state = rng.bit_generator.state
    try:
        yield
    except BaseException:
        if isinstance(rng, Generator):
            rng.__setstate__(state)
        elif isinstance(rng, np.random.Generator):
            rng.bit_generator.state = state
        raise


def _entropy() -> int:
    return int.from_bytes(os.urandom(8), "little")
