"""Time fills of already touched memory by distribution, dtype, size, instruction set and threads, and NumPy.

    python -m pytest benchmarks [-k "normal and float32"] [--benchmark-json FILE]

Every group is one distribution, dtype and size. Use targets.py for figures to quote; this file covers a whole range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import fastkaiming
from fastkaiming import _core

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from pytest_benchmark.fixture import BenchmarkFixture

FILLS = {"normal": fastkaiming.kaiming_normal_, "uniform": fastkaiming.kaiming_uniform_}
NUMPY: dict[str, Any] = {"normal": np.random.Generator.standard_normal, "uniform": np.random.Generator.random}
SIZES = {"4 KiB": 2**12, "256 KiB": 2**18, "16 MiB": 2**24, "1 GiB": 2**30}
COLUMNS = 512


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["float32", "float64"])
def weights(memory: NDArray[np.uint8], size: str, request: pytest.FixtureRequest) -> NDArray[Any]:
    matrix: NDArray[Any] = memory[: SIZES[size]].view(request.param).reshape(-1, COLUMNS)
    return matrix


@pytest.fixture(params=FILLS)
def draw(request: pytest.FixtureRequest, benchmark: BenchmarkFixture, size: str, weights: NDArray[Any]) -> str:
    benchmark.group = f"{request.param} {weights.dtype} {size}"
    return str(request.param)


@pytest.fixture(params=_core.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.select_isa(request.param)
    yield _core.isa()
    _core.select_isa(before)


@pytest.mark.parametrize("threads", sorted({1, 2, fastkaiming.get_num_threads()}))
def test_fastkaiming(benchmark: BenchmarkFixture, draw: str, weights: NDArray[Any], isa: str, threads: int) -> None:
    benchmark(FILLS[draw], weights, rng=0, threads=threads)
    benchmark.extra_info["isa"] = isa


def test_numpy(benchmark: BenchmarkFixture, draw: str, weights: NDArray[Any]) -> None:
    benchmark(NUMPY[draw], np.random.default_rng(0), dtype=weights.dtype, out=weights)
