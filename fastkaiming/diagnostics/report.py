"""Write an HTML report that compares every array of a model with its expected distribution.

This module needs matplotlib: ``pip install '.[plot]'`` in a checkout.
"""

import base64
import io
import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _validation
from fastkaiming.diagnostics import plot
from fastkaiming.diagnostics._statistics import Statistics, statistics
from fastkaiming.distributions import Distribution

__all__ = ["Tensor", "html"]

_NUMBER_COLUMNS = 11  # of the table
_MAX_Z_SCORE = 6.0  # by chance, about one correct array in a few hundred million exceeds this


class Tensor(NamedTuple):
    """A row of the report.

    Attributes
    ----------
    name, rule : str
        The name of the tensor, and a description of how it was filled.
    array : numpy.ndarray
        The values of the tensor. Complex numbers have neither statistics nor a histogram.
    distribution : Normal, Uniform or TruncatedNormal, optional
        The distribution that the values should have. If it is None, the values are not compared with a distribution.
    zero_rows : sequence of int, default ()
        The indices of axis 0 at which every element should be 0, such as that of the padding token of an embedding.
        These dead rows are not suspicious.
    """

    name: str
    rule: str
    array: NDArray[Any]
    distribution: Distribution | None = None
    zero_rows: Sequence[int] = ()


class _Row(NamedTuple):
    """The description of a tensor, which does not keep its array in memory.

    Complex numbers are not ordered, so they have neither statistics nor bins.
    """

    name: str
    rule: str
    shape: tuple[int, ...]
    dtype: str
    distribution: Distribution | None
    statistics: Statistics | None
    expected_dead_rows: int
    binned: plot.BinnedArray | None


def html(title: str, rows: Iterable[Tensor], pictures: int = 50) -> str:
    """Return an HTML page that compares arrays with their expected distributions.

    The page contains a table with one row for each tensor, sorted by name (layer 2 before layer 10), a legend that
    explains the columns, and histograms. The table marks suspicious values: a mean or standard deviation more than 6
    standard errors from its expected value, outliers, and dead rows (see
    :class:`fastkaiming.diagnostics.Statistics`). The histograms are sorted by the larger of the two deviations, with
    the largest first. Styles and images are embedded, so the page needs no other file.

    Parameters
    ----------
    title : str
        The heading.
    rows : iterable of Tensor
        The tensors: ``Tensor(name, rule, array, distribution)``. Only one array is needed at a time, so you can pass a
        generator that reads a model of any size.
    pictures : int, default 50
        The maximum number of histograms.

    Returns
    -------
    str
        The page. Write it to a file with the encoding UTF-8.

    Raises
    ------
    TypeError
        If an argument has the wrong type. If it belongs to a tensor, the message contains the name of the tensor.
    ValueError
        If ``pictures`` is negative.

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
    by_name = sorted(map(_to_row, rows), key=_natural_sort_key)
    worst = sorted((row for row in by_name if row.binned), key=_largest_z_score, reverse=True)[:pictures]
    picture_numbers = {id(row): number for number, row in enumerate(worst)}
    table = "\n".join(_table_row(row, picture_numbers.get(id(row))) for row in by_name)
    figures = "\n".join(_figure(row, number) for number, row in enumerate(worst))
    suspicious = sum(any(_suspicious_fields(row).values()) for row in by_name)
    values = sum(math.prod(row.shape) for row in by_name)
    summary = f"{len(by_name):,} tensors with {values:,} values in total; {suspicious:,} tensors with marked values."
    return _PAGE.format(title=heading, summary=summary, legend=_LEGEND, head=_HEAD, table=table, figures=figures)


def _to_row(row: Any) -> _Row:
    if not isinstance(row, Tensor):
        raise TypeError(f"rows must contain Tensors only, not {_validation.describe(row)}")
    name, rule = _validation.text("name", row.name), _validation.text("rule", row.rule)
    found = binned = None
    if row.distribution is not None or not (isinstance(row.array, np.ndarray) and row.array.dtype.kind == "c"):
        try:
            found = statistics(row.array, row.distribution)
        except TypeError as error:
            raise TypeError(f"tensor {name!r}: {error}") from error
        binned = plot.bin_array(row.array, row.distribution)
    dead = sum(not row.array[index].any() for index in set(row.zero_rows))
    return _Row(name, rule, row.array.shape, row.array.dtype.name, row.distribution, found, dead, binned)


def _natural_sort_key(row: _Row) -> list[tuple[str, int]]:
    """Return a key that sorts layer 2 before layer 10."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"([^0-9]*)([0-9]{0,18})", row.name)]


def _largest_z_score(row: _Row) -> float:
    """Return the larger absolute z-score, or -1.0 if the row has none."""
    found = row.statistics
    scores = [abs(z) for z in (found.z_mean, found.z_std) if found.count and z is not None] if found else []
    return max((math.inf if math.isnan(score) else score for score in scores), default=-1.0)


def _suspicious_fields(row: _Row) -> dict[str, bool]:
    """Return for each checked field of the statistics whether its value is suspicious."""
    found = row.statistics
    if found is None:
        return {}

    def is_too_far(z: float | None) -> bool:
        return bool(found.count) and z is not None and not abs(z) <= _MAX_Z_SCORE  # true for NaN

    return {
        "z_mean": is_too_far(found.z_mean),
        "z_std": is_too_far(found.z_std),
        "outliers": bool(found.outliers),
        "dead_rows": (found.dead_rows or 0) > row.expected_dead_rows and bool(found.expected_std),
    }


def _table_row(row: _Row, picture: int | None) -> str:
    name = escape(row.name) if picture is None else f'<a href="#picture{picture}">{escape(row.name)}</a>'
    texts = [
        f'<td class="name">{name}</td>',
        f'<td class="rule">{escape(row.rule)}</td>',
        f'<td class="shape">{_format_shape(row.shape)}</td>',
        f"<td>{escape(row.dtype)}</td>",
    ]
    return f"<tr>{''.join(texts + _number_cells(row))}</tr>"


def _number_cells(row: _Row) -> list[str]:
    found = row.statistics
    if found is None:
        return [f'<td colspan="{_NUMBER_COLUMNS}"></td>']
    suspicious = _suspicious_fields(row)
    numbers = [
        (_format_number(found.mean), False),
        (_format_number(found.expected_mean), False),
        (_format_z_score(found.z_mean), suspicious["z_mean"]),
        (_format_number(found.std), False),
        (_format_number(found.expected_std), False),
        (_format_z_score(found.z_std), suspicious["z_std"]),
        (_format_count(found.outliers), suspicious["outliers"]),
        (_format_count(found.dead_rows), suspicious["dead_rows"]),
        (_format_count(found.zeros), False),
        (_format_number(found.minimum), False),
        (_format_number(found.maximum), False),
    ]
    return [f'<td class="mark">{text} ⚠</td>' if is_marked else f"<td>{text}</td>" for text, is_marked in numbers]


def _format_shape(shape: tuple[int, ...]) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(f"{size:,}" for size in shape) or "scalar"


def _format_number(value: float | None, spec: str = ".4g") -> str:
    return "" if value is None else "NaN" if math.isnan(value) else format(value, spec).replace("-", "\N{MINUS SIGN}")


def _format_z_score(value: float | None) -> str:
    return _format_number(value, "+.1f")


def _format_count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _figure(row: _Row, number: int) -> str:
    assert row.binned is not None
    png = io.BytesIO()
    plot.draw_binned(row.binned, row.distribution).savefig(png, format="png", dpi=90)
    source = base64.b64encode(png.getvalue()).decode()
    name = escape(row.name)
    image = f'<img src="data:image/png;base64,{source}" alt="histogram of {name}" loading="lazy">'
    return f'<figure id="picture{number}"><figcaption>{name}</figcaption>{image}</figure>'


_HEAD = """\
<tr><th rowspan="2">tensor</th><th rowspan="2">rule</th><th rowspan="2">shape</th><th rowspan="2">dtype</th>
<th colspan="3">mean</th><th colspan="3">standard deviation</th><th rowspan="2">outliers</th>
<th rowspan="2">dead rows</th><th rowspan="2">zeros</th><th rowspan="2">minimum</th><th rowspan="2">maximum</th></tr>
<tr><th>actual</th><th>expected</th><th>z-score</th><th>actual</th><th>expected</th><th>z-score</th></tr>"""

_LEGEND = f"""\
<details class="legend" open>
<summary>What the columns, marks and histograms mean</summary>
<p>If the table is wider than the window, scroll it horizontally.</p>
<dl>
<dt>tensor</dt><dd>The name. It links to the histogram, if the page contains one.</dd>
<dt>rule</dt><dd>How the tensor was filled.</dd>
<dt>shape, dtype</dt><dd>The size of each axis, and the data type of the elements.</dd>
<dt>mean, standard deviation: actual</dt><dd>Computed from the values of the tensor.</dd>
<dt>mean, standard deviation: expected</dt><dd>Those of the distribution that belongs to the rule, after its values are
rounded to the dtype. The cell is empty if no distribution is known.</dd>
<dt>z-score</dt><dd>The actual minus the expected value, in standard errors. Scores between &minus;3 and +3 are
normal.</dd>
<dt>outliers</dt><dd>The number of values that cannot occur in the distribution, including NaN.</dd>
<dt>dead rows</dt><dd>The number of indices of the first axis at which every element is 0.</dd>
<dt>zeros</dt><dd>The number of elements that are 0.</dd>
<dt>minimum, maximum</dt><dd>The extreme values.</dd>
<dt>empty cells</dt><dd>Complex numbers are not ordered, so their tensors have neither statistics nor histograms.</dd>
<dt class="mark">⚠</dt><dd>The value is suspicious: a z-score is beyond &plusmn;{_MAX_Z_SCORE:g} or NaN, there
are outliers, or there are dead rows that the rule does not name although the expected standard deviation is not
0.</dd>
<dt>histograms</dt><dd>Bars show the values, and the line shows the density of the expected distribution, which is named
above the bars. The name “zeros” means that every value should be 0. Values that are too far from the others to be shown
are counted below the bars. The tensors with the largest z-scores come first.</dd>
</dl>
</details>"""

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
:root {{ --ink: #1d1d1f; --paper: #fff; --line: #d5d5da; --shade: #f3f3f6; --mark: #b3001e; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6e6e9; --paper: #161618; --line: #3c3c42; --shade: #232327; --mark: #ff8080; }}
  img {{ filter: invert(0.91) hue-rotate(180deg); }}
}}
body {{
  margin: clamp(0.75rem, 2.5vw, 2rem); font: 13px/1.45 system-ui, sans-serif;
  color: var(--ink); background: var(--paper);
}}
h1 {{ overflow-wrap: anywhere; }}
.legend {{ margin-bottom: 1rem; max-width: 70rem; }}
.legend summary {{ cursor: pointer; font-weight: 600; }}
.legend dl {{ display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: 0.2rem 1rem; }}
.legend dt {{ font-weight: 600; }}
.legend dd {{ margin: 0; }}
@media (max-width: 40rem) {{ .legend dl {{ grid-template-columns: 1fr; }} .legend dd {{ margin-bottom: 0.3rem; }} }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 12px; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.25rem 0.35rem; border-bottom: 1px solid var(--line); text-align: right; }}
td, thead tr + tr th {{ white-space: nowrap; }}
th {{ background: var(--shade); font-weight: 600; vertical-align: bottom; }}
th[colspan] {{ text-align: center; }}
td:nth-child(-n+4), th[rowspan]:nth-child(-n+4) {{ text-align: left; }}
td.name, td.rule {{ white-space: normal; overflow-wrap: anywhere; min-width: 6.5rem; }}
td.shape {{ white-space: normal; min-width: 4rem; }}
td.name, th[rowspan]:first-child {{ position: sticky; left: 0; }}
td.name {{ background: var(--paper); }}
.mark {{ color: var(--mark); font-weight: 600; }}
a {{ color: inherit; }}
.pictures {{ display: flex; flex-wrap: wrap; gap: 1rem; margin-top: 2rem; }}
figure {{ margin: 0; padding: 0.5rem; border: 1px solid var(--line); border-radius: 6px; box-sizing: border-box;
  width: min(423px, 100%); }}
figcaption {{ font-weight: 600; overflow-wrap: anywhere; margin-bottom: 0.3rem; }}
img {{ display: block; width: 100%; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{summary}</p>
{legend}
<div class="scroll" role="region" aria-label="table of tensors" tabindex="0">
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
