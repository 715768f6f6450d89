"""Markdown tables of the grid of libraries, one for each distribution and dtype."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

from grid import DRAWS, DTYPES, FASTKAIMING, THREADS
from machine import binary_size
from results import STORE_BANDWIDTH, heading, ratios, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from results import Record, Series

MIDDLE = 1 << 20
WIDTH = 120
MARKS = "<!-- written by compare.py -->\n", "<!-- to here -->\n"  # around the tables of a page


def within(page: str, tables: str) -> str:
    """Return the page with the tables between its marks, or only the tables if the page has no marks."""
    before, begin, rest = page.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    return f"{before}{begin}\n{tables}\n{end}{after}" if end else tables


class Column(NamedTuple):
    """A size of one series."""

    series: Series
    nbytes: int


def markdown(record: Record) -> str:
    """Return a description of the machine, and a table for each distribution and dtype."""
    parts = [textwrap.fill(text, WIDTH) for text in (f"{record.about()}.", record.missing())]
    for dtype in DTYPES:
        for draw in DRAWS:
            columns = columns_of(record, draw, dtype)
            if columns:
                parts += [
                    f"### {dtype} {draw}",
                    table(record, columns),
                    unsupported(record, columns),
                ]
    return "\n\n".join(part for part in parts if part) + "\n"


def columns_of(record: Record, draw: str, dtype: str) -> list[Column]:
    """Return the columns of a table: a small, a medium and a large array, on one thread and several."""
    found = []
    for threads in THREADS:
        for new in (False, True):
            series = record.find(draw, dtype, threads, new)
            if series is None:
                continue
            sizes = [each.cell.job.nbytes for each in series.outcomes]
            wanted = [min(sizes), MIDDLE] if threads == 1 and not new else []
            found += [Column(series, size) for size in dict.fromkeys([*wanted, record.large]) if size in sizes]
    return found


def table(record: Record, columns: Sequence[Column]) -> str:
    """Return a table with rows for the store bandwidth, fastkaiming, and the other libraries by their speed.

    They are sorted by the last column for touched memory, fastest first.
    """
    names = list(dict.fromkeys(name for series, _ in columns for name in series.names() if name != FASTKAIMING))
    touched = ([column for column in columns if not column.series.new] or columns)[-1]

    def slowness(name: str) -> float:
        outcome = touched.series.largest(name, touched.nbytes)
        quartiles = outcome and ratios(outcome, name)
        return quartiles[1] if quartiles else float("inf")

    titles = [heading(nbytes, series.threads, series.new) for series, nbytes in columns]
    rows = [["", *titles], ["---"] * (1 + len(columns))]
    for name in (STORE_BANDWIDTH, FASTKAIMING, *sorted(names, key=slowness)):
        mark = (
            ""
            if name == STORE_BANDWIDTH or record.libraries[record.library(name)].in_place
            else " (always newly allocated)"
        )
        rows.append([name + mark, *(entry(column, name) for column in columns)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def entry(column: Column, name: str) -> str:
    """Return nanoseconds per element, and the time as a multiple of fastkaiming's.

    If the contestant was skipped at this size, the entry is for the largest size at which it was measured.
    """
    outcome = column.series.largest(name, column.nbytes)
    cost = seconds(outcome, name) if outcome else None
    if outcome is None or cost is None:
        return "-"
    size = outcome.cell.job.nbytes
    place = "" if size == column.nbytes else f" at {binary_size(size)}"
    quartiles = ratios(outcome, name)
    against = ", {1:.3g}x ({0:.3g} to {2:.3g})".format(*quartiles) if quartiles and name != FASTKAIMING else ""
    return f"{1e9 * cost:.3g} ns{against}{place}"


def unsupported(record: Record, columns: Sequence[Column]) -> str:
    """Return sentences about installed libraries that are in no row."""
    measured = {record.library(name) for column in columns for name in column.series.names()}
    reasons: dict[str, list[str]] = {}
    for name, status in record.libraries.items():
        if not status.missing and name not in measured:
            reasons.setdefault(columns[0].series.reason_missing(name), []).append(name)
    return " ".join(f"{', '.join(names)}: {reason}." for reason, names in reasons.items())
