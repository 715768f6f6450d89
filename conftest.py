"""Settings that all tests share: Hypothesis without deadlines, and files that need a framework."""

from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

# Tests may run on a busy machine, so a slow example is not an error.
settings.register_profile("no deadlines", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no deadlines")

DEFAULT_MARKERS = "not slow and not extended"

collect_ignore_glob = [
    pattern
    for framework, patterns in {
        "torch": (
            "fastkaiming/torch*",
            "fastkaiming/checkpoint/_modules*",
            "fastkaiming/checkpoint/_transformers*",
            "benchmarks/torch_*",
        ),
        "transformers": ("fastkaiming/checkpoint/_transformers*",),
        "jax": ("fastkaiming/jax*", "benchmarks/jax_*"),
        "dask": ("fastkaiming/dask*", "benchmarks/dask_*"),
        "sklearn": ("benchmarks/he2015*",),
        "matplotlib": (
            "fastkaiming/diagnostics/plot*",
            "fastkaiming/diagnostics/report*",
            "benchmarks/pictures*",
            "benchmarks/plots*",
        ),
    }.items()
    if find_spec(framework) is None
    for pattern in patterns
]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Remove the mark ``extended`` from slow tests, so that ``-m extended`` does not select them."""
    if item.get_closest_marker("slow"):
        item.own_markers = [mark for mark in item.own_markers if mark.name != "extended"]


def pytest_report_header(config: pytest.Config) -> str:
    """Return the expected duration of the tests, which pytest prints at the start."""
    if config.option.markexpr != DEFAULT_MARKERS:
        return f"tests: -m '{config.option.markexpr}'; the extended tests take about 10 minutes, the slow ones hours"
    return (
        "tests: the default ones take 2 to 3 minutes on two cores; "
        "'-m extended' selects the longer tests, '-m slow' the exhaustive ones"
    )
