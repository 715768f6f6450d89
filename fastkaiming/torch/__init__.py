"""PyTorch: :mod:`torch.nn.init` at the speed of memory, for single tensors, for any code, and for whole modules.

``import fastkaiming.torch as init`` serves in place of ``from torch.nn import init``: the same names, arguments,
defaults, warnings, errors and results. The random ones fill tensors on the CPU from fastkaiming's streams, with the
same values on any number of threads, on any machine, and in every shard of a DTensor.
"""

try:
    import torch.nn.init as _theirs
    from torch.nn.init import calculate_gain, constant, constant_, dirac, dirac_, eye, eye_, ones_, zeros_

    from fastkaiming.torch.accelerating import accelerate
except ModuleNotFoundError as error:
    raise ImportError(f"fastkaiming.torch needs {error.name}: pip install 'fastkaiming[torch]'") from error
from fastkaiming.torch.initializers import (
    kaiming_normal_,
    kaiming_uniform_,
    normal_,
    trunc_normal_,
    uniform_,
    xavier_normal_,
    xavier_uniform_,
)
from fastkaiming.torch.modules import init_module_

# What torch builds on the fills of tensors.
orthogonal_ = accelerate()(_theirs.orthogonal_)
sparse_ = accelerate()(_theirs.sparse_)

# The names without an underscore, which torch deprecates.
uniform = accelerate()(_theirs.uniform)
normal = accelerate()(_theirs.normal)
xavier_uniform = accelerate()(_theirs.xavier_uniform)
xavier_normal = accelerate()(_theirs.xavier_normal)
kaiming_uniform = accelerate()(_theirs.kaiming_uniform)
kaiming_normal = accelerate()(_theirs.kaiming_normal)
orthogonal = accelerate()(_theirs.orthogonal)
sparse = accelerate()(_theirs.sparse)

__all__ = [
    "accelerate",
    "calculate_gain",
    "constant",
    "constant_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "init_module_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]
