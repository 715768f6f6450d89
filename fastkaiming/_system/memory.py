"""The memory that this process can still allocate, limited by the machine and by Linux control groups."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fastkaiming._system.cgroups import control_groups

# For each version of control groups: the file of the limit, the file of the usage, and the field of memory.stat for the
# page cache within the usage, which the kernel reclaims before an allocation fails.
_GROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the number of bytes that this process can still allocate, or None if the system does not report it.

    ``root`` is the directory that contains ``proc`` and ``sys``.
    """
    return min((*_machine_available(root), *_groups_available(root)), default=None)


def _machine_available(root: Path) -> Iterator[int]:
    with suppress(OSError, LookupError):
        yield 1024 * _field(root / "proc/meminfo", "MemAvailable:")


def _groups_available(root: Path) -> Iterator[int]:
    for group in control_groups("memory", root):
        for limit, usage, cache in _GROUP_FILES:
            with suppress(OSError, LookupError, ValueError):  # no such file, or the word "max": no limit at this level
                free = int((group / limit).read_text()) - int((group / usage).read_text())
                yield max(0, free + _field(group / "memory.stat", cache))


def _field(path: Path, name: str) -> int:
    """Return the number after a name at the start of a line, or raise LookupError if there is none."""
    found = re.search(rf"^{name}\s+(\d+)", path.read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f"{path} has no {name}")
    return int(found[1])
