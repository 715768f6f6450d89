"""Arrays on eight devices: the values of one device, JAX's own placement, and each shard filled once."""

import json

import pytest
from processes import python

jax = pytest.importorskip("jax")

EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}

PRELUDE = """
import json
import sys

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P, SingleDeviceSharding

import fastkaiming as fk
from fastkaiming.jax import _arrays
from fastkaiming.jax import glorot_uniform, make

SHAPE = (64, 48)
assert len(jax.devices()) == 8
mesh = jax.make_mesh((4, 2), ("x", "y"))
"""

# Shardings, each with the shapes of the shards of an array of shape (64, 48) that are filled.
SHARDINGS = {
    'NamedSharding(mesh, P("x"))': [[16, 48]] * 4,
    'NamedSharding(mesh, P(None, "y"))': [[64, 24]] * 2,
    'NamedSharding(mesh, P("x", "y"))': [[16, 24]] * 8,
    'NamedSharding(mesh, P("y", "x"))': [[32, 12]] * 8,
    'NamedSharding(mesh, P(("x", "y")))': [[8, 48]] * 8,
    "NamedSharding(mesh, P())": [[64, 48]],
    "SingleDeviceSharding(jax.devices()[3])": [[64, 48]],
}


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, object]]:
    """Create an array with each of the shardings, in one process, and return what was checked."""
    program = """
expected = {
    name: fk.xavier_uniform(SHAPE, np.dtype(getattr(jax.numpy, name)), layout="*IO", rng=42)
    for name in ("float32", "float16", "bfloat16")
}
shards = []

def fill(out, *arguments, **settings):
    if out.size:
        shards.append(out.shape)
    return fk.fill_(out, *arguments, **settings)

_arrays.fill_ = fill
results = {}
for text in json.loads(sys.argv[1]):
    sharding = eval(text)
    checks = results[text] = {}
    for name, whole in expected.items():
        shards.clear()
        array = make(glorot_uniform(), 42, SHAPE, whole.dtype, sharding)
        checks[name] = bool(
            array.sharding == sharding
            and array.dtype == whole.dtype
            and np.asarray(array).tobytes() == whole.tobytes()
            and all(np.asarray(part.data).tobytes() == whole[part.index].tobytes() for part in array.addressable_shards)
        )
    checks["shards"] = list(shards)
    checks["usable"] = float(jax.jit(lambda a: (a * 0).sum())(array))
print(json.dumps(results))
"""
    result = python(PRELUDE + program, json.dumps(list(SHARDINGS)), **EIGHT)
    assert result.returncode == 0, result.stderr
    results: dict[str, dict[str, object]] = json.loads(result.stdout)
    return results


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_values_do_not_depend_on_the_sharding(results: dict[str, dict[str, object]], sharding: str) -> None:
    correct = {"float32": True, "float16": True, "bfloat16": True, "usable": 0.0}
    assert results[sharding] == {**correct, "shards": SHARDINGS[sharding]}


def test_each_shard_is_on_its_devices_before_the_next_is_filled() -> None:
    program = """
events = []

def fill(out, *arguments, **settings):
    events.append("fill")
    return fk.fill_(out, *arguments, **settings)

wait = jax.block_until_ready

def waited(parts):
    events.append(len(parts))
    return wait(parts)

_arrays.fill_, jax.block_until_ready = fill, waited
make(glorot_uniform(), 42, SHAPE, sharding=NamedSharding(mesh, P("x")))
assert events == ["fill", 2] * 4, events
"""
    result = python(PRELUDE + program, **EIGHT)
    assert result.returncode == 0, result.stderr


def test_bad_shardings_raise_value_error() -> None:
    program = """
def message(call, sharding):
    try:
        call(sharding)
    except ValueError as error:
        return str(error)

generator = fk.Generator(7)
uneven = np.zeros((63, 48), np.float32)
expected, found, longer = (
    message(lambda sharding: jax.make_array_from_callback((63, 48), sharding, uneven.__getitem__),
            NamedSharding(mesh, P("x"))),
    message(lambda sharding: make(fk.Normal(0.0, 1.0), generator, (63, 48), sharding=sharding),
            NamedSharding(mesh, P("x"))),
    message(lambda sharding: make(fk.Normal(0.0, 1.0), generator, (64,), sharding=sharding),
            NamedSharding(mesh, P(None, "x"))),
)
assert found == expected and found is not None, (found, expected)
assert longer.startswith("make: sharding must have at most 1 axes for shape (64,), got P"), longer
assert generator.next_key() == fk.Key(7, 1)
"""
    result = python(PRELUDE + program, **EIGHT)
    assert result.returncode == 0, result.stderr


def test_out_sharding_gives_the_sharding_of_jax() -> None:
    program = """
key = jax.random.key(42)
whole = fk.xavier_uniform(SHAPE, layout="*IO", rng=42)
if hasattr(jax, "set_mesh"):  # the versions that have out_sharding
    with jax.set_mesh(mesh):
        for init in (glorot_uniform(), jax.jit(glorot_uniform(), static_argnums=(1, 2, 3))):
            expected = jax.nn.initializers.glorot_uniform()(key, SHAPE, np.float32, P("x"))
            found = init(key, SHAPE, np.float32, P("x"))
            assert found.sharding == expected.sharding, found.sharding
            assert np.asarray(found).tobytes() == whole.tobytes()
"""
    result = python(PRELUDE + program, **EIGHT)
    assert result.returncode == 0, result.stderr


def test_arrays_without_elements_have_the_requested_sharding() -> None:
    program = """
from fastkaiming.jax import he_normal
key = jax.random.key(42)
for shape, spec in (((0, 4), P("x")), ((8, 0), P("x", "y")), ((0, 0, 4), P(None, "y"))):
    sharding = NamedSharding(mesh, spec)
    compiled = jax.jit(lambda key: he_normal()(key, shape), out_shardings=sharding)
    for array in (make(he_normal(), 42, shape, sharding=sharding), compiled(key)):
        assert (array.shape, array.dtype, array.sharding) == (shape, np.float32, sharding), array.sharding
if hasattr(jax, "set_mesh"):  # the versions that have out_sharding
    with jax.set_mesh(jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)):
        array = he_normal()(key, (0, 4), np.float32, P("x"))
        assert (array.shape, array.sharding.spec) == ((0, 4), P("x", None)), array.sharding
"""
    result = python(PRELUDE + program, **EIGHT)
    assert result.returncode == 0, result.stderr


PLACEMENT = """
from fastkaiming.jax import he_normal

SHAPE = (16, 8)
jax_init = jax.nn.initializers.he_normal()
expected = fk.variance_scaling(SHAPE, scale=2.0, layout="*IO", rng=42)
key = jax.random.key(42)

def both(call):
    found, jaxs = call(he_normal()), call(jax_init)
    assert (found.sharding, found.committed) == (jaxs.sharding, jaxs.committed), (found.sharding, jaxs.sharding)
    return np.asarray(found)
"""


def test_arrays_are_on_the_device_of_the_key() -> None:
    program = """
for device in jax.devices()[1:3]:
    assert (both(lambda init: init(jax.device_put(key, device), SHAPE)) == expected).all()
    with jax.default_device(device):
        assert (both(lambda init: init(jax.random.key(42), SHAPE)) == expected).all()
everywhere = jax.device_put(key, NamedSharding(mesh, P()))
assert (both(lambda init: init(everywhere, SHAPE)) == expected).all()
"""
    result = python(PRELUDE + PLACEMENT + program, **EIGHT)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not hasattr(jax, "set_mesh"), reason="there is no mesh to set")
@pytest.mark.extended
@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_arrays_are_on_the_mesh_that_is_set(kind: str) -> None:
    program = """
from jax.sharding import AxisType
mesh = jax.make_mesh((8,), ("d",), axis_types=(getattr(AxisType, sys.argv[1]),))
with jax.set_mesh(mesh):
    apart = NamedSharding(mesh, P("d"))
    for each in (key, jax.random.key(42), jax.random.PRNGKey(42), jax.device_put(key, NamedSharding(mesh, P()))):
        assert (both(lambda init: init(each, SHAPE)) == expected).all()
        assert (both(lambda init: jax.jit(lambda key: init(key, SHAPE))(each)) == expected).all()
    assert (both(lambda init: jax.jit(lambda: init(key, SHAPE))()) == expected).all()
    assert (both(lambda init: jax.jit(lambda: init(key, SHAPE), out_shardings=apart)()) == expected).all()
    both(lambda init: jax.lax.map(lambda key: init(key, SHAPE), jax.random.split(key, 3)))
    keys = jax.random.split(key, 8)
    planes = np.stack([he_normal()(each, SHAPE) for each in keys])
    keys = jax.device_put(keys, apart)

    def each_on_its_device(init):
        return jax.shard_map(lambda keys: init(keys[0], SHAPE)[None], in_specs=P("d"), out_specs=P("d"))(keys)

    assert (both(each_on_its_device) == planes).all()
    for many in (jax.vmap, lambda one: jax.jit(jax.vmap(one))):
        assert (both(lambda init: many(lambda key: init(key, SHAPE))(keys)) == planes).all()
"""
    result = python(PRELUDE + PLACEMENT + program, kind, **EIGHT)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not hasattr(jax, "set_mesh"), reason="this version of JAX has no set_mesh")
def test_flax_nnx_partitions_the_weights() -> None:
    pytest.importorskip("flax.nnx")
    program = """
from flax import nnx
from jax.sharding import AxisType
with jax.set_mesh(jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))):
    def kernel(init):
        parts = nnx.with_partitioning(init, ("d", None))
        return nnx.Linear(16, 8, kernel_init=parts, rngs=nnx.Rngs(0)).kernel[...]
    both(kernel)
"""
    result = python(PRELUDE + PLACEMENT + program, **EIGHT)
    assert result.returncode == 0, result.stderr
