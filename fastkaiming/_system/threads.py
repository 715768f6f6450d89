"""The number of threads of a fill: the usable CPUs, and the limits that the user sets.

A container's CPU quota is not part of the CPU affinity. It counts as a limit here, because threads beyond the quota
would only wait.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from fastkaiming import _validation
from fastkaiming._errors import named
from fastkaiming._system.cgroups import control_groups

MAX_THREADS = 1024
THREADS_VARIABLE = "FASTKAIMING_THREADS"

_BYTES_PER_THREAD = 2 << 20  # takes 200 to 400 us to fill, while a thread takes about 90 us to start
MIN_PARALLEL_BYTES = 2 * _BYTES_PER_THREAD

# The quota and its period in microseconds, for each version of control groups.
_QUOTA_FILES = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))

_limit: int | None = None


def get_num_threads() -> int:
    """Return the default number of threads of a large fill.

    It is the number of CPUs that the affinity of this process and the CPU quota of its control group allow. The
    quota is read once, at the first call. The environment variable ``FASTKAIMING_THREADS`` and :func:`set_num_threads`
    limit the number further; an empty variable counts as unset. Small fills use fewer threads.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ValueError
        If ``FASTKAIMING_THREADS`` is set to something other than a positive integer. The import of fastkaiming raises
        this error as well.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.set_num_threads(1)
    >>> fk.get_num_threads()
    1
    >>> fk.set_num_threads(None)
    """
    limits = (usable_cpus(), _environment_limit(), _limit)
    return min(limit for limit in limits if limit is not None)


def set_num_threads(n: int | None) -> None:
    """Limit the default number of threads of a fill; ``None`` removes the limit.

    The limit applies to the whole process, from the next fill on. It does not raise the default above the number of
    CPUs that this process may use, and it does not apply to fills with a ``threads`` argument. The values do not depend
    on the number of threads.

    Parameters
    ----------
    n : int or None
        The maximum number of threads, from 1 to 1024.

    Raises
    ------
    TypeError
        If ``n`` is neither an integer nor None.
    ValueError
        If ``n`` is out of range.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.set_num_threads(1)
    >>> fk.get_num_threads()
    1
    >>> fk.set_num_threads(None)
    """
    global _limit
    with named("set_num_threads"):
        _limit = None if n is None else _validation.integer("n", n, 1, MAX_THREADS, "an integer or None")


def threads_for_fill(threads: int | None, nbytes: int) -> int:
    """Return the maximum number of threads for a fill of ``nbytes`` bytes.

    A small fill uses one thread, and then the usable CPUs are not queried.
    """
    if threads is not None:
        return check_threads(threads)
    return min(nbytes // _BYTES_PER_THREAD, get_num_threads()) if nbytes >= MIN_PARALLEL_BYTES else 1


def check_threads(threads: int) -> int:
    """Return the argument ``threads``; raise TypeError or ValueError if it is not a valid number of threads."""
    return _validation.integer("threads", threads, 1, MAX_THREADS, "an integer or None")


def usable_cpus(root: Path = Path("/")) -> int:
    """Return how many CPUs this process may run on, at least 1.

    ``root`` is the directory that contains ``proc`` and ``sys``.
    """
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    return min([cpus, *_cgroup_quotas(root)])


def _environment_limit() -> int | None:
    value = os.environ.get(THREADS_VARIABLE)
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and value.strip("0")):
        raise ValueError(f"{THREADS_VARIABLE} must be a positive integer, got {value!r}")
    return int(value)


@cache
def _cgroup_quotas(root: Path) -> tuple[int, ...]:
    """Return the CPU quotas of this process in whole CPUs, cached because reading them can take as long as a fill."""
    return tuple(_read_quotas(root))


def _read_quotas(root: Path) -> Iterator[int]:
    for group in control_groups("cpu", root):
        for files in _QUOTA_FILES:
            with suppress(OSError, ValueError):  # no such file, or the word "max": no limit at this level
                quota, period = (int(field) for file in files for field in (group / file).read_text().split())
                if quota > 0:
                    yield math.ceil(quota / period)


_environment_limit()  # raises an error for an invalid value at import rather than at the first large fill
