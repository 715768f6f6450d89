"""``explain``: what an initializer does to a shape: fans, gain, standard deviation, density, shares."""

import argparse
import math
from typing import Any

from fastkaiming.checkpoint import _dtypes, _plan
from fastkaiming.cli import _output
from fastkaiming.cli.fill import describe_array
from fastkaiming.distributions import Distribution, Normal, Uniform

HELP = "show fans, gain, std and density of an initializer for a shape, and the share of values in each range"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    describe_array(parser)


def run(options: argparse.Namespace) -> int:
    """Print it."""
    drawn = _plan.distribution(options.init, options.shape, _dtypes.named("--dtype", options.dtype))
    with _output.json_output(options.json) as result:
        result |= _fans(options)
        result |= {"distribution": repr(drawn), "mean": drawn.mean, "std": drawn.std}
        result |= {"low": _json(drawn.low), "high": _json(drawn.high)}
        if result.get("fan_in"):
            result["gain"] = drawn.std * math.sqrt(result["fan_in"])
        result["density"] = density(drawn)
        result["shares"] = shares(drawn)
        for name, value in list(result.items())[:-1]:
            note = "   std * sqrt(fan_in)" if name == "gain" else ""
            print(f"{name:<12} {_output.shown(value)}{note}")
        print()
        _output.table(result["shares"])
    return 0


def _fans(options: argparse.Namespace) -> dict[str, int]:
    return _plan.fans_of(options.init, options.shape)._asdict() if len(options.shape) > 1 else {}


def _json(bound: float) -> float | None:
    """Return a bound; JSON has no infinity."""
    return bound if math.isfinite(bound) else None


def density(drawn: Distribution) -> str:
    """Return the density as a formula with numbers.

    >>> density(Normal(std=0.5))
    '0.797885 * exp(-x**2 / 0.5)'
    """
    if not drawn.std:
        return f"all of it at {drawn.mean:.6g}"
    inside = f" from {drawn.low:.6g} to {drawn.high:.6g}"
    if isinstance(drawn, Uniform):
        return f"{drawn.pdf(drawn.mean):.6g}{inside}"
    center, scale = (drawn.mean, drawn.std) if isinstance(drawn, Normal) else (drawn.loc, drawn.scale)
    mode = min(max(center, drawn.low), drawn.high)
    factor = float(drawn.pdf(mode)) / math.exp(-((mode - center) ** 2) / (2 * scale**2))
    distance = "x" if center == 0 else f"(x - {center:.6g})"
    formula = f"{factor:.6g} * exp(-{distance}**2 / {2 * scale**2:.6g})"
    return formula if isinstance(drawn, Normal) else formula + inside


def shares(drawn: Distribution) -> list[dict[str, Any]]:
    """Return the share of values that is expected between standard deviations.

    >>> [row["share"] for row in shares(Uniform(0.0, 1.0))][:2]
    [0.0, 0.0]
    """
    if not drawn.std:
        return [{"from": drawn.mean, "to": drawn.mean, "share": 1.0}]
    ends = [-math.inf, *(drawn.mean + sigmas * drawn.std for sigmas in range(-3, 4)), math.inf]
    below = [float(drawn.cdf(end)) for end in ends]
    return [
        {"from": _json(ends[k]), "to": _json(ends[k + 1]), "share": below[k + 1] - below[k]}
        for k in range(len(ends) - 1)
    ]
