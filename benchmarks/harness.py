"""Paired measurement: every contestant in turn in one process, round after round, and the median of the round ratios.

A machine's speed drifts from minute to minute, so two costs are compared only where they were taken side by side. Each
round runs ours and its peers once, in an order that reverses from round to round, after one round that warms up and is
thrown away. The figure of a row is the median, over the rounds, of the ratio within a round. Where a row has several
peers, the cheapest counts.

Nothing here knows what is measured: floors.py brings the contestants and the table.
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

HEADINGS = ("what", "median (quartiles)", "floor", "aim", "reached", "in detail")


class UnavailableError(Exception):
    """Raised by a contestant that this machine cannot run; the message says why."""


class Contestant(Protocol):
    """One side of a comparison."""

    @property
    def name(self) -> str: ...

    def cost(self) -> float:
        """Run once and return what it cost; less is better."""


@dataclass(frozen=True)
class Timed:
    """A contestant whose cost is time: seconds for each of `units`."""

    name: str
    target: Callable[[], Any]  # called before every run, outside the clock; what it returns is handed to `run`
    run: Callable[[Any], object]
    units: int  # elements written by a run, or calls made in it
    within: Callable[[], AbstractContextManager[object]] = nullcontext  # entered around the run, outside the clock
    clock: Callable[[], float] = field(default=time.perf_counter, repr=False)

    def cost(self) -> float:
        target = self.target()
        with self.within():
            start = self.clock()
            self.run(target)
            return (self.clock() - start) / self.units


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
    """How a figure is made from the costs of one round, and which way is better."""

    of: Callable[[float, float], float]  # from the cost of ours and the cost that it is held against
    digits: str  # the format of its number
    unit: str
    higher_is_better: bool
    cost_unit: str
    detail: Callable[[Result], str]  # the absolute numbers behind it
    yardstick: Callable[[Result], list[float]] = lambda result: result.theirs  # what ours is held against


@dataclass(frozen=True)
class Case:
    """A row of the table: ours, its peers, and the figure that is asked for."""

    name: str
    figure: Figure
    floor: float
    aim: float
    ours: Contestant
    peers: tuple[Contestant, ...] = ()
    itemsize: int = 0  # bytes an element, where the row speaks of bandwidth
    repeats: int = 1  # so many times as many rounds as were asked for, where they are short

    def measure(self, rounds: int) -> Result:
        try:
            return Result(self, race((self.ours, *self.peers), rounds * self.repeats))
        except UnavailableError as reason:
            return Result(self, {}, str(reason))


@dataclass(frozen=True)
class Result:
    """The costs of one row, round by round, and what follows from them."""

    case: Case
    costs: dict[str, list[float]]  # by contestant; empty where the row could not be measured
    unavailable: str = ""  # and why

    @property
    def ours(self) -> list[float]:
        return self.costs[self.case.ours.name]

    @property
    def peer(self) -> str | None:
        """The name of the peer that counts."""
        return min((peer.name for peer in self.case.peers), key=lambda name: median(self.costs[name]), default=None)

    @property
    def theirs(self) -> list[float]:
        return self.costs[self.peer] if self.peer else [math.nan] * len(self.ours)

    def against(self, costs: list[float]) -> list[float]:
        """Return the figure of every round, with ours held against the given costs."""
        return [self.case.figure.of(ours, other) for ours, other in zip(self.ours, costs, strict=True)]

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """The quartiles of the figures that floor and aim are for; the middle one is the row's figure."""
        low, middle, high = np.percentile(self.against(self.case.figure.yardstick(self)), [25, 50, 75])
        return float(low), float(middle), float(high)

    @property
    def reached(self) -> str:
        sign = 1 if self.case.figure.higher_is_better else -1
        figure = sign * self.quartiles[1]
        return "aim" if figure >= sign * self.case.aim else "floor" if figure >= sign * self.case.floor else "no"

    def cells(self) -> tuple[str, ...]:
        """Return the texts of the row, one under each of HEADINGS."""
        case, figure = self.case, self.case.figure
        wanted = (f"{case.floor:{figure.digits}}{figure.unit}", f"{case.aim:{figure.digits}}{figure.unit}")
        if self.unavailable:
            return (case.name, "-", *wanted, "-", f"not measured: {self.unavailable}")
        low, middle, high = (f"{quartile:{figure.digits}}" for quartile in self.quartiles)
        measured = f"{middle}{figure.unit} ({low} to {high})"
        return (case.name, measured, *wanted, self.reached, figure.detail(self))

    def record(self) -> dict[str, Any]:
        """Return everything measured, for JSON."""
        case = self.case
        wanted = {"name": case.name, "floor": case.floor, "aim": case.aim}
        if self.unavailable:
            return {**wanted, "unavailable": self.unavailable}
        low, middle, high = self.quartiles
        outcome = {"median": middle, "quartiles": [low, high], "reached": self.reached, "peer": self.peer}
        return {**wanted, **outcome, "cost_unit": case.figure.cost_unit, "costs": self.costs}


def median(values: Sequence[float]) -> float:
    return float(np.median(values))


def markdown(results: Sequence[Result]) -> str:
    """Return the table of the results in Markdown."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *(result.cells() for result in results)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def plain(result: Result) -> str:
    """Return a row in plain text: its name and absolute numbers, then the figure and what was wanted."""
    name, figure, floor, aim, reached, detail = result.cells()
    return f"{name}\n    {figure}, floor {floor}, aim {aim}, reached: {reached}\n    {detail}\n"
