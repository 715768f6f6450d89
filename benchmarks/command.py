"""Options and output of the programs that measure rows of a table."""

from __future__ import annotations

import argparse
import json
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from harness import markdown, plain
from machine import about, machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Case

QUICK_ROUNDS = 3


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that these programs share."""
    command = argparse.ArgumentParser(description=description)
    command.add_argument("--rounds", type=int, metavar="N", help="rounds of each row")
    command.add_argument("--quick", action="store_true", help="use small sizes, to check that the program runs")
    command.add_argument(
        "--only", default="", metavar="PATTERN", help="only rows whose name contains this glob pattern"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write the costs of every round and the medians")
    command.add_argument("--markdown", type=Path, metavar="FILE", help="write the table")
    return command


def run(command: argparse.ArgumentParser, rows: Callable[[argparse.Namespace], list[Case]], usual_rounds: int) -> None:
    """Measure the rows that the options select, print each, and write the table."""
    options = command.parse_args()
    chosen = [case for case in rows(options) if fnmatch(case.name.lower(), f"*{options.only.lower()}*")]
    if not chosen:
        command.error(f"--only {options.only!r} matches no row")
    rounds = options.rounds if options.rounds is not None else QUICK_ROUNDS if options.quick else usual_rounds
    if rounds < 1:
        command.error(f"--rounds must be at least 1, received {rounds}")

    print(f"{about()}; medians of {rounds} rounds\n", flush=True)
    results = []
    for case in chosen:
        results.append(case.measure(rounds))
        print(plain(results[-1]), flush=True)

    if options.json:
        record = {"machine": machine(), "quick": options.quick, "rounds": rounds, "rows": [r.record() for r in results]}
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(f"{about()}; medians of {rounds} rounds.\n\n{markdown(results)}")
