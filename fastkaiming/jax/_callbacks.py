"""Arrays in compiled functions: the host fills them, and each device of a sharded array gets only its own block.

JAX's callbacks run on one device with the whole array, unless all axes of the mesh are manual. The primitive of this
module is partitioned like JAX's own operations: JAX chooses the sharding, and then each device calls the host with the
number of its block.
"""

import math
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import batching, mlir
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from numpy.typing import NDArray

from fastkaiming._fill.fill import fill_
from fastkaiming.distributions import Distribution
from fastkaiming.rng import Key

_ALIGNMENT = 64  # bytes; on the CPU, JAX uses memory of this alignment without a copy

# XLA's operations that call a Python function, which they find by its number in the list of callbacks of a program.
_CALLBACK_TARGETS = {
    "cpu": "xla_ffi_python_cpu_callback",
    "cuda": "xla_ffi_python_gpu_callback",
    "rocm": "xla_ffi_python_gpu_callback",
}


@dataclass(frozen=True)
class HostFill:
    """A function that the host runs for a compiled one: it fills the arrays of one or more keys, or a block of them.

    ``shape`` is that of the array of one key. The whole result has the axes of the keys before it.
    """

    distribution: Distribution
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __call__(self, words: Any, blocks: Sequence[tuple[int, int]] | None = None) -> NDArray[Any]:
        """Return a new array with the values of one block, from the words of all keys.

        ``blocks`` contains for each axis of the whole result the number of the block and the number of all blocks. By
        default, the block is the whole result. Blocks of one axis have equal lengths, so the last ones may extend
        beyond the axis. XLA ignores these elements, and they are not filled.
        """
        words = np.asarray(words)
        sizes = self.result_shape(words)
        blocks = [(0, 1)] * len(sizes) if blocks is None else blocks
        lengths = block_shape(sizes, [count for _, count in blocks])
        index = [
            slice(min(number * length, size), min((number + 1) * length, size))
            for (number, _), length, size in zip(blocks, lengths, sizes, strict=True)
        ]
        values = aligned_empty(lengths, self.dtype)
        filled: tuple[Any, ...] = tuple(slice(part.stop - part.start) for part in index)
        inside = values[(*filled, ...)]  # an array, even without axes
        axes = words.ndim - 1
        keys = words[tuple(index[:axes])]
        for position in np.ndindex(keys.shape[:-1]):
            key = key_from_words(keys[position])
            fill_(inside[(*position, ...)], self.distribution, rng=key, global_shape=self.shape, index=index[axes:])
        return values

    def block_of_device(self, words: Any, device: Any, numbers: Any, counts: Any) -> tuple[NDArray[Any]]:
        """Return the values of the block of a device, in the form that JAX's callbacks have.

        ``numbers`` contains for each device the numbers of its block along the axes, and ``counts`` how many there are.
        """
        return (self(words, list(zip(numbers[device].tolist(), counts.tolist(), strict=True))),)

    def result_shape(self, words: Any) -> tuple[int, ...]:
        """Return the shape of the whole result for the words of all keys."""
        return (*words.shape[:-1], *self.shape)

    def result(self, words: Any) -> jax.ShapeDtypeStruct:
        """Return the shape and dtype of the whole result for the words of all keys."""
        return jax.ShapeDtypeStruct(self.result_shape(words), self.dtype)


def fill_on_host(words: Any, host_fill: HostFill) -> Any:
    """Return the result of a host function in a function that JAX traces."""
    # JAX searches this jaxpr and finds a callback, so it passes the devices to the lowering of the primitive.
    whole = jax.make_jaxpr(lambda words: jax.pure_callback(host_fill, host_fill.result(words), words))(words)
    result = host_fill.result(words)
    # Unlike the result of a callback, that of an operation varies along the manual axes along which the keys vary.
    operation = jax.make_jaxpr(lambda words: jax.numpy.full(result.shape, words.max(), result.dtype))(words)
    (values,) = _fill_p.bind(words, host_fill=host_fill, whole=whole, avals=tuple(operation.out_avals))
    return values


def _batch(arguments: Sequence[Any], axes: Sequence[int], *, host_fill: HostFill, whole: Any, avals: Any) -> Any:  # noqa: ARG001
    """Return the arrays of the keys along one more axis, which becomes the first axis of the result."""
    return [fill_on_host(jax.numpy.moveaxis(arguments[0], axes[0], 0), host_fill)], [0]


def _lower(context: Any, words: Any, *, host_fill: HostFill, whole: Any, avals: Any) -> Any:  # noqa: ARG001
    """Lower the primitive to an operation that each device performs for its own block, where JAX has one."""
    fill_whole, module = jaxpr_as_fun(whole), context.module_context
    target = _callback_target(module.platforms)
    if target is None:

        def function(words: Any) -> Any:
            # JAX cannot return the result of a callback, which is on one device, directly from a mesh of devices.
            return jax.lax.optimization_barrier(fill_whole(words))

    else:
        module.add_host_callback(host_fill.block_of_device)
        callback, key_axes = len(module.host_callbacks) - 1, len(context.avals_in[0].shape) - 1
        function = _partitioned(fill_whole, target, callback, host_fill, key_axes)
    return mlir.lower_fun(function, multiple_results=True)(context, words)


def _callback_target(platforms: Sequence[str]) -> str | None:
    """Return the operation that calls the host from a single device, or None if JAX cannot partition a callback."""
    is_shardy = jax.__version_info__ >= (0, 7) and getattr(jax.config, "jax_use_shardy_partitioner", True)
    if not is_shardy or len(platforms) > 1:
        return None
    target = _CALLBACK_TARGETS.get(platforms[0])
    return target if target is not None and _is_used_by_jax(target, platforms[0]) else None


@cache
def _is_used_by_jax(target: str, platform: str) -> bool:
    """Return whether JAX itself lowers a callback to this operation, and gives it the attribute ``index``.

    JAX does not document them, so another version may have other names.
    """
    try:
        sharding = SingleDeviceSharding(jax.devices(platform)[0])
    except RuntimeError:
        return False  # this process only compiles for devices that another one has
    words = jax.ShapeDtypeStruct((2,), np.uint32, sharding=sharding)
    function = jax.jit(lambda words: jax.pure_callback(np.asarray, words, words))
    with ThreadPoolExecutor(1) as thread:  # the mesh that is set in the calling thread may have other devices
        text = thread.submit(lambda: function.lower(words).as_text()).result()
    return re.search(rf"@{target}\(.*\bindex = [0-9]+ : ui64", text) is not None


def _partitioned(fill_whole: Callable[..., Any], target: str, callback: int, host_fill: HostFill, key_axes: int) -> Any:
    """Return a function that JAX can partition: each device performs the callback of this number for its own block."""

    def partition(_mesh: Any, _arguments: Any, results: Any) -> Any:
        sharding, shape = results[0].sharding, results[0].shape
        devices, numbers, counts = _blocks_of_devices(sharding, len(shape))
        mesh = Mesh(np.array(devices), ("device",))
        block = jax.ShapeDtypeStruct(block_shape(shape, counts.tolist()), host_fill.dtype)

        def call_host(words: Any) -> Any:
            device = jax.lax.axis_index("device")
            return jax.ffi.ffi_call(target, [block])(words, device, numbers, counts, index=np.uint64(callback))

        return mesh, call_host, [sharding], (NamedSharding(mesh, PartitionSpec()),)

    batch = [f"b{axis}" for axis in range(key_axes)]
    axes = [f"a{axis}" for axis in range(len(host_fill.shape))]
    function = custom_partitioning(fill_whole)
    # The sharding is not decoded, because JAX does not always know the mesh, but always the devices.
    rule = f"{' '.join([*batch, 'w'])} -> {' '.join([*batch, *axes])}"
    function.def_partition(partition, decode_shardings=False, sharding_rule=rule)
    return function


def _blocks_of_devices(sharding: Any, rank: int) -> tuple[list[Any], NDArray[np.int32], NDArray[np.int32]]:
    """Return the devices of a sharding, the number of the block of each device along each axis, and all counts."""
    # The number of blocks along an axis divides the number of devices, so each block of this shape has whole elements.
    size = len(sharding.device_set)
    shape = (size,) * rank
    lengths = sharding.shard_shape(shape)
    indices = sharding.devices_indices_map(shape)
    numbers = [
        [(part.start or 0) // length for part, length in zip(index, lengths, strict=True)] for index in indices.values()
    ]
    return [*indices], np.array(numbers, np.int32), np.array([size // length for length in lengths], np.int32)


def block_shape(shape: Sequence[int], counts: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a block if the axes of an array are divided into these numbers of blocks, as by XLA."""
    return tuple(-(-size // count) for size, count in zip(shape, counts, strict=True))


_fill_p = Primitive("fastkaiming_fill")
_fill_p.multiple_results = True
_fill_p.def_impl(lambda words, *, host_fill, whole, avals: jaxpr_as_fun(whole)(words))  # noqa: ARG005
_fill_p.def_abstract_eval(lambda words, *, host_fill, whole, avals: avals)  # noqa: ARG005
batching.primitive_batchers[_fill_p] = _batch
mlir.register_lowering(_fill_p, _lower)


def key_from_words(words: Any) -> Key:
    """Return the key of fastkaiming for the words of a key of JAX."""
    numbers = list(map(int, np.asarray(words)))
    return Key(*(high << 32 | low for high, low in zip(numbers[::2], numbers[1::2], strict=True)))


def aligned_empty(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an uninitialized array whose memory is aligned."""
    nbytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + nbytes].view(dtype).reshape(shape)
