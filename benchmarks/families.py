"""Rows for truncated normal values, and for a whole model of small arrays at once."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from harness import Case, Figure, Timed, UnavailableError

import fastkaiming

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Bytes = Callable[[int], NDArray[np.uint8]]

THREADS = 2
ARRAYS = 10_000  # of a model
ROWS, COLUMNS = 16, 64  # of each: 4 KiB

TWO_SIGMAS = {"mean": 0.0, "std": 1.0, "a": -2.0, "b": 2.0}
A_HUNDRED = {"mean": 0.0, "std": 0.02, "a": -2.0, "b": 2.0}
ASYMMETRIC = {"mean": 0.0, "std": 1.0, "a": -1.0, "b": 2.5}
ONE_SIDED = {"mean": 0.0, "std": 1.0, "a": 2.0, "b": float("inf")}
BOUNDS = {
    "two sigmas": TWO_SIGMAS,
    "std 0.02, bounds 2": A_HUNDRED,
    "-1 to 2.5 sigmas": ASYMMETRIC,
    "2 sigmas to infinity": ONE_SIDED,
}

WHOLE_CALL = Figure(
    lambda cost, _: 1e3 * cost,
    *(".1f", " ms", False, "seconds per model"),
    lambda result: (
        f"{len(result.own_costs)} calls of init_, {1e6 * float(np.median(result.own_costs)) / ARRAYS:.2f} us per array"
    ),
)


class Sizes(Protocol):
    """Sizes in bytes of the measured arrays."""

    @property
    def buffer(self) -> int: ...

    @property
    def sample(self) -> int: ...


def cases(memory: Bytes, size: Sizes, limits: tuple[Timed, ...], share: Figure, speed_up: Figure) -> list[Case]:
    """Return the rows: fills against the store bandwidth and against torch, and calls."""

    def of_bandwidth(bounds: str, minimum: float, target: float) -> Case:
        name = f"float32 truncated normal, {bounds}, share of the store bandwidth"
        return Case(name, share, minimum, target, fill(memory, size.buffer, BOUNDS[bounds]), limits, 4)

    own, torchs = fill(memory, size.buffer, TWO_SIGMAS), torch_fill(memory, size.sample // 16)  # torch is slow
    return [
        of_bandwidth("two sigmas", 0.35, 0.60),
        of_bandwidth("std 0.02, bounds 2", 0.175, 0.30),
        of_bandwidth("-1 to 2.5 sigmas", 0.175, 0.30),
        of_bandwidth("2 sigmas to infinity", 0.175, 0.30),
        Case("float32 truncated normal, against torch", speed_up, 60, 90, own, (torchs,)),
        Case(f"init_ of {ARRAYS:,} arrays of 4 KiB, whole call", WHOLE_CALL, 80, 50, whole_model(memory)),
    ]


def fill(memory: Bytes, nbytes: int, numbers: dict[str, Any]) -> Timed:
    """Return a truncated normal fill of already touched memory."""

    def run(weights: NDArray[np.float32]) -> None:
        fastkaiming.trunc_normal_(weights, **numbers, rng=0, threads=THREADS)

    return Timed("fastkaiming", functools.partial(floats, memory, nbytes), run, nbytes // 4)


def torch_fill(memory: Bytes, nbytes: int) -> Timed:
    """Return torch's truncated normal fill as users call it, on a smaller array: the time per element is the same."""

    def target() -> tuple[Any, Any]:
        try:
            torch = importlib.import_module("torch")
        except ImportError:
            raise UnavailableError("torch is not installed") from None
        torch.set_num_threads(THREADS)
        return torch.nn.init.trunc_normal_, torch.from_numpy(floats(memory, nbytes))

    elements = nbytes // 4
    name = f"torch's trunc_normal_ on {elements:,} elements"
    return Timed(name, target, lambda both: both[0](both[1], **TWO_SIGMAS), elements)


def whole_model(memory: Bytes) -> Timed:
    """Return one call of init_ on many small arrays."""

    @functools.cache
    def target() -> dict[str, NDArray[np.float32]]:
        weights = floats(memory, ARRAYS * ROWS * COLUMNS * 4).reshape(ARRAYS, ROWS, COLUMNS)
        return {f"layers.{at}.weight": weights[at] for at in range(ARRAYS)}

    return Timed("fastkaiming", target, lambda params: fastkaiming.init_(params, rng=0, threads=THREADS), 1)


def floats(memory: Bytes, nbytes: int) -> NDArray[np.float32]:
    return memory(nbytes).view(np.float32)
