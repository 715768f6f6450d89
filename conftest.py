"""What all tests share: Hypothesis sets none of them a time limit, for a busy machine is no bug."""

from hypothesis import HealthCheck, settings

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
