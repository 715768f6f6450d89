"""fastkaiming itself, and stores of a constant to the same memory, which measure the store bandwidth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import stores

import fastkaiming
from libraries import ITEMSIZES, Job, Method, array_method

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


def methods(job: Job) -> dict[str, Method]:
    draw, scale = FILLS[job.draw], {"scale": 2.0} if job.draw == "truncated" else {}
    stored = "float64" if ITEMSIZES[job.dtype] == 8 else "float32"

    def store(kind: str) -> Method:
        return array_method(job, lambda target: stores.STORES[kind](target.view(np.dtype(stored)), job.threads))

    def fill(target: NDArray[Any]) -> None:
        draw(target, **scale, rng=0, threads=job.threads)

    return {NAME: array_method(job, fill)} | {kind: store(kind) for kind in stores.kinds()}
