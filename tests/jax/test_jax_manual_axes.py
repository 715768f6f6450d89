"""Arrays within ``jax.shard_map`` and on meshes with axes of several types have the types of JAX's initializers."""

import pytest
from processes import python

jax = pytest.importorskip("jax")

pytestmark = pytest.mark.skipif(
    jax.__version_info__ < (0, 8), reason="jax.shard_map and explicit axes are stable since JAX 0.8"
)

EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
PRELUDE = """
import jax
import numpy as np
from jax.nn import initializers as jax_init
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from fastkaiming import jax as fk_jax

auto = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
keys = jax.random.split(jax.random.key(0), 8)
"""


def test_gradient_of_a_sum_over_devices_is_the_same_on_every_device() -> None:
    """Each device draws its own noise, and the gradient with respect to a replicated array is the sum of the noise."""
    program = """
init = fk_jax.normal(1.0)

def loss(x):
    one_device = lambda keys, x: jax.lax.psum((init(keys[0], (3,)) * x).sum(), "x")
    return jax.shard_map(one_device, mesh=auto, in_specs=(P("x"), P()), out_specs=P())(keys, x)

expected = sum(np.asarray(init(key, (3,)), np.float64) for key in keys)
for gradient in (jax.grad(loss), jax.jit(jax.grad(loss))):
    for part in gradient(jax.numpy.ones(3)).addressable_shards:
        np.testing.assert_allclose(part.data, expected, rtol=1e-5)
"""
    result = python(PRELUDE + program, **EIGHT)
    assert result.returncode == 0, result.stderr


def test_values_that_differ_between_devices_are_not_replicated() -> None:
    program = """
for init in (jax_init.normal(1.0), fk_jax.normal(1.0)):
    drawn = jax.shard_map(lambda keys: init(keys[0], (3,)), mesh=auto, in_specs=P("x"), out_specs=P())
    try:
        drawn(keys)
    except ValueError as error:
        assert "out_specs" in str(error), error
    else:
        raise AssertionError(init)

# The type of a carry does not change from one step to the next.
step = lambda carry, key: (carry + fk_jax.normal(1.0)(key, (3,)), None)
walk = lambda keys: jax.lax.scan(step, fk_jax.normal(1.0)(keys[0], (3,)), keys)[0]
each = jax.shard_map(walk, mesh=auto, in_specs=P("x"), out_specs=P("x"))(keys)
expected = [2 * np.asarray(fk_jax.normal(1.0)(key, (3,))) for key in keys]
np.testing.assert_array_equal(each.reshape(8, 3), expected)
"""
    result = python(PRELUDE + program, **EIGHT)
    assert result.returncode == 0, result.stderr


def test_mesh_with_explicit_and_automatic_axes_gives_the_sharding_of_jax() -> None:
    program = """
mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Explicit, AxisType.Auto))
with jax.set_mesh(mesh):
    for compiled in (lambda function: function, jax.jit):
        found, expected = (
            compiled(lambda key, init=init: init(key, (64, 32), out_sharding=P("x")))(jax.random.key(0))
            for init in (fk_jax.he_normal(), jax_init.he_normal())
        )
        assert jax.typeof(found) == jax.typeof(expected), jax.typeof(found)
        assert [part.data.shape for part in found.addressable_shards] == [(16, 32)] * 8
        assert (np.asarray(found) == np.asarray(fk_jax.he_normal()(jax.random.key(0), (64, 32)))).all()
"""
    result = python(PRELUDE + program, **EIGHT)
    assert result.returncode == 0, result.stderr
