"""The writes of a module's own initialization to its tensors, with each random fill from the stream of its tensor.

Fills are postponed until the end, or until something reads the tensor. A fill that a later one overwrites is therefore
never performed: often, the constructor of a layer and the model that contains the layer fill the same weight.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from fastkaiming._fill import fill
from fastkaiming._fill.context import deferred_fills
from fastkaiming.distributions import Distribution
from fastkaiming.rng import Generator
from fastkaiming.torch import _dtensors, _tensors
from fastkaiming.torch._initializers import RecordingTensor, recorded_distribution
from fastkaiming.torch._views import Part, find_part

aten = torch.ops.aten

RANDOM_FILLS = {aten.normal_.default: RecordingTensor.normal_, aten.uniform_.default: RecordingTensor.uniform_}
CONSTANT_FILLS = (aten.fill_.Scalar, aten.zero_.default)
# In-place operations whose results do not depend on the old elements.
_OVERWRITING = (
    *RANDOM_FILLS,
    *CONSTANT_FILLS,
    *(aten.copy_.default, aten.fill_.Tensor, aten.random_.default, aten.random_.to, getattr(aten.random_, "from")),
    *(aten.bernoulli_.float, aten.bernoulli_.Tensor, aten.exponential_.default, aten.log_normal_.default),
    *(aten.cauchy_.default, aten.geometric_.default),
)
# In-place operations that can be performed on each part of a view, if their other arguments have no axes.
_ELEMENTWISE = (
    *(aten.fill_.Scalar, aten.fill_.Tensor, aten.zero_.default, aten.neg_.default, aten.clamp_.default),
    *(aten.add_.Scalar, aten.add_.Tensor, aten.sub_.Scalar, aten.sub_.Tensor),
    *(aten.mul_.Scalar, aten.mul_.Tensor, aten.div_.Scalar, aten.div_.Tensor),
)
# Operations that create a tensor of the shape or dtype of another one, but do not read its elements.
FACTORIES = (
    *(aten.new_empty.default, aten.new_empty_strided.default, aten.new_full.default),
    *(aten.new_zeros.default, aten.new_ones.default, aten.empty_like.default, aten.full_like.default),
    *(aten.zeros_like.default, aten.ones_like.default, aten.rand_like.default, aten.randn_like.default),
)


class ShardedView(torch.Tensor):  # type: ignore[misc]
    """A view of a DTensor as the code of a module sees it: it has the shape of the whole view, but no memory.

    A view that torch takes of a DTensor along a divided axis is a copy, so a write to it would be lost.
    """

    owner: "NamedTensor"
    elements: torch.Tensor  # a tensor on the meta device with the strides of the view in the whole tensor

    @classmethod
    def of(cls, owner: "NamedTensor", elements: torch.Tensor) -> "ShardedView":
        """Return a view of the tensor of ``owner`` that has the shape and the strides of ``elements``."""
        view: Any = torch.Tensor._make_wrapper_subclass(
            cls,
            elements.shape,
            elements.stride(),
            elements.storage_offset(),
            dtype=elements.dtype,
            device=torch.device("cpu"),
        )
        view.owner, view.elements = owner, elements
        return cast("ShardedView", view)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function without converting its results to this class."""
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Raise an error, because only :class:`NamedWrites` can perform operations on these tensors."""
        raise RuntimeError(f"a view of a sharded parameter must only be used while its module is reset, got {func}")


class Write(NamedTuple):
    """An in-place operation on elements of a tensor."""

    operation: Any
    view: torch.Tensor
    args: Sequence[Any]
    distribution: Distribution | None = None  # of the values, if fastkaiming generates them


class NamedTensor:
    """A parameter or buffer of a module, its memory in this process, and the writes that were postponed."""

    def __init__(self, name: str, tensor: torch.Tensor) -> None:
        self.name, self.tensor = name, tensor
        self.writer: str | None = None  # the code that wrote to it last
        self.postponed: list[Write] = []
        self.is_sharded = _dtensors.is_dtensor(tensor)
        slices = tuple(slice(0, size) for size in tensor.shape)
        regions: Sequence[Any] = [(slices, slices)]
        self.local = self.whole = tensor.detach()
        if self.is_sharded:
            self.local = _dtensors.local_tensor(tensor)
            self.whole = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
            error = _dtensors.slices_error(f"parameter {name!r}", tensor, self.local.shape)
            if error is not None:
                raise error
            regions = _dtensors.local_slices(tensor, self.local.shape) or []
        self.regions = regions

    def has_new_memory(self) -> bool:
        """Return True if code has assigned other memory to the tensor, as ``tensor.data = other`` does."""
        local = _dtensors.local_tensor(self.tensor) if self.is_sharded else self.tensor
        return _storage_of(local) != _storage_of(self.local)

    def parts(self, view: torch.Tensor) -> Iterator[Part]:
        """Yield the parts of a view that this process stores."""
        for region in self.regions:
            try:
                part = find_part(view, self.whole, self.local, region)
            except ValueError as error:
                raise ValueError(f"parameter {self.name!r}: {error}") from None
            if part is not None:
                yield part

    def perform(self, write: Write, streams: Generator) -> None:
        """Perform a write."""
        for part in self.parts(write.view):
            if write.distribution is not None:
                regions = _tensors.memory_regions(part.memory)
                assert regions is not None
                fill.fill_part(regions[0].memory, write.distribution, streams.key(self.name), part.offset)
            elif write.operation is aten.copy_.default:
                part.memory.copy_(write.args[0].expand(write.view.shape)[(*part.slices, ...)])
            else:
                write.operation(part.memory, *write.args)
        torch.autograd.graph.increment_version(self.tensor)


class NamedWrites(TorchDispatchMode):  # type: ignore[misc]
    """Performs all operations on the tensors of a module, and fills the tensors from the streams of their names."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], streams: Generator) -> None:
        super().__init__()
        self._streams = streams
        self._writer = ""  # the code that is running
        self._by_id: dict[int, NamedTensor] = {}
        self._by_storage: dict[int, list[NamedTensor]] = {}
        self._uninitialized: dict[int, Any] = {}  # storages of results computed from tensors that no code had written
        for name, tensor in tensors.items():
            if id(tensor) not in self._by_id:  # a tied parameter has the stream of the name that was registered first
                self._register(name, tensor)

    def _register(self, name: str, tensor: torch.Tensor) -> NamedTensor:
        named = self._by_id[id(tensor)] = NamedTensor(name, tensor)
        if _storage_of(named.local) not in self._uninitialized:
            named.writer = self._writer or None  # memory that the running code has assigned
        self._by_storage.setdefault(_storage_of(named.local), []).append(named)
        return named

    @contextmanager
    def running(self, writer: str, module: str) -> Iterator[None]:
        """Record the code that runs in the ``with`` block, and seed torch's generator for the code of this module."""
        _tensors.seed_default_generator(self._streams.key(module))
        outer, self._writer = self._writer, writer
        try:
            yield
        finally:
            self._writer = outer

    def writer_of(self, tensor: torch.Tensor) -> str | None:
        """Return the code that wrote to a tensor last, or None if no code did."""
        named = self._by_id.get(id(tensor))
        if named is not None and not named.has_new_memory():
            return named.writer
        return None if _storage_of(tensor) in self._uninitialized else "assignment"

    def has_sharded(self) -> bool:
        """Return True if any of the tensors is a DTensor."""
        return any(named.is_sharded for named in self._by_id.values())

    def finish_sharded(self, tensor: torch.Tensor) -> NamedTensor | None:
        """Perform the postponed writes to a sharded tensor and return it, or return None for any other tensor."""
        named = self._by_id.get(id(tensor))
        if named is None or not named.is_sharded:
            return None
        self._perform_postponed(named)
        return named

    @property
    def writer(self) -> str:
        """The code that is running."""
        return self._writer

    def perform_postponed(self, tensors: Sequence[torch.Tensor], threads: int | None) -> None:
        """Perform the postponed writes to tensors, and drop those to tensors that have been replaced."""
        named = {id(each): each for each in map(self._by_id.get, map(id, tensors)) if each is not None}.values()
        with deferred_fills(threads):
            for each in named:
                if each.postponed and each.postponed[0].distribution is not None:
                    each.perform(each.postponed.pop(0), self._streams)
        for each in named:
            self._perform_postponed(each)

    def write_trunc_normal(self, tensor: torch.Tensor, mean: float, std: float, a: float, b: float) -> bool:
        """Fill a tensor from a truncated normal distribution, or return False if fastkaiming cannot."""
        with _disable_current_modes():  # this method is not called by the dispatcher, which disables the mode
            found = self._find(tensor)
            distribution = recorded_distribution(RecordingTensor.trunc_normal_, tensor, (mean, std, a, b))
            if found is None or (distribution is None and not _is_sharded_and_empty(*found)):
                return False
            self._postpone(found[0], Write(None, found[1], (), distribution))
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Perform an operation, or postpone it if it is a fill."""
        kwargs = kwargs or {}
        target = self._find(args[0]) if args else None
        if target is not None and self._write(func, *target, args[1:], kwargs):
            return args[0]
        tensors = [each for each in pytree.tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        is_view = returns_view(func)
        sharded = next((named for named, _ in filter(None, map(self._find, tensors)) if named.is_sharded), None)
        if func is aten.constant_pad_nd.default and target is not None and not any(args[1]):
            func, args = (
                aten.clone.default,
                (target[0].tensor,),
            )  # transformers pads the biases of tied layers, by nothing
            tensors = [*args]
        if sharded is not None and (is_view or func in FACTORIES):
            return self._describe(func, args, kwargs, sharded, is_view)
        if any(isinstance(each, ShardedView) for each in tensors):
            raise self._unsupported(func, tensors)
        if torch.Tag.nondeterministic_seeded in func.tags and any(map(_dtensors.is_dtensor, tensors)):
            raise self._unsupported(func, tensors)
        if not is_view:
            for each in tensors:
                self._finish_writes(each)
            self._record_writes(func, args, kwargs)
        result = func(*args, **kwargs)
        if not is_view and func not in FACTORIES:
            self._record_result(func, tensors, result)
        return result

    def _record_result(self, func: Any, tensors: Sequence[torch.Tensor], result: Any) -> None:
        """Record whether a result depends on elements that no code has written."""
        if func in _OVERWRITING and not any(map(self._is_uninitialized, tensors[1:])):
            if tensors[0].numel() == _storage_elements(tensors[0]):
                self._uninitialized.pop(_storage_of(tensors[0]), None)
        elif any(map(self._is_uninitialized, tensors)):
            for each in pytree.tree_leaves(result):
                if isinstance(each, torch.Tensor) and self._find(each) is None and _storage_of(each):
                    self._uninitialized[_storage_of(each)] = each.untyped_storage()

    def _is_uninitialized(self, tensor: torch.Tensor) -> bool:
        found = self._find(tensor)
        return _storage_of(tensor) in self._uninitialized if found is None else found[0].writer is None

    def _write(
        self, func: Any, named: NamedTensor, view: torch.Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> bool:
        """Perform or postpone an in-place operation on elements of a tensor; return False for other operations."""
        if func in RANDOM_FILLS:
            distribution = recorded_distribution(RANDOM_FILLS[func], view, tuple(args))
            if distribution is not None or _is_sharded_and_empty(named, view):
                self._postpone(named, Write(func, view, (), distribution))
                return True
            return False
        if func in CONSTANT_FILLS:
            self._postpone(named, Write(func, view, args))
            return True
        if not named.is_sharded:
            return False
        others = [each for each in args if isinstance(each, torch.Tensor)]
        is_elementwise = func in _ELEMENTWISE and not any(each.dim() for each in others)
        is_copy = func is aten.copy_.default and not _dtensors.is_dtensor(args[0])
        if any(isinstance(each, ShardedView) for each in others) or not (is_elementwise or is_copy):
            return False
        self._perform_postponed(named)
        for each in others:
            self._finish_writes(each)
        named.writer = self._writer
        if not is_copy:
            args = (*args, *kwargs.values())
        named.perform(Write(func, view, args), self._streams)
        return True

    def _postpone(self, named: NamedTensor, write: Write) -> None:
        if write.view.numel() == named.whole.numel():
            named.postponed.clear()
        named.postponed.append(write)
        named.writer = self._writer

    def _perform_postponed(self, named: NamedTensor) -> None:
        writes, named.postponed = named.postponed, []
        for write in writes:
            named.perform(write, self._streams)

    def _finish_writes(self, tensor: torch.Tensor) -> None:
        """Perform the postponed writes to everything that shares memory with a tensor."""
        named = self._by_id.get(id(tensor))
        for each in [named] if named is not None else self._by_storage.get(_storage_of(tensor), []):
            self._perform_postponed(each)

    def _record_writes(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Record which tensors an operation writes to, unless it computes the result from uninitialized elements."""
        parameters = func._schema.arguments
        values = {**dict(zip((each.name for each in parameters), args, strict=False)), **kwargs}
        written, read = [], []
        for each in parameters:
            is_written = each.alias_info is not None and each.alias_info.is_write
            tensors = [value for value in pytree.tree_leaves(values.get(each.name)) if isinstance(value, torch.Tensor)]
            written += tensors if is_written else []
            read += [] if is_written and (each.kwarg_only or func in _OVERWRITING) else tensors
        if not any(map(self._is_uninitialized, read)):
            for tensor in written:
                found = self._find(tensor)
                if found is not None:
                    found[0].writer = self._writer

    def _describe(self, func: Any, args: Any, kwargs: Any, named: NamedTensor, is_view: bool) -> Any:
        """Return a view of a sharded tensor, or a new tensor of the size of the whole tensor, without reading it."""

        def shape_only(value: Any) -> Any:
            found = self._find(value)
            return found[1] if found is not None and found[0].is_sharded else value

        args, kwargs = pytree.tree_map(shape_only, (args, kwargs))
        if is_view:
            return pytree.tree_map_only(torch.Tensor, lambda view: ShardedView.of(named, view), func(*args, **kwargs))
        return func(*args, **{**kwargs, "device": "cpu"})

    def _find(self, value: Any) -> tuple[NamedTensor, torch.Tensor] | None:
        """Return the tensor that a value is a view of, and the elements of this view; None if it is not a view."""
        if isinstance(value, ShardedView):
            return value.owner, value.elements
        if not isinstance(value, torch.Tensor):
            return None
        named = self._by_id.get(id(value))
        if named is not None:
            if named.has_new_memory():
                named = self._register(named.name, value)
            return named, named.whole
        for named in self._by_storage.get(_storage_of(value), []):
            begin, position = named.local.storage_offset(), value.storage_offset()
            if not named.is_sharded and begin <= position < begin + _extent(named.local):
                return named, value
            if named.is_sharded and (value.shape, value.stride(), position) == (
                named.local.shape,
                named.local.stride(),
                begin,
            ):
                return named, named.whole
        return None

    def _unsupported(self, func: Any, tensors: Sequence[torch.Tensor]) -> ValueError:
        names = [found[0].name for found in map(self._find, tensors) if found is not None]
        subject = f"parameter {names[0]!r}" if names else "a DTensor"
        return ValueError(f"{subject} is sharded, and {self._writer} must not apply {func} to it or to a part of it")


def _is_sharded_and_empty(named: NamedTensor, view: torch.Tensor) -> bool:
    """Return True for a view without elements, which has no distribution, but on which random operations are valid."""
    return named.is_sharded and view.numel() == 0


def returns_view(func: Any) -> bool:
    """Return whether an operation returns views of its arguments and writes to none of them."""
    return not func._schema.is_mutable and any(result.alias_info for result in func._schema.returns)


def _storage_of(tensor: torch.Tensor) -> int:
    """Return a number that identifies the storage of a tensor, or 0 if it has none."""
    if tensor.layout is not torch.strided or isinstance(tensor, ShardedView) or _dtensors.is_dtensor(tensor):
        return 0
    return int(tensor.untyped_storage()._cdata)


def _storage_elements(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage().nbytes() // tensor.element_size()) if _storage_of(tensor) else 0


def _extent(tensor: torch.Tensor) -> int:
    """Return the distance between the first and the last element of a tensor in its storage, plus one."""
    return 1 + int(sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)))


class WritesOfCode(Protocol):
    """What records or performs the writes of the code that runs, in place of torch."""

    def write_trunc_normal(self, tensor: torch.Tensor, mean: float, std: float, a: float, b: float) -> bool:
        """Fill a tensor from a truncated normal distribution, or return False if torch has to fill it."""
        ...


active_writes: ContextVar[WritesOfCode | None] = ContextVar("fastkaiming.torch.active_writes", default=None)
