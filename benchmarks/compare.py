"""Compare fastkaiming with other libraries, by distribution, dtype, size and number of threads.

    python benchmarks/compare.py [--quick] [--only PATTERN] [--libraries NAMES] [--rounds N] [--seconds S]
                                 [--json FILE] [--markdown FILE] [--plots DIRECTORY] [--from-json FILE]

docs/peers.md describes what is measured. Each library has a module in the package libraries and runs in its own process
(workers.py). The dependency group `peers` installs the libraries; those that are not installed are listed as missing.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from grid import SIZES, THREADS, Cell, GridRunner, cells, first_line
from harness import UnavailableError
from machine import machine
from results import LibraryStatus, Record, plain
from tables import markdown, within
from workers import Worker, cores, library, one_cpu_per_core

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from grid import Outcome

FASTKAIMING = "fastkaiming"
LIBRARIES = ("numpy", "randomgen", "mkl", "torch", "jax", "tensorflow")  # modules of the package libraries
QUICK_SIZES = (2**12, 2**26)
ROUNDS, ROUNDS_OF_LARGE, QUICK_ROUNDS = 7, 3, 1
LARGE = 2**28
SECONDS, QUICK_SECONDS = 1.0, 0.05


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(description="Measure fastkaiming and other libraries on a grid of fills.")
    command.add_argument("--quick", action="store_true", help="use small arrays, to check that the program runs")
    command.add_argument(
        "--only",
        default="",
        metavar="PATTERN",
        help="only cells whose name contains this glob pattern",
    )
    command.add_argument("--libraries", metavar="NAMES", help=f"only these, separated by commas: {','.join(LIBRARIES)}")
    command.add_argument("--rounds", type=int, metavar="N", help="rounds per cell (default: 7, and 3 from 256 MiB on)")
    command.add_argument("--seconds", type=float, metavar="S", help="skip fills that take longer (default: 1)")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the costs of every round")
    command.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables, or insert them into a page between its marks"
    )
    command.add_argument("--plots", type=Path, metavar="DIRECTORY", help="write the plots; needs matplotlib")
    command.add_argument(
        "--from-json",
        type=Path,
        metavar="FILE",
        help="read costs from a file of --json; measure nothing",
    )
    return command


def main(arguments: Sequence[str] | None = None) -> None:
    command = parser()
    options = command.parse_args(arguments)
    try:
        found = Record.from_json(options.from_json.read_text()) if options.from_json else plan_of(options)
    except (UnavailableError, OSError, ValueError, LookupError) as error:
        command.error(str(error))
    record = run(found, options.json) if isinstance(found, Plan) else found
    if options.markdown:
        page = options.markdown.read_text() if options.markdown.exists() else ""
        options.markdown.write_text(within(page, markdown(record)))
    if options.plots:
        import plots

        plots.draw(record, options.plots)


@dataclass(frozen=True)
class Plan:
    """The cells and libraries to measure, and the limits of the measurement."""

    groups: list[tuple[frozenset[int], list[Cell]]]  # CPUs, and the cells that use one thread for each
    libraries: Sequence[str]
    rounds: Callable[[Cell], int]
    seconds: float


def plan_of(options: argparse.Namespace) -> Plan:
    """Return the plan of the options; raise ValueError or UnavailableError if an option is wrong."""
    libraries = options.libraries.split(",") if options.libraries is not None else LIBRARIES
    if unknown := [name for name in libraries if name not in LIBRARIES]:
        raise ValueError(f"--libraries must be among {', '.join(LIBRARIES)}, received {', '.join(map(repr, unknown))}")
    if options.rounds is not None and options.rounds < 1:
        raise ValueError(f"--rounds must be at least 1, received {options.rounds}")
    if options.seconds is not None and not options.seconds > 0:
        raise ValueError(f"--seconds must be above 0, received {options.seconds}")

    def rounds(cell: Cell) -> int:
        usual = ROUNDS if cell.job.nbytes < LARGE else ROUNDS_OF_LARGE
        return int(options.rounds or (QUICK_ROUNDS if options.quick else usual))

    most = min(THREADS[-1], len(one_cpu_per_core()))
    sizes, threads = (QUICK_SIZES, (most,)) if options.quick else (SIZES, THREADS)
    chosen = [[cell for cell in cells(sizes, n) if fnmatch(cell.name, f"*{options.only}*")] for n in threads]
    groups = [(cores(group[0].job.threads), group) for group in chosen if group]
    if not groups:
        raise ValueError(f"--only {options.only!r} matches no cell")
    return Plan(groups, libraries, rounds, options.seconds or (QUICK_SECONDS if options.quick else SECONDS))


def run(plan: Plan, path: Path | None) -> Record:
    """Measure and print the cells one by one; after each, the record so far is written to the path."""
    outcomes: list[Outcome] = []
    for cpus, group in plan.groups:
        with ExitStack() as stack:
            names = {library(module).NAME: module for module in (FASTKAIMING, *plan.libraries)}
            workers = {name: stack.enter_context(Worker(module, cpus)) for name, module in names.items()}
            libraries = {name: status_of(worker) for name, worker in workers.items()}
            present = {name: worker for name, worker in workers.items() if not libraries[name].missing}
            runner = GridRunner(present, plan.seconds)
            for cell in group:
                outcomes.append(runner.measure(cell, plan.rounds(cell)))
                print(plain(outcomes[-1]), flush=True)
                rounds = sorted({plan.rounds(outcome.cell) for outcome in outcomes}, reverse=True)
                record = Record(machine(), libraries, " or ".join(map(str, rounds)), tuple(outcomes))
                if path:
                    path.write_text(record.to_json())
    print(f"{record.about()}\n{record.missing()}")
    return record


def status_of(worker: Worker) -> LibraryStatus:
    """Return the version of a library, or the reason why it is missing."""
    in_place = library(worker.module).IN_PLACE
    try:
        return LibraryStatus(worker.version(), in_place)
    except Exception as error:  # a library may raise any exception when it is loaded
        return LibraryStatus("", in_place, missing=first_line(error))


if __name__ == "__main__":
    main()
