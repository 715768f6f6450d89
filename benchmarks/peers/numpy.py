"""NumPy: one generator, or on several threads its documented recipe.

That is https://numpy.org/doc/stable/reference/random/multithreading.html: a generator for each thread, from seeds that
one SeedSequence spawns, each filling its part of the array through ``out``. Standard draws are scaled in place after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from peers import Job, Way, array_way, in_parts, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NAME = "NumPy"
IN_PLACE = True


def version() -> str:
    return np.__version__


def ways(job: Job) -> dict[str, Way]:
    generators = [np.random.default_rng(seed) for seed in np.random.SeedSequence(0).spawn(job.threads)]
    return {NAME: generators_way(job, generators)}


def generators_way(job: Job, generators: Sequence[np.random.Generator]) -> Way:
    """Return a fill by a generator for each thread."""
    refuse(job, draws=("truncated",), dtypes=("bfloat16",))
    dtype: Any = job.dtype

    def draw(values: NDArray[Any], generator: np.random.Generator) -> None:
        if job.draw == "normal":
            generator.standard_normal(dtype=dtype, out=values)
            values *= job.std
        else:
            generator.random(dtype=dtype, out=values)
            values *= 2 * job.bound
            values -= job.bound

    def fill(target: NDArray[Any]) -> None:
        values = target.reshape(-1)
        in_parts(job.threads, job.elements, lambda thread, part: draw(values[part], generators[thread]))

    return array_way(job, fill)
