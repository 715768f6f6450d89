"""The functions of :mod:`torch.nn.init` that run torch's own code, with random fills by fastkaiming."""

import torch.nn.init as torch_init
from torch.nn.init import constant_, dirac_, eye_

from fastkaiming.torch._accelerate import accelerate
from fastkaiming.torch._initializers import (
    deprecated,
    kaiming_normal_,
    kaiming_uniform_,
    normal_,
    set_public_module,
    uniform_,
    xavier_normal_,
    xavier_uniform_,
)

# torch computes the results of these functions from random tensors. Within accelerate(), fastkaiming fills them.
orthogonal_ = set_public_module(accelerate(torch_init.orthogonal_))
sparse_ = set_public_module(accelerate(torch_init.sparse_))

# The names without an underscore, which torch has deprecated.
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
