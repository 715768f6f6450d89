"""NumPy: one generator, or one generator per thread as NumPy documents it.

See https://numpy.org/doc/stable/reference/random/multithreading.html: a SeedSequence spawns a seed for each thread's
generator, and each generator fills its part of the array through ``out``. The standard values are then scaled in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from libraries import Job, Method, array_method, check_support, in_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NAME = "NumPy"
IN_PLACE = True


def version() -> str:
    return np.__version__


def methods(job: Job) -> dict[str, Method]:
    generators = [np.random.default_rng(seed) for seed in np.random.SeedSequence(0).spawn(job.threads)]
    return {NAME: generators_method(job, generators)}


def generators_method(job: Job, generators: Sequence[np.random.Generator]) -> Method:
    """Return a method that fills the array with one generator per thread."""
    check_support(job, draws=("truncated",), dtypes=("bfloat16",))
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

    return array_method(job, fill)
