"""The record of a run of the grid, stored as JSON, with its rates and ratios."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from grid import FASTKAIMING, Outcome
from harness import median
from libraries import ITEMSIZES, Draw
from machine import binary_size, one_line
from stores import STORES

if TYPE_CHECKING:
    from collections.abc import Iterator

STORE_BANDWIDTH = "store bandwidth"  # of the fastest kind of stores
LARGE = 1 << 30  # bytes of the largest arrays on which libraries are compared


@dataclass(frozen=True)
class LibraryStatus:
    """A library in a run: its version, or the reason why it is missing."""

    version: str
    in_place: bool
    missing: str = ""


@dataclass(frozen=True)
class Series:
    """Cells that differ only in size."""

    draw: Draw
    dtype: str
    threads: int
    new: bool  # memory
    outcomes: tuple[Outcome, ...]  # smaller sizes first

    def names(self) -> list[str]:
        """Return the contestants that were measured at any size, without the stores."""
        return list(dict.fromkeys(name for each in self.outcomes for name in each.costs if name not in STORES))

    def rates(self, name: str) -> list[tuple[int, float]]:
        """Return pairs of a size in bytes and GB/s, for a contestant or for `STORE_BANDWIDTH`."""
        found = [(each.cell.job.nbytes, seconds(each, name)) for each in self.outcomes]
        return [(nbytes, 1e-9 * ITEMSIZES[self.dtype] / cost) for nbytes, cost in found if cost is not None]

    def largest(self, name: str, nbytes: int) -> Outcome | None:
        """Return the cell of the largest size, up to a number of bytes, at which a contestant was measured."""
        sizes = [each for each in self.outcomes if each.cell.job.nbytes <= nbytes and seconds(each, name) is not None]
        return sizes[-1] if sizes else None

    def reason_missing(self, name: str) -> str:
        """Return the reason why a contestant, or a whole library, is in no cell."""
        reasons = {each.absent[name]: None for each in self.outcomes if name in each.absent}
        return "; ".join(reasons) or "not measured"


@dataclass(frozen=True)
class Record:
    """A whole run."""

    machine: dict[str, str]
    libraries: dict[str, LibraryStatus]
    rounds: str
    outcomes: tuple[Outcome, ...]

    def to_json(self) -> str:
        libraries = {name: asdict(status) for name, status in self.libraries.items()}
        whole = {"machine": self.machine, "rounds": self.rounds, "libraries": libraries}
        return json.dumps({**whole, "cells": [outcome.record() for outcome in self.outcomes]}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> Record:
        found = json.loads(text)
        libraries = {name: LibraryStatus(**status) for name, status in found["libraries"].items()}
        return Record(found["machine"], libraries, found["rounds"], tuple(map(Outcome.of_record, found["cells"])))

    def series(self) -> Iterator[Series]:
        """Yield all series that were measured."""
        kinds: dict[tuple[Draw, str, int, bool], list[Outcome]] = {}
        for each in self.outcomes:
            job = each.cell.job
            kinds.setdefault((job.draw, job.dtype, job.threads, each.cell.new), []).append(each)
        for kind, outcomes in kinds.items():
            yield Series(*kind, tuple(sorted(outcomes, key=lambda each: each.cell.job.nbytes)))

    def find(self, draw: str, dtype: str, threads: int, new: bool) -> Series | None:
        wanted = (draw, dtype, threads, new)
        found = (each for each in self.series() if (each.draw, each.dtype, each.threads, each.new) == wanted)
        return next(found, None)

    def library(self, contestant: str) -> str:
        """Return the name of the library that a contestant belongs to."""
        return next(name for name in self.libraries if contestant.startswith(name))

    @property
    def large(self) -> int:
        """The size, in bytes, on which libraries are compared."""
        sizes = {each.cell.job.nbytes for each in self.outcomes}
        return max((size for size in sizes if size <= LARGE), default=min(sizes))

    def about(self) -> str:
        """Return the machine and the versions in one line."""
        versions = {name: each.version for name, each in self.libraries.items() if each.version}
        return f"{one_line({**self.machine, **versions})}; medians of {self.rounds} rounds"

    def missing(self) -> str:
        """Return a sentence about the libraries that are missing; an empty string if none is."""
        absent = [f"{name} ({each.missing})" for name, each in self.libraries.items() if each.missing]
        return f"Not measured here: {', '.join(absent)}." if absent else ""


def seconds(outcome: Outcome, name: str) -> float | None:
    """Return the median seconds per element."""
    if name == STORE_BANDWIDTH:
        stores = [median(costs) for kind, costs in outcome.costs.items() if kind in STORES]
        return min(stores, default=None)
    return median(outcome.costs[name]) if name in outcome.costs else None


def ratios(outcome: Outcome, name: str) -> tuple[float, float, float] | None:
    """Return the quartiles, over the rounds, of a contestant's time as a multiple of fastkaiming's."""
    if name not in outcome.costs or FASTKAIMING not in outcome.costs:
        return None
    low, middle, high = np.percentile(np.divide(outcome.costs[name], outcome.costs[FASTKAIMING]), [25, 50, 75])
    return float(low), float(middle), float(high)


def plain(outcome: Outcome) -> str:
    """Return a cell in plain text."""
    lines = [outcome.cell.name]
    for name in outcome.costs:
        cost = median(outcome.costs[name])
        rate = 1e-9 * ITEMSIZES[outcome.cell.job.dtype] / cost
        quartiles = ratios(outcome, name)
        against = (
            "" if quartiles is None or name == FASTKAIMING else "  {1:.3g}x ({0:.3g} to {2:.3g})".format(*quartiles)
        )
        lines.append(f"    {name:24}{1e9 * cost:9.3g} ns{rate:8.2f} GB/s{against}")
    lines += [f"    {name:24}{reason}" for name, reason in outcome.absent.items()]
    return "\n".join(lines) + "\n"


def heading(nbytes: int, threads: int, new: bool) -> str:
    return f"{binary_size(nbytes)}{', newly allocated' if new else ''}, {threads} thread{'s' * (threads > 1)}"
