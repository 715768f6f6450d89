"""Descriptions of the machine, the installed versions and memory sizes."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import fastkaiming

if TYPE_CHECKING:
    from collections.abc import Mapping


def machine() -> dict[str, str]:
    """Return the properties of the machine and the versions on which the figures depend."""
    return {
        "CPU": cpu_model(),
        "cores": str(os.cpu_count()),
        "ISA": fastkaiming.isa(),
        "fastkaiming": fastkaiming.__version__,
        "NumPy": np.__version__,
        "Python": platform.python_version(),
    }


def one_line(facts: Mapping[str, str]) -> str:
    """Return the facts in one line."""
    return ", ".join(f"{key} {value}" for key, value in facts.items())


def about() -> str:
    return one_line(machine())


def cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def binary_size(nbytes: int) -> str:
    """Return a power of two in the largest unit that it fills, as in "4 GiB"."""
    power = (nbytes.bit_length() - 1) // 10
    return f"{nbytes >> 10 * power} {('B', 'KiB', 'MiB', 'GiB')[power]}"
