"""Arrays of JAX: a key of its in the terms of the core, and blocks of memory that are handed over to its devices."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import jax
import numpy as np
from numpy.typing import NDArray

from fastkaiming import checks, formats
from fastkaiming.distributions import Distribution
from fastkaiming.filling import fill_
from fastkaiming.generator import Key, key_from

Index: TypeAlias = tuple[slice, ...]

_ALIGNMENT = 64  # bytes: memory aligned so, JAX takes over on the CPU as it is; it copies all other


@final
@dataclass(frozen=True, eq=False)
class Initializer:
    """What :mod:`fastkaiming.jax` returns: call it as ``init(key, shape, dtype)``, or hand it to :func:`make`.

    JAX itself refuses a bad call, in its own words and before anything is drawn: its own initializer is traced first.
    Where the dtype is none that :func:`fill_` takes, complex for one, the values are those of JAX's initializer.
    """

    rule: Callable[[tuple[int, ...]], Distribution]
    theirs: Callable[..., Any]
    dtype: Any

    def __call__(self, key: Any, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Any:
        """Return a new array.

        Under ``jax.jit`` the values are drawn on the host, by ``jax.pure_callback``; under ``jax.vmap`` for one key
        after the other.

        Parameters
        ----------
        key : jax.Array
            A key of ``jax.random.key`` or ``jax.random.PRNGKey``.
        shape : sequence of int
            The shape of the array.
        dtype : dtype, optional
            Its dtype; by default the one that the initializer was made with, or else JAX's default for floats.
        out_sharding : NamedSharding or PartitionSpec, optional
            As JAX's own initializers have it, from the version on that they do. :func:`make` takes any sharding, and
            never holds the whole array on the host.

        Returns
        -------
        jax.Array
            The array.

        Raises
        ------
        TypeError, ValueError, ZeroDivisionError
            As JAX's own initializer does; then as :func:`fill_` does, for a negative scale or a distribution that would
            over- or underflow the dtype. A ValueError also for a key that is not of two or four words.
        """
        theirs, answer = self.traced(key, shape, dtype, out_sharding)
        if formats.known(answer.dtype) is None:
            return theirs()
        distribution, words = self.rule(answer.shape), _words(key)

        def drawn(words: Any) -> NDArray[Any]:
            return _filled(distribution, _key(words), answer.shape, answer.dtype, _whole(answer.shape))

        if isinstance(words, jax.core.Tracer):
            plain = jax.ShapeDtypeStruct(answer.shape, answer.dtype)
            values = jax.pure_callback(drawn, plain, words, vmap_method="sequential")
        else:
            values = jax.device_put(drawn(words))
        return values if out_sharding is None else jax.sharding.reshard(values, out_sharding)

    def traced(
        self, key: Any, shape: Sequence[int], dtype: Any, out_sharding: Any = None
    ) -> tuple[Callable[[], Any], Any]:
        """Return the call of JAX's own initializer, and shape and dtype of what it would return."""
        asked = {"dtype": self.dtype if dtype is None else dtype, "out_sharding": out_sharding}
        given = {name: value for name, value in asked.items() if value is not None}
        theirs = functools.partial(self.theirs, key, shape, **given)
        if not isinstance(key, jax.Array):
            return theirs, jax.eval_shape(theirs)
        try:
            call = _call(self.theirs, shape, tuple(map(type, shape)), **given)  # 2.0 equals 2, but is no size
        except TypeError:
            return theirs, jax.eval_shape(theirs)  # refuses by name what cannot be hashed, or takes it
        return theirs, jax.eval_shape(call, key)


@functools.lru_cache(maxsize=1024, typed=True)
def _call(theirs: Callable[..., Any], shape: Sequence[int], _: tuple[type, ...], **given: Any) -> Callable[[Any], Any]:
    """Return one function of the key for all equal calls: JAX remembers the trace of a function, which takes 1 ms."""
    return lambda key: theirs(key, shape, **given)


def make(
    initializer: Initializer | Distribution,
    rng: Any,
    shape: Sequence[int],
    dtype: Any = None,
    sharding: jax.sharding.Sharding | None = None,
) -> Any:
    """Return a new array, each device's block of it filled by itself: no host holds more than one block at a time.

    The values are the same bits for every sharding, on any number of hosts; blocks that several devices share are
    filled once. On a CPU, the memory that is filled becomes the array's.

    Parameters
    ----------
    initializer : Initializer, Normal, Uniform or TruncatedNormal
        What a function of :mod:`fastkaiming.jax` returned, or a distribution itself.
    rng : jax.Array, int, Key, Generator or numpy.random.Generator, optional
        A key of JAX, or what :func:`fill_` takes. Where several hosts make one array, all of them must pass the same
        key, which None does not.
    shape : sequence of int
        The shape of the whole array.
    dtype : dtype, optional
        Its dtype, one that :func:`fill_` takes; by default the initializer's, or else JAX's default for floats.
    sharding : jax.sharding.Sharding, optional
        Which device holds which part; by default, JAX's default device holds all of it.

    Returns
    -------
    jax.Array
        The array.

    Raises
    ------
    TypeError, ValueError, ZeroDivisionError
        As JAX's own initializer does for the key, shape or dtype, JAX for a sharding that does not cut the shape into
        equal parts, and :func:`fill_` for all else; before anything is drawn.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> import jax
    >>> from fastkaiming.jax import he_normal, make
    >>> mesh = jax.make_mesh((1,), ("model",))  # of as many devices as there are
    >>> columns = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "model"))
    >>> kernel = make(he_normal(), fk.Generator(42).key("mlp/kernel"), (512, 256), sharding=columns)
    >>> kernel.sharding == columns
    True
    """
    chosen = initializer if isinstance(initializer, Initializer) else _initializer_of(initializer)
    if sharding is not None and not isinstance(sharding, jax.sharding.Sharding):
        raise TypeError(f"sharding must be a jax.sharding.Sharding or None, not {checks.shown(sharding)}")
    theirs = isinstance(rng, jax.Array | np.ndarray)
    _, answer = chosen.traced(rng if theirs else jax.random.key(0), shape, dtype)
    sizes, kind = answer.shape, formats.dtype("dtype", answer.dtype)
    distribution = chosen.rule(sizes)
    fill_(np.empty(0, kind), distribution, rng=0)  # which refuses what this dtype cannot hold
    blocks = _blocks(sizes, sharding)
    key = _key(_words(rng)) if theirs else key_from(rng)
    parts = []
    for index, places in blocks:  # jax.make_array_from_callback would hold all blocks of this host at once
        block = _filled(distribution, key, sizes, kind, index)
        parts += [jax.device_put(block, place) for place in places]
    return parts[0] if sharding is None else jax.make_array_from_single_device_arrays(sizes, sharding, parts)


def _initializer_of(distribution: Distribution) -> Initializer:
    """Return an initializer that draws from one distribution for every shape."""
    if not isinstance(distribution, Distribution):
        kinds = "an initializer of fastkaiming.jax, a Normal, a Uniform or a TruncatedNormal"
        raise TypeError(f"initializer must be {kinds}, not {checks.shown(distribution)}")
    return Initializer(lambda _: distribution, lambda _, *shape, **dtype: jax.numpy.empty(*shape, **dtype), None)


def _blocks(shape: tuple[int, ...], sharding: Any) -> list[tuple[Index, list[Any]]]:
    """Return the parts of an array that are this host's, and where each of them belongs."""
    if sharding is None:
        return [(_whole(shape), [None])]
    blocks: dict[str, tuple[Index, list[Any]]] = {}
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        _, places = blocks.setdefault(repr(index), (index, []))
        places.append(jax.sharding.SingleDeviceSharding(device, memory_kind=sharding.memory_kind))
    return list(blocks.values())


def _whole(shape: tuple[int, ...]) -> Index:
    return (slice(None),) * len(shape)


def _words(key: Any) -> Any:
    """Return the two or four words of a key."""
    words = jax.random.key_data(key)
    if words.shape not in ((2,), (4,)):
        raise ValueError(f"key must be one key of two or four words, got words of shape {words.shape}")
    return words


def _key(words: Any) -> Key:
    numbers = list(map(int, np.asarray(words)))
    return Key(*(high << 32 | low for high, low in zip(numbers[::2], numbers[1::2], strict=True)))


def _filled(
    distribution: Distribution, key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], index: Index
) -> NDArray[Any]:
    """Return ``whole[index]`` of an array of that shape, in new and aligned memory."""
    sizes = [len(range(*part.indices(size))) for part, size in zip(index, shape, strict=True)]
    nbytes = math.prod(sizes) * dtype.itemsize
    memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    block = memory[start : start + nbytes].view(dtype).reshape(sizes)
    return fill_(block, distribution, rng=key, global_shape=shape, index=index)
