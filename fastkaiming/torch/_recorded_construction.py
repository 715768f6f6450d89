"""Records how code initializes the tensors that it creates, without the memory and the time of the fills.

A tensor that is created without values gets no memory, and fills of whole tensors are only recorded. A tensor gets
memory, and the recorded fills are performed, when something reads it or computes its values in another way.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from fastkaiming._fill import fill
from fastkaiming.distributions import Distribution
from fastkaiming.rng import Generator
from fastkaiming.torch import _tensors
from fastkaiming.torch._accelerate import accelerate
from fastkaiming.torch._initializers import RecordingTensor, recorded_distribution
from fastkaiming.torch._named_writes import CONSTANT_FILLS, FACTORIES, RANDOM_FILLS, active_writes

aten = torch.ops.aten

# Operations that return a tensor without values.
_EMPTY = (
    *(aten.empty.memory_format, aten.empty_strided.default, aten.empty_like.default),
    *(aten.new_empty.default, aten.new_empty_strided.default),
)


class Initialization(NamedTuple):
    """How a tensor was initialized: from a distribution or with a constant, except for rows of zeros.

    ``value`` is None if the values were computed in another way.
    """

    value: Distribution | float | None
    zero_rows: tuple[int, ...] = ()


COMPUTED = Initialization(None)


class _Fill(NamedTuple):
    """A fill of the elements of a view with random values or with a constant."""

    view: torch.Tensor
    value: Distribution | float


class RecordedConstruction(TorchDispatchMode):  # type: ignore[misc]
    """Records the fills of tensors that code creates in the ``with`` block of :func:`recorded_construction`."""

    def __init__(self) -> None:
        super().__init__()
        # By the number of a storage without memory. The number is used again only if a new storage is created.
        self._nbytes: dict[int, int] = {}
        self._fills: dict[int, list[_Fill]] = {}

    def initialization_of(self, tensor: torch.Tensor) -> Initialization | None:
        """Return how a tensor was initialized, or None if nothing has written to its memory."""
        if not self._has_no_memory(tensor):
            return COMPUTED
        fills = self._fills[_storage_number(tensor)]
        if not fills:
            return None
        first, *zeros = fills
        rows = [_rows_of(each.view, tensor) if each.value == 0 else None for each in zeros]
        if first.view.dtype != tensor.dtype or not self._is_whole(tensor) or None in rows:
            return COMPUTED
        return Initialization(first.value, tuple(sorted({row for each in rows if each is not None for row in each})))

    def allocate(self, tensor: torch.Tensor) -> None:
        """Give a tensor its memory, and perform the recorded fills, if it has none."""
        if not self._has_no_memory(tensor):
            return
        number = _storage_number(tensor)
        tensor.untyped_storage().resize_(self._nbytes.pop(number))
        for each in self._fills.pop(number):
            if isinstance(each.value, float):
                each.view.fill_(each.value)
                continue
            regions = _tensors.memory_regions(each.view)
            assert regions is not None  # the distribution was recorded only for tensors that can be filled
            fill.fill_(regions[0].memory, each.value, rng=_tensors.seed_from_generator(None))

    def write_trunc_normal(self, tensor: torch.Tensor, mean: float, std: float, a: float, b: float) -> bool:
        """Record a fill from a truncated normal distribution, or return False if it cannot be recorded."""
        with _disable_current_modes():  # this method is not called by the dispatcher, which disables the mode
            distribution = recorded_distribution(RecordingTensor.trunc_normal_, tensor, (mean, std, a, b))
            return distribution is not None and self._record(tensor.detach(), distribution)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record a fill, or perform an operation."""
        kwargs = kwargs or {}
        if func is aten.clone.default and self._is_unwritten(args[0]):
            func = aten.empty_like.default
        if func in _EMPTY:
            result = func(*args, **kwargs)
            self._release(result, [])
            return result
        if kwargs.get("generator") is None and self._record_operation(func, args):
            return args[0]
        tensors = [each for each in pytree.tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        if not func._schema.is_mutable and any(result.alias_info for result in func._schema.returns):
            with self._reserved(tensors):  # torch checks the size of the storage when it creates some views
                return func(*args, **kwargs)
        if func not in FACTORIES:
            for each in tensors:
                self.allocate(each)
        return func(*args, **kwargs)

    def _record_operation(self, func: Any, args: Any) -> bool:
        """Record an operation if it is a fill, or return False."""
        if func in CONSTANT_FILLS:
            constant = args[1] if len(args) > 1 else 0
            is_recordable = isinstance(constant, int | float) and math.isfinite(constant)
            return is_recordable and self._record(args[0], float(constant))
        if func not in RANDOM_FILLS:
            return False
        distribution = recorded_distribution(RANDOM_FILLS[func], args[0], tuple(args[1:]))
        return distribution is not None and self._record(args[0], distribution)

    def _record(self, view: torch.Tensor, value: Distribution | float) -> bool:
        """Record a fill of a whole storage, or of a part of it with a constant, or return False."""
        new = _Fill(view, value)
        if self._is_whole(view) and _tensors.DTYPES.get(view.dtype) is not None:
            self._release(view, [new])
            return self._has_no_memory(view)
        if not self._has_no_memory(view) or not isinstance(value, float):
            return False
        fills = self._fills[_storage_number(view)]
        if fills:
            fills.append(new)
        return bool(fills)

    def _release(self, tensor: torch.Tensor, fills: list[_Fill]) -> None:
        """Release the memory of a tensor, whose values will be those of the fills."""
        number = _storage_number(tensor)
        if number and tensor.is_cpu and tensor.numel() and tensor.untyped_storage().resizable():
            storage = tensor.untyped_storage()
            self._nbytes[number] = storage.nbytes() or self._nbytes[number]
            self._fills[number] = fills
            storage.resize_(0)

    @contextmanager
    def _reserved(self, tensors: list[torch.Tensor]) -> Iterator[None]:
        """Reserve memory without using it in the ``with`` block."""
        storages = {_storage_number(each): each.untyped_storage() for each in tensors if self._has_no_memory(each)}
        for number, storage in storages.items():
            storage.resize_(self._nbytes[number])
        try:
            yield
        finally:
            for storage in storages.values():
                storage.resize_(0)

    def _is_whole(self, view: torch.Tensor) -> bool:
        number = _storage_number(view)
        nbytes = self._nbytes[number] if self._has_no_memory(view) else view.untyped_storage().nbytes() if number else 0
        return bool(0 < view.numel() * view.element_size() == nbytes)

    def _is_unwritten(self, tensor: torch.Tensor) -> bool:
        return self._has_no_memory(tensor) and not self._fills[_storage_number(tensor)]

    def _has_no_memory(self, tensor: torch.Tensor) -> bool:
        number = _storage_number(tensor)
        return number in self._nbytes and tensor.numel() > 0 and not tensor.untyped_storage().nbytes()


@contextmanager
def recorded_construction(seed: int) -> Iterator[RecordedConstruction]:
    """Record how code in the ``with`` block initializes the tensors that it creates.

    Random numbers that the code uses to compute values come from torch's default generator, which is seeded with
    ``seed`` and restored at the end.
    """
    recorded, state = RecordedConstruction(), torch.default_generator.get_state()
    token = active_writes.set(recorded)
    try:
        torch.default_generator.manual_seed(int.from_bytes(Generator(seed).key("").words(2).tobytes(), "little"))
        with accelerate(), recorded:
            yield recorded
    finally:
        torch.default_generator.set_state(state)
        active_writes.reset(token)


def _storage_number(tensor: torch.Tensor) -> int:
    """Return a number that identifies the storage of a tensor, or 0 if it has none that can be released."""
    if tensor.layout is not torch.strided or type(tensor) not in _tensors.PLAIN_TYPES or tensor.is_meta:
        return 0
    return int(tensor.untyped_storage()._cdata)


def _rows_of(view: torch.Tensor, tensor: torch.Tensor) -> range | None:
    """Return the rows of a tensor that a view contains, or None if it does not contain whole rows."""
    row = tensor.numel() // tensor.shape[0] if tensor.dim() > 1 else 0
    begin = view.storage_offset() - tensor.storage_offset()
    if not row or not (tensor.is_contiguous() and view.is_contiguous()) or begin % row or view.numel() % row:
        return None
    return range(begin // row, (begin + view.numel()) // row)
