"""Read tests/vectors/semantics.txt: what the initializers of PyTorch, JAX and Keras sample from."""

import ast
from pathlib import Path
from typing import Any

import fastkaiming as fk
from fastkaiming.distributions import Distribution

TABLE = Path(__file__).parents[1] / "vectors" / "semantics.txt"
ROWS = [line for line in TABLE.read_text("utf-8").splitlines() if not line.startswith("#")]

ULP = 2.0**-52


def numbers_of(distribution: Distribution) -> tuple[str, list[float]]:
    if isinstance(distribution, fk.Normal):
        return "normal", [distribution.mean, distribution.std]
    if isinstance(distribution, fk.Uniform):
        return "uniform", [distribution.low, distribution.high]
    return "truncated_normal", [distribution.loc, distribution.scale, distribution.low, distribution.high]


def read(texts: str) -> dict[str, Any]:
    """Return keyword arguments from their text, a dash for none."""
    if texts == "-":
        return {}
    return {key: ast.literal_eval(value) for key, value in (text.split("=") for text in texts.split(","))}
