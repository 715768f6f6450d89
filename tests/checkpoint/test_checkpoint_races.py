"""Runs that start at the same instant, are stopped or are killed never leave a mixture of two checkpoints."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkpoint_races import SHARD_SIZE, SOURCE
from processes import HANG_SECONDS, ROOT

from fastkaiming import checkpoint
from fastkaiming.checkpoint import _directory_lock, _file_writer

SCRIPT = ROOT / "tests" / "helpers" / "checkpoint_races.py"
ONE_WRITES = {"[0, 2] complete"}
EXPECTED = {
    "two seeds": ONE_WRITES,
    "two seeds, resumed": ONE_WRITES,
    "three seeds": {"[0, 2, 2] complete"},
    "one seed": ONE_WRITES,
    # Both runs may share the work, or one takes over from the other.
    "one seed, resumed": {"[0, 0] complete", "[0, 2] complete"},
    "parts": {"[0, 0, 0] complete"},
    "parts of two seeds": {"[0, 2] incomplete"},
    "a part, resumed beside the others": {"[0, 0, 0] complete"},
    # Groups of runs one after the other. The first group is what started together with the killed run.
    "kill": {"[[], [0]] complete"},
    # The other seed raises an error, or the run was killed before it locked the directory.
    "kill, another seed": {"[[], [2], [0]] complete", "[[], [0], [2]] complete"},
    "kill, two resumed": {"[[], [0, 0]] complete", "[[], [0, 2]] complete"},
    "kill, another seed at once": {"[[2], [0]] complete", "[[0], [2]] complete"},
    "kill a part": {"[[0, 0], [0]] complete"},
    "kill a part, resume all": {"[[0, 0], [0]] complete"},
}


def outcomes(scenario: str, rounds: int, *options: str) -> dict[str, int]:
    """Run a scenario several times, and return how often each outcome occurred."""
    result = subprocess.run(
        [sys.executable, SCRIPT, scenario, str(rounds), *options],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS * max(1, rounds // 20),
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    counts: dict[str, int] = json.loads(result.stdout)
    assert sum(counts.values()) == rounds
    return counts


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize(
    "rounds", [5, pytest.param(30, marks=pytest.mark.extended), pytest.param(300, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("options", [[], ["--pauses"]], ids=["no pauses", "pauses"])
@pytest.mark.parametrize("scenario", EXPECTED)
def test_no_race_leaves_a_mixture(scenario: str, options: list[str], rounds: int) -> None:
    assert outcomes(scenario, rounds, *options).keys() <= EXPECTED[scenario]


def write(directory: Path, **arguments: Any) -> checkpoint.Report:
    return checkpoint.write(SOURCE, directory, max_shard_size=SHARD_SIZE, **arguments)


@pytest.mark.parametrize("part", [None, (1, 8), (3, 8)])
def test_run_that_is_overtaken_after_its_checks_does_not_report_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: tuple[int, int] | None
) -> None:
    """Of two equal runs without resume, only one has written the files."""
    temporary_files = _file_writer.temporary_files

    def overtaken(*arguments: Any) -> dict[Path, str]:
        monkeypatch.setattr(_file_writer, "temporary_files", temporary_files)
        write(tmp_path, part=part)
        return temporary_files(*arguments)

    monkeypatch.setattr(_file_writer, "temporary_files", overtaken)
    with pytest.raises(FileExistsError, match="another run has written the file; resume=True"):
        write(tmp_path, part=part)
    assert not list(tmp_path.glob("*.partial"))
    assert write(tmp_path, resume=True).kept


def test_error_of_a_lock_is_that_of_the_last_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First another run removes the directory, and then killed runs of two checkpoints hold its lock."""
    create_directory, attempts = _directory_lock._create_directory, []

    def removed_at_first(directory: Path) -> None:
        attempts.append(directory)
        if len(attempts) == 1:
            raise FileNotFoundError(2, "No such file or directory", str(directory))
        create_directory(directory)
        lock = directory / _directory_lock.LOCK_NAME
        lock.mkdir(exist_ok=True)
        for name in ("mine.0", "other.0"):
            (lock / name).touch()

    monkeypatch.setattr(_directory_lock, "_create_directory", removed_at_first)
    with (
        pytest.raises(FileExistsError, match="runs of several checkpoints are using this directory"),
        _directory_lock.locked(tmp_path / "out", "mine"),
    ):
        pass
    assert len(attempts) > 1
