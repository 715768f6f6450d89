"""The memory of the tensors that fastkaiming can fill, and seeds from torch's generators."""

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from torch._C import _functorch
from torch._ops import _len_torch_dispatch_stack_pre_dispatch
from torch.autograd import forward_ad

from fastkaiming import rng as rng_module
from fastkaiming._fill import buffers, dtypes
from fastkaiming.rng import Key
from fastkaiming.torch import _dtensors

DTYPES: Mapping[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
}
PLAIN_TYPES = (torch.Tensor, torch.nn.Parameter)

# Every fill calls these functions of torch, so their attributes are looked up only once.
_dispatch_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._len_torch_function_stack
_is_tracing = torch._C._is_tracing
_is_inference_mode = torch.is_inference_mode_enabled
_innermost_transform = _functorch.peek_interpreter_stack

_thread_local = threading.local()


class Region(NamedTuple):
    """Memory to be filled, and the keyword arguments of ``fill_`` that locate it in the whole tensor."""

    memory: NDArray[Any]
    shard_kwargs: Mapping[str, Any]


def is_fillable(tensor: Any) -> bool:
    """Return True if fastkaiming can fill this type of tensor and no mode, transform or tracer observes the fill."""
    return (
        (type(tensor) in PLAIN_TYPES or _dtensors.is_dtensor(tensor))
        and tensor.is_cpu
        and not _dispatch_modes()
        and (not _function_modes() or not _len_torch_dispatch_stack_pre_dispatch())
        and _innermost_transform() is None
        and forward_ad._current_level < 0
        and not _is_tracing()
        and not tensor.is_neg()  # the memory would hold the negatives of the values
        and not (tensor.is_inference() and not _is_inference_mode())  # it must not be written to
    )


def memory_regions(tensor: torch.Tensor) -> Sequence[Region] | None:
    """Return the memory of a tensor, or None if fastkaiming cannot fill its device, dtype or subclass."""
    if type(tensor) in PLAIN_TYPES:
        memory = _memory(tensor)
        return None if memory is None else (Region(memory, {}),)
    if not _dtensors.is_dtensor(tensor):
        return None
    with torch.no_grad():
        memory = _memory(tensor.to_local())
    slices = None if memory is None else _dtensors.local_slices(tensor, memory.shape)
    if memory is None or slices is None:
        return None
    shape = tuple(tensor.shape)
    return [Region(_view(memory, local), {"global_shape": shape, "index": whole}) for local, whole in slices]


def _view(memory: NDArray[Any], index: tuple[Any, ...]) -> NDArray[Any]:
    return memory[(*index, ...)]  # with the ellipsis, indexing an array without axes returns an array, not a scalar


def _memory(tensor: torch.Tensor) -> NDArray[Any] | None:
    dtype = DTYPES.get(tensor.dtype)
    if dtype is None or not tensor.is_cpu or (tensor.is_inference() and not _is_inference_mode()):
        return None
    try:
        data = tensor.data
        if data.data_ptr() == 0 and data.numel() > 0:  # its storage has been freed
            return None
        memory: NDArray[Any] = data.numpy() if dtype.kind == "f" else data.view(torch.uint16).numpy().view(dtype)
        buffers.check_memory(memory)
    except (RuntimeError, TypeError, ValueError):  # for example sparse, batched by vmap, or expanded
        return None
    return memory


def seed_from_generator(generator: torch.Generator | None) -> int:
    """Return a seed of 64 bits from a generator, or from torch's default generator if it is None."""
    try:
        randomize, bits = _thread_local.seed
    except AttributeError:
        randomize, bits = _thread_local.seed = _seed_tensor()
    if generator is None:
        randomize(-(2**63), None)  # passing generator= takes a tenth of the time of the call
    else:
        randomize(-(2**63), None, generator=generator)
    seed: int = bits.value
    return seed


def seed_default_generator(key: Key) -> None:
    """Seed the generator that torch's own random numbers come from, by the words of a key."""
    torch.default_generator.manual_seed(int.from_bytes(key.words(2).tobytes(), "little"))


def restored_on_error(rng: object) -> AbstractContextManager[None]:
    """Return a ``with`` block that restores the state of a generator, of torch or any other, if it raises an error."""
    return _restored_on_error(rng) if isinstance(rng, torch.Generator) else rng_module.restored_on_error(rng)


@contextmanager
def _restored_on_error(generator: torch.Generator) -> Iterator[None]:
    state = generator.get_state()
    try:
        yield
    except BaseException:
        generator.set_state(state)
        raise


def _seed_tensor() -> tuple[Callable[..., torch.Tensor], ctypes.c_uint64]:
    """Return the ``random_`` method of a new tensor of one element, and its memory as an unsigned integer."""
    with torch.inference_mode(False):  # an inference tensor could not be written to outside of inference mode
        tensor = torch.empty((), dtype=torch.int64, device="cpu")
    return tensor.random_, ctypes.c_uint64.from_address(tensor.data_ptr())


def format_of(dtype: torch.dtype) -> dtypes.Format:
    """Return the storage format of a dtype in :data:`DTYPES`."""
    storage = dtypes.format_of_dtype(DTYPES[dtype])
    assert storage is not None
    return storage
