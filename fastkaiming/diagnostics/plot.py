"""Pictures of what :mod:`fastkaiming.diagnostics` finds: signals by layer, and arrays beside their densities.

Figures belong to no window and touch none of matplotlib's global state; ``figure.savefig(path)`` writes one to a file.
Needs matplotlib: ``pip install 'fastkaiming[plot]'``.
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
    raise _validation.missing("diagnostics.plot", "plot", error) from error

from fastkaiming.diagnostics._propagation import Propagation
from fastkaiming.distributions import Distribution
from fastkaiming.distributions._quadrature import Points

_SAMPLE = 1 << 24  # values of an array that a histogram counts at most
_NEAR, _FAR = 3.0, 8.0  # standard deviations on either side that it shows at least, and at most
_LEAST, _GREATEST = 1e-250, 1e250  # mean squares that are drawn: farther out, the margins of an axis overflow
_POINTS = 500  # of a density's curve
_LINES = ("-", "--", "-.", ":")  # so that colours are not all that tells curves apart


def propagation(results: Mapping[str, Propagation], ax: Sequence[Axes] | None = None) -> Figure:
    """Draw the mean squares of activations and gradients, layer by layer, on a logarithmic scale.

    A line is the median over the networks, and the band around it reaches from the least to the greatest.

    Parameters
    ----------
    results : mapping of str to Propagation
        What :func:`fastkaiming.diagnostics.propagate` returned, by what the legend is to say.
    ax : sequence of matplotlib.axes.Axes, optional
        Two of them to draw on, activations first; by default those of a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure that was drawn on.

    Raises
    ------
    TypeError
        Results that are no mapping to Propagation.
    ValueError
        No results, or other than two axes.

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
        raise TypeError(f"results must be a mapping of names to Propagation, not {_validation.shown(results)}")
    if not results:
        raise ValueError("results must hold one Propagation or more, got none")
    if ax is None:
        ax = Figure(figsize=(8.0, 3.4), layout="constrained").subplots(1, 2, sharey=True)
    if len(ax) != 2:
        raise ValueError(f"ax must be two axes, got {len(ax)}")
    forward, backward = ax
    for number, (name, result) in enumerate(results.items()):
        style = {"color": f"C{number}", "linestyle": _LINES[number % len(_LINES)], "label": name}
        _draw_layers(forward, result.forward, style)
        _draw_layers(backward, result.backward, style)
    forward.set(title="forward", xlabel="layer", ylabel="mean square of the activations", yscale="log")
    backward.set(title="backward", xlabel="layer", ylabel="mean square of the gradients", yscale="log")
    forward.legend()
    for axes in (forward, backward):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return forward.figure.figure  # of a subfigure, what it is part of


def _draw_layers(axes: Axes, mean_squares: Points, style: Mapping[str, Any]) -> None:
    def shown(values: Points) -> Points:
        return np.where((values > _LEAST) & (values < _GREATEST), values, np.nan)

    layers = np.arange(mean_squares.shape[1])
    axes.plot(layers, shown(np.median(mean_squares, axis=0)), **style)
    ends = shown(mean_squares.min(axis=0)), shown(mean_squares.max(axis=0))
    axes.fill_between(layers, *ends, color=style["color"], alpha=0.2, linewidth=0.0)


def histogram(array: NDArray[Any], distribution: Distribution | None = None, bins: int = 100) -> Figure:
    """Draw the histogram of an array, with the density that it should have over it.

    Parameters
    ----------
    array : numpy.ndarray
        Real numbers. Of more than 2**24, every n-th is counted, n being odd: it meets all columns of a matrix whose
        width is a power of two.
    distribution : Normal, Uniform or TruncatedNormal, optional
        What the values should come from. The picture then ends 8 of its standard deviations from its mean, and says how
        many of the values counted are farther out.
    bins : int, default 100
        The number of bins. Where the dtype has at most two bytes, they end halfway between two of its numbers, and so
        may be fewer.

    Returns
    -------
    matplotlib.figure.Figure
        A new figure.

    Raises
    ------
    TypeError
        An argument of the wrong kind.
    ValueError
        A number of bins below 1.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> from fastkaiming.diagnostics import plot
    >>> figure = plot.histogram(fk.kaiming_normal((64, 64), rng=1), fk.kaiming((64, 64)))
    >>> figure.axes[0].get_title()
    'Normal(mean=0, std=0.1768)'
    """
    return drawn(counted(array, distribution, bins), distribution)


class Counts(NamedTuple):
    """The bins of a histogram: where they end, their densities, and how many values are in none."""

    edges: Points
    densities: Points
    outside: int


@np.errstate(invalid="ignore")  # NaNs that signal
def counted(array: NDArray[Any], distribution: Distribution | None, bins: int = 100) -> Counts:
    """Return the histogram of a sample of an array."""
    _validation.integer("bins", bins, 1, _SAMPLE)
    _statistics.check(array, distribution)
    step = -(-array.size // _SAMPLE) | 1
    sample = array.flat[::step].astype(np.float64)
    finite = sample[np.isfinite(sample)]
    edges = _edges(*_range(finite, distribution), bins, array.dtype)
    counts = np.histogram(finite, edges)[0]
    densities = counts / np.diff(edges) / max(sample.size, 1)
    return Counts(edges, densities, sample.size - int(counts.sum()))


def _range(values: Points, distribution: Distribution | None) -> tuple[float, float]:
    """Return the ends of what is shown, apart from each other."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if distribution is not None and distribution.std:
        mean, near, far = distribution.mean, _NEAR * distribution.std, _FAR * distribution.std
        low, high = max(min(low, mean - near), mean - far), min(max(high, mean + near), mean + far)
    margin = 0.5 * max(abs(low), 1.0) if low == high else 0.0
    return low - margin, high + margin


def _edges(low: float, high: float, bins: int, dtype: np.dtype[Any]) -> Points:
    """Return where bins end: among few numbers halfway between two, or bins that hold more of them would stand out."""
    edges = np.linspace(low, high, bins + 1)
    if dtype.itemsize <= 2:
        numbers = dtypes.finite_values(dtype)
        halfway = np.concatenate([numbers[:1] - 0.5, (numbers[:-1] + numbers[1:]) / 2, numbers[-1:] + 0.5])
        below = np.searchsorted(halfway, edges[:-1], "right") - 1
        edges = halfway[np.clip([*below, np.searchsorted(halfway, high)], 0, numbers.size)]
    return np.unique(edges)


def drawn(counts: Counts, distribution: Distribution | None) -> Figure:
    """Return the picture of a histogram."""
    figure = Figure(figsize=(4.5, 3.0), layout="constrained")
    axes = figure.subplots()
    axes.stairs(counts.densities, counts.edges, fill=True, color="C0", alpha=0.5)
    if distribution is not None:
        axes.set_title(_shown(distribution), fontsize="small")
        if distribution.std:
            x = np.linspace(counts.edges[0], counts.edges[-1], _POINTS)
            axes.plot(x, distribution.pdf(x), color="C3", linewidth=1.2)
        else:
            axes.axvline(distribution.mean, color="C3", linewidth=1.2)
    axes.set(xlabel=f"value ({counts.outside:,} not shown)" if counts.outside else "value", ylabel="density")
    axes.set_ylim(bottom=0.0)
    axes.locator_params(axis="x", nbins=6)
    return figure


def _shown(distribution: Distribution) -> str:
    numbers = ", ".join(f"{field.name}={getattr(distribution, field.name):.4g}" for field in fields(distribution))
    return f"{type(distribution).__name__}({numbers})"
