"""Compiled functions on eight devices: each device fills its own block, and the values are those of one device."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from processes import python

import fastkaiming as fk

jax = pytest.importorskip("jax")
callbacks = pytest.importorskip("fastkaiming.jax._callbacks")

EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
IS_PARTITIONED = pytest.mark.skipif(
    jax.__version_info__ < (0, 7), reason="this version of JAX has no partitioned calls"
)

PRELUDE = """
import json
import sys

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import fastkaiming as fk
from fastkaiming.jax import _callbacks, uniform

SHAPE = (16, 8)
fills = []

def fill(out, *arguments, **settings):
    fills.append(out.shape)
    return fk.fill_(out, *arguments, **settings)

_callbacks.fill_ = fill
auto = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
explicit = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Explicit,) * 2)
permuted = jax.sharding.Mesh(np.array(jax.devices())[[3, 1, 7, 5, 0, 2, 6, 4]].reshape(2, 4), ("y", "x"))
key = jax.random.key(42)
keys = jax.random.split(key, 8)
sharded_keys = jax.device_put(keys, NamedSharding(auto, P("x")))

def on(mesh, *spec):
    return NamedSharding(mesh, P(*spec))

def expected(shape=SHAPE, dtype="float32", key=key):
    words = jax.random.key_data(key).tolist()
    dtype = np.dtype(getattr(jax.numpy, dtype))
    return fk.uniform(shape, dtype, high=1.0, rng=words[0] << 32 | words[1])

whole = expected()
planes = np.stack([expected(key=each) for each in keys])

def jitted(function, sharding=None):
    return jax.jit(function, out_shardings=sharding) if sharding is not None else jax.jit(function)

def use(initializer):
    # Define functions of an initializer. They are new objects, because JAX caches what it has compiled by object.
    global init, inits, constrained

    def init(key, shape=SHAPE, dtype="float32", *sharding):
        return initializer(key, shape, getattr(jax.numpy, dtype), *sharding)

    def inits(keys, shape=SHAPE):
        return jax.vmap(lambda key: init(key, shape))(keys)

    def constrained(key, shape, spec):
        return jax.lax.with_sharding_constraint(init(key, shape), on(auto, *spec))
"""

# Each case is an expression that makes an array from `init`, and another one for the expected values.
CASES = {
    "rows": ("jitted(init, on(explicit, 'x'))(key)", "whole"),
    "columns": ("jitted(init, on(explicit, None, 'y'))(key)", "whole"),
    "both axes": ("jitted(init, on(explicit, 'x', 'y'))(key)", "whole"),
    "an axis by two": ("jitted(init, on(explicit, None, ('y', 'x')))(key)", "whole"),
    "replicated": ("jitted(init, on(explicit))(key)", "whole"),
    "devices in another order": ("jitted(init, on(permuted, 'x', 'y'))(key)", "whole"),
    "a mesh of three devices": (
        "jitted(lambda key: init(key, (9, 4)), on(jax.make_mesh((3,), ('z',), devices=jax.devices()[2:5]), 'z'))(key)",
        "expected((9, 4))",
    ),
    "a vector": (
        "jitted(lambda key: jax.numpy.ravel(init(key, (64, 1))), on(auto, ('x', 'y')))(key)",
        "expected((64, 1)).ravel()",
    ),
    "a scalar": ("jitted(lambda key: init(key, ()), on(auto))(key)", "expected(())"),
    "four axes": (
        "jitted(lambda key: init(key, (2, 4, 8, 16)), on(auto, 'y', None, None, 'x'))(key)",
        "expected((2, 4, 8, 16))",
    ),
    "float16": ("jitted(lambda key: init(key, SHAPE, 'float16'), on(auto, 'x'))(key)", "expected(dtype='float16')"),
    "bfloat16": ("jitted(lambda key: init(key, SHAPE, 'bfloat16'), on(auto, 'y'))(key)", "expected(dtype='bfloat16')"),
    "float8": (
        "jitted(lambda key: init(key, SHAPE, 'float8_e5m2'), on(auto, 'x', 'y'))(key)",
        "expected(dtype='float8_e5m2')",
    ),
    "a replicated key": ("jitted(init)(jax.device_put(key, on(auto)))", "whole"),
    "a raw key": ("jitted(init, on(auto, 'x'))(jax.random.PRNGKey(42))", "whole"),
    "a constraint": ("jitted(lambda key: constrained(key, SHAPE, ('y', 'x')))(key)", "whole"),
    "uneven rows": (
        "jitted(lambda key: constrained(key, (13, 3), (('x', 'y'),)) * 2, on(auto))(key)",
        "expected((13, 3)) * 2",
    ),
    "uneven axes": ("jitted(lambda key: constrained(key, (15, 7), 'yx') * 2, on(auto))(key)", "expected((15, 7)) * 2"),
    "devices without elements": (
        "jitted(lambda key: constrained(key, (9, 2), (('x', 'y'),)) * 2, on(auto))(key)",
        "expected((9, 2)) * 2",
    ),
    "uneven numbers of keys": (
        "jitted(lambda keys: jax.lax.with_sharding_constraint(inits(keys), on(auto, 'x')) * 2, on(auto))(keys[:7])",
        "planes[:7] * 2",
    ),
    "several keys": ("jitted(inits, on(explicit, 'y', 'x'))(keys)", "planes"),
    "sharded keys": ("jitted(inits)(sharded_keys)", "planes"),
    "sharded keys, eager": ("inits(sharded_keys)", "planes"),
    "sharded keys and columns": ("jitted(inits, on(auto, 'x', None, 'y'))(sharded_keys)", "planes"),
    "keys along another axis": (
        "jitted(jax.vmap(init, out_axes=2), on(auto, 'x', None, 'y'))(keys)",
        "np.moveaxis(planes, 0, 2)",
    ),
    "keys along two axes": (
        "jitted(jax.vmap(jax.vmap(init), in_axes=1), on(auto, 'y', 'x'))(keys.reshape(4, 2))",
        "planes.reshape(4, 2, *SHAPE).swapaxes(0, 1)",
    ),
    "nested": ("jitted(lambda key: jax.jit(jax.jit(init))(key), on(auto, 'x', 'y'))(key)", "whole"),
    "a sharding inside": ("jitted(lambda key: jax.jit(init, out_shardings=on(auto, 'x'))(key) * 2)(key)", "whole * 2"),
    "a loop": ("jitted(lambda keys: jax.lax.map(init, keys), on(auto, None, 'x'))(keys)", "planes"),
    "a branch": (
        "jitted(lambda key, flag: jax.lax.cond(flag, init, lambda key: init(key) * 0, key), on(auto, 'x'))(key, True)",
        "whole",
    ),
    "a gradient": (
        "jitted(lambda key, w: jax.grad(lambda w: jax.checkpoint(lambda w: (init(key) * w * w).sum())(w))(w),"
        " on(auto, 'x'))(key, np.ones(SHAPE, np.float32))",
        "whole * 2",
    ),
    "another callback": (
        "jitted(lambda key: init(key) * jax.pure_callback(lambda: np.float32(2), jax.ShapeDtypeStruct((), 'float32')),"
        " on(auto, 'x'))(key)",
        "whole * 2",
    ),
    "two arrays": ("jitted(lambda keys: init(keys[0]) + init(keys[1]), on(auto, 'x'))(keys)", "planes[0] + planes[1]"),
    "compiled ahead": ("jitted(init, on(auto, 'x')).lower(key).compile()(key)", "whole"),
    "a mesh that is partly manual": (
        "jitted(jax.shard_map(init, mesh=auto, in_specs=P(), out_specs=P('x'), axis_names={'x'}, check_vma=False))"
        "(key)",
        "np.concatenate([whole] * 4)",
    ),
}


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, bool]]:
    """Evaluate all cases with both libraries in one process, and return what was compared."""
    program = """
results = {}
for name, (call, values) in json.loads(sys.argv[1]).items():
    use(jax.nn.initializers.uniform(1.0))
    other = eval(call)
    use(uniform(1.0))
    found, values = eval(call), np.asarray(eval(values))
    results[name] = {
        "dtype": found.dtype == other.dtype == values.dtype,
        "sharding": found.sharding == other.sharding and found.committed == other.committed,
        "values": np.asarray(found).tobytes() == values.tobytes(),
        "shards": all(
            np.asarray(part.data).tobytes() == values[part.index].tobytes() for part in found.addressable_shards
        ),
    }
print(json.dumps(results))
"""
    result = python(PRELUDE + program, json.dumps(CASES), **EIGHT)
    assert result.returncode == 0, result.stderr
    found: dict[str, dict[str, bool]] = json.loads(result.stdout)
    return found


@IS_PARTITIONED
@pytest.mark.parametrize("case", CASES)
def test_compiled_arrays_have_the_values_of_one_device_and_the_sharding_of_jax(
    results: dict[str, dict[str, bool]], case: str
) -> None:
    assert results[case] == {"dtype": True, "sharding": True, "values": True, "shards": True}


@pytest.mark.skipif(not hasattr(jax, "set_mesh"), reason="there is no mesh to set")
def test_explicit_axes_give_the_sharding_of_jax() -> None:
    program = """
with jax.set_mesh(explicit):
    for call in (
        lambda: jitted(init)(key),
        lambda: jitted(lambda: init(key))(),
        lambda: jitted(lambda key: jax.sharding.reshard(init(key), P(None, "y")))(key),
        lambda: jitted(lambda key: init(key, SHAPE, "float32", P("x", "y")))(key),
        lambda: jitted(init, P("y", "x"))(key),
    ):
        use(jax.nn.initializers.uniform(1.0))
        other = call()
        use(uniform(1.0))
        found = call()
        assert found.sharding == other.sharding, (found.sharding, other.sharding)
        assert np.asarray(found).tobytes() == whole.tobytes()
"""
    result = python(PRELUDE + program, **EIGHT)
    assert result.returncode == 0, result.stderr


@IS_PARTITIONED
def test_each_device_fills_only_its_own_block() -> None:
    program = """
use(uniform(1.0))
for sharding, block in (
    (on(auto, "x"), (4, 8)), (on(auto, None, "y"), (16, 4)), (on(auto, ("x", "y")), (2, 8)), (on(auto), (16, 8))
):
    compiled = jitted(init, sharding).lower(key).compile()
    fills.clear()
    compiled(key).block_until_ready()
    assert fills == [block] * 8, (sharding, fills)
compiled = jitted(inits, on(auto, "x", "y")).lower(keys).compile()
fills.clear()
compiled(keys).block_until_ready()
assert fills == [(8, 8)] * 16, fills  # two keys on each device
"""
    result = python(PRELUDE + program, **EIGHT)
    assert result.returncode == 0, result.stderr


@IS_PARTITIONED
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of the memory cannot be measured")
@pytest.mark.parametrize("spec", ["P('x')", "P(None, 'x')"])
def test_sharded_arrays_need_less_memory_than_with_jax(spec: str) -> None:
    program = """
def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

use({"fastkaiming": uniform(1.0), "jax": jax.nn.initializers.uniform(1.0)}[sys.argv[1]])
compiled = jitted(lambda key: init(key, (2048, 8192)), NamedSharding(auto, eval(sys.argv[2]))).lower(key).compile()
before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # resets the peak
array = compiled(key).block_until_ready()
print(status("VmHWM") - before)
"""
    peaks = {}
    for library in ("fastkaiming", "jax"):
        result = python(PRELUDE + program, library, spec, **EIGHT)
        assert result.returncode == 0, result.stderr
        peaks[library] = int(result.stdout)
    # The mesh has a second axis, so there are two copies of the array. Each block also has a copy on the host.
    assert peaks["fastkaiming"] < 5 * 2048 * 8192 * 4
    assert peaks["fastkaiming"] < peaks["jax"]


@IS_PARTITIONED
def test_another_name_of_the_operation_that_calls_the_host_leaves_the_values_right() -> None:
    """The names are private to JAX; without them, one device fills the whole array."""
    program = """
_callbacks._CALLBACK_TARGETS["cpu"] = "xla_ffi_of_another_version"
use(uniform(1.0))
for sharding in (on(auto, "x"), on(auto, None, "y"), on(auto)):
    fills.clear()
    found = jitted(init, sharding)(key)
    assert np.asarray(found).tobytes() == whole.tobytes()
    assert fills == [SHAPE], fills
    assert found.sharding == sharding
"""
    result = python(PRELUDE + program, **EIGHT)
    assert result.returncode == 0, result.stderr


def test_eval_shape_fills_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fk_jax = pytest.importorskip("fastkaiming.jax")
    monkeypatch.setattr(callbacks, "fill_", None)
    result = jax.eval_shape(jax.jit(lambda key: fk_jax.uniform()(key, (16, 8))), jax.random.key(0))
    assert (result.shape, result.dtype) == ((16, 8), np.float32)


@pytest.mark.parametrize(
    ("keys", "shape", "counts"),
    [
        ((), (12, 8), (3, 2)),
        ((), (13, 7), (4, 3)),
        ((), (9, 2), (8, 1)),  # three blocks have no elements
        ((5,), (6, 4), (2, 3, 1)),
        ((2, 3), (5,), (2, 2, 4)),
        ((3,), (), (2,)),
        ((), (), ()),
    ],
)
def test_blocks_of_a_host_function_are_parts_of_the_whole_result(
    keys: tuple[int, ...], shape: tuple[int, ...], counts: Sequence[int]
) -> None:
    words = np.random.default_rng(1).integers(2**32, size=(*keys, 2), dtype=np.uint32)
    host_fill = callbacks.HostFill(fk.Normal(0.0, 1.0), shape, np.dtype(np.float32))
    whole = np.empty((*keys, *shape), np.float32)
    for position in np.ndindex(keys):
        high, low = map(int, words[position])
        whole[position] = fk.normal(shape, rng=high << 32 | low)
    assert host_fill(words).tobytes() == whole.tobytes()
    lengths = [-(-size // count) for size, count in zip(whole.shape, counts, strict=True)]
    for numbers in itertools.product(*map(range, counts)):
        block = host_fill(words, list(zip(numbers, counts, strict=True)))
        assert block.shape == tuple(lengths)
        begins = [number * length for number, length in zip(numbers, lengths, strict=True)]
        part = whole[tuple(slice(begin, begin + length) for begin, length in zip(begins, lengths, strict=True))]
        assert block[tuple(map(slice, part.shape))].tobytes() == part.tobytes()
