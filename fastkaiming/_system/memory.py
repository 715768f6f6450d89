"""How much memory this process may still take: what the machine has left, and what its control groups leave it."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fastkaiming._system.cgroups import control_groups

# The files of a control group in either version: its limit, its use, and the page cache in that use, which the kernel
# gives back before it lets anybody run short.
_GROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process may still take, or None where the system does not say.

    ``root`` holds the ``proc`` and ``sys`` to read.
    """
    return min((*_machine(root), *_groups(root)), default=None)


def _machine(root: Path) -> Iterator[int]:
    with suppress(OSError, LookupError):
        yield 1024 * _field(root / "proc/meminfo", "MemAvailable:")


def _groups(root: Path) -> Iterator[int]:
    for group in control_groups("memory", root):
        for limit, use, cache in _GROUP_FILES:
            with suppress(OSError, LookupError, ValueError):  # no such file, or the word "max": no limit at this level
                free = int((group / limit).read_text()) - int((group / use).read_text())
                yield max(0, free + _field(group / "memory.stat", cache))


def _field(path: Path, name: str) -> int:
    """Return the number that follows a name at the start of a line."""
    found = re.search(rf"^{name}\s+(\d+)", path.read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f"{path} has no {name}")
    return int(found[1])
