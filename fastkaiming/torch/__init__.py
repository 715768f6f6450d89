"""PyTorch: :mod:`torch.nn.init` at the speed of memory, for single tensors, for any code, and for whole modules.

``import fastkaiming.torch as init`` serves in place of ``from torch.nn import init``: the same names, arguments,
defaults, warnings, errors and results. The random ones fill tensors on the CPU from fastkaiming's streams, with the
same values on any number of threads, on any machine, and in every shard of a DTensor.
"""

from fastkaiming import _validation

try:
    from torch.nn.init import (  # noqa: F401  two of them are private, but widely used
        _calculate_correct_fan,
        _calculate_fan_in_and_fan_out,
        calculate_gain,
        constant_,
        dirac_,
        eye_,
        ones_,
        zeros_,
    )
except ModuleNotFoundError as error:
    raise _validation.missing("torch", "torch", error) from error
from fastkaiming.torch._accelerate import accelerate
from fastkaiming.torch._initializers import (
    kaiming_normal_,
    kaiming_uniform_,
    normal_,
    trunc_normal_,
    uniform_,
    xavier_normal_,
    xavier_uniform_,
)
from fastkaiming.torch._module import init_module_
from fastkaiming.torch._torch_names import (
    constant,
    dirac,
    eye,
    kaiming_normal,
    kaiming_uniform,
    normal,
    orthogonal,
    orthogonal_,
    sparse,
    sparse_,
    uniform,
    xavier_normal,
    xavier_uniform,
)

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
