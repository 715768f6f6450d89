"""fastkaiming.jax.make over eight devices: the same bits for every sharding, each block filled once and by itself."""

import json

import pytest
from processes import python

pytest.importorskip("jax")

EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}

PRELUDE = """
import json
import sys

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P, SingleDeviceSharding

import fastkaiming as fk
from fastkaiming import jax_arrays
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

jax_arrays.fill_ = fill
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


def test_other_axes_and_uneven_parts_are_refused_as_by_jax() -> None:
    program = """
generator = fk.Generator(7)
for shape, spec in (((63, 48), P("x")), ((64,), P(None, "x"))):
    messages = []
    for call in (
        lambda sharding: jax.make_array_from_callback(shape, sharding, np.zeros(shape, np.float32).__getitem__),
        lambda sharding: make(fk.Normal(0.0, 1.0), generator, shape, sharding=sharding),
    ):
        try:
            call(NamedSharding(mesh, spec))
        except Exception as error:
            messages.append(repr(error))
    assert len(messages) == 2 and messages[0] == messages[1], messages
assert generator.take() == fk.Key(7, 0)
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
