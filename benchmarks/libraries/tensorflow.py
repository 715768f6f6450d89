"""TensorFlow: Keras' VarianceScaling, the base class of HeNormal (truncated) and HeUniform, into new tensors.

The number of threads can be set only before the first use. In Keras, the first axis counts the inputs.
"""

from __future__ import annotations

import os
from typing import Any

from libraries import Job, Method, imported

NAME = "TensorFlow"
IN_PLACE = False

DISTRIBUTIONS = {"normal": "untruncated_normal", "uniform": "uniform", "truncated": "truncated_normal"}


def library() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    return imported("tensorflow")


def version() -> str:
    return str(library().__version__)


def methods(job: Job) -> dict[str, Method]:
    tensorflow = library()
    if tensorflow.config.threading.get_intra_op_parallelism_threads() != job.threads:
        tensorflow.config.threading.set_intra_op_parallelism_threads(job.threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    initializer = tensorflow.keras.initializers.VarianceScaling(2.0, "fan_in", DISTRIBUTIONS[job.draw], seed=0)
    shape = job.shape[::-1]
    return {NAME: Method(lambda _: initializer(shape, dtype=job.dtype))}
