"""fastkaiming itself, and stores of a constant to the same memory, which limit every fill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import stores

import fastkaiming
from peers import ITEMSIZES, Job, Way, array_way

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

NAME = "fastkaiming"
IN_PLACE = True

FILLS: dict[str, Callable[..., object]] = {
    "normal": fastkaiming.he_normal_,
    "uniform": fastkaiming.he_uniform_,
    "truncated": fastkaiming.variance_scaling_,
}


def version() -> str:
    return fastkaiming.__version__


def ways(job: Job) -> dict[str, Way]:
    draw, scale = FILLS[job.draw], {"scale": 2.0} if job.draw == "truncated" else {}
    stored = "float64" if ITEMSIZES[job.dtype] == 8 else "float32"

    def store(kind: str) -> Way:
        return array_way(job, lambda target: stores.STORES[kind](target.view(np.dtype(stored)), job.threads))

    def fill(target: NDArray[Any]) -> None:
        draw(target, **scale, rng=0, threads=job.threads)

    return {NAME: array_way(job, fill)} | {kind: store(kind) for kind in stores.kinds()}
