"""Draw the comparison with other libraries: GB/s by array size, and bars of GB/s with the store bandwidth.

Both pictures show already touched memory and the largest number of threads that was measured. Each library is
represented by its fastest generator and method.
"""

from __future__ import annotations

import textwrap
from io import BytesIO
from statistics import fmean
from typing import TYPE_CHECKING

from grid import DRAWS, DTYPES, FASTKAIMING
from machine import binary_size
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from PIL import Image
from results import STORE_BANDWIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from results import Record, Series

PANELS = (("float32", "normal"), ("float32", "uniform"), ("float32", "truncated"), ("bfloat16", "normal"))
TEXT_COLOR, GRAY, BACKGROUND = "#222222", "#666666", "#ffffff"
WIDTH = 6.0  # inches; at 400 pixels, an inch is 67 pixels and a font of 12 points is 11 pixels high
FONT_SIZE = 12
# The palette of Okabe and Ito, which colour-blind readers can distinguish. The markers differ as well, so that the
# lines can be distinguished without colour.
COLORS_AND_MARKERS = {
    FASTKAIMING: ("#0072B2", "o"),
    "NumPy": ("#E69F00", "s"),
    "randomgen": ("#56B4E9", "D"),
    "MKL": ("#000000", "v"),
    "torch": ("#D55E00", "^"),
    "JAX": ("#CC79A7", "P"),
    "TensorFlow": ("#009E73", "X"),
}
LABEL_BOX = {"facecolor": BACKGROUND, "edgecolor": "none", "pad": 0.5}
GAP = 0.105  # the distance between labels, as a share of the height of a panel


def draw(record: Record, directory: Path) -> None:
    """Write both pictures as PNG files with a palette, which reduces their size to a third."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, figure in (("peers_size", over_size(record)), ("peers_limit", beside_limit(record))):
        png = BytesIO()
        figure.savefig(png, dpi=130, facecolor=BACKGROUND)
        Image.open(png).convert("RGB").quantize().save(directory / f"{name}.png", optimize=True)


def fastest(record: Record, series: Series) -> dict[str, str]:
    """Return the fastest contestant of each library on the largest array for which it was measured."""
    best: dict[str, str] = {}
    for name in sorted(series.names(), key=lambda name: series.rates(name)[-1], reverse=True):
        best.setdefault(record.library(name), name)
    return best


def touched_memory_series(record: Record, draw_: str, dtype: str) -> Series | None:
    """Return the series for touched memory and the largest number of threads, if it was measured."""
    threads = max(each.cell.job.threads for each in record.outcomes)
    found = record.find(draw_, dtype, threads, new=False)
    return found if found and found.rates(STORE_BANDWIDTH) else None


def add_title_and_notes(record: Record, figure: Figure, title: str, notes: Sequence[str] = ()) -> None:
    """Write the title above the panels, and the machine, the notes and the missing libraries below them."""
    margin = 0.08 / figure.get_figheight()
    figure.text(0.01, 1 - margin, title, va="top", fontsize=FONT_SIZE + 1, fontweight="bold", color=TEXT_COLOR)
    allocating = [name for name, each in record.libraries.items() if not each.in_place and not each.missing]
    sentences = [
        *notes,
        "Each library is represented by its fastest generator and method.",
        f"{' and '.join(allocating)} allocated new memory for each array." if allocating else "",
        record.missing(),
        f"{record.about()}.",
    ]
    text = textwrap.fill(" ".join(filter(None, sentences)), 78)
    figure.text(0.01, margin, text, va="bottom", fontsize=FONT_SIZE - 2, color=GRAY)


def style_axes(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(colors=TEXT_COLOR, labelsize=FONT_SIZE)
    ax.set_facecolor(BACKGROUND)


# --- by size --------------------------------------------------------------------------------------------------------


def over_size(record: Record) -> Figure:
    """Return a figure with a panel for each distribution and dtype, and in it GB/s against the array size."""
    found = [(dtype, draw_, touched_memory_series(record, draw_, dtype)) for dtype, draw_ in PANELS]
    panels = [(f"{dtype} {draw_}", series) for dtype, draw_, series in found if series]
    threads = panels[0][1].threads if panels else 0
    rows = max(1, len(panels))
    height = 3.4 * rows + 1.8
    figure = Figure(figsize=(WIDTH, height))
    grid = figure.add_gridspec(rows, 1, left=0.14, right=0.74, top=1 - 0.95 / height, bottom=1.6 / height, hspace=0.45)
    for row, (title, series) in enumerate(panels):
        ax = figure.add_subplot(grid[row])
        draw_size_panel(record, series, ax)
        ax.set_title(title, loc="left", fontsize=FONT_SIZE, color=TEXT_COLOR)
        ax.set_ylabel("GB/s", fontsize=FONT_SIZE, color=TEXT_COLOR)
        ax.set_xlabel("size of the array", fontsize=FONT_SIZE, color=TEXT_COLOR)
    sizes = [each.cell.job.nbytes for _, series in panels for each in series.outcomes]
    limits = f"{binary_size(min(sizes))} to {binary_size(max(sizes))}" if sizes else ""
    add_title_and_notes(record, figure, f"Speed by array size: {limits},\n{threads} threads, already touched memory")
    return figure


def draw_size_panel(record: Record, series: Series, ax: Axes) -> None:
    limit = series.rates(STORE_BANDWIDTH)
    ax.plot(*zip(*limit, strict=True), color=GRAY, linestyle="--", linewidth=1.5)
    labels = [(STORE_BANDWIDTH, limit[-1], GRAY)]
    for library, name in fastest(record, series).items():
        color, marker = COLORS_AND_MARKERS[library]
        line_width = 3 if library == FASTKAIMING else 1.5
        points = series.rates(name)
        ax.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=6, linewidth=line_width)
        labels.append((library, points[-1], color))
    ax.set(xscale="log", yscale="log", xlim=(limit[0][0] / 1.5, limit[-1][0] * 1.5))
    ax.set_xticks([nbytes for nbytes, _ in limit][::2])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda nbytes, _: binary_size(int(nbytes))))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    ax.grid(color="#dddddd", linewidth=0.7)
    style_axes(ax)
    label_line_ends(ax, labels)


def label_line_ends(ax: Axes, labels: list[tuple[str, tuple[int, float], str]]) -> None:
    """Write the names to the right of the ends of their lines, in the vertical order of the ends."""
    ends = ax.transAxes.inverted().transform([ax.transData.transform(end) for _, end, _ in labels])[:, 1]
    order = sorted(range(len(labels)), key=lambda number: ends[number])
    heights = separate_labels([ends[number] for number in order])
    for number, height in zip(order, heights, strict=True):
        name, end, color = labels[number]
        ax.annotate(
            name,
            end,
            xytext=(1.06, height),
            textcoords="axes fraction",
            va="center",
            fontsize=FONT_SIZE - 1,
            fontweight="bold" if name == FASTKAIMING else "normal",
            color=GRAY if name == STORE_BANDWIDTH else TEXT_COLOR,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 3},
            annotation_clip=False,
        )


def separate_labels(heights: Sequence[float]) -> list[float]:
    """Return ascending heights, moved as little as possible so that at least GAP is between them, within the panel.

    After i * GAP is subtracted from the i-th height, the heights only have to be non-decreasing. This is isotonic
    regression: adjacent heights in the wrong order are replaced by their mean.
    """
    groups: list[list[float]] = []
    for number, height in enumerate(heights):
        groups.append([height - number * GAP])
        while len(groups) > 1 and fmean(groups[-2]) > fmean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    means = [fmean(group) for group in groups for _ in group]
    highest = 1 - (len(means) - 1) * GAP
    return [min(max(0.0, mean), highest) + number * GAP for number, mean in enumerate(means)]


# --- store bandwidth -------------------------------------------------------------------------------------------------


def beside_limit(record: Record) -> Figure:
    """Return a figure with bars of GB/s on large arrays, and lines at the store bandwidth."""
    figure = Figure(figsize=(WIDTH, 11.4))
    axes = figure.subplots(len(DTYPES), len(DRAWS), squeeze=False)
    figure.subplots_adjust(left=0.2, right=0.985, top=0.895, bottom=0.165, wspace=0.1, hspace=0.55)
    for row, dtype in zip(axes, DTYPES, strict=True):
        is_leftmost = True  # the names of the libraries are only on the leftmost panel of a row
        for ax, draw_ in zip(row, DRAWS, strict=True):
            series = touched_memory_series(record, draw_, dtype)
            if series is None:
                ax.set_axis_off()
                continue
            draw_limit_panel(record, series, ax)
            ax.tick_params(labelleft=is_leftmost)
            is_leftmost = False
            ax.set_title(f"{dtype}\n{draw_}", loc="left", fontsize=FONT_SIZE, color=TEXT_COLOR)
            ax.set_xlabel("GB/s", fontsize=FONT_SIZE, color=TEXT_COLOR)
    threads = max(each.cell.job.threads for each in record.outcomes)
    size = binary_size(record.large)
    note = f"Dashed: store bandwidth. In parentheses: the size, if {size} was not measured."
    title = f"Speed on arrays of {size}:\n{threads} threads, already touched memory"
    add_title_and_notes(record, figure, title, [note])
    return figure


def draw_limit_panel(record: Record, series: Series, ax: Axes) -> None:
    best = fastest(record, series)
    libraries = [name for name, standing in record.libraries.items() if not standing.missing]
    limit = dict(series.rates(STORE_BANDWIDTH))[largest_measured_size(series, STORE_BANDWIDTH, record.large)]
    highest = limit
    for height, library in enumerate(libraries):
        if library not in best:
            reason = textwrap.fill(series.reason_missing(library), 20)
            ax.annotate(reason, (0, height), (3, 0), textcoords="offset points", va="center").set(
                fontsize=FONT_SIZE - 3, color=GRAY, style="italic", linespacing=0.9, bbox=LABEL_BOX
            )
            continue
        size = largest_measured_size(series, best[library], record.large)
        rate = dict(series.rates(best[library]))[size]
        highest = max(highest, rate)
        ax.barh(height, rate, color=COLORS_AND_MARKERS[library][0], height=0.7)
        suffix = "" if size == record.large else f" ({binary_size(size)})"
        number = ax.annotate(f"{rate:.2g}{suffix}", (rate, height), (3, 0), textcoords="offset points", va="center")
        number.set(fontsize=FONT_SIZE - 2, color=TEXT_COLOR, bbox=LABEL_BOX)
    ax.axvline(limit, color=GRAY, linestyle="--", linewidth=1.5)
    ax.text(limit, -0.75, f"{limit:.3g}", ha="center", va="bottom", fontsize=FONT_SIZE - 2, color=GRAY)
    ax.set(xlim=(0, 1.25 * highest), ylim=(len(libraries) - 0.4, -0.7), yticks=range(len(libraries)))
    ax.set_yticklabels(libraries)
    ax.xaxis.set_major_locator(MaxNLocator(2, prune="upper"))  # the panels are close to each other
    style_axes(ax)


def largest_measured_size(series: Series, name: str, nbytes: int) -> int:
    """Return the largest size of at most ``nbytes`` for which a contestant was measured."""
    outcome = series.largest(name, nbytes)
    return outcome.cell.job.nbytes if outcome else series.rates(name)[0][0]
