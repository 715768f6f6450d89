"""Fills that are put off, to see what they would draw."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastkaiming import _core
from fastkaiming._fill import fill
from fastkaiming.distributions import Distribution


class Plans(list[_core.Plan]):
    """The plans of fills that are not made."""

    def distributions(self) -> list[Distribution]:
        """Return what each of them would draw."""
        return [plan.template.distribution for plan in self]


@contextmanager
def put_off() -> Iterator[Plans]:
    """Make none of the fills of the ``with`` block, but collect their plans."""
    plans = Plans()
    with fill._set_mode(deferred=plans):
        yield plans
