"""fastkaiming.jax over eight devices: the bits of one, where JAX puts its own, and by make each block once."""

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

# a sharding, and the blocks that there are in an array of 64 by 48
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
def made() -> dict[str, dict[str, object]]:
    """Make an array by each of the shardings, in one process."""
    program = """
expected = {
    name: fk.xavier_uniform(SHAPE, np.dtype(getattr(jax.numpy, name)), layout="*IO", rng=42)
    for name in ("float32", "float16", "bfloat16")
}
blocks = []

def fill(out, *arguments, **settings):
    if out.size:
        blocks.append(out.shape)
    return fk.fill_(out, *arguments, **settings)

_arrays.fill_ = fill
answers = {}
for text in json.loads(sys.argv[1]):
    sharding = eval(text)
    answer = answers[text] = {}
    for name, whole in expected.items():
        blocks.clear()
        array = make(glorot_uniform(), 42, SHAPE, whole.dtype, sharding)
        answer[name] = bool(
            array.sharding == sharding
            and array.dtype == whole.dtype
            and np.asarray(array).tobytes() == whole.tobytes()
            and all(np.asarray(part.data).tobytes() == whole[part.index].tobytes() for part in array.addressable_shards)
        )
    answer["blocks"] = list(blocks)
    answer["usable"] = float(jax.jit(lambda a: (a * 0).sum())(array))
print(json.dumps(answers))
"""
    result = python(PRELUDE + program, json.dumps(list(SHARDINGS)), **EIGHT)
    assert result.returncode == 0, result.stderr
    answers: dict[str, dict[str, object]] = json.loads(result.stdout)
    return answers


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_any_sharding_gives_the_bits_of_the_core(made: dict[str, dict[str, object]], sharding: str) -> None:
    correct = {"float32": True, "float16": True, "bfloat16": True, "usable": 0.0}
    assert made[sharding] == {**correct, "blocks": SHARDINGS[sharding]}


def test_blocks_have_arrived_before_the_next_is_filled() -> None:
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
assert events == ["fill", *["fill", 2] * 4], events  # the first is of no elements, for the checks
"""
    result = python(PRELUDE + program, **EIGHT)
    assert result.returncode == 0, result.stderr


def test_other_axes_and_uneven_parts_are_refused() -> None:
    program = """
def message(call, sharding):
    try:
        call(sharding)
    except ValueError as error:
        return str(error)

generator = fk.Generator(7)
uneven = np.zeros((63, 48), np.float32)
theirs, ours, longer = (
    message(lambda sharding: jax.make_array_from_callback((63, 48), sharding, uneven.__getitem__),
            NamedSharding(mesh, P("x"))),
    message(lambda sharding: make(fk.Normal(0.0, 1.0), generator, (63, 48), sharding=sharding),
            NamedSharding(mesh, P("x"))),
    message(lambda sharding: make(fk.Normal(0.0, 1.0), generator, (64,), sharding=sharding),
            NamedSharding(mesh, P(None, "x"))),
)
assert ours == theirs and ours is not None, (ours, theirs)
assert longer.startswith("sharding must have at most 1 axes for shape (64,), got P"), longer
assert generator.take() == fk.Key(7, 1)
"""
    result = python(PRELUDE + program, **EIGHT)
    assert result.returncode == 0, result.stderr


def test_out_sharding_is_that_of_jax() -> None:
    program = """
key = jax.random.key(42)
whole = fk.xavier_uniform(SHAPE, layout="*IO", rng=42)
if hasattr(jax, "set_mesh"):  # the versions that have out_sharding
    with jax.set_mesh(mesh):
        for init in (glorot_uniform(), jax.jit(glorot_uniform(), static_argnums=(1, 2, 3))):
            theirs = jax.nn.initializers.glorot_uniform()(key, SHAPE, np.float32, P("x"))
            ours = init(key, SHAPE, np.float32, P("x"))
            assert ours.sharding == theirs.sharding, ours.sharding
            assert np.asarray(ours).tobytes() == whole.tobytes()
"""
    result = python(PRELUDE + program, **EIGHT)
    assert result.returncode == 0, result.stderr


WHERE = """
from fastkaiming.jax import he_normal

SHAPE = (16, 8)
theirs = jax.nn.initializers.he_normal()
expected = fk.variance_scaling(SHAPE, scale=2.0, layout="*IO", rng=42)
key = jax.random.key(42)

def both(call):
    ours, jaxs = call(he_normal()), call(theirs)
    assert (ours.sharding, ours.committed) == (jaxs.sharding, jaxs.committed), (ours.sharding, jaxs.sharding)
    return np.asarray(ours)
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
    result = python(PRELUDE + WHERE + program, **EIGHT)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not hasattr(jax, "set_mesh"), reason="there is no mesh to set")
@pytest.mark.extended
@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_arrays_are_on_a_mesh_that_is_set(kind: str) -> None:
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
        ours, jaxs = (many(lambda key: init(key, SHAPE))(keys) for init in (he_normal(), theirs))
        assert (np.asarray(ours) == planes).all()
        kept = jaxs.sharding if sys.argv[1] == "Explicit" else NamedSharding(mesh, P())  # not told, a callback has all
        assert ours.sharding == kept, ours.sharding
"""
    result = python(PRELUDE + WHERE + program, kind, **EIGHT)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not hasattr(jax, "set_mesh"), reason="there is no mesh to set")
def test_flax_nnx_partitions_our_weights() -> None:
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
    result = python(PRELUDE + WHERE + program, **EIGHT)
    assert result.returncode == 0, result.stderr
