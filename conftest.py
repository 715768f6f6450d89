"""What all tests share: Hypothesis sets none of them a time limit, for a busy machine is no bug."""

from importlib.util import find_spec

from hypothesis import HealthCheck, settings

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

collect_ignore = (
    [] if find_spec("jax") else ["fastkaiming/jax.py", "fastkaiming/jax_arrays.py"]
)  # whose examples need it
