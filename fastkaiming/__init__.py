"""Fast Kaiming initialization, with the same bits on any number of threads and any instruction set.

>>> import numpy as np
>>> import fastkaiming as fk
>>> weights = np.empty((4096, 1024), np.float32)
>>> fk.kaiming_normal_(weights, nonlinearity="relu", rng=42) is weights  # in place
True
>>> fk.kaiming(weights.shape, nonlinearity="relu")  # the distribution of these values
Normal(mean=0.0, std=0.04419417382415922)

Names and defaults are those of :mod:`torch.nn.init`. A function whose name ends in an underscore fills an array in
place; its functional variant, without the underscore, returns a new array. ``rng`` selects the random values: it is an
integer seed, a :class:`Key`, or a :class:`Generator`, which gives every tensor its own stream.
"""

from fastkaiming import _startup  # noqa: F401 - first, because it changes what Ctrl-C does during the other imports

try:
    from fastkaiming._core import STREAM_VERSION, available_isas, isa
except ModuleNotFoundError as error:
    if error.name != "fastkaiming._core":
        raise
    raise ImportError(
        f"fastkaiming is imported from {__path__[0]}, where its core is not built for this Python: "
        "run `pip install .` there, or import the installed package from another directory"
    ) from error
from fastkaiming._fill.context import progress
from fastkaiming._fill.fill import fill_
from fastkaiming._fill.shards import shard_slices
from fastkaiming._system.threads import get_num_threads, set_num_threads
from fastkaiming.distributions import Normal, TruncatedNormal, Uniform
from fastkaiming.initializers import (
    DEFAULT_RULES,
    Fans,
    InitReport,
    calculate_gain,
    constant_,
    fans,
    he_normal,
    he_normal_,
    he_uniform,
    he_uniform_,
    init_,
    kaiming,
    kaiming_normal,
    kaiming_normal_,
    kaiming_uniform,
    kaiming_uniform_,
    lecun_normal,
    lecun_normal_,
    lecun_uniform,
    lecun_uniform_,
    normal,
    normal_,
    ones_,
    trunc_normal,
    trunc_normal_,
    uniform,
    uniform_,
    variance_scaling,
    variance_scaling_,
    xavier_normal,
    xavier_normal_,
    xavier_uniform,
    xavier_uniform_,
    zeros_,
)
from fastkaiming.rng import Generator, Key

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_RULES",
    "STREAM_VERSION",
    "Fans",
    "Generator",
    "InitReport",
    "Key",
    "Normal",
    "TruncatedNormal",
    "Uniform",
    "__version__",
    "available_isas",
    "calculate_gain",
    "constant_",
    "fans",
    "fill_",
    "get_num_threads",
    "he_normal",
    "he_normal_",
    "he_uniform",
    "he_uniform_",
    "init_",
    "isa",
    "kaiming",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "lecun_normal",
    "lecun_normal_",
    "lecun_uniform",
    "lecun_uniform_",
    "normal",
    "normal_",
    "ones_",
    "progress",
    "set_num_threads",
    "shard_slices",
    "trunc_normal",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "variance_scaling",
    "variance_scaling_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]
