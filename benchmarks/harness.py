"""Paired measurement: every contestant runs once per round, and the figure is the median of the per-round ratios.

The speed of a machine changes from minute to minute, so two costs are compared only if they were measured one after the
other. Each round runs every contestant of a row once, and the order reverses from round to round. A first round warms
up and is discarded. The figure of a row is the median, over the rounds, of the ratio within a round. If fastkaiming is
compared with several others, the cheapest of them counts.

This module is independent of what is measured: the benchmark programs define the contestants and the rows.
"""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HEADINGS = ("what", "median (quartiles)", "minimum", "target", "reached", "in detail")


class UnavailableError(Exception):
    """Raised by a contestant that this machine cannot run; the message is the reason."""


class Contestant(Protocol):
    """One side of a comparison."""

    @property
    def name(self) -> str: ...

    def cost(self) -> float:
        """Run once and return the cost; lower is better."""


@dataclass(frozen=True)
class Timed:
    """A contestant whose cost is time: seconds for each of `units`."""

    name: str
    prepare: Callable[[], Any]  # called before every run, outside the clock; its result is the argument of `run`
    run: Callable[[Any], object]  # its result is freed outside the clock
    units: int  # elements written by a run, or calls made in it
    within: Callable[[], AbstractContextManager[object]] = nullcontext  # entered around the run, outside the clock
    clock: Callable[[], float] = field(default=time.perf_counter, repr=False)

    def cost(self) -> float:
        prepared = self.prepare()
        with self.within():
            start = self.clock()
            made = self.run(prepared)
            seconds = self.clock() - start
        del made
        return seconds / self.units


def race(contestants: Sequence[Contestant], rounds: int, *, warm_up: bool = True) -> dict[str, list[float]]:
    """Return the costs of every contestant, by its name, in every round."""
    costs: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for contestant in contestants if warm_up else ():
        contestant.cost()
    for turn in range(rounds):
        for contestant in contestants[:: -1 if turn % 2 else 1]:
            costs[contestant.name].append(contestant.cost())
    return costs


@dataclass(frozen=True)
class Figure:
    """How a figure is computed from the costs of one round, and whether higher values are better."""

    of: Callable[[float, float], float]  # of the costs of fastkaiming and of the other contestant
    digits: str  # the format specification of the number
    unit: str
    higher_is_better: bool
    cost_unit: str
    detail: Callable[[Result], str]  # returns the absolute numbers
    yardstick: Callable[[Result], list[float]] = lambda result: result.other_costs  # costs to compare with


@dataclass(frozen=True)
class Case:
    """A row of the table: fastkaiming, what it is compared with, and the minimum and target values of the figure."""

    name: str
    figure: Figure
    minimum: float
    target: float
    fastkaiming: Contestant
    others: tuple[Contestant, ...] = ()
    itemsize: int = 0  # bytes per element, for rows about bandwidth
    repeats: int = 1  # multiplies the requested number of rounds; above 1 for short runs

    def measure(self, rounds: int) -> Result:
        try:
            return Result(self, race((self.fastkaiming, *self.others), rounds * self.repeats))
        except UnavailableError as reason:
            return Result(self, {}, str(reason))


@dataclass(frozen=True)
class Result:
    """The costs of one row, round by round, and the figures computed from them."""

    case: Case
    costs: dict[str, list[float]]  # by contestant; empty if the row could not be measured
    unavailable: str = ""  # the reason why the row could not be measured

    @property
    def own_costs(self) -> list[float]:
        return self.costs[self.case.fastkaiming.name]

    @property
    def other(self) -> str | None:
        """The name of the cheapest of the other contestants, which is the one that counts."""
        return min((other.name for other in self.case.others), key=lambda name: median(self.costs[name]), default=None)

    @property
    def other_costs(self) -> list[float]:
        return self.costs[self.other] if self.other else [math.nan] * len(self.own_costs)

    def against(self, costs: list[float]) -> list[float]:
        """Return the figure of every round, with fastkaiming compared with the given costs."""
        return [self.case.figure.of(cost, other) for cost, other in zip(self.own_costs, costs, strict=True)]

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """The quartiles of the figure over the rounds; the middle one is the row's figure."""
        low, middle, high = np.percentile(self.against(self.case.figure.yardstick(self)), [25, 50, 75])
        return float(low), float(middle), float(high)

    @property
    def reached(self) -> str:
        sign = 1 if self.case.figure.higher_is_better else -1
        figure = sign * self.quartiles[1]
        return (
            "target" if figure >= sign * self.case.target else "minimum" if figure >= sign * self.case.minimum else "no"
        )

    def cells(self) -> tuple[str, ...]:
        """Return the texts of the row, one under each of HEADINGS."""
        case, figure = self.case, self.case.figure
        limits = tuple(f"{value:{figure.digits}}{figure.unit}" for value in (case.minimum, case.target))
        if self.unavailable:
            return (case.name, "-", *limits, "-", f"not measured: {self.unavailable}")
        low, middle, high = (f"{quartile:{figure.digits}}" for quartile in self.quartiles)
        measured = f"{middle}{figure.unit} ({low} to {high})"
        return (case.name, measured, *limits, self.reached, figure.detail(self))

    def record(self) -> dict[str, Any]:
        """Return everything measured, for JSON."""
        case = self.case
        limits = {"name": case.name, "minimum": case.minimum, "target": case.target}
        if self.unavailable:
            return {**limits, "unavailable": self.unavailable}
        low, middle, high = self.quartiles
        outcome = {"median": middle, "quartiles": [low, high], "reached": self.reached, "other": self.other}
        return {**limits, **outcome, "cost_unit": case.figure.cost_unit, "costs": self.costs}


def median(values: Sequence[float]) -> float:
    return float(np.median(values))


def markdown(results: Sequence[Result]) -> str:
    """Return the table of the results in Markdown."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *(result.cells() for result in results)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def plain(result: Result) -> str:
    """Return a row in plain text: its name and absolute numbers, then the figure with its minimum and target."""
    name, figure, minimum, target, reached, detail = result.cells()
    return f"{name}\n    {figure}, minimum {minimum}, target {target}, reached: {reached}\n    {detail}\n"
