"""Plots of the grid of libraries: GB/s over size, and bars beside the store bandwidth.

Both show already touched memory and the largest number of threads that was measured. Of a library's generators and
methods, only the fastest is shown.
"""

from __future__ import annotations

import textwrap
from io import BytesIO
from statistics import fmean
from typing import TYPE_CHECKING

from grid import DRAWS, DTYPES, FASTKAIMING
from machine import binary_size
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from PIL import Image
from results import STORE_BANDWIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from results import Record, Series

PANELS = (("float32", "normal"), ("float32", "uniform"), ("float32", "truncated"), ("bfloat16", "normal"))
INK, FAINT, PAPER = "#222222", "#666666", "#ffffff"
# Okabe and Ito's colours, which colour-blind readers can tell apart; markers distinguish them in print.
LOOKS = {
    FASTKAIMING: ("#0072B2", "o"),
    "NumPy": ("#E69F00", "s"),
    "randomgen": ("#56B4E9", "D"),
    "MKL": ("#000000", "v"),
    "torch": ("#D55E00", "^"),
    "JAX": ("#CC79A7", "P"),
    "TensorFlow": ("#009E73", "X"),
}
GAP = 0.075  # between labels, of a panel's height


def draw(record: Record, directory: Path) -> None:
    """Write both plots, with a palette, which reduces the file size to a third."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, figure in (("peers_size", over_size(record)), ("peers_limit", beside_limit(record))):
        image = BytesIO()
        figure.savefig(image, dpi=100, facecolor=PAPER)
        Image.open(image).convert("RGB").quantize().save(directory / f"{name}.png", optimize=True)


def fastest(record: Record, series: Series) -> dict[str, str]:
    """Return the contestant to show for each library: the fastest on the largest array that it was measured on."""
    best: dict[str, str] = {}
    for name in sorted(series.names(), key=lambda name: series.rates(name)[-1], reverse=True):
        best.setdefault(record.library(name), name)
    return best


def touched(record: Record, draw_: str, dtype: str) -> Series | None:
    """Return the series of touched memory and the largest number of threads, if it was measured."""
    threads = max(each.cell.job.threads for each in record.outcomes)
    found = record.find(draw_, dtype, threads, new=False)
    return found if found and found.rates(STORE_BANDWIDTH) else None


def titled(record: Record, figure: Figure, title: str) -> None:
    """Write the title, and below the panels the machine and the missing libraries."""
    figure.text(0.01, 0.985, title, va="top", fontsize=13, fontweight="bold", color=INK)
    makers = " and ".join(name for name, each in record.libraries.items() if not each.in_place and not each.missing)
    notes = [f"{record.about()}.", f"Newly allocated memory each time: {makers}." if makers else "", record.missing()]
    words = textwrap.fill(f"{' '.join(filter(None, notes))} Only the fastest method of each is shown.", 155)
    figure.text(0.01, 0.008, words, va="bottom", fontsize=8, color=FAINT)


def plain_axes(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(colors=INK, labelsize=9)
    ax.set_facecolor(PAPER)


# --- over size -------------------------------------------------------------------------------------------------------


def over_size(record: Record) -> Figure:
    """Return lines of GB/s over the size of the array."""
    figure = Figure(figsize=(10, 9))
    grid = figure.add_gridspec(2, 2, left=0.065, right=0.875, top=0.92, bottom=0.11, wspace=0.52, hspace=0.3)
    found = [(dtype, draw_, touched(record, draw_, dtype)) for dtype, draw_ in PANELS]
    panels = [(f"{dtype} {draw_}", series) for dtype, draw_, series in found if series]
    threads = panels[0][1].threads if panels else 0
    for at, (title, series) in enumerate(panels):
        ax = figure.add_subplot(grid[at // 2, at % 2])
        size_panel(record, series, ax)
        ax.set_title(title, loc="left", fontsize=11, color=INK)
    titled(record, figure, f"GB/s by size of the array: {threads} threads, already touched memory")
    return figure


def size_panel(record: Record, series: Series, ax: Axes) -> None:
    limit = series.rates(STORE_BANDWIDTH)
    ax.plot(*zip(*limit, strict=True), color=FAINT, linestyle="--", linewidth=1.5)
    labels = [(STORE_BANDWIDTH, limit[-1], FAINT)]
    for library, name in fastest(record, series).items():
        colour, marker = LOOKS[library]
        linewidth = 3 if library == FASTKAIMING else 1.5
        points = series.rates(name)
        ax.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=5, linewidth=linewidth)
        labels.append((library, points[-1], colour))
    ax.set(xscale="log", yscale="log", xlim=(limit[0][0] / 1.5, limit[-1][0] * 1.5))
    ax.set_xticks([nbytes for nbytes, _ in limit][::2])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda nbytes, _: binary_size(int(nbytes))))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    ax.grid(color="#dddddd", linewidth=0.7)
    plain_axes(ax)
    label_ends(ax, labels)


def label_ends(ax: Axes, labels: list[tuple[str, tuple[int, float], str]]) -> None:
    """Write names beside the ends of their lines, in the order of the ends' heights."""
    ends = ax.transAxes.inverted().transform([ax.transData.transform(end) for _, end, _ in labels])[:, 1]
    order = sorted(range(len(labels)), key=lambda at: ends[at])
    for at, height in zip(order, apart([ends[at] for at in order]), strict=True):
        name, end, colour = labels[at]
        ax.annotate(
            name,
            end,
            xytext=(1.07, height),
            textcoords="axes fraction",
            va="center",
            fontsize=10,
            fontweight="bold" if name == FASTKAIMING else "normal",
            color=FAINT if name == STORE_BANDWIDTH else INK,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 3},
            annotation_clip=False,
        )


def apart(heights: Sequence[float]) -> list[float]:
    """Return increasing heights, moved as little as possible so that they are at least GAP apart, within the panel.

    After the gaps below each height are subtracted, the heights only have to be non-decreasing: neighbours in the wrong
    order are replaced by their mean (isotonic regression).
    """
    groups: list[list[float]] = []
    for at, height in enumerate(heights):
        groups.append([height - at * GAP])
        while len(groups) > 1 and fmean(groups[-2]) > fmean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    level = [fmean(group) for group in groups for _ in group]
    highest = 1 - (len(level) - 1) * GAP
    return [min(max(0.0, each), highest) + at * GAP for at, each in enumerate(level)]


# --- beside the limit ------------------------------------------------------------------------------------------------


def beside_limit(record: Record) -> Figure:
    """Return bars of GB/s on large arrays, with a line at the store bandwidth."""
    figure = Figure(figsize=(10, 9))
    axes = figure.subplots(
        len(DTYPES), len(DRAWS), squeeze=False, gridspec_kw={"left": 0.1, "right": 0.985, "top": 0.91, "bottom": 0.09}
    )
    figure.subplots_adjust(wspace=0.42, hspace=0.42)
    for row, dtype in zip(axes, DTYPES, strict=True):
        for ax, draw_ in zip(row, DRAWS, strict=True):
            series = touched(record, draw_, dtype)
            if series is None:
                ax.set_axis_off()
                continue
            limit_panel(record, series, ax)
            ax.set_title(f"{dtype} {draw_}", loc="left", fontsize=11, color=INK)
    threads = max(each.cell.job.threads for each in record.outcomes)
    size = binary_size(record.large)
    titled(record, figure, f"GB/s on {size}: {threads} threads, already touched memory; dashed: store bandwidth")
    return figure


def limit_panel(record: Record, series: Series, ax: Axes) -> None:
    best = fastest(record, series)
    libraries = [name for name, status in record.libraries.items() if not status.missing]
    limit = dict(series.rates(STORE_BANDWIDTH))[at_most(series, STORE_BANDWIDTH, record.large)]
    highest = limit
    for height, library in enumerate(libraries):
        if library not in best:
            ax.text(
                0, height, f" {series.reason_missing(library)}", va="center", fontsize=8, color=FAINT, style="italic"
            )
            continue
        size = at_most(series, best[library], record.large)
        rate = dict(series.rates(best[library]))[size]
        highest = max(highest, rate)
        ax.barh(height, rate, color=LOOKS[library][0], height=0.7)
        place = "" if size == record.large else f" ({binary_size(size)})"
        number = ax.annotate(f"{rate:.2g}{place}", (rate, height), (4, 0), textcoords="offset points", va="center")
        number.set(fontsize=8.5, color=INK, bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8})
    ax.axvline(limit, color=FAINT, linestyle="--", linewidth=1.5)
    ax.text(limit, -0.75, f"{limit:.3g}", ha="center", va="bottom", fontsize=8.5, color=FAINT)
    ax.set(xlim=(0, 1.2 * highest), ylim=(len(libraries) - 0.4, -0.7), yticks=range(len(libraries)))
    ax.set_yticklabels(libraries)
    plain_axes(ax)


def at_most(series: Series, name: str, nbytes: int) -> int:
    """Return the largest size, up to a number of bytes, at which a contestant was measured."""
    outcome = series.largest(name, nbytes)
    return outcome.cell.job.nbytes if outcome else series.rates(name)[0][0]
