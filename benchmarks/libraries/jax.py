"""JAX: ``jax.nn.initializers`` under ``jit``, each into a new array, compiled before the timing starts.

``he_normal`` is truncated in JAX, so all initializers come from ``variance_scaling``. The number of XLA's threads
cannot be set in a running process; XLA uses one for each CPU to which the process is bound.
"""

from __future__ import annotations

import functools
from typing import Any

from libraries import Job, Method, imported

NAME = "JAX"
IN_PLACE = False

DISTRIBUTIONS = {"normal": "normal", "uniform": "uniform", "truncated": "truncated_normal"}


def version() -> str:
    return str(imported("jax").__version__)


@functools.cache
def compiled(draw: str) -> Any:
    jax = imported("jax")
    jax.config.update("jax_enable_x64", True)
    scaled = imported("jax.nn").initializers.variance_scaling
    initializer = scaled(2.0, "fan_in", DISTRIBUTIONS[draw], in_axis=1, out_axis=0)
    return jax.jit(initializer, static_argnums=(1, 2))


def methods(job: Job) -> dict[str, Method]:
    initializer, key = compiled(job.draw), imported("jax").random.key(0)
    return {NAME: Method(lambda _: initializer(key, job.shape, job.dtype).block_until_ready())}
