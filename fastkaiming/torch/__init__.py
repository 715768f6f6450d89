"""PyTorch: :mod:`torch.nn.init` at the speed of memory, for single tensors, for any code, and for whole modules.

``import fastkaiming.torch as init`` serves in place of ``from torch.nn import init``: the same names, arguments,
defaults, warnings, errors and results. The random ones fill tensors on the CPU from fastkaiming's streams, with the
same values on any number of threads, on any machine, and in every shard of a DTensor.
"""

from fastkaiming import checks

try:
    import torch.nn.init as _theirs
    from torch.nn.init import (  # noqa: F401  two of them are private, and yet in wide use
        _calculate_correct_fan,
        _calculate_fan_in_and_fan_out,
        calculate_gain,
        constant_,
        dirac_,
        eye_,
        ones_,
        zeros_,
    )

    from fastkaiming.torch.accelerating import accelerate
except ModuleNotFoundError as error:
    raise checks.missing("torch", error) from error
from fastkaiming.torch.initializers import (
    deprecated,
    kaiming_normal_,
    kaiming_uniform_,
    named_here,
    normal_,
    trunc_normal_,
    uniform_,
    xavier_normal_,
    xavier_uniform_,
)
from fastkaiming.torch.modules import init_module_

# What torch builds on the fills of tensors.
orthogonal_ = named_here(accelerate(_theirs.orthogonal_))
sparse_ = named_here(accelerate(_theirs.sparse_))

# The names without an underscore, which torch deprecates.
uniform = deprecated(uniform_)
normal = deprecated(normal_)
constant = deprecated(constant_)
eye = deprecated(eye_)
dirac = deprecated(dirac_)
xavier_uniform = deprecated(xavier_uniform_)
xavier_normal = deprecated(xavier_normal_)
kaiming_uniform = deprecated(kaiming_uniform_)
kaiming_normal = deprecated(kaiming_normal_)
orthogonal = deprecated(orthogonal_)
sparse = deprecated(sparse_)

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
