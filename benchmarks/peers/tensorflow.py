"""TensorFlow: Keras' VarianceScaling, of which HeNormal (the truncated one) and HeUniform are cases, into new tensors.

Its threads are set before its first use, and for good. Keras counts inputs by the first axis.
"""

from __future__ import annotations

import os
from typing import Any

from peers import Job, Way, needed

NAME = "TensorFlow"
IN_PLACE = False

DISTRIBUTIONS = {"normal": "untruncated_normal", "uniform": "uniform", "truncated": "truncated_normal"}


def library() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    return needed("tensorflow")


def version() -> str:
    return str(library().__version__)


def ways(job: Job) -> dict[str, Way]:
    tensorflow = library()
    if tensorflow.config.threading.get_intra_op_parallelism_threads() != job.threads:
        tensorflow.config.threading.set_intra_op_parallelism_threads(job.threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    initializer = tensorflow.keras.initializers.VarianceScaling(2.0, "fan_in", DISTRIBUTIONS[job.draw], seed=0)
    shape = job.shape[::-1]
    return {NAME: Way(lambda _: initializer(shape, dtype=job.dtype))}
