"""Checkpoints on full and read-only file systems, which are mounted in a namespace of the test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import HANG_SECONDS, ROOT

from fastkaiming import checkpoint

PAGE = os.sysconf("SC_PAGE_SIZE")
RECIPE = {"tensors": {f"{name}.weight": [128, 64] for name in "abc"}}
SHARD_SIZE = "32KiB"
MOUNT = 'mount -t tmpfs -o "size=$1" tmpfs out'
WRITE = '"$2" -m fastkaiming checkpoint recipe.json out --max-shard-size "$3"; echo "exit $?"; ls -A out'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    (tmp_path / "out").mkdir()
    return tmp_path


def run_in_mount(directory: Path, script: str, size: int) -> list[str]:
    """Mount a file system, run a script, and return its output lines; this needs no privileges."""
    unshared = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        subprocess.run([*unshared, MOUNT, "sh", "64k"], cwd=directory, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system does not allow mounts in user namespaces")
    result = subprocess.run(
        [*unshared, f"{MOUNT} && {{ {script}; }}", "sh", str(size), sys.executable, SHARD_SIZE],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANG_SECONDS,
        check=True,
    )
    return [line for line in result.stdout.splitlines() if "%" not in line]  # without lines about progress


def disk_space_of_files() -> int:
    """Return the disk space of the files in bytes, without the index."""
    files = checkpoint.plan(RECIPE, max_shard_size=SHARD_SIZE).files
    return sum(-(-file.nbytes // PAGE) * PAGE for file in files)


def test_full_disk_at_reservation_leaves_no_files(directory: Path) -> None:
    error, code, *left = run_in_mount(directory, WRITE, disk_space_of_files() - PAGE)
    assert error.startswith("fastkaiming checkpoint: ")
    assert "No space left on device" in error
    assert "bytes cannot be reserved" in error
    assert (code, left) == ("exit 2", [])


def test_full_disk_during_writing_keeps_complete_files(directory: Path) -> None:
    """Disable the reservation, because it has no effect on some file systems."""
    (directory / "no_reservation.py").write_text(
        "import os, sys\nfrom fastkaiming import cli\nos.posix_fallocate = lambda *_: None\nsys.exit(cli.main())\n"
    )
    script = WRITE.replace("-m fastkaiming", "no_reservation.py")
    error, code, *left = run_in_mount(directory, script, disk_space_of_files() - PAGE)
    assert error.startswith("fastkaiming checkpoint: ")
    assert error.endswith("/model-00003-of-00003.safetensors: No space left on device")
    assert (code, left) == ("exit 2", [f"model-{number:05d}-of-00003.safetensors" for number in (1, 2)])


def test_full_disk_at_the_index_keeps_complete_files(directory: Path) -> None:
    """No space is reserved for the index."""
    resumed = '; mount -o "remount,size=$((2 * $1))" out'
    resumed += '; "$2" -m fastkaiming checkpoint recipe.json out --max-shard-size "$3" --resume'
    resumed += '; "$2" -m fastkaiming verify out'
    lines = run_in_mount(directory, WRITE + resumed, disk_space_of_files())
    assert "No space left on device" in lines[0]
    assert "model.safetensors.index.json" in lines[0]
    names = [f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]
    assert lines[1:5] == ["exit 2", *names]
    assert lines[5:8] == [f"out/{name} (kept)" for name in names]
    assert lines[-1].startswith("3 files, 3 tensors")


@pytest.mark.parametrize("out", ["out", "out/new/directory"])
def test_read_only_directory_gives_one_error_line(directory: Path, out: str) -> None:
    script = f"mount -o remount,ro out; {WRITE.replace('json out', f'json {out}')}"
    error, *rest = run_in_mount(directory, script, disk_space_of_files())
    assert error.startswith("fastkaiming checkpoint: ")
    assert "Read-only file system" in error
    assert rest == ["exit 2"]
