"""The grid of peers: libraries that draw weights, in turn on one machine, by distribution, dtype, size and threads.

    python benchmarks/compare.py [--quick] [--only PATTERN] [--peers NAMES] [--rounds N] [--seconds S]
                                 [--json FILE] [--markdown FILE] [--plots DIRECTORY] [--from-json FILE]

docs/peers.md tells what is measured. A library is a module of the package peers, and runs in a process of its own
(workers.py); its packages are those of the dependency group `peers`. One that is not installed is named as missing.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from grid import SIZES, THREADS, Cell, Track, cells, first_line
from harness import UnavailableError
from machine import machine
from results import Record, Standing, plain
from tables import markdown, within
from workers import Worker, cores, library

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grid import Outcome

OURS = "ours"
PEERS = ("numpy", "randomgen", "mkl", "torch", "jax", "tensorflow")  # modules of the package peers
QUICK_SIZES = (2**12, 2**26)
ROUNDS, ROUNDS_OF_LARGE, QUICK_ROUNDS = 7, 3, 2
LARGE = 2**28
SECONDS, QUICK_SECONDS = 1.0, 0.05


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(description="Measure fastkaiming and its peers, cell by cell of a grid.")
    command.add_argument("--quick", action="store_true", help="small arrays: shows that the harness runs, no more")
    command.add_argument("--only", default="", metavar="PATTERN", help="only cells whose name holds this glob")
    command.add_argument("--peers", metavar="NAMES", help=f"only these, with commas between: {','.join(PEERS)}")
    command.add_argument("--rounds", type=int, metavar="N", help="rounds a cell (default: 7, and 3 from 256 MiB on)")
    command.add_argument("--seconds", type=float, metavar="S", help="skip fills that take longer (default: 1)")
    command.add_argument("--json", type=Path, metavar="FILE", help="write every round's costs")
    command.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables, or put them into a page with marks"
    )
    command.add_argument("--plots", type=Path, metavar="DIRECTORY", help="draw the pictures; needs matplotlib")
    command.add_argument("--from-json", type=Path, metavar="FILE", help="take such a file's costs; measure nothing")
    return command


def main(arguments: Sequence[str] | None = None) -> None:
    command = parser()
    options = command.parse_args(arguments)
    try:
        record = Record.from_json(options.from_json.read_text()) if options.from_json else measured(options)
    except (UnavailableError, OSError, ValueError, LookupError) as error:
        command.error(str(error))
    if options.json:
        options.json.write_text(record.to_json())
    if options.markdown:
        page = options.markdown.read_text() if options.markdown.exists() else ""
        options.markdown.write_text(within(page, markdown(record)))
    if options.plots:
        import plots

        plots.draw(record, options.plots)


def measured(options: argparse.Namespace) -> Record:
    """Return what the grid that the options ask for has found, and print it on the way."""
    peers = options.peers.split(",") if options.peers is not None else PEERS
    if unknown := [name for name in peers if name not in PEERS]:
        raise ValueError(f"--peers knows {', '.join(PEERS)}, received {', '.join(map(repr, unknown))}")
    if options.rounds is not None and options.rounds < 1:
        raise ValueError(f"--rounds must be at least 1, received {options.rounds}")
    if options.seconds is not None and not options.seconds > 0:
        raise ValueError(f"--seconds must be above 0, received {options.seconds}")
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    sizes, threads = (QUICK_SIZES, THREADS[-1:]) if options.quick else (SIZES, THREADS)
    chosen = [[cell for cell in cells(sizes, n) if fnmatch(cell.name, f"*{options.only}*")] for n in threads]
    if not any(chosen):
        raise ValueError(f"--only {options.only!r} matches no cell")

    def rounds(cell: Cell) -> int:
        usual = ROUNDS if cell.job.nbytes < LARGE else ROUNDS_OF_LARGE
        return int(options.rounds or (QUICK_ROUNDS if options.quick else usual))

    libraries: dict[str, Standing] = {}
    outcomes: list[Outcome] = []
    bound = [(wanted, cores(wanted[0].job.threads)) for wanted in chosen if wanted]
    for wanted, cpus in bound:
        with ExitStack() as stack:
            workers = {name: stack.enter_context(Worker(name, cpus)) for name in (OURS, *peers)}
            present = {}
            for name, worker in workers.items():
                title, standing = standing_of(name, worker)
                libraries[title] = standing
                if not standing.missing:
                    present[title] = worker
            track = Track(present, seconds)
            for cell in wanted:
                outcomes.append(track.measure(cell, rounds(cell)))
                print(plain(outcomes[-1]), flush=True)
    counts = sorted({rounds(outcome.cell) for outcome in outcomes}, reverse=True)
    record = Record(machine(), libraries, " or ".join(map(str, counts)), tuple(outcomes))
    print(f"{record.about()}\n{record.missing()}")
    return record


def standing_of(module: str, worker: Worker) -> tuple[str, Standing]:
    """Return a library's name, and its version or why it takes no part."""
    peer = library(module)
    try:
        return peer.NAME, Standing(worker.version(), peer.IN_PLACE)
    except Exception as error:  # a library may fail to load in ways of its own
        return peer.NAME, Standing("", peer.IN_PLACE, first_line(error))


if __name__ == "__main__":
    main()
