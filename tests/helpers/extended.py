"""Parameters that only the extended tests use, so that the default tests are short."""

from collections.abc import Iterable
from typing import Any

import pytest

from fastkaiming import _core


def extended(values: Iterable[Any]) -> list[Any]:
    """Return the values as parameters with the mark ``extended``."""
    return [pytest.param(value, marks=pytest.mark.extended) for value in values]


# The default tests use the fastest instruction set. tests/csrc/test_driver.py compares all of them with the digests.
ISAS = [_core.available_isas()[0], *extended(_core.available_isas()[1:])]
