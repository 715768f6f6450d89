"""Checks of single arguments, with the error messages that all modules share.

A check returns the value as a plain Python type, or raises an error whose message states the name of the argument, the
rule and the value received: TypeError for a value of the wrong type, ValueError for a value out of range.
"""

import math
import operator
import reprlib
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from fastkaiming import _hints

MAX_ELEMENTS = 2**64

_bytes_of = struct.Struct("d").pack
_NEGATIVE_ZERO = _bytes_of(-0.0)


class _Short(reprlib.Repr):
    """A shortened repr of any object, including integers beyond Python's limit for conversion to str."""

    def repr_int(self, x: int, level: int) -> str:
        try:
            return super().repr_int(x, level)
        except ValueError:
            return f"<int of {x.bit_length()} bits>"


_short = _Short().repr


def describe(value: object) -> str:
    """Return the type and the shortened repr of a value in one line, for the message of a TypeError."""
    return f"{type(value).__name__} {' '.join(_short(value).split())}"


def integer(
    name: str,
    value: Any,
    low: int,
    high: int,
    accepted_types: str = "an integer",
    hint_for: Callable[[Any], str] = lambda _: "",
) -> int:
    """Return an integer with low <= value <= high. NumPy integers are accepted; bool and float are not.

    ``accepted_types`` describes all types that the argument may have, for the message of a TypeError. ``hint_for``
    returns the end of that message for a value.
    """
    if type(value) is int and low <= value <= high:
        return value
    number = _index(value)
    if number is None:
        raise TypeError(f"{name} must be {accepted_types}, not {describe(value)}{hint_for(value)}")
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
    return _without_negative_zero(number)


def not_nan(name: str, value: Any) -> float:
    """Return a finite or infinite real number as a float."""
    number = value if type(value) is float else _real(name, value)
    if math.isnan(number):
        raise ValueError(f"{name} must not be NaN, got {value}")
    return _without_negative_zero(number)


def _without_negative_zero(number: float) -> float:
    """Return 0.0 for -0.0, and any other number unchanged.

    0.0 and -0.0 compare equal, so caches cannot distinguish them, and they must give the same fill. The bytes are
    compared, because subnormal numbers compare equal to -0.0 in a process that flushes them to zero.
    """
    return 0.0 if _bytes_of(number) == _NEGATIVE_ZERO else number


def reject_text(name: str, value: Any, arguments: Mapping[str, Collection[str]]) -> None:
    """Raise TypeError for a str in the place of a number.

    ``arguments`` are the arguments that take a str: see ``_hints.for_text``.
    """
    if isinstance(value, str):
        raise _not_real(name, value, _hints.for_text(value, arguments))


def _not_real(name: str, value: Any, hint: str = "") -> TypeError:
    return TypeError(f"{name} must be a real number, not {describe(value)}{hint}")


def _real(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _not_real(name, value)
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be within the range of a float, got {_short(value)}") from None


def not_negative(name: str, value: Any) -> float:
    """Return a finite real number that is at least 0 as a float."""
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
    """Return a bool. Numbers are not accepted."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {describe(value)}")
    return value


def text(name: str, value: Any) -> str:
    """Return a str."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {describe(value)}")
    return value


def choice(name: str, value: Any, options: Collection[str], hint: str = "") -> str:
    """Return a str that is among the options. ``hint`` ends the error message for a str that resembles none of them."""
    if text(name, value) not in options:
        hint = _hints.did_you_mean(value, options) or hint
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}{hint}")
    return str(value)


def shape(name: str, value: Any, function: str | None = None) -> tuple[int, ...]:
    """Return a shape as a tuple, from an integer or a sequence of integers as in NumPy.

    ``function`` is the name of the functional variant whose argument it is.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        kinds = "an integer or a sequence of integers"
        value = (integer(name, value, 0, MAX_ELEMENTS, kinds, partial(_hints.for_shape, function=function)),)
    sizes = tuple(integer(f"{name}[{axis}]", size, 0, MAX_ELEMENTS) for axis, size in enumerate(value))
    if math.prod(size for size in sizes if size) > MAX_ELEMENTS:
        raise ValueError(f"{name} must hold at most 2**64 elements, got {sizes}")
    return sizes


def missing_dependency_error(module: str, extra: str, error: ModuleNotFoundError) -> ImportError:
    """Return the ImportError of a module whose optional dependency is not installed.

    The command does not name fastkaiming, because pip would install a package of the same name that is not this one.
    """
    package = str(error.name).partition(".")[0]
    command = f"pip install '.[{extra}]'"
    return ImportError(f"fastkaiming.{module} needs {package}: run {command} in a checkout of fastkaiming")
