"""Where Linux keeps the limits that a container sets on this process: the directories of its control groups."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Yield the directories of this process' control groups for a controller such as "cpu", and of all their ancestors.

    A limit set on any of them binds. Both versions of control groups are walked; which one a directory belongs to shows
    in the names of its files. Outside Linux there are none. ``root`` holds the ``proc`` and ``sys`` to read.
    """
    try:
        memberships = (root / "proc/self/cgroup").read_text()
    except OSError:
        return
    for line in memberships.splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        group = PurePosixPath(path.lstrip("/"))
        if hierarchy == "0":
            mount = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            mount = root / "sys/fs/cgroup" / controller
        else:
            continue
        yield from (mount / ancestor for ancestor in (group, *group.parents))
