"""randomgen: its bit generators in NumPy's Generator, on several threads as randomgen documents it.

See https://bashtage.github.io/randomgen/multithreading.html: Xoshiro256, jumped ahead once for each thread. Philox with
four 32-bit words is measured, too, because fastkaiming uses the same generator.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from libraries import Job, Method, check_support, imported
from libraries.numpy import generators_method

NAME = "randomgen"
IN_PLACE = True


def version() -> str:
    return str(imported("randomgen").__version__)


def methods(job: Job) -> dict[str, Method]:
    check_support(job, draws=("truncated",), dtypes=("bfloat16",))
    randomgen = imported("randomgen")

    def by(first: Any) -> Method:
        return generators_method(job, [np.random.Generator(first.jumped(thread)) for thread in range(job.threads)])

    return {
        f"{NAME} Xoshiro256": by(randomgen.Xoshiro256(0)),
        f"{NAME} Philox": by(randomgen.Philox(0, number=4, width=32)),
    }
