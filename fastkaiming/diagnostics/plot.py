"""Draw figures of signal propagation, and histograms of arrays with their expected densities.

The functions return figures without opening a window or changing matplotlib's global state;
``figure.savefig(path)`` writes a figure to a file. This module needs matplotlib: ``pip install '.[plot]'`` in a
checkout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _validation
from fastkaiming._fill import dtypes
from fastkaiming.diagnostics import _statistics

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ModuleNotFoundError as error:
    raise _validation.missing_dependency_error("diagnostics.plot", "plot", error) from error

from fastkaiming.diagnostics._propagation import Propagation
from fastkaiming.distributions import Distribution
from fastkaiming.distributions._quadrature import FloatArray

__all__ = ["histogram", "propagation"]

_MAX_SAMPLE = 1 << 24  # a histogram counts at most this many values of an array
_MIN_SIGMAS, _MAX_SIGMAS = 3.0, 8.0  # a histogram shows between 3 and 8 standard deviations on either side of the mean
_MIN_DRAWN, _MAX_DRAWN = 1e-250, 1e250  # the margins of a logarithmic axis overflow for mean squares beyond these
_CURVE_POINTS = 500
_MARKERS_PER_LINE = 6

# The palette of Okabe and Ito, which colour-blind readers can distinguish. Line styles and markers differ as well, so
# that the curves can be distinguished without colour.
_BLUE, _VERMILION = "#0072B2", "#D55E00"
_COLORS = (_BLUE, _VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINE_STYLES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v")


def propagation(results: Mapping[str, Propagation], ax: Sequence[Axes] | None = None) -> Figure:
    """Draw the mean squares of activations and gradients against the layer, on a logarithmic scale.

    Each line is the median over the networks, and the band around it extends from the least to the greatest value.

    Parameters
    ----------
    results : mapping of str to Propagation
        The results of :func:`fastkaiming.diagnostics.propagate`. The keys are the labels in the legend.
    ax : sequence of matplotlib.axes.Axes, optional
        Two axes, for the activations and for the gradients. By default, a new figure is created; its title shows the
        sizes of the networks.

    Returns
    -------
    matplotlib.figure.Figure
        The figure that contains the axes.

    Raises
    ------
    TypeError
        If ``results`` is not a mapping to Propagation.
    ValueError
        If ``results`` is empty, or if ``ax`` does not contain exactly two axes.

    Examples
    --------
    >>> from fastkaiming import diagnostics
    >>> from fastkaiming.diagnostics import plot
    >>> rules = {"N(0, 0.01²)": "normal(std=0.01)", "Kaiming": "kaiming_normal(nonlinearity='relu')"}
    >>> results = {name: diagnostics.propagate(10, 64, initializer=rule) for name, rule in rules.items()}
    >>> [axes.get_title() for axes in plot.propagation(results).axes]
    ['forward', 'backward']
    """
    if not isinstance(results, Mapping) or not all(isinstance(each, Propagation) for each in results.values()):
        raise TypeError(f"results must be a mapping of names to Propagation, not {_validation.describe(results)}")
    if not results:
        raise ValueError("results must contain at least one Propagation, got none")
    if ax is None:
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        figure.suptitle(_describe_networks(list(results.values())), fontsize="large")
        ax = figure.subplots(1, 2, sharey=True)
    if len(ax) != 2:
        raise ValueError(f"ax must contain two axes, got {len(ax)}")
    forward, backward = ax
    for number, (label, result) in enumerate(results.items()):
        style = {
            "color": _COLORS[number % len(_COLORS)],
            "linestyle": _LINE_STYLES[number % len(_LINE_STYLES)],
            "marker": _MARKERS[number % len(_MARKERS)],
            "markersize": 5.0,
            "label": label,
        }
        _draw_median_and_range(forward, result.forward, style)
        _draw_median_and_range(backward, result.backward, style)
    forward.set(title="forward", ylabel="mean square of the activations")
    backward.set(title="backward", ylabel="mean square of the gradients")
    for axes in (forward, backward):
        axes.set(xlabel="layer", yscale="log")
        axes.xaxis.label.set_size("large")
        axes.yaxis.label.set_size("large")
        axes.tick_params(labelsize="large")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    forward.legend()
    return forward.figure.figure  # the axes may belong to a subfigure, whose attribute is the whole figure


def _describe_networks(results: Sequence[Propagation]) -> str:
    """Return a title that states the sizes of the networks; different values are joined by a slash."""

    def values(name: str) -> str:
        return "/".join(dict.fromkeys(str(getattr(result, name)) for result in results))

    sizes = f"{values('depth')} layers of {values('width')} units, {values('nonlinearity')}"
    return f"{sizes}\nmedian and range of {values('networks')} networks, batch of {values('batch')}"


def _draw_median_and_range(axes: Axes, mean_squares: FloatArray, style: Mapping[str, Any]) -> None:
    def drawable(values: FloatArray) -> FloatArray:
        return np.where((values > _MIN_DRAWN) & (values < _MAX_DRAWN), values, np.nan)

    layers = np.arange(mean_squares.shape[1])
    interval = max(1, layers.size // _MARKERS_PER_LINE)
    axes.plot(layers, drawable(np.median(mean_squares, axis=0)), markevery=interval, **style)
    limits = drawable(mean_squares.min(axis=0)), drawable(mean_squares.max(axis=0))
    axes.fill_between(layers, *limits, color=style["color"], alpha=0.2, linewidth=0.0)


def histogram(array: NDArray[Any], distribution: Distribution | None = None, bins: int = 100) -> Figure:
    """Draw the histogram of an array and, over it, the density of the expected distribution.

    Parameters
    ----------
    array : numpy.ndarray
        An array of real numbers. If it has more than 2**24 elements, only every n-th element is counted. The step n is
        odd, so that the sample includes every column of a matrix whose width is a power of two.
    distribution : Normal, Uniform or TruncatedNormal, optional
        The distribution that the values should have. If it is given, the histogram extends at most 8 standard
        deviations from the mean of the distribution, and the label of the horizontal axis states how many of the
        counted values are outside.
    bins : int, default 100
        The number of bins. If the dtype has at most two bytes, each bin edge is halfway between two adjacent numbers of
        the dtype, so there may be fewer bins.

    Returns
    -------
    matplotlib.figure.Figure
        A new figure.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If ``bins`` is below 1.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> from fastkaiming.diagnostics import plot
    >>> figure = plot.histogram(fk.kaiming_normal((64, 64), rng=1), fk.kaiming((64, 64)))
    >>> figure.axes[0].get_title()
    'Normal(mean=0, std=0.1768)'
    """
    return draw_binned(bin_array(array, distribution, bins), distribution)


class BinnedArray(NamedTuple):
    """The bins of a histogram: the edges, the density in each bin, and the number of values outside all bins."""

    edges: FloatArray
    densities: FloatArray
    outside: int


@np.errstate(invalid="ignore")  # signaling NaNs
def bin_array(array: NDArray[Any], distribution: Distribution | None, bins: int = 100) -> BinnedArray:
    """Return the histogram of an array; of a large array, only a regular sample is counted."""
    _validation.integer("bins", bins, 1, _MAX_SAMPLE)
    _statistics.check_arguments(array, distribution)
    step = -(-array.size // _MAX_SAMPLE) | 1
    sample = array.flat[::step].astype(np.float64)
    finite = sample[np.isfinite(sample)]
    edges = _bin_edges(*_histogram_range(finite, distribution), bins, array.dtype)
    counts = np.histogram(finite, edges)[0]
    densities = counts / np.diff(edges) / max(sample.size, 1)
    return BinnedArray(edges, densities, sample.size - int(counts.sum()))


def _histogram_range(values: FloatArray, distribution: Distribution | None) -> tuple[float, float]:
    """Return the lower and the upper limit of a histogram, which always differ."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if distribution is not None and distribution.std:
        mean, near, far = distribution.mean, _MIN_SIGMAS * distribution.std, _MAX_SIGMAS * distribution.std
        low, high = max(min(low, mean - near), mean - far), min(max(high, mean + near), mean + far)
    margin = 0.5 * max(abs(low), 1.0) if low == high else 0.0
    return low - margin, high + margin


def _bin_edges(low: float, high: float, bins: int, dtype: np.dtype[Any]) -> FloatArray:
    """Return the bin edges.

    For a narrow dtype, they are halfway between adjacent numbers of the dtype. Equally spaced bins would contain
    different quantities of its numbers, and the densities would oscillate.
    """
    edges = np.linspace(low, high, bins + 1)
    if dtype.itemsize <= 2:
        numbers = dtypes.finite_values(dtype)
        halfway = np.concatenate([numbers[:1] - 0.5, (numbers[:-1] + numbers[1:]) / 2, numbers[-1:] + 0.5])
        below = np.searchsorted(halfway, edges[:-1], "right") - 1
        edges = halfway[np.clip([*below, np.searchsorted(halfway, high)], 0, numbers.size)]
    return np.unique(edges)


def draw_binned(binned: BinnedArray, distribution: Distribution | None) -> Figure:
    """Return a figure of a histogram and the expected density."""
    figure = Figure(figsize=(4.5, 3.0), layout="constrained")
    axes = figure.subplots()
    axes.stairs(binned.densities, binned.edges, fill=True, color=_BLUE, alpha=0.5)
    if distribution is not None:
        axes.set_title(describe_distribution(distribution), fontsize="small")
        if distribution.std:
            x = np.linspace(binned.edges[0], binned.edges[-1], _CURVE_POINTS)
            axes.plot(x, distribution.pdf(x), color=_VERMILION, linewidth=1.5)
        else:
            axes.axvline(distribution.mean, color=_VERMILION, linewidth=1.5)
    axes.set(xlabel=f"value ({binned.outside:,} not shown)" if binned.outside else "value", ylabel="density")
    axes.set_ylim(bottom=0.0)
    axes.locator_params(axis="x", nbins=6)
    return figure


def describe_distribution(distribution: Distribution) -> str:
    """Return the distribution and its parameters in text; a distribution that is constantly 0 is "zeros"."""
    if distribution.mean == distribution.std == 0.0:
        return "zeros"
    parameters = ", ".join(f"{field.name}={getattr(distribution, field.name):.4g}" for field in fields(distribution))
    return f"{type(distribution).__name__}({parameters})"
