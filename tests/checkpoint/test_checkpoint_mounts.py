"""Checkpoints on file systems that are full or read-only: real ones, mounted where only the test sees them."""

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


def within_mount(directory: Path, script: str, size: int) -> list[str]:
    """Return the lines of a script that begins by a mount, for which no rights are asked."""
    unshared = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        subprocess.run([*unshared, MOUNT, "sh", "64k"], cwd=directory, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system mounts nothing for us")
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
    return [line for line in result.stdout.splitlines() if "%" not in line]  # of progress


def pages_of_files() -> int:
    """Return what the files take, without their index."""
    files = checkpoint.plan(RECIPE, max_shard_size=SHARD_SIZE).files
    return sum(-(-file.nbytes // PAGE) * PAGE for file in files)


def test_disk_that_is_full_at_the_reservation(directory: Path) -> None:
    refusal, code, *left = within_mount(directory, WRITE, pages_of_files() - PAGE)
    assert refusal.startswith("fastkaiming checkpoint: ")
    assert "No space left on device" in refusal
    assert "bytes cannot be reserved" in refusal
    assert (code, left) == ("exit 2", [])


def test_disk_that_fills_up_in_the_middle(directory: Path) -> None:
    """As where a file system only pretends to reserve; what is whole by then is kept."""
    (directory / "pretend.py").write_text(
        "import os, sys\nfrom fastkaiming import cli\nos.posix_fallocate = lambda *_: None\nsys.exit(cli.main())\n"
    )
    script = WRITE.replace("-m fastkaiming", "pretend.py")
    refusal, code, *left = within_mount(directory, script, pages_of_files() - PAGE)
    assert refusal.startswith("fastkaiming checkpoint: ")
    assert refusal.endswith("/model-00003-of-00003.safetensors: No space left on device")
    assert (code, left) == ("exit 2", [f"model-{number:05d}-of-00003.safetensors" for number in (1, 2)])


def test_disk_that_is_full_at_the_end(directory: Path) -> None:
    """The index alone is not reserved; what is whole by then is kept."""
    resumed = '; mount -o "remount,size=$((2 * $1))" out'
    resumed += '; "$2" -m fastkaiming checkpoint recipe.json out --max-shard-size "$3" --resume'
    resumed += '; "$2" -m fastkaiming verify out'
    lines = within_mount(directory, WRITE + resumed, pages_of_files())
    assert "No space left on device" in lines[0]
    assert "model.safetensors.index.json" in lines[0]
    names = [f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]
    assert lines[1:5] == ["exit 2", *names]
    assert lines[5:8] == [f"out/{name} (kept)" for name in names]
    assert lines[-1].startswith("3 files, 3 tensors")


@pytest.mark.parametrize("out", ["out", "out/new/directory"])
def test_directory_that_is_read_only(directory: Path, out: str) -> None:
    script = f"mount -o remount,ro out; {WRITE.replace('json out', f'json {out}')}"
    refusal, *rest = within_mount(directory, script, pages_of_files())
    assert refusal.startswith("fastkaiming checkpoint: ")
    assert "Read-only file system" in refusal
    assert rest == ["exit 2"]
