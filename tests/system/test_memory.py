"""The available memory, read from simulated trees of files in /proc and /sys."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fastkaiming._system.cgroups import control_groups
from fastkaiming._system.memory import available_memory

GIB = 2**30
MEMINFO = f"MemTotal:       {16 * GIB // 1024} kB\nMemFree:          1024 kB\nMemAvailable:   {8 * GIB // 1024} kB\n"

V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"

Tree = Callable[[dict[str, object]], Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    def write(files: dict[str, object]) -> Path:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{text}\n")
        return tmp_path

    return write


def v2_group(path: str, limit: object, use: int, cache: int) -> dict[str, object]:
    stat = f"anon {use - cache}\ninactive_anon 77\ninactive_file {cache}"
    return {f"{path}/memory.max": limit, f"{path}/memory.current": use, f"{path}/memory.stat": stat}


def v1_group(path: str, limit: int, use: int, cache: int) -> dict[str, object]:
    stat = f"cache 99\ninactive_file 5\ntotal_inactive_anon 77\ntotal_inactive_file {cache}"
    return {
        f"{path}/memory.limit_in_bytes": limit,
        f"{path}/memory.usage_in_bytes": use,
        f"{path}/memory.stat": stat,
    }


def test_available_memory_is_none_without_meminfo(tree: Tree) -> None:
    assert available_memory(tree({})) is None


def test_available_memory_is_none_without_the_line_in_meminfo(tree: Tree) -> None:
    assert available_memory(tree({"proc/meminfo": "MemTotal: 5 kB"})) is None


def test_available_memory_of_the_machine(tree: Tree) -> None:
    assert available_memory(tree({"proc/meminfo": MEMINFO})) == 8 * GIB


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        pytest.param(v2_group(f"{V2}/box/job", "max", GIB, 0), 8 * GIB, id="v2 without a limit"),
        pytest.param(v2_group(f"{V2}/box/job", 3 * GIB, GIB, 0), 2 * GIB, id="v2"),
        pytest.param(v2_group(f"{V2}/box", 3 * GIB, GIB, 0), 2 * GIB, id="v2 on an ancestor"),
        pytest.param(v2_group(V2, 3 * GIB, GIB, 0), 2 * GIB, id="v2 on the root, as inside a container"),
        pytest.param(v2_group(f"{V2}/box/job", 3 * GIB, 2 * GIB, GIB), 2 * GIB, id="v2 with reclaimable cache"),
        pytest.param(v2_group(f"{V2}/box/job", 3 * GIB, 4 * GIB, 0), 0, id="v2 over its limit"),
        pytest.param(v2_group(f"{V2}/box/job", 99 * GIB, GIB, 0), 8 * GIB, id="v2 beyond the machine"),
        pytest.param(v2_group(f"{V2}/other", GIB, 0, 0), 8 * GIB, id="v2 of another process"),
    ],
)
def test_available_memory_in_control_groups_version_2(tree: Tree, groups: dict[str, object], expected: int) -> None:
    root = tree({"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/box/job", **groups})
    assert available_memory(root) == expected


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        pytest.param(v1_group(f"{V1}/box", 2**63 - 4096, GIB, 0), 8 * GIB, id="without a limit"),
        pytest.param(v1_group(f"{V1}/box", 3 * GIB, GIB, 0), 2 * GIB, id="a limit"),
        pytest.param(v1_group(f"{V1}/box", 3 * GIB, 2 * GIB, GIB), 2 * GIB, id="with reclaimable cache"),
        pytest.param(v1_group("sys/fs/cgroup/cpu/box", GIB, 0, 0), 8 * GIB, id="of another controller"),
    ],
)
def test_available_memory_in_control_groups_version_1(tree: Tree, groups: dict[str, object], expected: int) -> None:
    memberships = "5:cpu,cpuacct:/box\n4:memory:/box\n1:name=systemd:/box\n0::/"
    assert available_memory(tree({"proc/meminfo": MEMINFO, "proc/self/cgroup": memberships, **groups})) == expected


def test_control_groups_are_yielded_from_the_innermost_outwards(tree: Tree) -> None:
    root = tree({"proc/self/cgroup": "2:cpu,cpuacct:/a/b\n1:memory:/a\n0::/c"})
    expected = ["cpu/a/b", "cpu/a", "cpu", "c", "."]
    assert list(control_groups("cpu", root)) == [root / V2 / group for group in expected]
