"""Figures show the given numbers, reports mark suspicious values, and no global state of matplotlib changes."""

import base64
import io
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import processes
import pytest
from numpy.typing import DTypeLike, NDArray

import fastkaiming as fk
from fastkaiming import checkpoint, cli, diagnostics

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure

from fastkaiming.diagnostics import plot, report
from fastkaiming.diagnostics.report import Tensor

RULES = {"small": "normal(std=0.01)", "Xavier": "xavier_normal", "Kaiming": "kaiming_normal(nonlinearity='relu')"}


def is_png(figure: Figure) -> bool:
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue().startswith(b"\x89PNG")


# ---- propagation ----


@pytest.fixture(scope="module")
def results() -> dict[str, diagnostics.Propagation]:
    return {name: diagnostics.propagate(6, 32, initializer=rule) for name, rule in RULES.items()}


def test_lines_are_medians_and_bands_are_ranges(results: dict[str, diagnostics.Propagation]) -> None:
    figure = plot.propagation(results)
    assert is_png(figure)
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "log"]
    for axes, side in zip(figure.axes, ("forward", "backward"), strict=True):
        assert [line.get_label() for line in axes.lines] == list(RULES)
        for line, band, result in zip(axes.lines, axes.collections, results.values(), strict=True):
            mean_squares = getattr(result, side)
            assert np.array_equal(line.get_xdata(), range(7))
            assert np.array_equal(line.get_ydata(), np.median(mean_squares, axis=0))
            heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
            assert (heights.min(), heights.max()) == (mean_squares.min(), mean_squares.max())
        assert len({line.get_color() for line in axes.lines}) == len(RULES)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(RULES)


def test_propagation_draws_on_given_axes(results: dict[str, diagnostics.Propagation]) -> None:
    figure = Figure()
    axes = figure.add_subfigure(figure.add_gridspec(1, 2)[1]).subplots(1, 2)
    assert plot.propagation(results, axes) is figure
    assert [each.get_title() for each in axes] == ["forward", "backward"]


def test_vanishing_and_overflowing_signals_are_drawn_without_warning() -> None:
    rules = {"zeros": "zeros", "huge": "normal(std=1e30)"}
    assert is_png(
        plot.propagation({name: diagnostics.propagate(9, 8, initializer=rule) for name, rule in rules.items()})
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([],), TypeError, "results must be a mapping of names to Propagation, not list"),
        (({"a": 1},), TypeError, "results must be a mapping of names to Propagation, not dict"),
        (({},), ValueError, "results must contain at least one Propagation, got none"),
    ],
    ids=str,
)
def test_propagation_raises_error_for_invalid_results(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plot.propagation(*arguments)


def test_propagation_raises_value_error_unless_there_are_two_axes(results: dict[str, diagnostics.Propagation]) -> None:
    with pytest.raises(ValueError, match="ax must contain two axes, got 1"):
        plot.propagation(results, [Figure().subplots()])


def test_report_does_not_import_pyplot() -> None:
    program = "import sys, fastkaiming.diagnostics.report; print('matplotlib.pyplot' in sys.modules)"
    assert processes.python(program).stdout == "False\n"


def test_importing_fastkaiming_or_its_diagnostics_does_not_import_matplotlib() -> None:
    program = "import sys, fastkaiming, fastkaiming.diagnostics; print('matplotlib' in sys.modules)"
    assert processes.python(program).stdout == "False\n"


@pytest.mark.parametrize("module", ["plot", "report"])
def test_import_error_without_matplotlib_says_what_to_install(module: str) -> None:
    result = processes.python(f"import sys; sys.modules['matplotlib'] = None; import fastkaiming.diagnostics.{module}")
    assert result.stderr.endswith(
        "ImportError: fastkaiming.diagnostics.plot needs matplotlib: "
        "run pip install '.[plot]' in a checkout of fastkaiming\n"
    )


# ---- histograms ----

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]


@pytest.mark.parametrize("distribution", [fk.Normal(0.0, 0.02), fk.TruncatedNormal(0.1, 0.5, -0.5, 1.0)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_densities_agree_with_distribution(distribution: Any, dtype: DTypeLike) -> None:
    array = fk.fill_(np.empty((1000, 1000), dtype), distribution, rng=1)
    edges, densities, outside = plot.bin_array(array, distribution)
    widths = np.diff(edges)
    assert outside == 0
    assert densities @ widths == pytest.approx(1.0, abs=1e-12)
    expected = np.diff(distribution.cdf(edges))
    error = 6.0 * np.sqrt(expected * (1 - expected) / array.size)
    is_inside = (edges[:-1] > distribution.low) & (edges[1:] < distribution.high)
    # The outermost numbers inside the bounds also represent the values between them and the bounds.
    is_inside[[np.argmax(is_inside), -1 - np.argmax(is_inside[::-1])]] = False
    assert is_inside.sum() > 10
    assert (abs(densities * widths - expected) < error + 1e-7)[is_inside].all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.bool_, np.int64], ids=str)
def test_every_integer_is_in_a_bin(dtype: DTypeLike) -> None:
    array = np.arange(256).astype(dtype)
    edges, densities, outside = plot.bin_array(array, None, 10)
    assert outside == 0
    assert densities @ np.diff(edges) == pytest.approx(1.0, abs=1e-12)


def test_values_outside_the_bins_are_counted() -> None:
    array = fk.normal(1000, rng=3)
    array[:4] = 100.0, -50.0, math.nan, math.inf
    binned = plot.bin_array(array, fk.Normal())
    assert binned.outside == 4
    assert binned.edges[[0, -1]] == pytest.approx([-8.0, 8.0])
    assert binned.densities @ np.diff(binned.edges) == pytest.approx(0.996)
    assert plot.draw_binned(binned, fk.Normal()).axes[0].get_xlabel() == "value (4 not shown)"


def test_outer_bins_contain_extreme_numbers_of_dtype() -> None:
    array = np.zeros((3, 4), ml_dtypes.float8_e4m3fn)  # its greatest numbers are 416 and 448
    edges, densities, outside = plot.bin_array(array, fk.Normal(0.0, 200.0))
    assert edges[[0, 1, -2, -1]].tolist() == [-448.5, -432.0, 432.0, 448.5]
    assert outside == 0
    assert densities @ np.diff(edges) == pytest.approx(1.0)


def test_sample_of_large_array_includes_every_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "_MAX_SAMPLE", 1 << 10)
    array = np.tile(np.arange(64.0), (256, 1))  # 16 times the sample size
    edges, densities, _ = plot.bin_array(array, None, 64)
    assert (densities > 0).all()
    assert densities * np.diff(edges) == pytest.approx(1 / 64, rel=0.1)


def test_title_of_constant_zero_distribution_is_zeros() -> None:
    figure = plot.histogram(np.zeros(4, np.float32), fk.Normal(0.0, 0.0))
    assert figure.axes[0].get_title() == "zeros"


@pytest.mark.parametrize("distribution", [None, fk.Normal(0.5, 2.0), fk.Uniform(-1, 1), fk.Normal(3.0, 0.0)], ids=str)
@pytest.mark.parametrize(
    "array",
    [
        np.empty((0, 4), np.float32),
        np.full(9, 3.0),
        np.full(2, math.nan),
        np.array([7], np.float16),
        np.array(1e30),
        np.zeros(1),
    ],
    ids=str,
)
def test_empty_and_constant_arrays_are_drawn(array: NDArray[Any], distribution: Any) -> None:
    figure = plot.histogram(array, distribution)
    assert is_png(figure)
    assert len(figure.axes[0].lines) == (distribution is not None)


def test_curve_is_the_density() -> None:
    distribution = fk.TruncatedNormal(0.0, 1.0, -1.0, 2.0)
    (line,) = plot.histogram(fk.trunc_normal_(np.empty(100), a=-1.0, rng=2), distribution).axes[0].lines
    x = np.asarray(line.get_xdata(), np.float64)
    assert (x[0], x[-1]) == pytest.approx(
        (distribution.mean - 3 * distribution.std, distribution.mean + 3 * distribution.std)
    )
    assert np.array_equal(line.get_ydata(), distribution.pdf(x))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0],), TypeError, "array must be a NumPy array"),
        ((np.ones(3), "normal"), TypeError, "distribution must be a Normal"),
        ((np.ones(3), None, 0), ValueError, "bins must be an integer from 1"),
    ],
    ids=str,
)
def test_histogram_raises_error_for_invalid_arguments(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plot.histogram(*arguments)


# ---- report ----


def tensors() -> Iterator[Tensor]:
    """Yield tensors without suspicious values, and one tensor for each kind of suspicious value."""
    rng = fk.Generator(6)
    kaiming = fk.kaiming((128, 256))

    def weights() -> NDArray[Any]:
        return fk.kaiming_normal((128, 256), rng=rng)

    yield Tensor("good", "kaiming_normal", weights(), kaiming)
    yield Tensor("quantized", "normal", fk.normal((64, 64), ml_dtypes.float8_e4m3fn, rng=rng), fk.Normal())
    yield Tensor("wide", "kaiming_normal", weights() * np.float32(1.1), kaiming)
    yield Tensor("shifted", "kaiming_normal", weights() + np.float32(0.25) * np.float32(kaiming.std), kaiming)
    dead, outlier, nan = weights(), weights(), weights()
    dead[3] = 0.0
    outlier[5, 6] = 8 * kaiming.std
    nan[7, 8] = math.nan
    yield Tensor("dead", "kaiming_normal", dead, kaiming)
    yield Tensor("outlier", "kaiming_normal", outlier, kaiming)
    yield Tensor("nan", "kaiming_normal", nan, kaiming)
    yield Tensor("bias", "zeros", np.zeros((8, 8), np.float32), fk.Normal(0.0, 0.0))
    yield Tensor("<b>&'\"", "<i>keep</i>", np.arange(12).reshape(3, 4))
    yield Tensor("nothing", "zeros", np.empty((0, 3), np.float32), fk.Normal())


class Page(HTMLParser):
    """The table cells and images of a page. The constructor checks that opening and closing tags match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.pictures: list[dict[str, Any]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in {"img", "meta"}:
            self.open.append(tag)
        if tag == "img":
            self.pictures.append(dict(attrs))
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def text() -> str:
    return report.html("<Model> & co", tensors())


def test_report_has_one_row_per_tensor_and_marks_suspicious_values(text: str) -> None:
    rows = {row[0]: row for row in Page(text).rows if row}
    assert sorted(rows) == sorted(each.name for each in tensors())
    # name, rule, shape, dtype, mean, expected, z, std, expected, z, outliers, dead rows, zeros, minimum, maximum
    marked = {name: [column for column, cell in enumerate(row) if "⚠" in cell] for name, row in rows.items()}
    assert {name: columns for name, columns in marked.items() if columns} == {
        "wide": [9],
        "shifted": [6],
        "dead": [11],
        "outlier": [10],
        "nan": [6, 9, 10],
    }
    assert "; 5 tensors with marked values" in text
    assert rows["quantized"][2:4] == ["64 × 64", "float8_e4m3fn"]  # noqa: RUF001
    assert rows["bias"][4:] == ["0", "0", "+0.0", "0", "0", "+0.0", "0", "8", "64", "0", "0"]
    assert rows["<b>&'\""][1:] == [
        "<i>keep</i>", "3 × 4", "int64", "5.5", "", "", "3.452", "", "", "", "0", "1", "0", "11",  # noqa: RUF001
    ]  # fmt: skip


def test_dead_rows_are_suspicious_unless_they_are_expected() -> None:
    array, rows = fk.normal((128, 256), rng=1), [3, 5]
    array[rows] = 0.0
    pages = [
        report.html("", [Tensor("a", "normal", array, fk.Normal(), zero_rows)], pictures=0)
        for zero_rows in (rows, [5, 3, 3], [3], [3, 4], ())
    ]
    assert ["2 ⚠" in page for page in pages] == [False, False, True, True, True]


def test_report_of_a_checkpoint_does_not_mark_the_padding_row_of_an_embedding(tmp_path: Path) -> None:
    recipe = {"tensors": {"embedding.weight": [128, 64]}, "rules": {"*": "zero_rows(normal(std=0.02), [1])"}}
    checkpoint.write(recipe, tmp_path / "model")
    assert cli.main(["plot", "report", str(tmp_path / "model"), str(tmp_path / "a.html")]) == 0
    text = (tmp_path / "a.html").read_text("utf-8")
    assert "; 0 tensors with marked values" in text
    assert Page(text).rows[-1][11] == "1"


def test_images_are_embedded_and_sorted_by_z_score(text: str) -> None:
    pictures = Page(text).pictures
    assert len(pictures) == 10
    names = [picture["alt"].removeprefix("histogram of ") for picture in pictures]
    assert names[:3] == ["nan", "shifted", "wide"]  # 0.25 * sqrt(32768) = 45, 0.1 * sqrt(2 * 32768) = 26
    assert set(names[-2:]) == {"<b>&'\"", "nothing"}
    for picture in pictures:
        assert base64.b64decode(picture["src"].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert re.findall('(?:src|href)="(?!data:|#)', text) == []  # the page refers to no other file
    assert "url(" not in text


def test_number_of_images_is_limited() -> None:
    page = report.html("", tensors(), pictures=2)
    assert [picture["alt"] for picture in Page(page).pictures] == ["histogram of nan", "histogram of shifted"]
    assert re.findall('href="#(.*?)"', page) == ["picture0", "picture1"]
    assert set(re.findall('id="(.*?)"', page)) == {"picture1", "picture0"}
    assert Page(report.html("", [])).pictures == Page(report.html("", tensors(), pictures=0)).pictures == []


def test_rows_are_sorted_by_name_in_natural_order() -> None:
    names = ["model.layers.10.w", "lm_head", "model.layers.2.w", "model.layers.2.b", "model.norm", "10", "9"]
    page = report.html("", [Tensor(name, "ones", np.ones(3)) for name in names], pictures=0)
    assert [row[0] for row in Page(page).rows if row] == [
        *("9", "10", "lm_head", "model.layers.2.b", "model.layers.2.w", "model.layers.10.w", "model.norm"),
    ]


def test_braces_and_markup_in_names_are_escaped(text: str) -> None:
    assert "<title>&lt;Model&gt; &amp; co</title>" in text
    page = report.html("{title}", [Tensor("{table}", "{0}", np.ones(3))])
    assert [row[:2] for row in Page(page).rows if row] == [["{table}", "{0}"]]


def test_complex_numbers_have_no_statistics() -> None:
    rows = [Tensor("z", "zeros", np.zeros((2, 3), np.complex64)), Tensor("w", "ones", np.ones(3, np.float32))]
    page = report.html("", rows)
    assert [row for row in Page(page).rows if row][1] == ["z", "zeros", "2 × 3", "complex64", ""]  # noqa: RUF001
    assert [picture["alt"] for picture in Page(page).pictures] == ["histogram of w"]
    assert "2 tensors with 9 values in total; 0 tensors with marked values" in page
    with pytest.raises(TypeError, match="tensor 'z': array must hold real numbers, not complex64"):
        report.html("", [rows[0]._replace(distribution=fk.Normal())])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1, []), TypeError, "title must be a str"),
        (("", [np.ones(3)]), TypeError, "rows must contain Tensors only, not ndarray"),
        (("", [Tensor("w", "rule", [1.0])]), TypeError, "tensor 'w': array must be a NumPy array"),  # type: ignore[arg-type]
        (("", [], -1), ValueError, "pictures must be an integer from 0"),
    ],
    ids=str,
)
def test_report_raises_error_for_invalid_arguments(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        report.html(*arguments)
