"""A short endurance run, and its reports of incorrect fills."""

import ctypes
import random
from typing import Any

import endurance
import pytest
from extended import extended

import fastkaiming as fk
from fastkaiming import _core


def plan(number: int) -> endurance.Plan:
    return endurance.random_plan(random.Random(f"0 {number}"))


@pytest.fixture(autouse=True)
def restore_isa() -> Any:
    before = _core.isa()
    yield
    _core.select_isa(before)


@pytest.mark.parametrize("number", [0, 3, 4, 5, *extended([1, 2, *range(6, 12)])])
def test_random_fills_equal_the_reference(number: int) -> None:
    assert endurance.difference(plan(number)) is None


def test_random_plans_cover_every_kind() -> None:
    plans = [plan(number) for number in range(500)]
    assert {each.dtype for each in plans} == set(endurance.DTYPES)
    assert {type(each.distribution) for each in plans} == {fk.Normal, fk.Uniform, fk.TruncatedNormal}
    assert {each.isa for each in plans} == set(_core.available_isas())
    assert {each.threads for each in plans} == set(range(1, endurance.MAX_THREADS + 1))
    assert any(step < 0 for each in plans for step in each.steps)
    assert any(size > 2**32 for each in plans for size in each.shape)


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_incorrect_fill_is_reported(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    original = fk.fill_

    def flawed(out: Any, *arguments: Any, **options: Any) -> None:
        original(out, *arguments, **options)
        steps = sum((size - 1) * max(stride, 0) for size, stride in zip(out.shape, out.strides, strict=True))
        end = out.ctypes.data + steps + out.itemsize  # NumPy 1.26 and 2 have byte_bounds in different modules
        place = end if where == "outside" else out.ctypes.data
        ctypes.c_uint8.from_address(place).value ^= 1

    monkeypatch.setattr(fk, "fill_", flawed)
    report = {"inside": "elements differ, the first at", "outside": "bytes outside the elements were written"}[where]
    assert report in str(endurance.difference(plan(0)))
