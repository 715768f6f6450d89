"""The initializer type, ``make``, conversion of JAX's keys, and placement of arrays on devices."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from fastkaiming import _validation
from fastkaiming._agreement import Fact
from fastkaiming._errors import named
from fastkaiming._fill import dtypes
from fastkaiming._fill.fill import fill_, fill_part
from fastkaiming._fill.shards import WHOLE
from fastkaiming.distributions import Distribution, Normal
from fastkaiming.jax import _processes
from fastkaiming.jax._callbacks import HostFill, aligned_empty, fill_on_host, key_from_words
from fastkaiming.rng import Generator, Key, key_from, restored_on_error

Index: TypeAlias = tuple[slice, ...]


@final
@dataclass(frozen=True, repr=False)
class Initializer:
    """An initializer of :mod:`fastkaiming.jax`: call it as ``init(key, shape, dtype)``, or pass it to :func:`make`.

    Initializers with the same settings are equal and have the same hash, so JAX compiles them once. They can be
    pickled.

    A call first traces JAX's own initializer, so a bad call raises JAX's own error before any array is filled. If
    :func:`fastkaiming.fill_` does not support the dtype, for example complex64, JAX's initializer makes the array.
    If an axis has the size 0, the result is an array without elements, and there are no errors about its fans.
    """

    make_distribution: Callable[..., Distribution]  # called with a shape and the settings
    jax_function: Callable[..., Callable[..., Any]]  # called with the settings, returns JAX's initializer
    settings: tuple[tuple[str, Any], ...]
    dtype: Any

    def __repr__(self) -> str:
        settings = (*self.settings, ("dtype", self.dtype)) if self.dtype is not None else self.settings
        return f"{self.jax_function.__name__}({', '.join(f'{name}={value!r}' for name, value in settings)})"

    def distribution(self, shape: tuple[int, ...]) -> Distribution:
        """Return the distribution of the values of an array of the given shape."""
        return self.make_distribution(shape, **dict(self.settings))

    def jax_initializer(self) -> Callable[..., Any]:
        """Return JAX's own initializer with the same settings."""
        return self.jax_function(**dict(self.settings))

    def __call__(self, key: Any, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Any:
        """Return a new array on the devices on which JAX would compute with the key.

        Under ``jax.jit`` and ``jax.vmap``, the array is filled on the host, by a callback. Each device of a sharded
        array calls the host for its own block, if JAX can divide the computation in this way.

        Parameters
        ----------
        key : jax.Array
            A key from ``jax.random.key`` or ``jax.random.PRNGKey``.
        shape : sequence of int
            The shape of the array.
        dtype : dtype, optional
            The dtype of the array. By default it is the dtype that the initializer was created with, or else JAX's
            default floating-point dtype.
        out_sharding : jax.sharding.NamedSharding or jax.sharding.PartitionSpec, optional
            The sharding of the array, as in JAX's own initializers (only in versions of JAX whose initializers have
            this argument). :func:`make` accepts any sharding, and never holds the whole array on the host.

        Returns
        -------
        jax.Array
            The new array.

        Raises
        ------
        TypeError, ValueError
            If JAX's own initializer raises this error. A ValueError is also raised if a scale is negative, if the
            distribution would overflow or underflow the dtype, or if the key does not have two or four words.
        """
        with named(self.jax_function.__name__):
            result = self.eval_shape(key, shape, dtype, out_sharding)
            if dtypes.format_of_dtype(result.dtype) is None:
                initializer = _EMPTY if 0 in result.shape else self
                return initializer.jax_initializer()(key, shape, **self._keywords(dtype, out_sharding))
            distribution = self.distribution(result.shape)
            _check_range(distribution, result.dtype)
            words = _key_words(key)
            if isinstance(words, jax.core.Tracer):
                fill = HostFill(distribution, result.shape, result.dtype)
                return _compiled_fill(fill, result.sharding)(words)
            values = _make_array(distribution, key_from_words(words), result.shape, result.dtype, _key_sharding(words))
            return values if result.sharding is None else jax.sharding.reshard(values, result.sharding)

    def eval_shape(self, key: Any, shape: Sequence[int], dtype: Any, out_sharding: Any = None) -> jax.ShapeDtypeStruct:
        """Return the shape, dtype and (on a mesh with explicit axes) sharding of the result of JAX's initializer."""
        keywords = self._keywords(dtype, out_sharding)
        if not _has_empty_axis(shape):
            return self._trace(key, shape, keywords)
        # Some versions of JAX divide by fans of zero, so the settings are checked with another shape.
        result = _EMPTY._trace(key, shape, keywords)
        self._trace(key, tuple(size or 1 for size in result.shape), self._keywords(dtype, None))
        return result

    def _trace(self, key: Any, shape: Sequence[int], keywords: dict[str, Any]) -> jax.ShapeDtypeStruct:
        """Trace JAX's own initializer, and return its result."""
        if isinstance(key, jax.Array):
            with contextlib.suppress(TypeError):  # an argument cannot be hashed: trace without the cache, below
                types = tuple(map(type, shape))  # distinguishes 2.0 from 2, which are equal
                function = _jitted_jax_initializer(self, shape, types, **keywords)
                return _with_sharding(jax.eval_shape(function, key), keywords, lambda: function(key))
        function = functools.partial(self.jax_initializer(), key, shape, **keywords)
        return _with_sharding(jax.eval_shape(function), keywords, function)

    def _keywords(self, dtype: Any, out_sharding: Any) -> dict[str, Any]:
        keywords = {"dtype": self.dtype if dtype is None else dtype, "out_sharding": out_sharding}
        return {name: value for name, value in keywords.items() if value is not None}


def _with_sharding(
    result: jax.ShapeDtypeStruct, keywords: dict[str, Any], function: Callable[[], Any]
) -> jax.ShapeDtypeStruct:
    """Return a result with its sharding, which ``jax.eval_shape`` leaves out if some axes of the mesh are automatic."""
    if result.sharding is not None or "out_sharding" not in keywords:
        return result
    sharding = getattr(jax.make_jaxpr(function)().out_avals[0], "sharding", None)
    return jax.ShapeDtypeStruct(result.shape, result.dtype, sharding=sharding)


def _has_empty_axis(shape: Any) -> bool:
    try:
        return 0 in tuple(shape)
    except (TypeError, ValueError):  # it is not a shape
        return False


# JAX's initializer that accepts shapes without elements in every version of JAX.
_EMPTY = Initializer(lambda _: Normal(0.0, 0.0), jax.nn.initializers.normal, (), None)


@functools.lru_cache(maxsize=1024, typed=True)
def _jitted_jax_initializer(
    initializer: Initializer, shape: Sequence[int], _: tuple[type, ...], **keywords: Any
) -> Callable[[Any], Any]:
    """Return JAX's own initializer as a function of the key, the same object for equal arguments.

    JAX caches the trace of a function by its identity; tracing it again would take 1 ms.
    """
    jax_initializer = initializer.jax_initializer()
    jitted: Callable[[Any], Any] = jax.jit(lambda key: jax_initializer(key, shape, **keywords))
    return jitted


def _check_range(distribution: Distribution, dtype: np.dtype[Any]) -> None:
    """Raise ValueError if the dtype cannot represent the distribution, before anything is filled or compiled."""
    fill_part(np.empty(0, dtype), distribution, Key(0), WHOLE)


@functools.lru_cache(maxsize=1024)
def _compiled_fill(host_fill: HostFill, sharding: Any) -> Callable[[Any], Any]:
    """Return a jitted function of the words of a key that fills an array on the host.

    Equal arguments give the same object, which JAX compiles once.
    """

    def fill(words: Any) -> Any:
        values = fill_on_host(words, host_fill)
        return values if sharding is None else jax.sharding.reshard(values, sharding)

    compiled: Callable[[Any], Any] = jax.jit(fill)
    return compiled


def make(
    initializer: Initializer | Distribution,
    rng: Any,
    shape: Sequence[int],
    dtype: Any = None,
    sharding: jax.sharding.Sharding | None = None,
    *,
    check_ranks: bool = True,
) -> Any:
    """Return a new array whose shards are filled one after the other, so that a host holds only one shard at a time.

    The values are bitwise identical for every sharding and any number of hosts. A shard that several devices hold is
    filled once. On a CPU, the array uses the filled memory without a copy.

    Parameters
    ----------
    initializer : Initializer, Normal, Uniform or TruncatedNormal
        An initializer from :mod:`fastkaiming.jax`, or a distribution.
    rng : jax.Array, int, Key, Generator, numpy.random.Generator or None
        A key of JAX, or any ``rng`` that :func:`fastkaiming.fill_` accepts. If several processes create one array, all
        of them must pass the same key, and not None, with which each process would use a different key.
    shape : sequence of int
        The shape of the whole array.
    dtype : dtype, optional
        The dtype of the array, which :func:`fastkaiming.fill_` must support. By default it is the dtype of the
        initializer, or else JAX's default floating-point dtype.
    sharding : jax.sharding.Sharding, optional
        The sharding of the array. By default, the whole array is on JAX's default device.
    check_ranks : bool, default True
        If the devices of ``sharding`` belong to several processes, these processes compare their keys and arguments
        before any shard is filled. If any of them differs or raises an error, all of them raise an error. With False,
        the processes do not communicate.

    Returns
    -------
    jax.Array
        The new array.

    Raises
    ------
    TypeError, ValueError
        If JAX's own initializer raises this error for the key, shape or dtype; if JAX cannot divide the shape into
        equal shards; or if :func:`fastkaiming.fill_` raises it for another argument. A ValueError is also raised if the
        processes that share the array differ. Errors are raised before any shard is filled. A TypeError is also raised
        under ``jax.jit``; call the initializer itself there.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> import jax
    >>> from fastkaiming.jax import he_normal, make
    >>> mesh = jax.make_mesh((1,), ("model",))  # use the number of devices that you have
    >>> columns = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "model"))
    >>> kernel = make(he_normal(), fk.Generator(42).key("mlp/kernel"), (512, 256), sharding=columns)
    >>> kernel.sharding == columns
    True
    """
    with named("make"):
        if sharding is not None and not isinstance(sharding, jax.sharding.Sharding):
            raise TypeError(f"sharding must be a jax.sharding.Sharding or None, not {_validation.describe(sharding)}")
        check = _validation.flag("check_ranks", check_ranks)
        with restored_on_error(rng), _processes.agreement(sharding, check_ranks=check) as agreement:
            if not isinstance(rng, jax.Array | np.ndarray | Generator | np.random.Generator | None):
                rng = key_from(rng)  # raises an error if it has the wrong type; generators are advanced only below
            is_jax_key = isinstance(rng, jax.Array | np.ndarray)
            jax_key = rng if is_jax_key else jax.random.key(0)  # JAX's initializer is traced with a key in any case
            distribution, result = _evaluate(initializer, jax_key, shape, dtype)
            array_dtype = dtypes.check_dtype("dtype", result.dtype)
            _check_range(distribution, array_dtype)
            _check_sharding(result.shape, sharding)
            words = _key_words(jax_key)
            if isinstance(words, jax.core.Tracer):
                raise TypeError("a call cannot be traced, for example by jax.jit: call the initializer instead")
            agreement.key = key_from_words(words) if is_jax_key else key_from(rng)
            agreement.facts = [
                Fact(f"{distribution} of shape {result.shape} and {array_dtype}"),
                *_facts_of_parts(result.shape, sharding),
            ]
        return _make_array(distribution, agreement.key, result.shape, array_dtype, sharding)


def _facts_of_parts(shape: tuple[int, ...], sharding: jax.sharding.Sharding | None) -> list[Fact]:
    """Return which part of an array each device gets, which describes a sharding of any kind."""
    if sharding is None:
        return []
    parts = {
        device.id: ", ".join(f"{part.start or 0}:{size if part.stop is None else part.stop}" for part, size in pairs)
        for device, index in sharding.devices_indices_map(shape).items()
        for pairs in [list(zip(index, shape, strict=True))]
    }
    return [Fact(", ".join(f"[{parts[number]}] on device {number}" for number in sorted(parts)))]


def _evaluate(
    initializer: Initializer | Distribution, key: Any, shape: Sequence[int], dtype: Any
) -> tuple[Distribution, jax.ShapeDtypeStruct]:
    """Return the distribution of an array, and its shape and dtype."""
    if isinstance(initializer, Initializer):
        result = initializer.eval_shape(key, shape, dtype)
        return initializer.distribution(result.shape), result
    if isinstance(initializer, Distribution):
        return initializer, jax.eval_shape(functools.partial(jax.numpy.empty, shape, dtype))
    kinds = "an initializer of fastkaiming.jax, a Normal, a Uniform or a TruncatedNormal"
    raise TypeError(f"initializer must be {kinds}, not {_validation.describe(initializer)}")


def _check_sharding(shape: tuple[int, ...], sharding: Any) -> None:
    if isinstance(sharding, NamedSharding) and len(sharding.spec) > len(shape):
        raise ValueError(f"sharding must have at most {len(shape)} axes for shape {shape}, got {sharding.spec}")
    if sharding is not None:
        sharding.shard_shape(shape)  # raises ValueError if JAX cannot divide the shape into equal shards


def _make_array(
    distribution: Distribution, key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], sharding: Any
) -> Any:
    """Fill the shards that are local to this host and return the array; without a sharding, JAX chooses the device."""
    if sharding is None:
        return jax.device_put(_fill_shard(distribution, key, shape, dtype, (slice(None),) * len(shape)))
    arrays = []
    for index, places in _local_shards(shape, sharding):  # jax.make_array_from_callback would hold all shards at once
        shard = _fill_shard(distribution, key, shape, dtype, index)
        arrays += jax.block_until_ready([jax.device_put(shard, place) for place in places])
    keywords = {} if arrays else {"dtype": dtype}  # JAX cannot know the dtype if this process has no shard
    return jax.make_array_from_single_device_arrays(shape, sharding, arrays, **keywords)


def _local_shards(shape: tuple[int, ...], sharding: Any) -> list[tuple[Index, list[Any]]]:
    """Return the index of each shard that is local to this host, with the devices that hold it."""
    shards: dict[str, tuple[Index, list[Any]]] = {}
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        _, places = shards.setdefault(repr(index), (index, []))
        places.append(jax.sharding.SingleDeviceSharding(device, memory_kind=sharding.memory_kind))
    return list(shards.values())


# The addition forces a computation, whose result is on the devices on which JAX computes with the key.
_compute_words = jax.jit(lambda key: jax.random.key_data(key) + np.uint32(0))


def _key_words(key: Any) -> Any:
    """Return the two or four words of a key, on the devices on which JAX computes with it."""
    words = _compute_words(key)
    if words.shape not in ((2,), (4,)):
        raise ValueError(f"key must be a single key of two or four words, got words of shape {words.shape}")
    return words


def _key_sharding(words: Any) -> Any:
    """Return the sharding of an array that JAX computes from the words of a key, or None if JAX may choose it."""
    if not words.committed:
        return None
    sharding = words.sharding
    return NamedSharding(sharding.mesh, PartitionSpec()) if isinstance(sharding, NamedSharding) else sharding


def _fill_shard(
    distribution: Distribution, key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], index: Index
) -> NDArray[Any]:
    """Return the part of an array at ``index``, in newly allocated memory; ``shape`` is that of the whole array."""
    sizes = [len(range(*part.indices(size))) for part, size in zip(index, shape, strict=True)]
    return fill_(aligned_empty(sizes, dtype), distribution, rng=key, global_shape=shape, index=index)
