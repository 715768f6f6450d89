"""Bare stores of a constant: what the memory allows, and so the limit of every fill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastkaiming import _core

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONSTANTS = {"float32": _core.CONSTANT_F32, "float64": _core.CONSTANT_F64}
STORES = {"streaming stores": _core.STORE_STREAMING, "plain stores": _core.STORE_PLAIN}


def kinds() -> tuple[str, ...]:
    """Return the kinds of stores that there are here."""
    return tuple(STORES) if _core.streams() else ("plain stores",)


def store(weights: NDArray[Any], kind: str, threads: int) -> None:
    """Store ones."""
    _core.fill(weights, CONSTANTS[weights.dtype.name], 0, 0, 0, center=1.0, threads=threads, store=STORES[kind])
