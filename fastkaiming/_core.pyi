"""Types of the compiled core. Callers validate every argument."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Final, ParamSpec, TypeVar, final

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")

WORDS_U32: Final[int]
UNIFORM_F32: Final[int]
UNIFORM_F64: Final[int]
NORMAL_F32: Final[int]
NORMAL_F64: Final[int]
CONSTANT_F32: Final[int]
CONSTANT_F64: Final[int]
TRUNCATED_F32: Final[int]
TRUNCATED_F64: Final[int]

UNROUNDED: Final[int]
FLOAT32: Final[int]
FLOAT16: Final[int]
BFLOAT16: Final[int]
FLOAT8_E4M3FN: Final[int]
FLOAT8_E5M2: Final[int]

STORE_AUTO: Final[int]
STORE_PLAIN: Final[int]
STORE_STREAMING: Final[int]

STREAM_VERSION: Final[int]
MAX_WORK_UNIT_ELEMENTS: Final[int]

@final
class Template:
    distribution: Final[Any]

    def __init__(
        self,
        distribution: object,
        operation: int,
        rounding: int,
        params: tuple[float, ...],
        byte_swapped: bool = False,
        store: int = ...,
    ) -> None: ...

@final
class Plan:
    template: Final[Template]
    sampled_bytes: Final[int]

    def __init__(
        self, out: Any, template: Template, key: int, stream: int, first: int, steps: tuple[int, ...] | None = None
    ) -> None: ...

@final
class EntryPoint:
    def __init__(
        self,
        prepare: Callable[[Any, Any, tuple[Any, ...], bool, Any, str | None], tuple[Any, Template | None]],
        check_memory: Callable[[Any], None],
        shape_of: Callable[[Any], tuple[int, ...]],
        shard_offset: Callable[[tuple[int, ...], Any, Any], tuple[int, tuple[int, ...] | None, Any]],
        threads_for: Callable[[int | None, int], int],
        min_parallel_bytes: int,
        key_from: Callable[[Any], Any],
        key_type: type,
        context: ContextVar[Any],
        add_name: Callable[[BaseException, str], None],
        tensor_types: tuple[type, ...] = (),
        storage_of: Callable[[Any], object] | None = None,
        exchange: object = None,
    ) -> None: ...
    def fill(
        self,
        out: _T,
        distribution_factory: Any,
        factory_args: tuple[Any, ...],
        rng: Any,
        global_shape: Any,
        index: Any,
        threads: Any,
        function: str | None = None,
    ) -> _T: ...
    def fill_by_shape(
        self,
        out: _T,
        distribution_factory: Any,
        factory_args: tuple[Any, ...],
        rng: Any,
        global_shape: Any,
        index: Any,
        threads: Any,
        function: str | None = None,
    ) -> _T: ...

def span(array: Any) -> tuple[int, int]: ...
def fill_all(plans: Sequence[Plan], threads: int = 1, progress: Callable[[int, int], object] | None = None) -> None: ...
def fill(
    out: Any,
    operation: int,
    key: int,
    stream: int,
    first: int,
    rounding: int = 0,
    byte_swapped: bool = False,
    steps: tuple[int, ...] | None = None,
    scale: float = 0.0,
    center: float = 0.0,
    low: float = 0.0,
    high: float = 0.0,
    slope: float = 0.0,
    intercept: float = 0.0,
    lower_slope: float = 0.0,
    lower_intercept: float = 0.0,
    upper_slope: float = 0.0,
    upper_intercept: float = 0.0,
    store: int = 0,
    threads: int = 1,
    progress: Callable[[int, int], object] | None = None,
) -> None: ...
def philox_key(seed: int) -> int: ...
def in_default_environment(function: Callable[_P, _R]) -> Callable[_P, _R]: ...
def has_streaming_stores() -> bool: ...
def select_isa(name: str | None) -> str: ...
def isa() -> str: ...
def available_isas() -> tuple[str, ...]: ...
