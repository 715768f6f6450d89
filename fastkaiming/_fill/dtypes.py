"""The supported dtypes: the precision that their values are computed in, and the range of their numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastkaiming import _core, _hints, _validation


@dataclass(frozen=True, eq=False)
class Format:
    """A floating-point format of array elements.

    ``significand_bits`` is the length of its significand; ``smallest`` and ``largest`` are its smallest and largest
    positive finite numbers.
    """

    name: str
    precision: type[np.float32] | type[np.float64]  # of the values before they are rounded to the format
    rounding: int  # the core's constant for this rounding
    significand_bits: int
    smallest: float
    largest: float
    min_scale: float  # a distribution of a smaller scale underflows

    def round_up(self, value: float) -> float:
        """Return the smallest number of the format that is greater than or equal to ``value``."""
        return 0.0 - self.round_down(-value)  # never -0.0, as docs/stream-v1.md requires

    def largest_below(self, value: float) -> float:
        """Return the largest number of the format that is less than ``value``."""
        return self.round_down(float(np.nextafter(value, -np.inf)))

    def round_down(self, value: float) -> float:
        """Return the largest number of the format that is less than or equal to ``value``."""
        spacing = np.maximum(np.ldexp(1.0, np.frexp(value)[1] - self.significand_bits), self.smallest)
        return float(np.floor(value / spacing) * spacing)


# The last number of each row is the minimum scale. In float32 and float64, a uniform value is a multiple of half an
# epsilon times the scale, and the minimum scale keeps this step a normal number. In the narrower formats, most values
# of a smaller scale would be rounded to 0.
_FORMATS: Mapping[str, Format] = {
    each.name: each
    for each in (
        Format("float32", np.float32, _core.UNROUNDED, 24, 2.0**-149, 2.0**128 - 2.0**104, 2.0**-102),
        Format("float64", np.float64, _core.UNROUNDED, 53, 2.0**-1074, 2.0**1023 * (2 - 2.0**-52), 2.0**-969),
        Format("float16", np.float32, _core.FLOAT16, 11, 2.0**-24, 65504.0, 2.0**-25),
        Format("bfloat16", np.float32, _core.BFLOAT16, 8, 2.0**-133, 2.0**128 - 2.0**120, 2.0**-102),
        Format("float8_e4m3fn", np.float32, _core.FLOAT8_E4M3FN, 4, 2.0**-9, 448.0, 2.0**-10),
        Format("float8_e5m2", np.float32, _core.FLOAT8_E5M2, 3, 2.0**-16, 57344.0, 2.0**-17),
    )
}
NAMES = ", ".join([*list(_FORMATS)[:-1], f"or {list(_FORMATS)[-1]}"])


def is_fillable_dtype(name: str) -> bool:
    """Return whether arrays of the dtype with this name can be filled."""
    return name in _FORMATS


def format_of_dtype(dtype: np.dtype[Any]) -> Format | None:
    """Return the format of a dtype in either byte order, or None if the dtype is not supported."""
    scalar_type: Any = dtype.type
    return None if dtype.fields else _format_of_type(scalar_type)


@lru_cache(maxsize=64)
def _format_of_type(scalar_type: Any) -> Format | None:
    """Return the format of the dtype of a scalar type. A dtype itself may have metadata, which the cache would keep.

    Formats are found by name, so that ml_dtypes need not be imported.
    """
    return _FORMATS.get(np.dtype(scalar_type).name)


def check_dtype(name: str, value: DTypeLike, function: str | None = None) -> np.dtype[Any]:
    """Return a supported dtype, or raise TypeError.

    ``function`` is the name of the functional variant whose argument it is.
    """
    try:
        checked = None if value is None else np.dtype(value)
    except (TypeError, ValueError, SyntaxError):
        hint = _hints.for_dtype(value, _FORMATS, function)
        if isinstance(value, str) and value in _FORMATS:
            hint = "; import ml_dtypes, which defines it, first"
        raise TypeError(f"{name} must be {NAMES}, not {_validation.describe(value)}{hint}") from None
    if checked is None or format_of_dtype(checked) is None:
        raise TypeError(f"{name} must be {NAMES}, not {checked}")
    return checked


@lru_cache
@np.errstate(invalid="ignore")  # signaling NaNs
def finite_values(dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Return all finite numbers of a dtype of at most two bytes, in ascending order."""
    bits = np.arange(1 << (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    values = bits.view(dtype).astype(np.float64)
    return np.unique(values[np.isfinite(values)])
