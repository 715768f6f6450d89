"""Assignments of the code of a module to ``parameter.data``, which torch ignores if the parameter is a DTensor."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from fastkaiming.torch import _dtensors
from fastkaiming.torch._named_writes import NamedTensor, NamedWrites, ShardedView

_SET_DATA = torch.Tensor.data.__set__


class CheckedDataAssignments(TorchFunctionMode):  # type: ignore[misc]
    """Raises an error if code assigns other values to the ``data`` of a sharded parameter."""

    def __init__(self, writes: NamedWrites) -> None:
        super().__init__()
        self._writes = writes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch."""
        if func == _SET_DATA:
            self._check(*args)
        return func(*args, **(kwargs or {}))

    def _check(self, tensor: torch.Tensor, value: Any) -> None:
        with _disable_current_modes():
            named = self._writes.finish_sharded(tensor)
            if named is None or _has_same_values(named, value):
                return
        raise ValueError(
            f"parameter {named.name!r} is sharded, and {self._writes.writer} must not assign to its data, because "
            "torch ignores this for a DTensor: write the values with parameter.data.copy_(...) or "
            "parameter.data[:] = ..."
        )


def _has_same_values(named: NamedTensor, value: Any) -> bool:
    """Return True if a value is the parameter, or a copy of it with the same bits, as transformers assigns to biases.

    A parameter that no code has written to can have any bits, also those of NaN.
    """
    if isinstance(value, ShardedView):
        whole, view = named.whole, value.elements
        layouts = [(each.shape, each.stride(), each.storage_offset()) for each in (whole, view)]
        return value.owner is named and layouts[0] == layouts[1]
    tensor: Any = named.tensor
    if not _dtensors.is_dtensor(value) or value.shape != tensor.shape or value.dtype != tensor.dtype:
        return False
    if (value.device_mesh, value.placements) != (tensor.device_mesh, tensor.placements):
        return False
    bits = [each.detach().flatten().view(torch.uint8) for each in (named.local, _dtensors.local_tensor(value))]
    return bool(torch.equal(*bits))
