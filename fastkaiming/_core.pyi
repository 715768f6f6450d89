"""Types of the compiled boundary; every argument arrives validated."""

from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

WORDS_U32: Final[int]
UNIFORM_F32: Final[int]
UNIFORM_F64: Final[int]
NORMAL_F32: Final[int]
NORMAL_F64: Final[int]
CONSTANT_F32: Final[int]
CONSTANT_F64: Final[int]
TRUNCATED_F32: Final[int]
TRUNCATED_WIDE_F32: Final[int]
TRUNCATED_F64: Final[int]

STORE_AUTO: Final[int]
STORE_PLAIN: Final[int]
STORE_STREAMING: Final[int]

STREAM_VERSION: Final[int]
CHUNK_ELEMENTS: Final[int]

def fill(
    out: Any,
    operation: int,
    seed: int,
    stream: int,
    first: int,
    scale: float = 0.0,
    center: float = 0.0,
    low: float = 0.0,
    high: float = 0.0,
    threads: int = 1,
    progress: Callable[[int, int], object] | None = None,
    store: int = ...,
    slope: float = 0.0,
    middle: float = 0.0,
    lower_slope: float = 0.0,
    lower_anchor: float = 0.0,
    upper_slope: float = 0.0,
    upper_anchor: float = 0.0,
) -> None: ...
def in_default_environment(function: Callable[_P, _R]) -> Callable[_P, _R]: ...
def streams() -> bool: ...
def select_isa(name: str | None) -> str: ...
def isa() -> str: ...
def available_isas() -> tuple[str, ...]: ...
