"""Argument checks: valid values are returned as plain types, and errors state the argument, the rule and the value."""

import ctypes
import ctypes.util
import platform
import struct
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fastkaiming import _validation

Check = Callable[[Any], Any]


def integer(value: Any) -> int:
    return _validation.integer("n", value, 0, 9)


def choice(value: Any) -> str:
    return _validation.choice("fruit", value, ("apple", "pear"))


def finite(value: Any) -> float:
    return _validation.finite("x", value)


def flag(value: Any) -> bool:
    return _validation.flag("dry", value)


def shape(value: Any) -> tuple[int, ...]:
    return _validation.shape("shape", value)


@pytest.mark.parametrize(
    ("check", "value", "expected"),
    [
        (integer, 0, 0),
        (integer, 9, 9),
        (integer, np.uint8(7), 7),
        (finite, 1, 1.0),
        (finite, -2.5, -2.5),
        (finite, np.float32(0.1), 0.10000000149011612),
        (finite, np.int64(3), 3.0),
        (finite, Fraction(1, 4), 0.25),
        (choice, "pear", "pear"),
        (flag, False, False),
        (shape, 5, (5,)),
        (shape, (), ()),
        (shape, [2, np.int64(3)], (2, 3)),
        (shape, (0, 4), (0, 4)),
        (shape, (2**32, 2**32), (2**32, 2**32)),
    ],
)
def test_valid_value_is_returned_as_a_plain_type(check: Check, value: Any, expected: Any) -> None:
    passed = check(value)
    assert passed == expected
    assert type(passed) is type(expected)


def test_negative_zero_becomes_zero() -> None:
    assert str(_validation.finite("x", -0.0)) == "0.0"


@pytest.mark.parametrize("number", [5e-324, -5e-324, 1e-310])
@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the layout of its fenv_t is not known"
)
def test_subnormal_numbers_are_kept_in_a_process_that_flushes_them_to_zero(number: float) -> None:
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    original, flushing = (ctypes.c_uint32 * 8)(), (ctypes.c_uint32 * 8)()  # fenv_t; its last word is MXCSR
    library.fegetenv(original)
    flushing[:] = [*original[:7], original[7] | 0x40]  # DAZ: denormals are zeros
    library.fesetenv(flushing)
    try:
        flushed = number == 0.0
        passed = _validation.finite("x", number)
    finally:
        library.fesetenv(original)
    assert flushed
    assert struct.pack("d", passed) == struct.pack("d", number)


@pytest.mark.parametrize(
    ("check", "value", "error", "message"),
    [
        (integer, -1, ValueError, "n must be an integer from 0 to 9, got -1"),
        (integer, 10, ValueError, "n must be an integer from 0 to 9, got 10"),
        (integer, 3.0, TypeError, "n must be an integer, not float 3.0"),
        (integer, True, TypeError, "n must be an integer, not bool True"),
        (integer, np.True_, TypeError, "n must be an integer, not bool"),
        (integer, "3", TypeError, "n must be an integer, not str '3'"),
        (integer, None, TypeError, "n must be an integer, not NoneType None"),
        (integer, np.array([1.5]), TypeError, "n must be an integer, not ndarray array([1.5])"),
        (finite, float("nan"), ValueError, "x must be finite, got nan"),
        (finite, float("-inf"), ValueError, "x must be finite, got -inf"),
        (finite, np.float64("inf"), ValueError, "x must be finite, got inf"),
        (finite, 10**400, ValueError, "x must be within the range of a float, got 1000"),
        (finite, False, TypeError, "x must be a real number, not bool False"),
        (finite, np.False_, TypeError, "x must be a real number, not bool"),
        (finite, "1.0", TypeError, "x must be a real number, not str '1.0'"),
        (finite, 1j, TypeError, "x must be a real number, not complex 1j"),
        (lambda x: _validation.not_negative("x", x), -1e-300, ValueError, "x must not be negative, got -1e-300"),
        (lambda x: _validation.positive("x", x), 0, ValueError, "x must be positive, got 0"),
        (choice, "fig", ValueError, "fruit must be one of 'apple', 'pear', got 'fig'"),
        (choice, 1, TypeError, "fruit must be a str, not int 1"),
        (choice, ["apple"], TypeError, "fruit must be a str, not list ['apple']"),
        (flag, 1, TypeError, "dry must be True or False, not int 1"),
        (shape, (2, -1), ValueError, "shape[1] must be an integer from 0 to 18446744073709551616, got -1"),
        (shape, (2, 3.0), TypeError, "shape[1] must be an integer, not float 3.0"),
        (shape, 2.5, TypeError, "shape must be an integer or a sequence of integers, not float 2.5"),
        (shape, "23", TypeError, "shape must be an integer or a sequence of integers, not str '23'"),
        (shape, {2, 3}, TypeError, "shape must be an integer or a sequence of integers, not set {2, 3}"),
        (
            shape,
            (2**32, 2**32, 2),
            ValueError,
            "shape must hold at most 2**64 elements, got (4294967296, 4294967296, 2)",
        ),
        (shape, (0, 2**63, 4), ValueError, "shape must hold at most 2**64 elements, got (0, 9223372036854775808, 4)"),
    ],
)
def test_error_message_states_argument_rule_and_value(
    check: Check, value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as refusal:
        check(value)
    assert str(refusal.value).startswith(message)


def test_integers_beyond_the_limit_of_int_to_str_conversion_raise_value_error() -> None:
    huge = 10**5000
    with pytest.raises(ValueError, match="n must be an integer from 0 to 9, got <int "):
        _validation.integer("n", huge, 0, 9)
    with pytest.raises(TypeError, match=r"n must be an integer, not list \[<int "):
        _validation.integer("n", [huge], 0, 9)
    with pytest.raises(ValueError, match="x must be within the range of a float, got <int "):
        _validation.finite("x", huge)


def test_huge_value_is_shortened_in_the_message() -> None:
    with pytest.raises(TypeError) as refusal:
        _validation.integer("n", list(range(10**6)), 0, 9)
    assert len(str(refusal.value)) < 100
