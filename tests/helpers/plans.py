"""Collect the plans of fills without executing them, to check their distributions."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastkaiming import _core
from fastkaiming._fill.context import defer_to
from fastkaiming.distributions import Distribution


class Plans(list[_core.Plan]):
    """The plans of fills that are not executed."""

    def distributions(self) -> list[Distribution]:
        """Return the distribution of each plan."""
        return [plan.template.distribution for plan in self]


@contextmanager
def put_off() -> Iterator[Plans]:
    """Collect the plans of the fills in the ``with`` block instead of executing them."""
    plans = Plans()
    with defer_to(plans):
        yield plans
