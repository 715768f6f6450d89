"""What the commands print: progress for people, text for people, JSON for scripts."""

import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

import fastkaiming

BAR = 40  # characters
Callback = Callable[[int, int], None]


@contextmanager
def json_output(as_json: bool) -> Iterator[dict[str, Any]]:
    """Lend a table, and print it at the end as JSON, in place of all else that the block prints, if that is asked."""
    result: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()) if as_json else nullcontext():
        yield result
    if as_json:
        print(json.dumps(result, indent=2))


@contextmanager
def progress(name: str) -> Iterator[None]:
    """Tell standard error how far the fills of the block are: a bar on a terminal, rich's if installed, or lines."""
    if sys.stderr is None:  # it is closed
        yield
        return
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
    """Return a callback that redraws a bar on one line of a terminal, and wipes it out at the end."""

    def show(done: int, total: int) -> None:
        bar = f"{name:<13}[{'#' * (BAR * done // total):<{BAR}}]{done / total:>5.0%}"
        print(f"\r{bar}" if done < total else f"\r{'':<{len(bar)}}\r", end="", file=sys.stderr, flush=True)

    return show


def tenths(name: str) -> Callable[[int, int], None]:
    """Return a callback that prints a line at every tenth of a fill that is slow enough to be seen there."""
    shown = 0

    def show(done: int, total: int) -> None:
        nonlocal shown
        if 10 * done // total > shown:
            shown = 10 * done // total
            print(f"{name:<13}{shown:>4}0%", file=sys.stderr, flush=True)

    return show


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of texts and numbers in columns, texts to the left."""
    if not rows:
        return
    columns = [[name, *(shown(row[name]) for row in rows)] for name in rows[0]]
    numeric = [isinstance(rows[0][name], int | float) for name in rows[0]]
    widths = [max(map(len, column)) for column in columns]
    for cells in zip(*columns, strict=True):
        aligned = (
            f"{cell:>{width}}" if is_number else f"{cell:<{width}}"
            for cell, width, is_number in zip(cells, widths, numeric, strict=True)
        )
        print("  ".join(aligned).rstrip())


def shown(value: Any) -> str:
    """Return a value as a cell of a table has it."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value if value.isprintable() else repr(value)  # a terminal would obey it
    return f"{value:.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def one_line(text: str) -> str:
    """Return a text in one line, without what a terminal would obey."""
    words = " ".join(text.split())
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in words)
