"""Records how code initializes the tensors that it creates, without the memory and the time of the fills.

Fills of whole tensors are only recorded. They are performed when something reads the tensor or changes its values in
another way. Until then, the operating system provides no memory for a tensor that was created without values.
"""

import math
import mmap
import sys
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
from fastkaiming.torch._named_writes import CONSTANT_FILLS, FACTORIES, RANDOM_FILLS, active_writes, returns_view

aten = torch.ops.aten

# Operations that return a tensor without values.
_EMPTY = (
    *(aten.empty.memory_format, aten.empty_strided.default, aten.empty_like.default),
    *(aten.new_empty.default, aten.new_empty_strided.default),
)


# Operations that return a tensor of equal elements, and their value; it is the last argument if it is None here.
_CONSTANTS = {
    **dict.fromkeys((aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default), 0.0),
    **dict.fromkeys((aten.ones.default, aten.ones_like.default, aten.new_ones.default), 1.0),
    **dict.fromkeys((aten.full.default, aten.full_like.default, aten.new_full.default)),
}
_COPIES = (aten.clone.default, aten._to_copy.default)
# Python has the constant since version 3.13; on other systems than Linux, the flag is not needed.
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


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
    number: int


class RecordedConstruction(TorchDispatchMode):  # type: ignore[misc]
    """Records the fills of tensors that code creates in the ``with`` block of :func:`recorded_construction`."""

    def __init__(self, streams: Generator) -> None:
        super().__init__()
        self._streams, self._recorded = streams, 0  # each fill has the stream of its number
        # The fills of each storage that have not been performed. A storage is kept, so that its number stays unique.
        self._pending: dict[int, tuple[Any, list[_Fill]]] = {}

    def initialization_of(self, tensor: torch.Tensor) -> Initialization | None:
        """Return how a tensor was initialized, or None if nothing has written to its memory."""
        pending = self._pending.get(_storage_number(tensor))
        if pending is None:
            return COMPUTED
        if not pending[1]:
            return None
        first, *zeros = pending[1]
        rows = [_rows_of(each.view, tensor) if each.value == 0 else None for each in zeros]
        if first.view.dtype != tensor.dtype or not _is_whole(tensor) or None in rows:
            return COMPUTED
        return Initialization(first.value, tuple(sorted({row for each in rows if each is not None for row in each})))

    def perform_fills(self, tensor: torch.Tensor) -> None:
        """Perform the recorded fills of the memory of a tensor."""
        _, fills = self._pending.pop(_storage_number(tensor), (None, []))
        for view, value, number in fills:
            if isinstance(value, float):
                view.detach().fill_(value)  # code may have filled a parameter while gradients were off
                continue
            regions = _tensors.memory_regions(view)
            assert regions is not None  # a distribution is recorded only for tensors that can be filled
            fill.fill_(regions[0].memory, value, rng=self._streams.key(f"fill {number}"))

    def write_trunc_normal(self, tensor: torch.Tensor, mean: float, std: float, a: float, b: float) -> bool:
        """Record a fill from a truncated normal distribution, or return False if it cannot be recorded."""
        with _disable_current_modes():  # this method is not called by the dispatcher, which disables the mode
            distribution = recorded_distribution(RecordingTensor.trunc_normal_, tensor, (mean, std, a, b))
            return distribution is not None and self._record(tensor.detach(), distribution)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record a fill, or perform an operation."""
        kwargs = kwargs or {}
        if func in _COPIES and self._is_unwritten(args[0]):
            func, kwargs = aten.empty_like.default, {k: kwargs[k] for k in kwargs if k != "non_blocking"}
        if func in _EMPTY or func in _CONSTANTS:
            return self._new_tensor(func, args, kwargs)
        if kwargs.get("generator") is None and self._record_operation(func, args):
            return args[0]
        if not returns_view(func) and func not in FACTORIES:
            for each in pytree.tree_leaves((args, kwargs)):
                if isinstance(each, torch.Tensor):
                    self.perform_fills(each)
        return func(*args, **kwargs)

    def _new_tensor(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Return a tensor without values, or one of equal elements, which are recorded."""
        geometry = func(*args, **{**kwargs, "device": "meta", "pin_memory": None})
        nbytes = geometry.numel() * geometry.element_size()
        device = kwargs.get("device") or getattr(args[0], "device", "cpu")
        constant = args[-1] if _CONSTANTS.get(func, 0.0) is None else _CONSTANTS.get(func)
        is_recordable = func in _EMPTY or (geometry.dtype in _tensors.DTYPES and _is_recordable(constant))
        is_on_cpu = torch.device(device).type == "cpu" and geometry.layout is torch.strided
        if not (is_on_cpu and is_recordable and nbytes):
            return func(*args, **kwargs)
        storage = _untouched_memory(nbytes)
        result = torch.empty(0, dtype=geometry.dtype).set_(storage, 0, geometry.shape, geometry.stride())
        self._pending[_storage_number(result)] = storage, []
        if constant is not None:
            self._record(result, float(constant))
        return result

    def _record_operation(self, func: Any, args: Any) -> bool:
        """Record an operation if it is a fill, or return False."""
        if func in CONSTANT_FILLS:
            constant = args[1] if len(args) > 1 else 0
            return _is_recordable(constant) and self._record(args[0], float(constant))
        if func not in RANDOM_FILLS:
            return False
        distribution = recorded_distribution(RANDOM_FILLS[func], args[0], tuple(args[1:]))
        return distribution is not None and self._record(args[0], distribution)

    def _record(self, view: torch.Tensor, value: Distribution | float) -> bool:
        """Record a fill of a whole storage, or of a part of it with a constant, or return False."""
        number, new = _storage_number(view), _Fill(view, value, self._recorded)
        self._recorded += 1
        if number and _is_whole(view) and view.dtype in _tensors.DTYPES:
            self._pending[number] = view.untyped_storage(), [new]
            return True
        _, fills = self._pending.get(number, (None, []))
        if not fills or not isinstance(value, float):
            return False
        fills.append(new)
        return True

    def _is_unwritten(self, tensor: torch.Tensor) -> bool:
        pending = self._pending.get(_storage_number(tensor))
        return pending is not None and not pending[1]


@contextmanager
def recorded_construction(seed: int) -> Iterator[RecordedConstruction]:
    """Record how code in the ``with`` block initializes the tensors that it creates.

    Random numbers that the code draws come from torch's default generator, which is seeded with ``seed`` and restored
    at the end. The recorded fills have streams of their own, so they can be performed later with the same values.
    """
    streams, state = Generator(seed), torch.default_generator.get_state()
    recorded = RecordedConstruction(streams)
    token = active_writes.set(recorded)
    try:
        _tensors.seed_default_generator(streams.key(""))
        with accelerate(), recorded:
            yield recorded
    finally:
        torch.default_generator.set_state(state)
        active_writes.reset(token)


def _storage_number(tensor: torch.Tensor) -> int:
    """Return a number that identifies the storage of a tensor, or 0 if it has none."""
    if tensor.layout is not torch.strided or type(tensor) not in _tensors.PLAIN_TYPES or tensor.is_meta:
        return 0
    return int(tensor.untyped_storage()._cdata)


def _is_recordable(constant: Any) -> bool:
    """Return whether a rule can give the value of a constant: it is finite and not the negative zero."""
    if not isinstance(constant, int | float) or not math.isfinite(constant):
        return False
    return constant != 0 or math.copysign(1.0, constant) > 0


def _is_whole(view: torch.Tensor) -> bool:
    """Return whether a view contains all elements of its storage."""
    return bool(view.numel() * view.element_size() == view.untyped_storage().nbytes())


def _untouched_memory(nbytes: int) -> Any:
    """Return a storage that takes memory only where it is written.

    It may be larger than the memory of the machine, except on Windows.
    """
    flags = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0) | _MAP_NORESERVE
    memory = mmap.mmap(-1, nbytes, flags=flags) if sys.platform != "win32" else mmap.mmap(-1, nbytes)
    return torch.frombuffer(memory, dtype=torch.uint8).untyped_storage()


def _rows_of(view: torch.Tensor, tensor: torch.Tensor) -> range | None:
    """Return the rows of a tensor that a view contains, or None if it does not contain whole rows."""
    row = tensor.numel() // tensor.shape[0] if tensor.dim() > 1 else 0
    begin = view.storage_offset() - tensor.storage_offset()
    if not row or not (tensor.is_contiguous() and view.is_contiguous()) or begin % row or view.numel() % row:
        return None
    return range(begin // row, (begin + view.numel()) // row)
