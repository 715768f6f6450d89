"""Tensors as memory: which ones are ours to fill, and where their elements stand in the whole tensor."""

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from torch._C import _functorch
from torch._ops import _len_torch_dispatch_stack_pre_dispatch
from torch.autograd import forward_ad

from fastkaiming._fill import buffers, dtypes
from fastkaiming.torch import _dtensors

DTYPES: Mapping[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
}
PLAIN = (torch.Tensor, torch.nn.Parameter)

# Functions of torch that each fill calls, without the search for their names.
_dispatch_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._len_torch_function_stack
_is_tracing = torch._C._is_tracing

_thread = threading.local()


class Block(NamedTuple):
    """Memory to be filled, and the keywords that say which part of the whole tensor it is."""

    memory: NDArray[Any]
    place: Mapping[str, Any]


def is_fillable(tensor: Any) -> bool:
    """Tell whether a tensor is of a kind that can be ours to fill, and nobody watches what is done to it."""
    return (
        (type(tensor) in PLAIN or _dtensors.is_dtensor(tensor))
        and tensor.is_cpu
        and not _dispatch_modes()
        and (not _function_modes() or not _len_torch_dispatch_stack_pre_dispatch())
        and _functorch.peek_interpreter_stack() is None
        and forward_ad._current_level < 0
        and not _is_tracing()
        and not tensor.is_neg()  # of which memory holds the negatives of the values
        and not _is_read_only(tensor)
    )


def _is_read_only(tensor: torch.Tensor) -> bool:
    return tensor.is_inference() and not torch.is_inference_mode_enabled()


def memory_blocks(tensor: torch.Tensor) -> Sequence[Block] | None:
    """Return the memory of a tensor, or None where it is not ours to fill: another device, dtype or subclass."""
    if type(tensor) in PLAIN:
        memory = _memory(tensor)
        return None if memory is None else (Block(memory, {}),)
    if not _dtensors.is_dtensor(tensor):
        return None
    with torch.no_grad():
        memory = _memory(tensor.to_local())
    pieces = None if memory is None else _dtensors.pieces(tensor, memory.shape)
    if memory is None or pieces is None:
        return None
    shape = tuple(tensor.shape)
    return [Block(_view(memory, here), {"global_shape": shape, "index": there}) for here, there in pieces]


def _view(memory: NDArray[Any], here: tuple[Any, ...]) -> NDArray[Any]:
    return memory[(*here, ...)]  # an array, where there is no axis to cut too


def _memory(tensor: torch.Tensor) -> NDArray[Any] | None:
    dtype = DTYPES.get(tensor.dtype)
    if dtype is None or not tensor.is_cpu or _is_read_only(tensor):
        return None
    try:
        data = tensor.data
        if data.data_ptr() == 0 and data.numel() > 0:  # its storage was taken away
            return None
        memory: NDArray[Any] = data.numpy() if dtype.kind == "f" else data.view(torch.uint16).numpy().view(dtype)
        buffers.check_memory(memory)
    except (RuntimeError, TypeError, ValueError):  # sparse, batched by vmap, a negative view, expanded
        return None
    return memory


def seed_from_generator(generator: torch.Generator | None) -> int:
    """Draw 64 bits from a generator, or from the one that ``torch.manual_seed`` sets."""
    try:
        draw, bits = _thread.word
    except AttributeError:
        draw, bits = _thread.word = _word()
    if generator is None:
        draw(-(2**63), None)  # a keyword takes a tenth of the time
    else:
        draw(-(2**63), None, generator=generator)
    seed: int = bits.value
    return seed


def _word() -> tuple[Callable[..., torch.Tensor], ctypes.c_uint64]:
    """Return the method that draws the bits of a tensor of one element, and these bits as an unsigned number."""
    with torch.inference_mode(False):  # or it could not be written to outside of that
        word = torch.empty((), dtype=torch.int64, device="cpu")
    return word.random_, ctypes.c_uint64.from_address(word.data_ptr())


def format_of(dtype: torch.dtype) -> dtypes.Format:
    """Return the format of a dtype that can be ours."""
    storage = dtypes.format_of_dtype(DTYPES[dtype])
    assert storage is not None
    return storage
