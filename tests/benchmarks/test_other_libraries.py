"""The libraries of the grid fill weights by He initialization; each runs in its own process, if it is installed.

He initialization has mean 0, std sqrt(2 / columns), bounds of sqrt(3) std for uniform values, and bounds of
2 / 0.8796 std for normal values truncated at two standard deviations.
"""

from __future__ import annotations

import functools
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from grid import DRAWS, DTYPES
from harness import UnavailableError
from libraries import Job
from new_memory import FASTEST_OF_MKL
from stores import STORES
from workers import library

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ELEMENTS = 1 << 17  # 256 rows of 512 columns, so that exchanged rows and columns are noticed
THREADS = 2
SIZES = {"float32": 4, "float64": 8, "bfloat16": 2}
LARGEST_AT_MOST = {"uniform": 3**0.5, "truncated": 2 / 0.87962566, "normal": 6.0}  # in units of std
LARGEST_AT_LEAST = {"uniform": 1.72, "truncated": 2.2, "normal": 4.0}


class Filled(NamedTuple):
    """Statistics of the weights that a method of a library created."""

    name: str
    dtype: str
    elements: int
    mean: float  # in units of the requested std, as are the next two
    std: float
    largest: float
    in_place: bool


def in_new_process(function: Callable[..., Any], *arguments: object) -> Any:
    """Return the result of a function in a new process, which has not loaded any library."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def as_array(weights: Any) -> NDArray[Any]:
    """Return the weights of any library in float64."""
    widened = weights.double().numpy() if hasattr(weights, "double") else np.asarray(weights)
    return np.asarray(widened, np.float64)


def filled_by_all_methods(module: str) -> dict[tuple[str, str], list[Filled] | str]:
    """Return the statistics of each method for every job, or the reason why the library does not support it."""
    found: dict[tuple[str, str], list[Filled] | str] = {}
    for dtype in DTYPES:
        for draw in DRAWS:
            job = Job(draw, dtype, ELEMENTS * SIZES[dtype], THREADS)
            try:
                found[draw, dtype] = [statistics_of(job, *each) for each in library(module).methods(job).items()]
            except UnavailableError as reason:
                found[draw, dtype] = str(reason)
    return found


def statistics_of(job: Job, name: str, method: Any) -> Filled:
    target = method.make()
    if target is not None:
        method.touch(target)
        assert not as_array(target).any()
    weights = method.fill(target)
    values = as_array(weights) / (2 / job.columns) ** 0.5
    numbers = (values.size, values.mean(), values.std(), np.abs(values).max())
    return Filled(name, str(weights.dtype), *numbers, weights is target)


@functools.cache
def results_of(module: str) -> dict[tuple[str, str], list[Filled] | str]:
    if module != "fastkaiming" and not installed(module):
        pytest.skip(f"{module} is not installed")
    results: dict[tuple[str, str], list[Filled] | str] = in_new_process(filled_by_all_methods, module)
    return results


def installed(module: str) -> bool:
    if module != "mkl":
        return find_spec(module) is not None
    try:
        library(module).version()
    except UnavailableError:
        return False
    return True


COMPLETE = ["fastkaiming", "torch", "jax", "tensorflow"]
WITHOUT_TRUNCATED_AND_BFLOAT16 = ["numpy", "randomgen", "mkl"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("module", [*COMPLETE, *WITHOUT_TRUNCATED_AND_BFLOAT16])
def test_weights_have_the_moments_of_he_initialization(module: str, draw: str, dtype: str) -> None:
    rows = results_of(module)[draw, dtype]
    if module in WITHOUT_TRUNCATED_AND_BFLOAT16 and (draw == "truncated" or dtype == "bfloat16"):
        assert rows == ("has no truncated distribution" if draw == "truncated" else "has no bfloat16")
        return
    assert not isinstance(rows, str)
    rounding = 2**-7 if dtype == "bfloat16" else 1e-6
    coarse = module == "jax" and dtype == "bfloat16"  # samples from few bits, so that the mean is off by std / 60
    mean_error, least = (1 / 40, min(2.8, LARGEST_AT_LEAST[draw])) if coarse else (0.0, LARGEST_AT_LEAST[draw])
    for row in rows:
        assert (row.elements, row.in_place) == (ELEMENTS, library(module).IN_PLACE), row
        assert dtype in row.dtype, row
        assert row.name.startswith(library(module).NAME) or row.name in STORES, row
        if row.name in STORES:
            continue
        assert abs(row.mean) < 5 / ELEMENTS**0.5 + mean_error, row
        assert row.std == pytest.approx(1, rel=0.015), row  # more than five standard deviations of its estimate
        assert least < row.largest <= LARGEST_AT_MOST[draw] * (1 + rounding), row


def test_every_generator_has_a_row() -> None:
    assert [row.name for row in results_of("randomgen")["normal", "float64"]] == [  # type: ignore[union-attr]
        "randomgen Xoshiro256",
        "randomgen Philox",
    ]


def numpy_threads() -> NDArray[np.float32]:
    job = Job("normal", "float32", 4 * ELEMENTS, THREADS)
    method = library("numpy").methods(job)["NumPy"]
    weights: NDArray[np.float32] = method.fill(method.make())
    return weights


def test_numpy_threads_follow_its_documentation() -> None:
    generators = [np.random.default_rng(seed) for seed in np.random.SeedSequence(0).spawn(THREADS)]
    halves = [each.standard_normal(ELEMENTS // THREADS, dtype=np.float32) for each in generators]
    expected = np.concatenate(halves).reshape(256, 512) * np.float32((2 / 512) ** 0.5)
    np.testing.assert_array_equal(in_new_process(numpy_threads), expected)


def mkl_fills(threads: int) -> dict[tuple[str, str], list[NDArray[Any]]]:
    """Return two consecutive fills by each generator and method."""
    found: dict[tuple[str, str], list[NDArray[Any]]] = {}
    for dtype in ("float32", "float64"):
        for draw in ("normal", "uniform"):
            job = Job(draw, dtype, ELEMENTS * SIZES[dtype], threads)
            for name, method in library("mkl").methods(job).items():
                found[name, dtype] = [method.fill(method.make()) for _ in range(2)]
    return found


def test_fastest_method_of_mkl_is_measured() -> None:
    for draw, name in FASTEST_OF_MKL.items():
        rows = results_of("mkl")[draw, "float32"]
        assert name in [row.name for row in rows if not isinstance(row, str)]


def test_values_of_mkl_do_not_depend_on_thread_count() -> None:
    if not installed("mkl"):
        pytest.skip("mkl is not installed")
    one, two = in_new_process(mkl_fills, 1), in_new_process(mkl_fills, 2)
    assert len(one) == 12
    for name, fills in one.items():
        np.testing.assert_array_equal(np.stack(fills), np.stack(two[name]), err_msg=str(name))
        assert len(np.unique(fills)) > 1.9 * ELEMENTS, name
