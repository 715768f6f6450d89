"""Arrays on the devices of two processes: each process fills what its own devices hold."""

import os
import re
import socket
import subprocess
import sys

import pytest
from processes import HANG_SECONDS, ROOT

jax = pytest.importorskip("jax")

pytestmark = pytest.mark.skipif(
    jax.__version_info__ < (0, 8), reason="arrays without local shards are disabled by default"
)

PRELUDE = """
import sys

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P

import fastkaiming as fk
from fastkaiming.jax import he_normal, make

process, processes = map(int, sys.argv[2:])
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", num_processes=processes, process_id=process)
assert jax.process_count() == processes and jax.device_count() == 2 * processes
"""
SHARDS = """
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


# Prints the error of each call. The array has devices of processes 0 and 1, and the third process has none of them.
DIFFERENCES = """
rows = NamedSharding(jax.sharding.Mesh(np.array(jax.devices())[:4], ("x",)), P("x"))

def call(case, rng, std=1.0, shape=(16, 8), sharding=rows, **kwargs):
    try:
        make(fk.Normal(0.0, std), rng, shape, sharding=sharding, **kwargs)
    except Exception as error:
        print(f"call {case}: {type(error).__name__}: {error}")
    else:
        print(f"call {case}: filled")

call("equal", 42)
call("seed", 42 + process)
call("key", jax.random.key(process))
call("None", None)
generator = fk.Generator(7)
for _ in range(process):
    generator.next_key()
call("generator", generator)
assert generator.next_key().stream == 1 + process + (process == 2)  # the failed call has not advanced it
numpy_generator = np.random.default_rng(process)
state = numpy_generator.bit_generator.state
call("NumPy generator", numpy_generator)
assert (numpy_generator.bit_generator.state == state) == (process < 2)
call("distribution", 42, std=1.0 + process)
call("equal parts", 42, sharding=NamedSharding(rows.mesh, P("x", None)) if process else rows)
other_order = np.array(jax.devices())[[2, 3, 0, 1] if process == 0 else [0, 1, 2, 3]]
call("order of devices", 42, sharding=NamedSharding(jax.sharding.Mesh(other_order, ("x",)), P("x")))
call("invalid", 42, shape=(16, 8) if process == 0 else (15, 8))
jax.jit(lambda: call("traced", 42))()
call("unchecked", 42 + process, check_ranks=False)
call("not a bool", 42, check_ranks=1)
"""


def test_processes_that_differ_raise_the_same_error() -> None:
    outputs = [re.findall(r"^call (.*?): (.*)", output, re.MULTILINE) for output in run(DIFFERENCES, 3)]
    first, second, third = map(dict, outputs)
    assert second | {"invalid": first["invalid"]} == first
    assert (first["equal"], first["unchecked"]) == ("filled", "filled")
    for case, values in {
        "seed": "seed 42 on process 0 and seed 43 on process 1: pass the same key, or generators in the same state",
        "key": "seed 0 on process 0 and seed 1 on process 1: ",
        "None": r"seed \d+ on process 0 and seed \d+ on process 1: .* not None",
        "generator": "seed 7, stream 1 on process 0 and seed 7, stream 2 on process 1: ",
        "NumPy generator": r"seed \d+ on process 0 and seed \d+ on process 1: ",
    }.items():
        assert re.match(f"ValueError: make: every process must use the same seed, got {values}", first[case]), case
    assert first["distribution"].startswith(
        "ValueError: make: every process must have the same arguments and tensors, got Normal(mean=0.0, std=1.0) of "
        "shape (16, 8) and float32 on process 0 and Normal(mean=0.0, std=2.0) of "
    )
    assert first["equal parts"] == "filled"
    assert "tensors, got [8:12, 0:8] on device 0, [12:16, 0:8] on device 1, [0:4, 0:8] on" in first["order of devices"]
    assert first["invalid"].startswith("ValueError: make: the call must succeed on every process, got an error on proc")
    assert "15" in first["invalid"]
    assert "the call must" not in second["invalid"]
    assert first["traced"].startswith("TypeError: make: a call cannot be traced")
    assert first["not a bool"].startswith("TypeError: make: check_ranks must be True or False")
    assert {third[case] for case in third if case not in ("invalid", "traced", "not a bool")} == {"filled"}


def test_two_processes_fill_the_shards_of_their_own_devices() -> None:
    run(SHARDS, 2)


def run(program: str, count: int) -> list[str]:
    """Run a program in several processes with two devices each, and return what each process prints."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PRELUDE + program, str(port), str(process), str(count)],
            env=os.environ | flags,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(count)
    ]
    try:
        outputs, errors = zip(*[process.communicate(timeout=HANG_SECONDS) for process in processes], strict=True)
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == count * [0], "\n".join(errors)
    return [*outputs]
