"""Fast, reproducible initialization for PyTorch, as a replacement for :mod:`torch.nn.init`.

Replace ``from torch.nn import init`` with ``import fastkaiming.torch as init``. The names, arguments, defaults,
warnings, errors and return values are the same. The random functions fill tensors on the CPU from fastkaiming's
streams: the values do not depend on the number of threads, on the machine, or on how a DTensor is sharded.

:func:`accelerate` applies the same fills to code that you do not want to change. :func:`reset_module_` runs the
initialization that a module itself has, and :func:`init_module_` fills all parameters of a module by rules.
"""

from fastkaiming import _validation

try:
    from torch.nn.init import (  # noqa: F401  other libraries use the two private functions
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
    raise _validation.missing_dependency_error("torch", "torch", error) from error
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
from fastkaiming.torch._reset import reset_module_
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
    "reset_module_",
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
