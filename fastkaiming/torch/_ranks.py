"""The ranks that hold parts of the same DTensors, and what they compare before they fill them."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

from fastkaiming._agreement import Agreement, Fact, Group
from fastkaiming.initializers._model import Filler
from fastkaiming.torch import _dtensors

MeshName: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], str]


def agreement(tensors: Iterable[torch.Tensor], hint: str, *, check_ranks: bool) -> Agreement:
    """Return a ``with`` block at whose end the ranks of the meshes of DTensors compare their keys and facts.

    A rank communicates only with the ranks of the meshes that it is part of, in the process groups of these meshes.
    """
    return Agreement(_groups(tensors) if check_ranks else [], hint)


def module_agreement(tensors: Mapping[str, torch.Tensor], *, check_ranks: bool) -> Agreement:
    """Return the ``with`` block of :func:`agreement` for the tensors of a module."""
    hint = "pass the same integer, or generators in the same state, on every rank, and not None"
    return agreement(tensors.values(), hint, check_ranks=check_ranks)


def facts_of_dtensors(tensors: Mapping[str, torch.Tensor], rules: Mapping[str, str]) -> list[Fact]:
    """Return a fact for each DTensor of a module, with its rule if it has one."""
    return [
        fact(f"{name!r}{f' with the rule {rules[name]!r}' if name in rules else ''}", tensor)
        for name, tensor in tensors.items()
        if _dtensors.is_dtensor(tensor)
    ]


def facts_of_rules(rules: Mapping[str, Filler]) -> list[Fact]:
    """Return a fact for each rule of the user."""
    return [Fact(f"the rule {pattern!r}: {_text(filler)}") for pattern, filler in rules.items()]


def _text(value: Any) -> str:
    """Return a text for a part of a rule. It contains no address of an object, which every process has another of."""
    if isinstance(value, partial):
        keywords = [f"{name}={_text(each)}" for name, each in value.keywords.items()]
        return f"{_text(value.func)}({', '.join([*map(_text, value.args), *keywords])})"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_text, value))})"
    if isinstance(value, str | int | float | np.number | None):
        return repr(value)
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def fact(subject: str, tensor: Any) -> Fact:
    """Return what the ranks of the mesh of a DTensor must have in common."""
    placements = ", ".join(map(str, tensor.placements))
    text = f"{subject} of shape {tuple(tensor.shape)}, {tensor.dtype} and placements ({placements})"
    return Fact(text, _mesh_name(tensor.device_mesh))


def _groups(tensors: Iterable[torch.Tensor]) -> list[Group]:
    """Return the groups in an order that is the same on every rank, so that no two ranks wait for each other."""
    groups: dict[MeshName, Group] = {}
    meshes: dict[int, Any] = {}
    for tensor in tensors:
        if _dtensors.is_dtensor(tensor):
            meshes[id(tensor.device_mesh)] = tensor.device_mesh
    for mesh in meshes.values():
        if mesh.size() > 1 and mesh.get_coordinate() is not None:
            name = _mesh_name(mesh)
            gather = partial(_gather, mesh.device_type, _process_groups(mesh))
            groups.setdefault(name, Group(name, "rank", name[0], gather))
    return [groups[name] for name in sorted(groups)]


def _mesh_name(mesh: Any) -> MeshName:
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        return tuple(mesh.mesh.flatten().tolist()), tuple(mesh.shape), mesh.device_type


def _process_groups(mesh: Any) -> list[torch.distributed.ProcessGroup]:
    """Return the process groups of the dimensions of a mesh along which there are several ranks."""
    try:
        return [mesh.get_group(dimension) for dimension, size in enumerate(mesh.shape) if size > 1]
    except RuntimeError as error:
        raise ValueError(
            f"the device mesh of a DTensor must have process groups, so that its ranks can be compared, got none for "
            f"{mesh}: initialize them, or turn the comparison off with check_ranks=False"
        ) from error


def _gather(device: str, groups: Sequence[torch.distributed.ProcessGroup], data: bytes) -> list[bytes]:
    """Return the bytes of all ranks of a mesh in its order, which are gathered along one dimension after the other."""
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        gathered = torch.frombuffer(bytearray(data), dtype=torch.uint8).to(device)
        for group in reversed(groups):
            # A fake process group may write nothing. Then all ranks appear to have passed what this rank has passed.
            output = gathered.repeat(group.size(), 1)
            torch.distributed.all_gather([*output.unbind()], gathered, group=group)
            gathered = output.flatten()
        received = gathered.cpu().numpy().tobytes()
    return [received[begin : begin + len(data)] for begin in range(0, len(received), len(data))]
