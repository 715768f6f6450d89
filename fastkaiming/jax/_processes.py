"""The processes whose devices hold an array, and what they compare before they fill their shards."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fastkaiming._agreement import Agreement, Group


def agreement(sharding: jax.sharding.Sharding | None, *, check_ranks: bool) -> Agreement:
    """Return a ``with`` block at whose end the processes of a sharding compare their keys and facts.

    A process without a device of the sharding does not communicate, because it fills nothing.
    """
    groups = [] if sharding is None or not check_ranks or jax.process_count() == 1 else _groups(sharding)
    return Agreement(groups, "pass the same key, or generators in the same state, in every process, and not None")


def _groups(sharding: jax.sharding.Sharding) -> list[Group]:
    devices = sorted(sharding.device_set, key=lambda device: (-device.process_index, -device.id))
    first = {device.process_index: device for device in devices}  # the device of each process with the smallest id
    numbers = sorted(first)
    if len(numbers) == 1 or jax.process_index() not in first:
        return []
    gather = functools.partial(_gather, tuple(first[number] for number in numbers))
    return [Group("devices", "process", numbers, gather)]


def _gather(devices: Sequence[jax.Device], data: bytes) -> list[bytes]:
    """Return the bytes of all processes, each of which has one of the devices.

    The functions of ``jax.experimental.multihost_utils`` would wait for every process, also for those without a device
    of the sharding. This computation takes place only on the given devices, also while a function is being traced.
    """
    mesh = jax.sharding.Mesh(np.array(devices), ("process",))
    own = next(device for device in devices if device.process_index == jax.process_index())
    with jax.ensure_compile_time_eval():
        row = jax.device_put(np.frombuffer(data, np.uint8)[None], own)
        by_process = NamedSharding(mesh, PartitionSpec("process"))
        rows = jax.make_array_from_single_device_arrays((len(devices), len(data)), by_process, [row])
        gathered = _replicate(NamedSharding(mesh, PartitionSpec()))(rows)
        return [bytes(each) for each in np.asarray(gathered.addressable_data(0))]


@functools.lru_cache
def _replicate(sharding: NamedSharding) -> Any:
    """Return a jitted function that copies an array to all devices of a sharding; JAX compiles equal functions once."""
    return jax.jit(lambda rows: rows, out_shardings=sharding)
