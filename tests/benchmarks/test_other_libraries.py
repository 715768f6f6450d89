"""The libraries of the grid do what their rows say: every one is asked in a process of its own, where it is installed.

Expectations are He's: mean 0, std sqrt(2 / columns), bounds of sqrt(3) std, and of 2 / 0.8796 std where the normal is
cut at two of its standard deviations.
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

ELEMENTS = 1 << 17  # 256 rows of 512 columns: an odd power, or rows and columns could be mistaken for each other
THREADS = 2
SIZES = {"float32": 4, "float64": 8, "bfloat16": 2}
NO_MORE_THAN = {"uniform": 3**0.5, "truncated": 2 / 0.87962566, "normal": 6.0}  # stds
NO_LESS_THAN = {"uniform": 1.72, "truncated": 2.2, "normal": 4.0}


class Drawn(NamedTuple):
    """What a way of a library left in its target."""

    name: str
    dtype: str
    elements: int
    mean: float  # this and the others in stds that were asked for
    std: float
    largest: float
    in_place: bool


def apart(question: Callable[..., Any], *arguments: object) -> Any:
    """Return the answer of a process that has loaded no library before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(question, *arguments).result()


def as_array(weights: Any) -> NDArray[Any]:
    """Return the weights of any library in float64."""
    widened = weights.double().numpy() if hasattr(weights, "double") else np.asarray(weights)
    return np.asarray(widened, np.float64)


def drawn(module: str) -> dict[tuple[str, str], list[Drawn] | str]:
    """Return what a library makes of every job, or why it does not."""
    found: dict[tuple[str, str], list[Drawn] | str] = {}
    for dtype in DTYPES:
        for draw in DRAWS:
            job = Job(draw, dtype, ELEMENTS * SIZES[dtype], THREADS)
            try:
                found[draw, dtype] = [of_way(job, *each) for each in library(module).methods(job).items()]
            except UnavailableError as reason:
                found[draw, dtype] = str(reason)
    return found


def of_way(job: Job, name: str, way: Any) -> Drawn:
    target = way.make()
    if target is not None:
        way.touch(target)
        assert not as_array(target).any()
    weights = way.fill(target)
    values = as_array(weights) / (2 / job.columns) ** 0.5
    numbers = (values.size, values.mean(), values.std(), np.abs(values).max())
    return Drawn(name, str(weights.dtype), *numbers, weights is target)


@functools.cache
def everything(module: str) -> dict[tuple[str, str], list[Drawn] | str]:
    if module != "fastkaiming" and not installed(module):
        pytest.skip(f"{module} is not installed")
    answer: dict[tuple[str, str], list[Drawn] | str] = apart(drawn, module)
    return answer


def installed(module: str) -> bool:
    if module != "mkl":
        return find_spec(module) is not None
    try:
        library(module).version()
    except UnavailableError:
        return False
    return True


COMPLETE = ["fastkaiming", "torch", "jax", "tensorflow"]
NEITHER_CUT_NOR_NARROW = ["numpy", "randomgen", "mkl"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("module", [*COMPLETE, *NEITHER_CUT_NOR_NARROW])
def test_weights_are_those_of_he(module: str, draw: str, dtype: str) -> None:
    rows = everything(module)[draw, dtype]
    if module in NEITHER_CUT_NOR_NARROW and (draw == "truncated" or dtype == "bfloat16"):
        assert rows == ("offers no truncated draws" if draw == "truncated" else "offers no bfloat16")
        return
    assert not isinstance(rows, str)
    rounding = 2**-7 if dtype == "bfloat16" else 1e-6
    coarse = module == "jax" and dtype == "bfloat16"  # of few bits, whose middle is a 60th of a std off
    leaning, least = (1 / 40, min(2.8, NO_LESS_THAN[draw])) if coarse else (0.0, NO_LESS_THAN[draw])
    for row in rows:
        assert (row.elements, row.in_place) == (ELEMENTS, library(module).IN_PLACE), row
        assert dtype in row.dtype, row
        assert row.name.startswith(library(module).NAME) or row.name in STORES, row
        if row.name in STORES:
            continue
        assert abs(row.mean) < 5 / ELEMENTS**0.5 + leaning, row
        assert row.std == pytest.approx(1, rel=0.015), row  # five of its standard deviations and more
        assert least < row.largest <= NO_MORE_THAN[draw] * (1 + rounding), row


def test_every_generator_and_method_has_its_row() -> None:
    assert [row.name for row in everything("randomgen")["normal", "float64"]] == [  # type: ignore[union-attr]
        "randomgen Xoshiro256",
        "randomgen Philox",
    ]


def numpy_threads() -> NDArray[np.float32]:
    job = Job("normal", "float32", 4 * ELEMENTS, THREADS)
    way = library("numpy").methods(job)["NumPy"]
    weights: NDArray[np.float32] = way.fill(way.make())
    return weights


def test_numpy_fills_as_its_documentation_tells() -> None:
    generators = [np.random.default_rng(seed) for seed in np.random.SeedSequence(0).spawn(THREADS)]
    halves = [each.standard_normal(ELEMENTS // THREADS, dtype=np.float32) for each in generators]
    expected = np.concatenate(halves).reshape(256, 512) * np.float32((2 / 512) ** 0.5)
    np.testing.assert_array_equal(apart(numpy_threads), expected)


def mkl_fills(threads: int) -> dict[tuple[str, str], list[NDArray[Any]]]:
    """Return two fills in a row, by each generator and method."""
    found: dict[tuple[str, str], list[NDArray[Any]]] = {}
    for dtype in ("float32", "float64"):
        for draw in ("normal", "uniform"):
            job = Job(draw, dtype, ELEMENTS * SIZES[dtype], threads)
            for name, way in library("mkl").methods(job).items():
                found[name, dtype] = [way.fill(way.make()) for _ in range(2)]
    return found


def test_the_fastest_way_of_mkl_is_among_its_ways() -> None:
    for draw, name in FASTEST_OF_MKL.items():
        rows = everything("mkl")[draw, "float32"]
        assert name in [row.name for row in rows if not isinstance(row, str)]


def test_threads_of_mkl_draw_what_one_stream_would() -> None:
    if not installed("mkl"):
        pytest.skip("mkl is not installed")
    one, two = apart(mkl_fills, 1), apart(mkl_fills, 2)
    assert len(one) == 12
    for name, fills in one.items():
        np.testing.assert_array_equal(np.stack(fills), np.stack(two[name]), err_msg=str(name))
        assert len(np.unique(fills)) > 1.9 * ELEMENTS, name
