"""Types of the compiled boundary; every argument arrives validated."""

from collections.abc import Callable, Sequence
from typing import Any, Final, ParamSpec, Self, TypeVar, final

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
TRUNCATED_F64: Final[int]

AS_DRAWN: Final[int]
FLOAT32: Final[int]
FLOAT16: Final[int]
BFLOAT16: Final[int]
FLOAT8_E4M3FN: Final[int]
FLOAT8_E5M2: Final[int]

STORE_AUTO: Final[int]
STORE_PLAIN: Final[int]
STORE_STREAMING: Final[int]

STREAM_VERSION: Final[int]
CHUNK_ELEMENTS: Final[int]

@final
class Plan:
    drawn_bytes: Final[int]

    def __new__(
        cls,
        out: Any,
        operation: int,
        key: int,
        stream: int,
        first: int,
        rounding: int = ...,
        swapped: bool = False,
        steps: tuple[int, ...] | None = None,
        *numbers: float,
        store: int = ...,
        **named_numbers: float,
    ) -> Self: ...

def fill_all(plans: Sequence[Plan], threads: int = 1, progress: Callable[[int, int], object] | None = None) -> None: ...
def fill(
    out: Any, *plan: Any, threads: int = 1, progress: Callable[[int, int], object] | None = None, **numbers: Any
) -> None: ...
def philox_key(seed: int) -> int: ...
def in_default_environment(function: Callable[_P, _R]) -> Callable[_P, _R]: ...
def streams() -> bool: ...
def select_isa(name: str | None) -> str: ...
def isa() -> str: ...
def available_isas() -> tuple[str, ...]: ...
