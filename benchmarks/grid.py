"""The cells of the grid of libraries, and how a cell is measured (see harness.py)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from harness import UnavailableError, race
from libraries import ITEMSIZES, Draw, Job
from machine import binary_size
from workers import Memory

from fastkaiming._system.memory import available_memory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers import Worker

DRAWS: tuple[Draw, ...] = ("normal", "uniform", "truncated")
DTYPES = tuple(ITEMSIZES)
THREADS = (1, 2)
SIZES = tuple(2**power for power in (12, 16, 20, 24, 28, 30, 32))
NEW_FROM = 1 << 26  # bytes; the C library reuses freed arrays of up to 32 MiB
FASTKAIMING = "fastkaiming"


@dataclass(frozen=True)
class Cell:
    """A combination of distribution, dtype, size and threads, in newly allocated or already touched memory."""

    job: Job
    new: bool

    @property
    def name(self) -> str:
        job = self.job
        threads = f"{job.threads} thread{'s' * (job.threads > 1)}"
        return f"{job.dtype} {job.draw}, {binary_size(job.nbytes)}, {threads}, {Memory(self.new).name}"


def cells(sizes: Sequence[int], threads: int) -> list[Cell]:
    """Return the cells of a thread count, smaller sizes first, and newly allocated memory after touched memory."""
    return [
        Cell(Job(draw, dtype, nbytes, threads), new)
        for dtype in DTYPES
        for draw in DRAWS
        for nbytes in sizes
        for new in (False, True)
        if nbytes >= NEW_FROM or not new
    ]


@dataclass(frozen=True)
class Outcome:
    """The result of a cell: seconds per element in every round, by contestant, or the reason why there are none."""

    cell: Cell
    costs: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)  # reasons, by contestant or library

    def record(self) -> dict[str, Any]:
        return {"name": self.cell.name, **asdict(self)}

    @staticmethod
    def of_record(record: Mapping[str, Any]) -> Outcome:
        cell = Cell(Job(**record["cell"]["job"]), record["cell"]["new"])
        return Outcome(cell, dict(record["costs"]), dict(record["absent"]))


class FailedError(Exception):
    """One contestant of a race has failed."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason


@dataclass(frozen=True)
class Contestant:
    """A method of a library, whose cost is seconds per element."""

    worker: Worker
    name: str
    job: Job
    memory: Memory

    def cost(self) -> float:
        try:
            return self.worker.seconds(self.job, self.name, self.memory) / self.job.elements
        except Exception as error:  # a library may raise any exception
            raise FailedError(self.name, first_line(error)) from error


class GridRunner:
    """Measures the cells in turn, and skips methods that were too slow at smaller sizes."""

    def __init__(self, workers: Mapping[str, Worker], limit: float) -> None:
        self.workers = workers  # by the name of their library
        self.limit = limit  # seconds that one fill may take
        self._expected: dict[tuple[str, str, str], float] = {}  # seconds per element
        self._raced: set[Job] = set()  # usually in touched memory, which is measured before newly allocated memory

    def measure(self, cell: Cell, rounds: int) -> Outcome:
        """Measure the methods that support the cell and are fast enough."""
        outcome = Outcome(cell)
        memory = available_memory()
        if memory is not None and 3 * cell.job.nbytes > memory:
            outcome.absent[FASTKAIMING] = f"{binary_size(cell.job.nbytes)} thrice are more than the available memory"
            return outcome
        methods = self._methods(outcome)
        kept = memory is None or len({worker for worker, _ in methods}) * cell.job.nbytes < memory // 2
        entrants = [Contestant(worker, name, cell.job, Memory(cell.new, kept)) for worker, name in methods]
        while True:
            try:
                outcome.costs.update(race(entrants, rounds, warm_up=not cell.new or cell.job not in self._raced))
                break
            except FailedError as failed:
                outcome.absent[failed.name] = failed.reason
                entrants = [entrant for entrant in entrants if entrant.name != failed.name]
        self._raced.add(cell.job)
        for name, costs in outcome.costs.items():
            fill = cell.job.draw, cell.job.dtype, name
            self._expected[fill] = self._expected.get(fill, min(costs)) if cell.new else min(costs)
        for worker in self.workers.values():
            with suppress(UnavailableError):  # if the process has died
                worker.forget()
        return outcome

    def _methods(self, outcome: Outcome) -> list[tuple[Worker, str]]:
        """Return the methods to measure, and record the reason for each one left out."""
        job, methods = outcome.cell.job, []
        for library, worker in self.workers.items():
            try:
                names = worker.names(job)
            except Exception as reason:  # a library may raise any exception
                outcome.absent[library] = first_line(reason)
                continue
            for name in names:
                expected = self._expected.get((job.draw, job.dtype, name), 0.0) * job.elements
                if expected > self.limit and library != FASTKAIMING:
                    outcome.absent[name] = f"skipped: about {expected:.2g} s per fill"
                else:
                    methods.append((worker, name))
        return methods


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
