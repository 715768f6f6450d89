"""randomgen: its bit generators under NumPy's Generator, by its recipe for several threads.

That is https://bashtage.github.io/randomgen/multithreading.html: Xoshiro256, jumped ahead once for each thread. Philox
of four 32-bit words beside it is the cipher that fastkaiming uses.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from peers import Job, Way, needed, refuse
from peers.numpy import generators_way

NAME = "randomgen"
IN_PLACE = True


def version() -> str:
    return str(needed("randomgen").__version__)


def ways(job: Job) -> dict[str, Way]:
    refuse(job, draws=("truncated",), dtypes=("bfloat16",))
    randomgen = needed("randomgen")

    def by(first: Any) -> Way:
        return generators_way(job, [np.random.Generator(first.jumped(thread)) for thread in range(job.threads)])

    return {
        f"{NAME} Xoshiro256": by(randomgen.Xoshiro256(0)),
        f"{NAME} Philox": by(randomgen.Philox(0, number=4, width=32)),
    }
