"""Rows for fills other than a whole C-ordered float32 array: narrow formats, other memory layouts, shards.

Each is compared with the C-ordered float32 fill of the same number of elements, in the same memory.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import Case, Figure, Timed, UnavailableError

import fastkaiming

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Bytes = Callable[[int], NDArray[np.uint8]]
    View = Callable[[NDArray[Any]], NDArray[Any]]

THREADS = 2
FILLS: dict[str, Callable[..., object]] = {
    "normal": functools.partial(fastkaiming.normal_, std=0.02),
    "uniform": fastkaiming.uniform_,
}


def cases(memory: Bytes, nbytes: int, figure: Figure) -> list[Case]:
    """Return the rows for a square matrix that takes the given number of bytes in float32."""
    side = math.isqrt(nbytes // 4)
    square, half = (side, side), (side, side // 2)

    def narrow(name: str, draw: str, target: float) -> Case:
        own, float32 = (fill(dtype, memory, square, dtype, draw=draw) for dtype in (name, "float32"))
        return Case(f"{name} {draw}, elements per second against float32's", figure, 1.0, target, own, (float32,))

    def layout(name: str, view: View, shape: tuple[int, ...] = square, dtype: str = "float32") -> Case:
        own, contiguous = fill(name, memory, shape, dtype, view), fill("contiguous", memory, square)
        return Case(f"float32 normal, {name}, against contiguous", figure, 0.25, 0.5, own, (contiguous,))

    middle = (slice(None), slice(side // 4, side // 4 + side // 2))
    shard = fill("middle columns", memory, half, global_shape=square, index=middle)
    return [
        narrow("float16", "normal", 1.15),
        narrow("bfloat16", "normal", 1.15),
        narrow("float16", "uniform", 1.3),
        narrow("bfloat16", "uniform", 1.3),
        layout("Fortran order", lambda weights: weights.T),
        layout("byte-swapped", lambda weights: weights, dtype=np.dtype(np.float32).newbyteorder().str),
        layout("every other column", lambda weights: weights[:, ::2], (side, 2 * side)),
        Case(
            f"float32 normal, the middle half of each row of {side} x {side}, against contiguous",
            *(figure, 0.7, 0.9, shard),
            (fill("contiguous", memory, half),),
        ),
    ]


def fill(
    name: str,
    memory: Bytes,
    shape: tuple[int, ...],
    dtype: str = "float32",
    view: View = lambda weights: weights,
    draw: str = "normal",
    **part: Any,
) -> Timed:
    """Return a fill of a view: of an array of the shape `shape`, or of a part of a larger tensor."""

    def target() -> NDArray[Any]:
        kind = known(dtype)
        return view(memory(math.prod(shape) * kind.itemsize).view(kind).reshape(shape))

    def run(weights: NDArray[Any]) -> None:
        FILLS[draw](weights, rng=0, threads=THREADS, **part)

    elements = view(np.broadcast_to(np.float32(0), shape)).size
    return Timed(name, target, run, elements)


def known(dtype: str) -> np.dtype[Any]:
    """Return the dtype of a name, including the dtypes of ml_dtypes."""
    try:
        return np.dtype(dtype)
    except TypeError:
        pass
    try:
        import ml_dtypes
    except ImportError:
        raise UnavailableError(f"{dtype} needs ml_dtypes, which is not installed") from None
    named: np.dtype[Any] = np.dtype(getattr(ml_dtypes, dtype))
    return named
