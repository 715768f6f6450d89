"""Shared parts of the pytest-benchmark suites: the buffer that they fill, and the recorded machine information."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import fastkaiming

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST = 2**30  # bytes


@pytest.fixture(scope="session")
def memory() -> NDArray[np.uint8]:
    """Return memory that was already touched, so that no benchmark includes page faults."""
    return np.full(LARGEST, 1, np.uint8)


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info["isa"] = fastkaiming.isa()
    machine_info["fastkaiming"] = fastkaiming.__version__
    machine_info["numpy"] = np.__version__
