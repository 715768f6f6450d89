"""Tensors as memory: which ones are ours to fill, and where their elements stand in the whole tensor."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from torch._C import _functorch
from torch._ops import _len_torch_dispatch_stack_pre_dispatch
from torch.autograd import forward_ad

from fastkaiming import filling, formats, hugepages, targets
from fastkaiming.distributions import Distribution
from fastkaiming.generator import Key
from fastkaiming.torch import dtensors

DTYPES: Mapping[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
}
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_LAST = 2**64 - 1

_thread = threading.local()


class Block(NamedTuple):
    """Memory to be filled, and the keywords by which :func:`fill_` is told which part of the whole tensor it is."""

    memory: NDArray[Any]
    place: Mapping[str, Any]


def may_be_ours(tensor: Any) -> bool:
    """Tell whether a tensor is of a kind that can be ours to fill, and nobody watches what is done to it."""
    return (
        (type(tensor) in _PLAIN or dtensors.is_dtensor(tensor))
        and not tensor.is_nested
        and torch._C._len_torch_dispatch_stack() == 0
        and (torch._C._len_torch_function_stack() == 0 or _len_torch_dispatch_stack_pre_dispatch() == 0)
        and _functorch.peek_interpreter_stack() is None
        and forward_ad._current_level < 0
        and not torch.jit.is_tracing()
    )


def blocks_of(tensor: torch.Tensor) -> Sequence[Block] | None:
    """Return the memory of a tensor, or None where it is not ours to fill: another device, dtype or subclass."""
    if type(tensor) in _PLAIN:
        memory = _memory(tensor)
        return None if memory is None else (Block(memory, {}),)
    if not dtensors.is_dtensor(tensor):
        return None
    with torch.no_grad():
        memory = _memory(tensor.to_local())
    pieces = None if memory is None else dtensors.pieces(tensor, memory.shape)
    if memory is None or pieces is None:
        return None
    shape = tuple(tensor.shape)
    return [Block(_view(memory, here), {"global_shape": shape, "index": there}) for here, there in pieces]


def _view(memory: NDArray[Any], here: tuple[Any, ...]) -> NDArray[Any]:
    return memory[(*here, ...)]  # an array, where there is no axis to cut too


def _memory(tensor: torch.Tensor) -> NDArray[Any] | None:
    dtype = DTYPES.get(tensor.dtype)
    if dtype is None or not tensor.is_cpu or (tensor.is_inference() and not torch.is_inference_mode_enabled()):
        return None
    try:
        data = tensor.data
        if data.data_ptr() == 0 and data.numel() > 0:  # its storage was taken away
            return None
        memory: NDArray[Any] = data.numpy() if dtype.kind == "f" else data.view(torch.uint16).numpy().view(dtype)
        targets.check_memory(memory)
    except (RuntimeError, TypeError, ValueError):  # sparse, batched by vmap, a negative view, expanded
        return None
    return memory


def fill_(tensor: torch.Tensor, distribution: Distribution, generator: torch.Generator | None) -> bool:
    """Fill a tensor by one seed of torch's generator; return False, and draw nothing, where torch has to do it."""
    blocks = blocks_of(tensor)
    if blocks is None or not isinstance(generator, torch.Generator | None):
        return False
    key = Key(seed_from(generator))
    for memory, place in blocks:
        hugepages.advise(memory)
        filling.fill_(memory, distribution, rng=key, **place)
    torch.autograd.graph.increment_version(tensor)
    return True


def seed_from(generator: torch.Generator | None) -> int:
    """Draw 64 bits from a generator, or from the one that ``torch.manual_seed`` sets."""
    if not hasattr(_thread, "word"):
        with torch.inference_mode(False):  # or it could not be written to outside of that
            _thread.word = torch.empty((), dtype=torch.int64, device="cpu")
    return int(_thread.word.random_(-(2**63), None, generator=generator)) & _LAST


def format_of(dtype: torch.dtype) -> formats.Format:
    """Return the format of a dtype that can be ours."""
    storage = formats.known(DTYPES[dtype])
    assert storage is not None
    return storage
