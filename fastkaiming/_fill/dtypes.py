"""The dtypes that can be filled: in which precision their values are drawn, and what they can hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastkaiming import _core, _validation


@dataclass(frozen=True, eq=False)
class Format:
    """What an element can hold: its significand's bits, its smallest and greatest numbers above 0."""

    name: str
    precision: type[np.float32] | type[np.float64]  # in which values are drawn, before they are rounded to the format
    rounding: int  # the core's name for what comes after
    bits: int
    smallest: float
    greatest: float
    least_scale: float  # the least spread that leaves something of the values

    def up(self, value: float) -> float:
        """Return the least number of the format that is not below ``value``."""
        return 0.0 - self.down(-value)  # of 0.0 that makes 0.0, as the stream has it

    def below(self, value: float) -> float:
        """Return the greatest number of the format that is below ``value``."""
        return self.down(float(np.nextafter(value, -np.inf)))

    def down(self, value: float) -> float:
        """Return the greatest number of the format that is not above ``value``."""
        spacing = np.maximum(np.ldexp(1.0, np.frexp(value)[1] - self.bits), self.smallest)
        return float(np.floor(value / spacing) * spacing)


# float32 and float64 keep every bit of a uniform draw, half an epsilon at the least, out of the subnormal numbers.
# In the narrower formats, most values of so small a scale as the one given would be 0.
_FORMATS: Mapping[str, Format] = {
    each.name: each
    for each in (
        Format("float32", np.float32, _core.AS_DRAWN, 24, 2.0**-149, 2.0**128 - 2.0**104, 2.0**-102),
        Format("float64", np.float64, _core.AS_DRAWN, 53, 2.0**-1074, 2.0**1023 * (2 - 2.0**-52), 2.0**-969),
        Format("float16", np.float32, _core.FLOAT16, 11, 2.0**-24, 65504.0, 2.0**-25),
        Format("bfloat16", np.float32, _core.BFLOAT16, 8, 2.0**-133, 2.0**128 - 2.0**120, 2.0**-102),
        Format("float8_e4m3fn", np.float32, _core.FLOAT8_E4M3FN, 4, 2.0**-9, 448.0, 2.0**-10),
        Format("float8_e5m2", np.float32, _core.FLOAT8_E5M2, 3, 2.0**-16, 57344.0, 2.0**-17),
    )
}
NAMES = ", ".join([*list(_FORMATS)[:-1], f"or {list(_FORMATS)[-1]}"])


def is_fillable_dtype(name: str) -> bool:
    """Tell whether values of the dtype of that name are drawn."""
    return name in _FORMATS


@lru_cache(maxsize=64)
def known(dtype: np.dtype[Any]) -> Format | None:
    """Return the format of a dtype in either byte order, found by its name: nothing has to import who defines it."""
    return None if dtype.fields else _FORMATS.get(dtype.name)


def dtype(name: str, value: DTypeLike) -> np.dtype[Any]:
    """Return what a new array for a fill may have as its dtype."""
    try:
        checked = None if value is None else np.dtype(value)
    except (TypeError, ValueError, SyntaxError):
        hint = (
            "; ml_dtypes, whose it is, has to be imported first" if isinstance(value, str) and value in _FORMATS else ""
        )
        raise TypeError(f"{name} must be {NAMES}, not {_validation.shown(value)}{hint}") from None
    if checked is None or known(checked) is None:
        raise TypeError(f"{name} must be {NAMES}, not {checked}")
    return checked


@lru_cache
@np.errstate(invalid="ignore")  # NaNs that signal
def numbers(dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Return all finite numbers that a dtype of at most two bytes has, in ascending order."""
    bits = np.arange(1 << (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    values = bits.view(dtype).astype(np.float64)
    return np.unique(values[np.isfinite(values)])
