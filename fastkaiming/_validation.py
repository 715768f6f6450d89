"""Argument checks: the words in which every room refuses a bad argument.

A check returns the value in its plain Python type, or raises an error that names the argument, the rule and the value
received: TypeError for a value of the wrong kind, ValueError for a wrong value of the right kind.
Nothing here knows what an argument is for.
"""

import math
import operator
import reprlib
import struct
from collections.abc import Collection, Sequence
from numbers import Real
from typing import Any

import numpy as np

MAX_ELEMENTS = 2**64

_bytes_of = struct.Struct("d").pack
_NEGATIVE_ZERO = _bytes_of(-0.0)


class _Short(reprlib.Repr):
    """A shortened repr of anything, integers of more digits than Python is willing to print included."""

    def repr_int(self, x: int, level: int) -> str:
        try:
            return super().repr_int(x, level)
        except ValueError:
            return f"<int of {x.bit_length()} bits>"


_short = _Short().repr


def shown(value: object) -> str:
    """Describe a value by its kind and its (shortened) repr, for a TypeError."""
    return f"{type(value).__name__} {_short(value)}"


def integer(name: str, value: Any, low: int, high: int, kinds: str = "an integer") -> int:
    """Return an integer of low <= value <= high; NumPy's integers are welcome, bool and float are not.

    ``kinds`` is what the argument may be in all, for the message to a value that is none of it.
    """
    if type(value) is int and low <= value <= high:
        return value
    number = _index(value)
    if number is None:
        raise TypeError(f"{name} must be {kinds}, not {shown(value)}")
    if not low <= number <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, got {_short(number)}")
    return number


def _index(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        return None


def finite(name: str, value: Any) -> float:
    """Return a finite real number as a float."""
    number = value if type(value) is float else _real(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value}")
    return _of_one_zero(number)


def not_nan(name: str, value: Any) -> float:
    """Return a real number as a float, the infinite ones included."""
    number = value if type(value) is float else _real(name, value)
    if math.isnan(number):
        raise ValueError(f"{name} must be a number or infinite, got {value}")
    return _of_one_zero(number)


def _of_one_zero(number: float) -> float:
    """Make -0.0 a 0.0: numbers that compare equal are cached as one and must fill alike."""
    # Its bytes tell it, for where a process takes subnormals for zeros, they compare equal to it as well.
    return 0.0 if _bytes_of(number) == _NEGATIVE_ZERO else number


def _real(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number, not {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be within the range of a float, got {_short(value)}") from None


def not_negative(name: str, value: Any) -> float:
    """Return a finite real number of 0 or above as a float."""
    number = finite(name, value)
    if number < 0.0:
        raise ValueError(f"{name} must not be negative, got {value}")
    return number


def positive(name: str, value: Any) -> float:
    """Return a finite real number above 0 as a float."""
    number = finite(name, value)
    if number <= 0.0:
        raise ValueError(f"{name} must be positive, got {value}")
    return number


def flag(name: str, value: Any) -> bool:
    """Return a bool; numbers do not stand in for one."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {shown(value)}")
    return value


def text(name: str, value: Any) -> str:
    """Return a str."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {shown(value)}")
    return value


def choice(name: str, value: Any, options: Collection[str]) -> str:
    """Return a str that is one of the options."""
    if text(name, value) not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return str(value)


def shape(name: str, value: Any) -> tuple[int, ...]:
    """Return a tensor's shape from one integer or a sequence of integers, as NumPy reads it."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        value = (integer(name, value, 0, MAX_ELEMENTS, "an integer or a sequence of integers"),)
    sizes = tuple(integer(f"{name}[{axis}]", size, 0, MAX_ELEMENTS) for axis, size in enumerate(value))
    if math.prod(size for size in sizes if size) > MAX_ELEMENTS:
        raise ValueError(f"{name} must hold at most 2**64 elements, got {sizes}")
    return sizes


def missing(module: str, extra: str, error: ModuleNotFoundError) -> ImportError:
    """Return the error to raise if a module needs a package of an extra that is not installed."""
    package = str(error.name).partition(".")[0]
    return ImportError(f"fastkaiming.{module} needs {package}: pip install 'fastkaiming[{extra}]'")
