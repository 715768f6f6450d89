"""JAX: ``jax.nn.initializers`` under ``jit``, compiled beforehand, waited for, each into a new array.

``he_normal`` is the truncated one there; the whole one is its ``variance_scaling``. XLA has no setting for its threads
in a process that runs; it takes as many as the CPUs that the process is bound to.
"""

from __future__ import annotations

import functools
from typing import Any

from peers import Job, Way, needed

NAME = "JAX"
IN_PLACE = False

DISTRIBUTIONS = {"normal": "normal", "uniform": "uniform", "truncated": "truncated_normal"}


def version() -> str:
    return str(needed("jax").__version__)


@functools.cache
def compiled(draw: str) -> Any:
    jax = needed("jax")
    jax.config.update("jax_enable_x64", True)
    scaled = needed("jax.nn").initializers.variance_scaling
    initializer = scaled(2.0, "fan_in", DISTRIBUTIONS[draw], in_axis=1, out_axis=0)
    return jax.jit(initializer, static_argnums=(1, 2))


def ways(job: Job) -> dict[str, Way]:
    initializer, key = compiled(job.draw), needed("jax").random.key(0)
    return {NAME: Way(lambda _: initializer(key, job.shape, job.dtype).block_until_ready())}
