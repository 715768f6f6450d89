"""Benchmarks of newly allocated memory and of other builds: their rows and processes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import builds  # noqa: E402
import new_memory  # noqa: E402
import stores  # noqa: E402
from harness import Case, Timed, UnavailableError  # noqa: E402


def rows_of_new_memory(baseline: str | None = None) -> dict[str, Case]:
    return {row.name: row for row in new_memory.cases(2**20, baseline)}


def test_memory_is_touched_and_freed_before_newly_allocated_memory_is_filled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log: list[object] = []
    monkeypatch.setattr(stores, "memset", lambda memory, _: log.append(memory.nbytes))
    row = rows_of_new_memory()["float32 normal, 1 MiB of newly allocated memory, against memset"]
    assert [contestant.name for contestant in (row.fastkaiming, *row.others)] == ["fastkaiming", "memset"]
    for contestant in (row.fastkaiming, *row.others):
        assert isinstance(contestant, Timed)
        replace(contestant, run=lambda weights: log.append(weights.shape)).cost()
    assert log == [2**20, (512, 512)] * 2


def test_rows_of_a_baseline_are_added_if_one_is_given() -> None:
    without, both = rows_of_new_memory(), rows_of_new_memory("python-of-the-baseline")
    added = {name: row for name, row in both.items() if name not in without}
    assert len(added) == 2 + 6 * 2 + 1
    for name, row in added.items():
        own, other = (each for each in (row.fastkaiming, *row.others) if isinstance(each, builds.Build))
        assert (own.python, other.python) == (sys.executable, "python-of-the-baseline")
        assert own.fill == other.fill
        assert own.huge_pages == other.huge_pages == ("without huge pages" not in name)
        assert own.fill.new_memory == ("newly allocated" in name)


def filled_by_a_process(**how: Any) -> float:
    return builds.Build("a build", builds.Fill("uniform", "float32", 2**20, new_memory=True), **how).cost()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl exists only on Linux")
def test_process_without_huge_pages_has_them_disabled() -> None:
    for huge_pages in (True, False):
        assert 0 < filled_by_a_process(huge_pages=huge_pages) < 1
        status = Path(f"/proc/{builds.process_of(sys.executable, huge_pages).pid}/status").read_text()
        assert f"THP_enabled:\t{huge_pages:d}\n" in status


def test_baseline_that_cannot_run_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="no_such_python"):
        filled_by_a_process(python=str(tmp_path / "no_such_python"))
    ends_at_once = tmp_path / "python"
    ends_at_once.write_text("#!/bin/sh\n")
    ends_at_once.chmod(0o755)
    with pytest.raises(UnavailableError, match=f"the process of {ends_at_once} has died"):
        filled_by_a_process(python=str(ends_at_once))


def test_baseline_does_not_inherit_pythonpath(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, str]] = []
    monkeypatch.setenv("PYTHONPATH", "here")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, env, **__: started.append(env))
    for python in (sys.executable, "another"):
        builds.process_of.__wrapped__(python, True)
    assert [env.get("PYTHONPATH") for env in started] == ["here", None]
