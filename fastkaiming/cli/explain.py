"""``explain``: shows the fans, gain, standard deviation, density and ranges of an initializer for a shape."""

import argparse
import math
from typing import Any

from fastkaiming.checkpoint import _rules
from fastkaiming.cli import _output
from fastkaiming.cli.fill import add_array_arguments, checked_array
from fastkaiming.distributions import Distribution, Normal, Uniform

HELP = "show the fans, gain, std and density of an initializer for a shape, and the share of values in each range"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_array_arguments(parser, "kaiming_normal")


def run(options: argparse.Namespace) -> int:
    """Print the description of the initializer."""
    dtype, shape = checked_array(options)
    distribution = _rules.distribution_of_rule(options.init, shape, dtype)
    layout = _rules.layout_of_rule(options.init, shape)
    fans = _rules.fans_of_rule(options.init, shape)
    with _output.json_output(options.json) as result:
        if layout is not None and fans is not None:
            result |= {"layout": layout, **fans._asdict()}
        result |= {"distribution": repr(distribution), "mean": distribution.mean, "std": distribution.std}
        result |= {"low": _finite_or_none(distribution.low), "high": _finite_or_none(distribution.high)}
        if result.get("fan_in"):
            result["gain"] = distribution.std * math.sqrt(result["fan_in"])
        result["density"] = density(distribution)
        result["shares"] = shares(distribution)
        notes = {"gain": "   std * sqrt(fan_in)", "layout": f"   {axes(layout or '', shape)}"}
        for name, value in list(result.items())[:-1]:
            print(f"{name:<12} {_output.format_value(value)}{notes.get(name, '')}")
        print()
        _output.table(result["shares"])
    return 0


_MEANINGS = {"O": "outputs", "I": "inputs", "B": "batch", "*": "receptive field"}


def axes(layout: str, shape: tuple[int, ...]) -> str:
    """Return the meaning and the size of each axis under a layout.

    >>> axes("OI*", (64, 3, 7, 7))
    'outputs 64, inputs 3, receptive field 7x7'
    """
    before, star, after = layout.partition("*")
    end = len(shape) - len(after)
    sizes = [*map(str, shape[: len(before)]), *["x".join(map(str, shape[len(before) : end])) or "1"] * len(star)]
    sizes += map(str, shape[end:])
    named = zip(layout, sizes, strict=True)
    return ", ".join(f"{_MEANINGS[letter]} {size}" for letter, size in named if size != "1" or letter != "*")


def _finite_or_none(bound: float) -> float | None:
    """Return a bound, or None if it is infinite, because JSON has no infinity."""
    return bound if math.isfinite(bound) else None


def density(distribution: Distribution) -> str:
    """Return the probability density as a formula.

    >>> density(Normal(std=0.5))
    '0.797885 * exp(-x**2 / 0.5)'
    """
    if not distribution.std:
        return f"all values are {distribution.mean:.6g}"
    inside = f" from {distribution.low:.6g} to {distribution.high:.6g}"
    if isinstance(distribution, Uniform):
        return f"{distribution.pdf(distribution.mean):.6g}{inside}"
    center, scale = (
        (distribution.mean, distribution.std)
        if isinstance(distribution, Normal)
        else (distribution.loc, distribution.scale)
    )
    mode = min(max(center, distribution.low), distribution.high)
    factor = float(distribution.pdf(mode)) / math.exp(-((mode - center) ** 2) / (2 * scale**2))
    distance = "x" if center == 0 else f"(x - {center:.6g})"
    formula = f"{factor:.6g} * exp(-{distance}**2 / {2 * scale**2:.6g})"
    return formula if isinstance(distribution, Normal) else formula + inside


def shares(distribution: Distribution) -> list[dict[str, Any]]:
    """Return the expected share of values between multiples of the standard deviation from the mean.

    >>> [row["share"] for row in shares(Uniform(0.0, 1.0))][:2]
    [0.0, 0.0]
    """
    if not distribution.std:
        return [{"from": distribution.mean, "to": distribution.mean, "share": 1.0}]
    bounds = [-math.inf, *(distribution.mean + sigmas * distribution.std for sigmas in range(-3, 4)), math.inf]
    probabilities = [float(distribution.cdf(bound)) for bound in bounds]
    return [
        {
            "from": _finite_or_none(bounds[k]),
            "to": _finite_or_none(bounds[k + 1]),
            "share": probabilities[k + 1] - probabilities[k],
        }
        for k in range(len(bounds) - 1)
    ]
