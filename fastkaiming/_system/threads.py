"""How many threads a large fill may use: the CPUs this process has, and the caps that the user sets on them.

A container's CPU quota does not show in the CPU affinity, but threads beyond it only wait: it counts here as a limit.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from fastkaiming import _validation
from fastkaiming._system.cgroups import control_groups

MAX_THREADS = 1024
VARIABLE = "FASTKAIMING_THREADS"

# The quota and its period in microseconds, in either version of control groups.
_QUOTA_FILES = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))

_cap: int | None = None


def get_num_threads() -> int:
    """Return how many threads a large fill uses when it is not told.

    That is every CPU this process may use by its affinity and by the CPU quota of its control group, as it was when
    first asked for, but not more than the environment variable ``FASTKAIMING_THREADS`` or :func:`set_num_threads`
    allow; an empty variable counts as unset. Small fills use fewer.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ValueError
        ``FASTKAIMING_THREADS`` is set to something that is no positive integer. If it is when fastkaiming is imported,
        the import raises this.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.set_num_threads(1)
    >>> fk.get_num_threads()
    1
    >>> fk.set_num_threads(None)
    """
    caps = (usable_cpus(), _environment_cap(), _cap)
    return min(cap for cap in caps if cap is not None)


def set_num_threads(n: int | None) -> None:
    """Cap the threads that fills use when they are not told how many; ``None`` removes the cap.

    The cap holds for the whole process, from the next fill on. It never raises the number above the CPUs this process
    may use; the ``threads`` argument of a fill does. The values filled in are the same at any number.

    Parameters
    ----------
    n : int or None
        The most threads, from 1 to 1024.

    Raises
    ------
    TypeError
        ``n`` is neither an integer nor None.
    ValueError
        ``n`` is out of range.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.set_num_threads(1)
    >>> fk.get_num_threads()
    1
    >>> fk.set_num_threads(None)
    """
    global _cap
    _cap = None if n is None else _validation.integer("n", n, 1, MAX_THREADS, "an integer or None")


def usable_cpus(root: Path = Path("/")) -> int:
    """Return how many CPUs this process may run on, at least 1; ``root`` holds the ``proc`` and ``sys`` to read."""
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    return min([cpus, *_cgroup_quotas(root)])


def _environment_cap() -> int | None:
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and value.strip("0")):
        raise ValueError(f"{VARIABLE} must be a positive integer, got {value!r}")
    return int(value)


@cache
def _cgroup_quotas(root: Path) -> tuple[int, ...]:
    """Return the CPU quotas that bind this process, in whole CPUs; once read, for that takes as long as some fills."""
    return tuple(_read_quotas(root))


def _read_quotas(root: Path) -> Iterator[int]:
    for group in control_groups("cpu", root):
        for files in _QUOTA_FILES:
            with suppress(OSError, ValueError):  # no such file, or the word "max": no limit at this level
                quota, period = (int(field) for file in files for field in (group / file).read_text().split())
                if quota > 0:
                    yield math.ceil(quota / period)


_environment_cap()  # refused here and now, not at the first large fill
