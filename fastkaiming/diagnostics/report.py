"""A page of HTML about the weights of a model: every array against its distribution, and pictures of the worst.

Needs matplotlib: ``pip install 'fastkaiming[plot]'``.
"""

import base64
import io
import math
import re
from collections.abc import Iterable
from html import escape
from typing import Any, NamedTuple

from numpy.typing import NDArray

from fastkaiming import _validation
from fastkaiming.diagnostics import plot
from fastkaiming.diagnostics._statistics import Statistics, statistics
from fastkaiming.distributions import Distribution

_ALARM = 6.0  # standard errors that one array in some hundred million is off by chance


class Tensor(NamedTuple):
    """A row of the report.

    Attributes
    ----------
    name, rule : str
        Its name, and what is to be said of how it was filled.
    array : numpy.ndarray
        Its values.
    distribution : Normal, Uniform or TruncatedNormal, optional
        What they should come from; without one, they are held to none.
    """

    name: str
    rule: str
    array: NDArray[Any]
    distribution: Distribution | None = None


class _Row(NamedTuple):
    """What is kept of a tensor when its array is let go."""

    name: str
    rule: str
    shape: tuple[int, ...]
    dtype: str
    distribution: Distribution | None
    found: Statistics
    counts: plot.Counts


def html(title: str, rows: Iterable[Tensor], pictures: int = 50) -> str:
    """Return a page of HTML about arrays and what they should have been drawn from.

    It holds a table with a row for each tensor, in the order of names (layer 2 before layer 10), where what is doubtful
    is marked: a mean or standard deviation more than 6 standard errors off, outliers, dead rows (see
    :class:`fastkaiming.diagnostics.Statistics`); and histograms, those with the worst standard errors first. Pictures
    and styles are part of the page: it needs no other file.

    Parameters
    ----------
    title : str
        The heading.
    rows : iterable of Tensor
        The tensors: ``Tensor(name, rule, array, distribution)``. One array is looked at after the other and let go, so
        that a generator can read a model of any size.
    pictures : int, default 50
        The greatest number of histograms.

    Returns
    -------
    str
        The page, to be written as UTF-8.

    Raises
    ------
    TypeError
        An argument of the wrong kind; for a tensor, with its name.
    ValueError
        A negative number of pictures.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> from fastkaiming.diagnostics import report
    >>> weights = fk.kaiming_normal((256, 256), rng=1)
    >>> page = report.html("My model", [report.Tensor("fc.weight", "kaiming_normal", weights, fk.kaiming((256, 256)))])
    >>> page.count("<img")
    1
    """
    heading = escape(_validation.text("title", title))
    _validation.integer("pictures", pictures, 0, _validation.MAX_ELEMENTS)
    measured = sorted(map(_measured, rows), key=_natural)
    worst = sorted(measured, key=_badness, reverse=True)[:pictures]
    numbers = {id(row): number for number, row in enumerate(worst)}
    table = "\n".join(_table_row(row, numbers.get(id(row))) for row in measured)
    figures = "\n".join(_figure(row, number) for number, row in enumerate(worst))
    doubtful = sum(any(_alarms(row.found).values()) for row in measured)
    values = sum(row.found.count for row in measured)
    summary = f"{len(measured):,} tensors of {values:,} values in all; {doubtful:,} with something marked."
    return _PAGE.format(title=heading, summary=summary, head=_HEAD, table=table, figures=figures)


def _measured(row: Any) -> _Row:
    if not isinstance(row, Tensor):
        raise TypeError(f"rows must be Tensors, not {_validation.shown(row)}")
    name, rule = _validation.text("name", row.name), _validation.text("rule", row.rule)
    try:
        found = statistics(row.array, row.distribution)
    except TypeError as error:
        raise TypeError(f"tensor {name!r}: {error}") from error
    counts = plot.counted(row.array, row.distribution)
    return _Row(name, rule, row.array.shape, row.array.dtype.name, row.distribution, found, counts)


def _natural(row: _Row) -> list[tuple[str, int]]:
    """Return what has layer 2 before layer 10."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"([^0-9]*)([0-9]{0,18})", row.name)]


def _badness(row: _Row) -> float:
    """Return the greater z-score, below 0 where there is none."""
    scores = [abs(z) for z in (row.found.z_mean, row.found.z_std) if row.found.count and z is not None]
    return max((math.inf if math.isnan(score) else score for score in scores), default=-1.0)


def _alarms(found: Statistics) -> dict[str, bool]:
    """Tell which fields of the statistics are doubtful."""

    def is_off(z: float | None) -> bool:
        return bool(found.count) and z is not None and not abs(z) <= _ALARM

    return {
        "z_mean": is_off(found.z_mean),
        "z_std": is_off(found.z_std),
        "outliers": bool(found.outliers),
        "dead_rows": bool(found.dead_rows and found.expected_std),
    }


def _table_row(row: _Row, picture: int | None) -> str:
    found, alarms = row.found, _alarms(row.found)
    name = escape(row.name) if picture is None else f'<a href="#picture{picture}">{escape(row.name)}</a>'
    texts = [
        name,
        escape(row.rule),
        " \N{MULTIPLICATION SIGN} ".join(f"{size:,}" for size in row.shape) or "scalar",
        escape(row.dtype),
    ]
    numbers = [
        (_number(found.mean), False),
        (_number(found.expected_mean), False),
        (_score(found.z_mean), alarms["z_mean"]),
        (_number(found.std), False),
        (_number(found.expected_std), False),
        (_score(found.z_std), alarms["z_std"]),
        (_count(found.outliers), alarms["outliers"]),
        (_count(found.dead_rows), alarms["dead_rows"]),
        (_count(found.zeros), False),
        (_number(found.least), False),
        (_number(found.greatest), False),
    ]
    cells = [f"<td>{text}</td>" for text in texts]
    cells += [f'<td class="alarm">{text} ⚠</td>' if alarm else f"<td>{text}</td>" for text, alarm in numbers]
    return f"<tr>{''.join(cells)}</tr>"


def _number(value: float | None, form: str = ".4g") -> str:
    return "" if value is None else "NaN" if math.isnan(value) else format(value, form).replace("-", "\N{MINUS SIGN}")


def _score(value: float | None) -> str:
    return _number(value, "+.1f")


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _figure(row: _Row, number: int) -> str:
    png = io.BytesIO()
    plot.drawn(row.counts, row.distribution).savefig(png, format="png", dpi=90)
    source = base64.b64encode(png.getvalue()).decode()
    name = escape(row.name)
    image = f'<img src="data:image/png;base64,{source}" alt="histogram of {name}" loading="lazy">'
    return f'<figure id="picture{number}"><figcaption>{name}</figcaption>{image}</figure>'


_HEAD = """\
<tr><th rowspan="2">tensor</th><th rowspan="2">rule</th><th rowspan="2">shape</th><th rowspan="2">dtype</th>
<th colspan="3">mean</th><th colspan="3">standard deviation</th><th rowspan="2">outliers</th>
<th rowspan="2">dead rows</th><th rowspan="2">zeros</th><th rowspan="2">least</th><th rowspan="2">greatest</th></tr>
<tr><th>found</th><th>expected</th><th>off by</th><th>found</th><th>expected</th><th>off by</th></tr>"""

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
:root {{ --ink: #1d1d1f; --paper: #fff; --line: #d5d5da; --shade: #f3f3f6; --alarm: #b3001e; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6e6e9; --paper: #161618; --line: #3c3c42; --shade: #232327; --alarm: #ff8080; }}
  img {{ filter: invert(0.91) hue-rotate(180deg); }}
}}
body {{ margin: 2rem; font: 13px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.25rem 0.45rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }}
th {{ background: var(--shade); font-weight: 600; vertical-align: bottom; }}
th[colspan] {{ text-align: center; }}
td:nth-child(-n+4), th[rowspan]:nth-child(-n+4) {{ text-align: left; }}
.alarm {{ color: var(--alarm); font-weight: 600; }}
a {{ color: inherit; }}
.pictures {{ display: flex; flex-wrap: wrap; gap: 1rem; margin-top: 2rem; }}
figure {{ margin: 0; padding: 0.5rem; border: 1px solid var(--line); border-radius: 6px; max-width: 405px; }}
figcaption {{ font-weight: 600; overflow-wrap: anywhere; margin-bottom: 0.3rem; }}
img {{ display: block; width: 100%; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{summary} Off by: in standard errors.</p>
<div class="wide">
<table>
<thead>
{head}
</thead>
<tbody>
{table}
</tbody>
</table>
</div>
<div class="pictures">
{figures}
</div>
</body>
</html>
"""
