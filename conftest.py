"""What all tests share: no time limit for Hypothesis, and no look at adapters whose framework is not installed."""

from importlib.util import find_spec

from hypothesis import HealthCheck, settings

# A busy machine is no bug.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

collect_ignore_glob = [
    pattern
    for framework, patterns in {
        "torch": ("fastkaiming/torch*", "fastkaiming/checkpoint/_frameworks*", "benchmarks/torch_*"),
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
