"""Directories of the Linux control groups that limit this process, for example in a container."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Yield the directories of this process's control groups for a controller such as "cpu", and of their ancestors.

    A limit on any of them applies to the process. Directories of both versions of control groups are yielded; the names
    of their files differ. On systems other than Linux there are none. ``root`` is the directory that contains ``proc``
    and ``sys``.
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
