"""The distributions of PyTorch's, JAX's and Keras' initializers equal those of the calls in docs/migrating.md."""

import math
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from plans import put_off
from processes import ROOT
from semantics_table import ROWS, ULP, numbers_of, read

import fastkaiming as fk

FOREIGN = {"layout": "*IO"}
RENAMED = {"stddev": "std", "minval": "low", "maxval": "high"}
LAYOUTS = {frozenset({("in_axis", 1), ("out_axis", 0)}): "OI*", frozenset({("batch_axis", 0)}): "BIO"}

# fastkaiming's equivalent of each initializer; for some, it depends on the arguments
OURS: dict[tuple[str, str], tuple[Callable[..., Any], dict[str, Any]]] = {
    ("torch", "kaiming_normal_"): (fk.kaiming_normal_, {}),
    ("torch", "kaiming_uniform_"): (fk.kaiming_uniform_, {}),
    ("torch", "xavier_normal_"): (fk.xavier_normal_, {}),
    ("torch", "xavier_uniform_"): (fk.xavier_uniform_, {}),
    ("torch", "trunc_normal_"): (fk.trunc_normal_, {}),
    ("jax", "normal"): (fk.normal_, {}),
    ("jax", "variance_scaling"): (fk.variance_scaling_, FOREIGN),
    ("keras", "RandomNormal"): (fk.normal_, {"std": 0.05}),
    ("keras", "RandomUniform"): (fk.uniform_, {}),
    ("keras", "VarianceScaling"): (fk.variance_scaling_, FOREIGN),
}
for library, names in (
    ("jax", ("glorot_normal", "glorot_uniform", "lecun_normal", "lecun_uniform", "he_normal", "he_uniform")),
    ("keras", ("GlorotNormal", "GlorotUniform", "LecunNormal", "LecunUniform", "HeNormal", "HeUniform")),
):
    calls: list[tuple[Callable[..., Any], dict[str, Any]]] = [
        (fk.variance_scaling_, {"mode": "fan_avg", **FOREIGN}),
        (fk.xavier_uniform_, FOREIGN),
        (fk.lecun_normal_, FOREIGN),
        (fk.lecun_uniform_, FOREIGN),
        (fk.variance_scaling_, {"scale": 2.0, **FOREIGN}),
        (fk.he_uniform_, FOREIGN),
    ]
    OURS |= {(library, name): call for name, call in zip(names, calls, strict=True)}


def equivalent_call(library: str, name: str, original: dict[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return fastkaiming's equivalent of a call of another library."""
    if name in (
        "truncated_normal",
        "TruncatedNormal",
    ):  # with bounds in sigmas of a std of 0.01 or 0.05
        mean, std = original.get("mean", 0.0), original.get("stddev", 0.01 if library == "jax" else 0.05)
        low, high = mean + original.get("lower", -2.0) * std, mean + original.get("upper", 2.0) * std
        return fk.trunc_normal_, {"mean": mean, "std": std, "a": low, "b": high}
    if (library, name) == ("jax", "uniform"):
        return fk.uniform_, {"high": original["scale"]}
    call, arguments = OURS[library, name]
    axes = frozenset((axis, at) for axis, at in original.items() if axis.endswith("_axis"))
    others = {RENAMED.get(key, key): value for key, value in original.items() if not key.endswith("_axis")}
    if library == "keras" and others.get("distribution") == "normal":
        others["distribution"] = "truncated_normal"
    return call, arguments | others | ({"layout": LAYOUTS[axes]} if axes else {})


@pytest.mark.parametrize("row", [row for row in ROWS if " calculate_gain " not in row])
def test_distribution(row: str) -> None:
    library, name, dimensions, texts, family, *hexadecimals = row.split(" ")
    original = read(texts)
    expected = list(map(float.fromhex, hexadecimals))
    call, arguments = equivalent_call(library, name, original)
    with put_off() as plans:
        call(np.empty(tuple(map(int, dimensions.split("x"))), np.float32), **arguments)
    found_family, parameters = numbers_of(plans.distributions()[0])
    assert found_family == family
    if library == "torch":  # the same operations in the same order
        assert parameters == expected
    else:  # sqrt(3 * variance), or sqrt(variance) rounded before it is divided
        assert parameters == pytest.approx(expected, rel=2 * ULP, abs=0.0)


@pytest.mark.parametrize("row", [row for row in ROWS if " calculate_gain " in row])
def test_gain(row: str) -> None:
    *_, texts, family, gain = row.split(" ")
    assert family == "gain"
    assert fk.calculate_gain(**read(texts)).hex() == gain


def test_table_has_enough_rows() -> None:
    assert len(ROWS) == len(set(ROWS)) >= 100
    assert all(math.isfinite(float.fromhex(number)) for row in ROWS for number in row.split(" ")[5:])


NEEDED = {"torch": ["torch"], "jax": ["jax"], "keras": ["keras", "jax"]}


@pytest.mark.parametrize("library", NEEDED)
def test_table_equals_the_answers_of_the_library(library: str) -> None:
    missing = [needed for needed in NEEDED[library] if find_spec(needed) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    program = [sys.executable, "-W", "ignore", str(ROOT / "tests" / "generators" / "framework_semantics.py"), library]
    answered = subprocess.run(program, check=True, capture_output=True, text=True).stdout.splitlines()
    assert answered == [row for row in ROWS if row.startswith(f"{library} ")]
