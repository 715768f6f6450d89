"""The buffers of a module: the default values of those of torch's layers, and which buffers a state_dict holds."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

_STATISTICS: Mapping[str, float] = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0}
_NAMES = {0.0: "zeros", 1.0: "ones"}


class BufferDefault(NamedTuple):
    """A buffer of a layer of torch and its default value; the label names the layer and the value in reports."""

    name: str
    buffer: torch.Tensor
    value: float
    label: str


def default_buffers(module: nn.Module) -> Iterator[BufferDefault]:
    """Yield the buffers that torch's layers create themselves, with the values of a new layer.

    These are the statistics of BatchNorm, InstanceNorm and their variants. The other buffers that layers of torch
    register are arguments of their constructors, such as the class weights of a loss function.
    """
    for path, layer in module.named_modules():
        if not isinstance(layer, _NormBase):
            continue
        for name, value in _STATISTICS.items():
            buffer = layer._buffers.get(name)
            if buffer is not None:
                label = f"{type(layer).__name__}: {_NAMES[value]}"
                yield BufferDefault(f"{path}.{name}" if path else name, buffer, value, label)


def persistent_buffers(module: nn.Module) -> Iterator[str]:
    """Yield the name of each buffer that the state_dict of a module holds; shared ones only once."""
    seen = set()
    for path, layer in module.named_modules():
        for name, buffer in layer._buffers.items():
            if buffer is not None and name not in layer._non_persistent_buffers_set and id(buffer) not in seen:
                seen.add(id(buffer))
                yield f"{path}.{name}" if path else name
