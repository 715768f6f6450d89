"""The number of threads of a fill: CPU affinity, quotas of both versions of control groups, and the two limits."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import python

import fastkaiming as fk
from fastkaiming._system import threads


@pytest.fixture(autouse=True)
def machine_of_64_cpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)), raising=False)
    monkeypatch.delenv("FASTKAIMING_THREADS", raising=False)
    yield
    fk.set_num_threads(None)


def system(root: Path, files: dict[str, str]) -> Path:
    """Create files of /proc and /sys in a new root directory."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, 64, id="no control groups"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 64, id="no quota"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4, id="whole CPUs"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 2, id="1.5 CPUs"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1, id="half a CPU"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "9900000 100000"}, 64, id="above affinity"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/kube/pod/box",
                "sys/fs/cgroup/kube/pod/box/cpu.max": "max 100000",
                "sys/fs/cgroup/kube/pod/cpu.max": "300000 100000",
                "sys/fs/cgroup/kube/cpu.max": "800000 100000",
            },
            3,
            id="the lowest quota of an ancestor",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/seen/from/the/host", "sys/fs/cgroup/cpu.max": "200000 100000"},
            2,
            id="a path outside of the container",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:memory:/box\n4:cpu,cpuacct:/box\n0::/",
                "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000",
            },
            3,
            id="version 1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            64,
            id="version 1 without a quota",
        ),
    ],
)
def test_usable_cpus(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert threads.usable_cpus(system(tmp_path, files)) == expected


def test_usable_cpus_without_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    for counter in ("cpu_count", "process_cpu_count"):
        monkeypatch.setattr(os, counter, lambda: 6, raising=False)
    assert threads.usable_cpus(tmp_path) == 6


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cpus", lambda: 8)


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize(
    ("variable", "limit", "expected"),
    [
        (None, None, 8),
        ("", None, 8),
        ("3", None, 3),
        ("100", None, 8),
        (None, 2, 2),
        (None, 100, 8),
        ("3", 2, 2),
        ("2", 3, 2),
    ],
)
def test_the_lower_limit_applies(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, limit: int | None, expected: int
) -> None:
    if variable is not None:
        monkeypatch.setenv("FASTKAIMING_THREADS", variable)
    fk.set_num_threads(limit)
    assert fk.get_num_threads() == expected


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize("value", ["0", "00", "-1", "2.5", "all", " ", " 2", "1_0", "²"])
def test_environment_variable_must_be_a_positive_integer(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("FASTKAIMING_THREADS", value)
    with pytest.raises(ValueError, match="FASTKAIMING_THREADS must be a positive integer, got ") as refusal:
        fk.get_num_threads()
    assert str(refusal.value).endswith(repr(value))


@pytest.mark.parametrize(
    ("mebibytes", "cpus", "argument", "expected"),
    [(4, 64, None, 2), (6, 64, None, 3), (64, 3, None, 3), (64, 1, None, 1), (1, 1, 7, 7), (64, 2, 5, 5)],
)
def test_number_of_threads_of_a_fill(
    monkeypatch: pytest.MonkeyPatch, mebibytes: int, cpus: int, argument: int | None, expected: int
) -> None:
    monkeypatch.setattr(threads, "get_num_threads", lambda: cpus)
    assert threads.threads_for_fill(argument, mebibytes << 20) == expected


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        (0, ValueError, "n must be an integer from 1 to 1024, got 0"),
        (-2, ValueError, "n must be an integer from 1 to 1024, got -2"),
        (1025, ValueError, "n must be an integer from 1 to 1024, got 1025"),
        (True, TypeError, "n must be an integer or None, not bool True"),
        (2.0, TypeError, "n must be an integer or None, not float 2.0"),
    ],
)
def test_invalid_limit_leaves_the_previous_one(n: Any, error: type[Exception], message: str) -> None:
    fk.set_num_threads(5)
    with pytest.raises(error, match=message):
        fk.set_num_threads(n)
    assert fk.get_num_threads() == 5


def test_invalid_environment_variable_raises_at_import() -> None:
    result = python("import fastkaiming", FASTKAIMING_THREADS="many")
    error = result.stderr.splitlines()[-1]
    assert error == "ValueError: FASTKAIMING_THREADS must be a positive integer, got 'many'"
