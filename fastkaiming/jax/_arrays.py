"""Arrays of JAX: a key of its in the terms of the core, and blocks of memory that are handed over to its devices."""

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from fastkaiming import _validation
from fastkaiming._fill import dtypes
from fastkaiming._fill.fill import fill_
from fastkaiming.distributions import Distribution
from fastkaiming.rng import Generator, Key, key_from

Index: TypeAlias = tuple[slice, ...]

_ALIGNMENT = 64  # bytes: memory aligned so, JAX takes over on the CPU as it is; it copies all other


@final
@dataclass(frozen=True, repr=False)
class Initializer:
    """What :mod:`fastkaiming.jax` returns: call it as ``init(key, shape, dtype)``, or hand it to :func:`make`.

    Those of the same settings are equal, so that JAX compiles them once, and processes can send them to each other.

    JAX itself refuses a bad call, in its own words and before anything is drawn: its own initializer is traced first.
    Where the dtype is none that :func:`fastkaiming.fill_` takes, complex for one, the values are those of JAX's
    initializer.
    """

    formula: Callable[..., Distribution]  # of a shape and the settings
    theirs: Callable[..., Callable[..., Any]]  # JAX's function of the settings, which returns its initializer
    settings: tuple[tuple[str, Any], ...]
    dtype: Any

    def __repr__(self) -> str:
        given = (*self.settings, ("dtype", self.dtype)) if self.dtype is not None else self.settings
        return f"{self.theirs.__name__}({', '.join(f'{name}={value!r}' for name, value in given)})"

    def rule(self, shape: tuple[int, ...]) -> Distribution:
        """Return the distribution that arrays of a shape are drawn from."""
        return self.formula(shape, **dict(self.settings))

    def of_jax(self) -> Callable[..., Any]:
        """Return JAX's own initializer of the settings."""
        return self.theirs(**dict(self.settings))

    def __call__(self, key: Any, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Any:
        """Return a new array, on the devices on which JAX would compute with the key.

        Under ``jax.jit`` and ``jax.vmap`` the values are drawn on the host, by ``jax.pure_callback``.

        Parameters
        ----------
        key : jax.Array
            A key of ``jax.random.key`` or ``jax.random.PRNGKey``.
        shape : sequence of int
            The shape of the array.
        dtype : dtype, optional
            Its dtype; by default the one that the initializer was made with, or else JAX's default for floats.
        out_sharding : jax.sharding.NamedSharding or jax.sharding.PartitionSpec, optional
            As JAX's own initializers have it, from the version on that they do. :func:`make` takes any sharding, and
            never holds the whole array on the host.

        Returns
        -------
        jax.Array
            The array.

        Raises
        ------
        TypeError, ValueError, ZeroDivisionError
            As JAX's own initializer does; then as :func:`fastkaiming.fill_` does, for a negative scale or a
            distribution that would over- or underflow the dtype. A ValueError also for a key that is not of two or four
            words.
        """
        answer = self.traced(key, shape, dtype, out_sharding)
        if dtypes.format_of_dtype(answer.dtype) is None:
            return self.of_jax()(key, shape, **self._given(dtype, out_sharding))
        distribution, words = _fitting(self.rule(answer.shape), answer.dtype), _words(key)
        if isinstance(words, jax.core.Tracer):
            return _on_host(distribution, answer.shape, answer.dtype, answer.sharding)(words)
        values = _assembled(distribution, _key(words), answer.shape, answer.dtype, _home(words))
        return values if answer.sharding is None else jax.sharding.reshard(values, answer.sharding)

    def traced(self, key: Any, shape: Sequence[int], dtype: Any, out_sharding: Any = None) -> jax.ShapeDtypeStruct:
        """Return the shape, the dtype and, on a mesh of explicit axes, the sharding of what JAX's would return."""
        given = self._given(dtype, out_sharding)
        if isinstance(key, jax.Array):
            with contextlib.suppress(TypeError):  # of what cannot be hashed, which is refused by name below, or taken
                call = _call(self, shape, tuple(map(type, shape)), **given)  # 2.0 equals 2, but is no size
                return jax.eval_shape(call, key)
        return jax.eval_shape(functools.partial(self.of_jax(), key, shape, **given))

    def _given(self, dtype: Any, out_sharding: Any) -> dict[str, Any]:
        asked = {"dtype": self.dtype if dtype is None else dtype, "out_sharding": out_sharding}
        return {name: value for name, value in asked.items() if value is not None}


@functools.lru_cache(maxsize=1024, typed=True)
def _call(initializer: Initializer, shape: Sequence[int], _: tuple[type, ...], **given: Any) -> Callable[[Any], Any]:
    """Return one function of the key for all equal calls: JAX remembers the trace of a function, which takes 1 ms."""
    theirs = initializer.of_jax()
    traceable: Callable[[Any], Any] = jax.jit(lambda key: theirs(key, shape, **given))
    return traceable


def _fitting(distribution: Distribution, dtype: np.dtype[Any]) -> Distribution:
    """Return a distribution that the dtype can hold, or refuse it before anything is drawn or compiled."""
    fill_(np.empty(0, dtype), distribution, rng=0)
    return distribution


@functools.lru_cache(maxsize=1024)
def _on_host(
    distribution: Distribution, shape: tuple[int, ...], dtype: np.dtype[Any], sharding: Any
) -> Callable[[Any], Any]:
    """Return one function of a key's words for all equal calls, which JAX compiles once."""

    def drawn(words: Any) -> NDArray[Any]:
        *batch, width = words.shape  # one more axis for each jax.vmap around the call
        values, keys = _empty((*batch, *shape), dtype), math.prod(batch)
        for each, key in zip(values.reshape(keys, *shape), np.reshape(words, (keys, width)), strict=True):
            fill_(each, distribution, rng=_key(key))
        return values

    def call(words: Any) -> Any:
        plain = jax.ShapeDtypeStruct(shape, dtype)
        values = jax.pure_callback(drawn, plain, words, vmap_method="broadcast_all")
        return _spread(values) if sharding is None else jax.sharding.reshard(values, sharding)

    compiled: Callable[[Any], Any] = jax.jit(call)
    return compiled


def _spread(values: Any) -> Any:
    """Return the values of a callback, which one device has, as values that the compiler may put on all of a mesh.

    As they are, JAX can return them from no computation over a mesh; without ``jax.set_mesh``, it leaves them there.
    """
    return jax.lax.optimization_barrier(values) if hasattr(jax, "set_mesh") else values


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
        A key of JAX, or what :func:`fastkaiming.fill_` takes. Where several hosts make one array, all of them must pass
        the same key, which None does not.
    shape : sequence of int
        The shape of the whole array.
    dtype : dtype, optional
        Its dtype, one that :func:`fastkaiming.fill_` takes; by default the initializer's, or else JAX's default for
        floats.
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
        equal parts, and :func:`fastkaiming.fill_` for all else; before anything is drawn. A TypeError also under
        ``jax.jit``, for which there is the initializer itself.

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
    if sharding is not None and not isinstance(sharding, jax.sharding.Sharding):
        raise TypeError(f"sharding must be a jax.sharding.Sharding or None, not {_validation.shown(sharding)}")
    if not isinstance(rng, jax.Array | np.ndarray | Generator | np.random.Generator | None):
        rng = key_from(rng)  # which takes nothing from it, and refuses another argument in its place
    given = isinstance(rng, jax.Array | np.ndarray)
    asked = rng if given else jax.random.key(0)
    distribution, answer = _drawn_from(initializer, asked, shape, dtype)
    kind = dtypes.check_dtype("dtype", answer.dtype)
    _fitting(distribution, kind)
    _refuse_wrong_axes(answer.shape, sharding)
    words = _words(asked)
    if isinstance(words, jax.core.Tracer):
        raise TypeError("make cannot be traced, by jax.jit for one: there, call the initializer")
    return _assembled(distribution, _key(words) if given else key_from(rng), answer.shape, kind, sharding)


def _drawn_from(
    initializer: Initializer | Distribution, key: Any, shape: Sequence[int], dtype: Any
) -> tuple[Distribution, jax.ShapeDtypeStruct]:
    """Return the distribution of an array, and its shape and dtype."""
    if isinstance(initializer, Initializer):
        answer = initializer.traced(key, shape, dtype)
        return initializer.rule(answer.shape), answer
    if isinstance(initializer, Distribution):
        return initializer, jax.eval_shape(functools.partial(jax.numpy.empty, shape, dtype))
    kinds = "an initializer of fastkaiming.jax, a Normal, a Uniform or a TruncatedNormal"
    raise TypeError(f"initializer must be {kinds}, not {_validation.shown(initializer)}")


def _refuse_wrong_axes(shape: tuple[int, ...], sharding: Any) -> None:
    if isinstance(sharding, NamedSharding) and len(sharding.spec) > len(shape):
        raise ValueError(f"sharding must have at most {len(shape)} axes for shape {shape}, got {sharding.spec}")
    if sharding is not None:
        sharding.shard_shape(shape)  # JAX refuses unequal parts


def _assembled(
    distribution: Distribution, key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], sharding: Any
) -> Any:
    """Return an array of the blocks that are this host's; without a sharding, it is JAX's to place it."""
    if sharding is None:
        return jax.device_put(_filled(distribution, key, shape, dtype, (slice(None),) * len(shape)))
    parts = []
    for index, places in _blocks(shape, sharding):  # jax.make_array_from_callback would hold all of them at once
        block = _filled(distribution, key, shape, dtype, index)
        parts += jax.block_until_ready([jax.device_put(block, place) for place in places])
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def _blocks(shape: tuple[int, ...], sharding: Any) -> list[tuple[Index, list[Any]]]:
    """Return the parts of an array that are this host's, and where each of them belongs."""
    blocks: dict[str, tuple[Index, list[Any]]] = {}
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        _, places = blocks.setdefault(repr(index), (index, []))
        places.append(jax.sharding.SingleDeviceSharding(device, memory_kind=sharding.memory_kind))
    return list(blocks.values())


_copied_words = jax.jit(lambda key: jax.random.key_data(key) + np.uint32(0))


def _words(key: Any) -> Any:
    """Return the two or four words of a key, on the devices where JAX computes with it: those of a mesh that is set."""
    words = _copied_words(key)
    if words.shape not in ((2,), (4,)):
        raise ValueError(f"key must be one key of two or four words, got words of shape {words.shape}")
    return words


def _home(words: Any) -> Any:
    """Return the sharding that the words of a key pass on to what is made of them; None where it is JAX's to choose."""
    if not words.committed:
        return None
    there = words.sharding
    return NamedSharding(there.mesh, PartitionSpec()) if isinstance(there, NamedSharding) else there


def _key(words: Any) -> Key:
    numbers = list(map(int, np.asarray(words)))
    return Key(*(high << 32 | low for high, low in zip(numbers[::2], numbers[1::2], strict=True)))


def _filled(
    distribution: Distribution, key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], index: Index
) -> NDArray[Any]:
    """Return ``whole[index]`` of an array of that shape, in new memory."""
    sizes = [len(range(*part.indices(size))) for part, size in zip(index, shape, strict=True)]
    return fill_(_empty(sizes, dtype), distribution, rng=key, global_shape=shape, index=index)


def _empty(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return new and aligned memory."""
    nbytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + nbytes].view(dtype).reshape(shape)
