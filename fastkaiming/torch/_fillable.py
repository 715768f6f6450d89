"""Which tensors ``init_module_`` can fill, and the errors that say why it cannot fill a tensor."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fastkaiming._fill import buffers
from fastkaiming.torch import _dtensors, _tensors
from fastkaiming.torch._tensors import Region

_OR_KEEP = "or give the parameter the rule 'keep'"


def fillable_regions(name: str, parameter: torch.Tensor, *, may_be_empty: bool) -> Sequence[Region]:
    """Return the memory of a parameter, or raise the error that says why it cannot be filled.

    ``may_be_empty`` says that the layer of the parameter has no units, so that its parameters have no elements.
    """
    subject = f"parameter {name!r}"
    check_memory(subject, parameter)
    if parameter.numel() == 0 and not may_be_empty:
        raise empty_error(subject, parameter, _OR_KEEP)
    error = _dtensor_error(subject, parameter) if _dtensors.is_dtensor(parameter) else _error(subject, parameter)
    if error is not None:
        raise error
    regions = _tensors.memory_regions(parameter)
    if regions is None:  # for example, a transform of torch.func observes the tensor
        raise _kind_error(subject, parameter)
    return regions


def check_memory(subject: str, tensor: torch.Tensor) -> None:
    """Raise an error if a parameter or buffer has no shape yet, or no memory that can be written."""
    if nn.parameter.is_lazy(tensor):
        raise TypeError(f"{subject} must have a shape: first run a forward pass of its lazy module")
    if tensor.is_meta:
        raise ValueError(f"{subject} must have memory, got the meta device: call to_empty(device='cpu') first")
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        raise ValueError(f"{subject} must not be an inference tensor outside of torch.inference_mode()")


def empty_error(subject: str, parameter: Any, or_keep: str) -> ValueError:
    """Return the error for a parameter without elements. ``or_keep`` says how the user can exclude it."""
    shape = tuple(parameter.shape)
    if hasattr(parameter, "ds_shape"):
        return ValueError(
            f"{subject} must have its {tuple(parameter.ds_shape)} elements in memory, got shape {shape}, because "
            "DeepSpeed ZeRO-3 has divided it: call this function within deepspeed.zero.GatheredParameters"
        )
    return ValueError(
        f"{subject} must have elements, got shape {shape}: if a library has moved its values elsewhere, as sharded "
        f"training does, gather them first, {or_keep} if it is meant to be empty"
    )


def _dtensor_error(subject: str, parameter: Any) -> Exception | None:
    if parameter.device_mesh.get_coordinate() is None:  # this rank is not part of the mesh and fills nothing
        return None
    local = parameter.to_local()
    error = _dtensors.slices_error(subject, parameter, local.shape)
    return error or _error(f"the local tensor of {subject}", local)


def _error(subject: str, tensor: torch.Tensor) -> Exception | None:
    """Return the error that says why a tensor in this process cannot be filled, or None if it can."""
    if tensor.is_nested:
        return TypeError(f"{subject} must be a dense tensor, got a nested tensor: fill its parts, {_OR_KEEP}")
    if tensor.layout is not torch.strided:
        return TypeError(
            f"{subject} must be a dense tensor, got the layout {tensor.layout}: convert it after the call, {_OR_KEEP}"
        )
    if type(tensor) not in _tensors.PLAIN_TYPES:
        return _subclass_error(subject, tensor)
    if tensor.dtype not in _tensors.DTYPES or not tensor.is_cpu:
        return _kind_error(subject, tensor)
    if tensor.is_neg():
        return ValueError(f"{subject} must not be a negated view: call resolve_neg() first")
    return _storage_error(subject, tensor)


def _subclass_error(subject: str, tensor: torch.Tensor) -> TypeError:
    kind = type(tensor).__name__
    if not _has_storage(tensor):
        return TypeError(
            f"{subject} must have memory of its own, got a {kind}, which wraps other tensors, as quantized weights do: "
            f"initialize the module before this conversion, {_OR_KEEP}"
        )
    return TypeError(
        f"{subject} must be a torch.nn.Parameter or a DTensor, got a {kind}, a subclass that may store its values in "
        f"another form: initialize the module before this conversion, {_OR_KEEP}"
    )


def _has_storage(tensor: torch.Tensor) -> bool:
    try:
        return bool(tensor.numel() == 0 or tensor.untyped_storage().data_ptr() != 0)
    except (RuntimeError, NotImplementedError):  # a wrapper has an invalid storage or none
        return False


def _kind_error(subject: str, tensor: torch.Tensor) -> TypeError:
    return TypeError(
        f"{subject} must be a dense tensor on the CPU of dtype float32, float64, float16 or bfloat16, or have the "
        f"rule 'keep', got a {type(tensor).__name__} of {tensor.dtype} on {tensor.device}"
    )


def _storage_error(subject: str, tensor: torch.Tensor) -> ValueError | None:
    if tensor.numel() == 0:
        return None
    last = tensor.storage_offset() + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    needed, present = (last + 1) * tensor.element_size(), tensor.untyped_storage().nbytes()
    if present < needed:
        return ValueError(
            f"{subject} must have memory, but its storage has been freed or made smaller, got {present} of "
            f"{needed} bytes: gather it first, or call to_empty(device='cpu')"
        )
    data = tensor.detach()
    memory = data.numpy() if data.dtype is not torch.bfloat16 else data.view(torch.uint16).numpy()
    try:
        buffers.check_memory(memory)
    except ValueError:
        return ValueError(
            f"{subject} must not overlap itself, got strides {tensor.stride()} for shape {tuple(tensor.shape)}: "
            "replace it by a copy, for example by its clone"
        )
    return None
