"""Output of the commands: progress bars, tables and JSON."""

import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

import fastkaiming

BAR_WIDTH = 40  # characters
Callback = Callable[[int, int], None]


@contextmanager
def json_output(as_json: bool) -> Iterator[dict[str, Any]]:
    """Yield a dict for the results; if ``as_json``, print it as JSON instead of what the block prints."""
    result: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()) if as_json else nullcontext():
        yield result
    if as_json:
        print(json.dumps(result, indent=2))


@contextmanager
def progress(name: str) -> Iterator[None]:
    """Show the progress of the fills in the block on standard error.

    On a terminal, show a progress bar, with rich if it is installed. Otherwise, print a line for every tenth.
    """
    if not sys.stderr.isatty():
        with fastkaiming.progress(tenths(name)):
            yield
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ModuleNotFoundError:
        with fastkaiming.progress(redrawn_bar(name)):
            yield
        return
    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(name)
        with fastkaiming.progress(lambda done, total: bars.update(task, completed=done, total=total)):
            yield


def redrawn_bar(name: str) -> Callable[[int, int], None]:
    """Return a progress callback that redraws a bar on one line of a terminal, and erases it at the end."""

    def show(done: int, total: int) -> None:
        bar = f"{name:<13}[{'#' * (BAR_WIDTH * done // total):<{BAR_WIDTH}}]{done / total:>5.0%}"
        print(f"\r{bar}" if done < total else f"\r{'':<{len(bar)}}\r", end="", file=sys.stderr, flush=True)

    return show


def tenths(name: str) -> Callable[[int, int], None]:
    """Return a progress callback that prints a line whenever another tenth of the fill is complete."""
    printed = 0

    def show(done: int, total: int) -> None:
        nonlocal printed
        if 10 * done // total > printed:
            printed = 10 * done // total
            print(f"{name:<13}{printed:>4}0%", file=sys.stderr, flush=True)

    return show


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows in columns, with strings aligned to the left and numbers to the right."""
    if not rows:
        return
    columns = [[name, *(format_value(row[name]) for row in rows)] for name in rows[0]]
    numeric = [isinstance(rows[0][name], int | float) for name in rows[0]]
    widths = [max(map(len, column)) for column in columns]
    for cells in zip(*columns, strict=True):
        aligned = (
            f"{cell:>{width}}" if is_number else f"{cell:<{width}}"
            for cell, width, is_number in zip(cells, widths, numeric, strict=True)
        )
        print("  ".join(aligned).rstrip())


def format_value(value: Any) -> str:
    """Return a value as it is printed in a table."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value if value.isprintable() else repr(value)  # so that a terminal does not execute control sequences
    return f"{value:.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def one_line(text: str) -> str:
    """Return a text in one line, with control characters escaped."""
    words = " ".join(text.split())
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in words)
