"""Checkpoints whose disk is full, whose run is killed, stopped or not alone: nothing is lost, nothing half written."""

import errno
import fcntl
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from processes import HANG_SECONDS, python

import fastkaiming as fk
from fastkaiming import checkpoint
from fastkaiming.checkpoint import _file_writer

RECIPE: dict[str, Any] = {"tensors": {f"{n}.weight": [64, 48] for n in range(12)}}
SHARD_SIZE = "30KB"


def written(tmp_path: Path) -> tuple[Path, checkpoint.Report]:
    directory = tmp_path / "model"
    return directory, checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE)


def test_resume_keeps_what_is_whole(tmp_path: Path) -> None:
    directory, report = written(tmp_path)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    damaged, lost, kept = report.files[0], report.files[1], report.files[2:]
    stamps = {name: (directory / name).stat().st_mtime_ns for name in kept}
    with (directory / damaged).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    (directory / lost).rename(directory / f".{lost}.0123456789abcdef.partial")  # as a killed run leaves it
    again = checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE, resume=True)
    assert again.kept == kept
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    assert {name: (directory / name).stat().st_mtime_ns for name in kept} == stamps


def test_another_checkpoint_is_never_overwritten(tmp_path: Path) -> None:
    directory, report = written(tmp_path)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(FileExistsError, match="--resume"):
        checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE)
    with pytest.raises(FileExistsError, match="of another checkpoint"):
        checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE, seed=1, resume=True)
    with pytest.raises(FileExistsError, match="must hold no other checkpoint"):
        checkpoint.write(RECIPE, directory, resume=True)
    (directory / report.files[0]).unlink()
    (directory / "notes.txt").write_text("mine")
    checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE, resume=True)
    assert (directory / "notes.txt").read_text() == "mine"
    assert {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "notes.txt"} == before


def test_full_disk_is_told_before_anything_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_file_writer, "write", pytest.fail)
    huge = {"tensors": {"a": [2**30, 2**20], "b": [2**30, 2**20]}}
    with pytest.raises(OSError, match="cannot be reserved") as raised:
        checkpoint.write(huge, tmp_path / "out", dtype="float32")
    assert raised.value.errno in {errno.ENOSPC, errno.EFBIG}
    assert list(tmp_path.iterdir()) == []


def test_error_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_file_writer, "_pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(RECIPE, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="this system has no direct writes")
@pytest.mark.parametrize("refuses", [True, False])
def test_files_are_written_past_the_page_cache_where_they_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    probe = tmp_path / "probe"
    probe.touch()
    try:
        os.close(os.open(probe, os.O_RDWR | os.O_DIRECT))
    except OSError:
        pytest.skip("this file system has no direct writes")
    probe.unlink()
    checkpoint.write(RECIPE, tmp_path / "expected")
    pwrite = os.pwrite
    cached: list[int] = []

    def watched(descriptor: int, view: memoryview, offset: int) -> int:
        if not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            cached.append(len(view))
        elif refuses:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return pwrite(descriptor, view, offset)

    monkeypatch.setattr(os, "pwrite", watched)
    checkpoint.write(RECIPE, tmp_path / "out")
    expected, out = (next((tmp_path / name).iterdir()).read_bytes() for name in ("expected", "out"))
    assert out == expected
    assert len(out) > 10 * 4096
    assert sum(cached) == (len(out) if refuses else len(out) % 4096)


def test_errors_of_a_progress_callback_are_its_own(tmp_path: Path) -> None:
    def breaks(_done: int, _total: int) -> None:
        raise FileNotFoundError("mine alone")

    with fk.progress(breaks), pytest.raises(FileNotFoundError, match=r"^mine alone$"):
        checkpoint.write(RECIPE, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_killed_run_of_other_files_is_told_and_replaced(tmp_path: Path) -> None:
    leftover = tmp_path / ".model-00002-of-00007.safetensors.0123456789abcdef.partial"
    of_another_part = tmp_path / ".model-00002-of-00012.safetensors.0123456789abcdef.partial"
    leftover.touch()
    of_another_part.touch()
    with pytest.raises(FileExistsError, match=r"00002-of-00007.* a run was killed here"):
        checkpoint.write(RECIPE, tmp_path, max_shard_size=1, part=(1, 2))
    checkpoint.write(RECIPE, tmp_path, max_shard_size=1, part=(1, 2), resume=True)
    assert list(tmp_path.glob(".*")) == [of_another_part]


def test_killed_run_resumes(tmp_path: Path) -> None:
    source = {"tensors": {f"{n}.weight": [1024, 2048] for n in range(40)}}
    code = f"from fastkaiming import checkpoint; checkpoint.write({source}, {str(tmp_path)!r}, max_shard_size='8MiB')"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        while not list(tmp_path.glob("*.safetensors")) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert list(tmp_path.glob(".*.partial"))
    finished = {path.name for path in tmp_path.glob("*.safetensors")}
    report = checkpoint.write(source, tmp_path, max_shard_size="8MiB", resume=True)
    assert set(report.kept) == finished
    assert not list(tmp_path.glob(".*"))
    assert checkpoint.verify(tmp_path).difference is None


FORKING = """
import os, signal, sys
import fastkaiming as fk
from fastkaiming import checkpoint

source, out = {"tensors": {f"{n}.weight": [1024, 1024] for n in range(64)}}, sys.argv[1]
children = []

def callback(done, total):
    if not children and 0 < done < total:
        children.append(os.fork())
        if not children[0]:
            signal.alarm(60)  # rather dead than hanging

def work(function, *arguments, **named):
    try:
        with fk.progress(callback):
            function(*arguments, **named)
    except RuntimeError as error:
        os._exit(7 if not children[0] and "forked in a progress callback" in str(error) else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(children.pop(), 0)[1]), flush=True)

work(checkpoint.write, source, out, seed=3)
work(checkpoint.verify, out)
print(checkpoint.verify(out).difference, os.listdir(out))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_forked_in_a_callback_ends_and_leaves_the_parents_files_alone(tmp_path: Path) -> None:
    result = python(FORKING, str(tmp_path), FASTKAIMING_THREADS="2")
    assert result.stdout.splitlines() == ["7", "7", "None ['model.safetensors']"], result.stderr


def test_what_a_stopped_run_left_is_replaced_by_resume_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / ".model.safetensors.0123456789abcdef.partial").symlink_to(elsewhere)
    with pytest.raises(FileExistsError, match="a run was killed here"):
        checkpoint.write(RECIPE, out)
    checkpoint.write(RECIPE, out, resume=True)
    assert elsewhere.read_text() == "mine"
    assert [path.name for path in out.iterdir()] == ["model.safetensors"]
    assert checkpoint.verify(out).difference is None


def test_truncated_file_is_made_anew(tmp_path: Path) -> None:
    directory, report = written(tmp_path)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    os.truncate(directory / report.files[0], len(before[report.files[0]]) - 5)
    again = checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE, resume=True)
    assert again.kept == report.files[1:]
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


@pytest.mark.parametrize("shard", ["5GB", "4KB"])
def test_resume_takes_over_from_a_run_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: str) -> None:
    pwrite = _file_writer._pwrite

    def other_run(*arguments: Any) -> None:
        monkeypatch.setattr(_file_writer, "_pwrite", pwrite)
        assert checkpoint.write(RECIPE, out, max_shard_size=shard, resume=True).kept == ()
        pwrite(*arguments)

    out = tmp_path / "out"
    monkeypatch.setattr(_file_writer, "_pwrite", other_run)
    with pytest.raises(FileExistsError, match="another run has taken over"):
        checkpoint.write(RECIPE, out, max_shard_size=shard)
    assert not list(out.glob(".*"))
    assert checkpoint.verify(out).difference is None


def test_files_follow_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "foretold")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    for name in ("model-00002-of-00012.safetensors", "model.safetensors.index.json"):
        out = tmp_path / name
        out.mkdir()
        (out / f".{name}.foretold.partial").symlink_to(elsewhere)
        with pytest.raises(FileExistsError):
            checkpoint.write(RECIPE, out, max_shard_size="4KB")
        assert elsewhere.read_text() == "mine"


def test_interrupted_reservation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "posix_fallocate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write(RECIPE, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_one_buffer_is_filled_while_another_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill, pwrite = _file_writer.fill, _file_writer._pwrite
    begun = [threading.Event() for _ in range(3)]  # of filling a buffer

    def filled(buffer: Any, file: Any, begin: int, *more: Any) -> None:
        begun[min(begin // 4096, 2)].set()
        fill(buffer, file, begin, *more)

    def written_late(direct: int, cached: int, data: Any, offset: int) -> None:
        assert begun[min(offset // 4096 + 1, 2)].wait(HANG_SECONDS)
        pwrite(direct, cached, data, offset)

    monkeypatch.setattr(_file_writer, "BUFFER", 4096)
    monkeypatch.setattr(_file_writer, "fill", filled)
    monkeypatch.setattr(_file_writer, "_pwrite", written_late)
    checkpoint.write(RECIPE, tmp_path)
    monkeypatch.undo()
    assert checkpoint.verify(tmp_path).difference is None


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not tell which file is synced")
def test_files_are_on_the_disk_before_they_have_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        events.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().suffix}")
        fsync(descriptor)

    def renamed(partial: Path, path: Path) -> Path:
        events.append(f"rename to {path.suffix}")
        return replace(partial, path)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    report = checkpoint.write(RECIPE, tmp_path, max_shard_size=SHARD_SIZE)
    a_file = ["sync .partial", "rename to .safetensors", "sync "]  # the last is of the directory
    assert events == [*a_file * len(report.files), "sync .partial", "rename to .json", "sync "]
