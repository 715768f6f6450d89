"""Arrays on the devices of two processes: each process fills what its own devices hold."""

import os
import socket
import subprocess
import sys

import pytest
from processes import HANG_SECONDS, ROOT

jax = pytest.importorskip("jax")

PROGRAM = """
import sys

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P

import fastkaiming as fk
from fastkaiming.jax import he_normal, make

process = int(sys.argv[2])
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", num_processes=2, process_id=process)
assert jax.process_count() == 2 and jax.device_count() == 4
whole = fk.variance_scaling((16, 8), scale=2.0, layout="*IO", rng=42)

def shards(array):
    return {
        part.device.process_index: np.asarray(part.data).tobytes() == whole[part.index].tobytes()
        for part in array.addressable_shards
    }

mesh = jax.sharding.Mesh(np.array(jax.devices()), ("x",))
rows = NamedSharding(mesh, P("x"))
array = make(he_normal(), 42, (16, 8), sharding=rows)
assert array.sharding == rows and shards(array) == {process: True}

# Each process calls the compiled function, as in JAX.
array = jax.jit(lambda: he_normal()(jax.random.key(42), (16, 8)), out_shardings=rows)()
assert array.sharding == rows and shards(array) == {process: True}

of_first = NamedSharding(jax.sharding.Mesh(np.array(jax.devices())[:2], ("x",)), P("x"))
array = make(he_normal(dtype=np.float16), 42, (16, 8), sharding=of_first)
assert (array.shape, array.dtype, array.sharding) == ((16, 8), np.float16, of_first)
assert len(array.addressable_shards) == (2 if process == 0 else 0)
other = jax.make_array_from_callback((16, 8), of_first, whole.__getitem__, dtype=np.float32)
array = make(fk.Normal(0.0, 1.0), 42, (16, 8), sharding=of_first)
assert array.is_fully_addressable == other.is_fully_addressable == (process == 0)
assert (array.shape, array.dtype, array.committed) == (other.shape, other.dtype, other.committed)
array = make(he_normal(), 42, (16, 8), sharding=jax.sharding.SingleDeviceSharding(jax.devices()[3]))
assert shards(array) == ({1: True} if process == 1 else {})
"""


@pytest.mark.skipif(jax.__version_info__ < (0, 8), reason="arrays without local shards are disabled by default")
def test_two_processes_fill_the_shards_of_their_own_devices() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(port), str(process)],
            env=os.environ | flags,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    try:
        errors = [process.communicate(timeout=HANG_SECONDS)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
