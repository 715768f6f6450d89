"""Full disks, killed runs and concurrent runs: no file is lost, and no incomplete file has its final name."""

import errno
import fcntl
import json
import os
import secrets
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from processes import HANG_SECONDS, python

import fastkaiming as fk
from fastkaiming import checkpoint, cli
from fastkaiming.checkpoint import _file_writer

RECIPE: dict[str, Any] = {"tensors": {f"{n}.weight": [64, 48] for n in range(12)}}
SHARD_SIZE = "30KB"


def write_model(tmp_path: Path) -> tuple[Path, checkpoint.Report]:
    directory = tmp_path / "model"
    return directory, checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE)


def test_resume_keeps_complete_files(tmp_path: Path) -> None:
    directory, report = write_model(tmp_path)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    damaged, incomplete, kept = report.files[0], report.files[1], report.files[2:]
    stamps = {name: (directory / name).stat().st_mtime_ns for name in kept}
    with (directory / damaged).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    temporary_name = f".{incomplete}.0123456789abcdef.partial"  # as after a killed run
    (directory / incomplete).rename(directory / temporary_name)
    second = checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE, resume=True)
    assert second.kept == kept
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    assert {name: (directory / name).stat().st_mtime_ns for name in kept} == stamps


@pytest.mark.parametrize("kept_bytes", [0, 4, 100])
def test_file_that_is_cut_in_its_header_has_to_be_removed(
    tmp_path: Path, kept_bytes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only its name says that it belongs to this checkpoint, so it may be a file of somebody else."""
    directory, report = write_model(tmp_path)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    path = directory / report.files[0]
    path.write_bytes(before[path.name][:kept_bytes])
    with pytest.raises(FileExistsError, match="it is not a whole safetensors file, so remove it and run again: "):
        checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE, resume=True)
    assert cli.main(["verify", str(directory)]) == 2
    assert "--resume" not in "".join(capsys.readouterr())
    path.unlink()
    checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE, resume=True)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_pointer_of_git_lfs_has_to_be_removed(tmp_path: Path) -> None:
    directory, report = write_model(tmp_path)
    (directory / report.files[0]).write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(FileExistsError, match=r"so remove it and run again: .*, got a Git LFS pointer"):
        checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE, resume=True)


def test_resume_repairs_a_file_that_is_cut_in_its_data(tmp_path: Path) -> None:
    directory, report = write_model(tmp_path)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    path = directory / report.files[0]
    path.write_bytes(before[path.name][:-8])
    checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE, resume=True)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_another_checkpoint_is_never_overwritten(tmp_path: Path) -> None:
    directory, report = write_model(tmp_path)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(FileExistsError, match="--resume"):
        checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE)
    with pytest.raises(FileExistsError, match="belongs to another checkpoint or is damaged"):
        checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE, seed=1, resume=True)
    with pytest.raises(FileExistsError, match="must not hold another checkpoint"):
        checkpoint.write(RECIPE, directory, resume=True)
    (directory / report.files[0]).unlink()
    (directory / "notes.txt").write_text("mine")
    checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE, resume=True)
    assert (directory / "notes.txt").read_text() == "mine"
    assert {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "notes.txt"} == before


def test_full_disk_raises_before_any_value_is_generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_file_writer, "write_files", pytest.fail)
    huge = {"tensors": {"a": [2**30, 2**20], "b": [2**30, 2**20]}}
    with pytest.raises(OSError, match="cannot be reserved") as raised:
        checkpoint.write(huge, tmp_path / "out", dtype="float32")
    assert raised.value.errno in {errno.ENOSPC, errno.EFBIG}
    assert list(tmp_path.iterdir()) == []


def test_write_error_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_file_writer, "_write_buffer", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(RECIPE, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="this system has no direct writes")
@pytest.mark.parametrize("fails", [True, False])
def test_writes_bypass_the_page_cache_if_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
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
        elif fails:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return pwrite(descriptor, view, offset)

    monkeypatch.setattr(os, "pwrite", watched)
    checkpoint.write(RECIPE, tmp_path / "out")
    expected, out = (next((tmp_path / name).iterdir()).read_bytes() for name in ("expected", "out"))
    assert out == expected
    assert len(out) > 10 * 4096
    assert sum(cached) == (len(out) if fails else len(out) % 4096)


def test_errors_in_a_progress_callback_are_not_changed(tmp_path: Path) -> None:
    def callback(_done: int, _total: int) -> None:
        raise FileNotFoundError("from the callback")

    with fk.progress(callback), pytest.raises(FileNotFoundError, match=r"^from the callback$"):
        checkpoint.write(RECIPE, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_files_of_a_killed_run_raise_and_are_removed_by_resume(tmp_path: Path) -> None:
    leftover = tmp_path / ".model-00002-of-00007.safetensors.0123456789abcdef.partial"
    other_part = tmp_path / ".model-00002-of-00012.safetensors.0123456789abcdef.partial"
    leftover.touch()
    other_part.touch()
    with pytest.raises(FileExistsError, match=r"00002-of-00007.* another run was killed here"):
        checkpoint.write(RECIPE, tmp_path, max_shard_size=1, part=(1, 2))
    checkpoint.write(RECIPE, tmp_path, max_shard_size=1, part=(1, 2), resume=True)
    assert list(tmp_path.glob(".*")) == [other_part]


def test_resume_continues_after_kill(tmp_path: Path) -> None:
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
            signal.alarm(60)  # so that a deadlock does not last

def run(function, *arguments, **keywords):
    try:
        with fk.progress(callback):
            function(*arguments, **keywords)
    except RuntimeError as error:
        os._exit(7 if not children[0] and "forked in a progress callback" in str(error) else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(children.pop(), 0)[1]), flush=True)

run(checkpoint.write, source, out, seed=3)
run(checkpoint.verify, out)
print(checkpoint.verify(out).difference, os.listdir(out))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_forked_in_a_callback_raises_and_does_not_remove_files(tmp_path: Path) -> None:
    result = python(FORKING, str(tmp_path), FASTKAIMING_THREADS="2")
    assert result.stdout.splitlines() == ["7", "7", "None ['model.safetensors']"], result.stderr


def test_only_resume_removes_temporary_files(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / ".model.safetensors.0123456789abcdef.partial").symlink_to(elsewhere)
    with pytest.raises(FileExistsError, match="another run was killed here"):
        checkpoint.write(RECIPE, out)
    checkpoint.write(RECIPE, out, resume=True)
    assert elsewhere.read_text() == "mine"
    assert [path.name for path in out.iterdir()] == ["model.safetensors"]
    assert checkpoint.verify(out).difference is None


def test_resume_rewrites_truncated_files(tmp_path: Path) -> None:
    directory, report = write_model(tmp_path)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    os.truncate(directory / report.files[0], len(before[report.files[0]]) - 5)
    second = checkpoint.write(RECIPE, directory, max_shard_size=SHARD_SIZE, resume=True)
    assert second.kept == report.files[1:]
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


@pytest.mark.parametrize("shard", ["5GB", "4KB"])
def test_resume_takes_over_from_a_running_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: str) -> None:
    pwrite = _file_writer._write_buffer

    def other_run(*arguments: Any) -> None:
        monkeypatch.setattr(_file_writer, "_write_buffer", pwrite)
        assert checkpoint.write(RECIPE, out, max_shard_size=shard, resume=True).kept == ()
        pwrite(*arguments)

    out = tmp_path / "out"
    monkeypatch.setattr(_file_writer, "_write_buffer", other_run)
    with pytest.raises(FileExistsError, match="another run has taken over"):
        checkpoint.write(RECIPE, out, max_shard_size=shard)
    assert not list(out.glob(".*"))
    assert checkpoint.verify(out).difference is None


def test_writing_does_not_follow_symbolic_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "predicted")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    for name in ("model-00002-of-00012.safetensors", "model.safetensors.index.json"):
        out = tmp_path / name
        out.mkdir()
        (out / f".{name}.predicted.partial").symlink_to(elsewhere)
        with pytest.raises(FileExistsError):
            checkpoint.write(RECIPE, out, max_shard_size="4KB")
        assert elsewhere.read_text() == "mine"


def test_interrupted_reservation_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "posix_fallocate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write(RECIPE, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_one_buffer_is_filled_while_another_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_buffer, pwrite = _file_writer.fill_buffer, _file_writer._write_buffer
    begun = [threading.Event() for _ in range(3)]  # set when a buffer begins to be filled

    def report_and_fill(buffer: Any, file: Any, begin: int, *more: Any) -> None:
        begun[min(begin // 4096, 2)].set()
        fill_buffer(buffer, file, begin, *more)

    def wait_and_write(direct: int, cached: int, data: Any, offset: int) -> None:
        assert begun[min(offset // 4096 + 1, 2)].wait(HANG_SECONDS)
        pwrite(direct, cached, data, offset)

    monkeypatch.setattr(_file_writer, "BUFFER_BYTES", 4096)
    monkeypatch.setattr(_file_writer, "fill_buffer", report_and_fill)
    monkeypatch.setattr(_file_writer, "_write_buffer", wait_and_write)
    checkpoint.write(RECIPE, tmp_path)
    monkeypatch.undo()
    assert checkpoint.verify(tmp_path).difference is None


@pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="this system has no /proc/self/fd, which shows the file that is synced"
)
def test_files_are_synced_before_they_are_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, link = os.fsync, os.link

    def synced(descriptor: int) -> None:
        events.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().suffix}")
        fsync(descriptor)

    def renamed(partial: Path, path: Path) -> None:
        events.append(f"rename to {path.suffix}")
        link(partial, path)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", renamed)
    report = checkpoint.write(RECIPE, tmp_path, max_shard_size=SHARD_SIZE)
    one_file = ["sync .partial", "rename to .safetensors", "sync "]  # the last one syncs the directory
    assert events == [*one_file * len(report.files), "sync .partial", "rename to .json", "sync "]


def test_hidden_files_beside_a_checkpoint_are_ignored(tmp_path: Path) -> None:
    """MacOS writes such files on file systems that cannot store attributes, for example exFAT."""
    (tmp_path / "._model.safetensors").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    checkpoint.write({"tensors": {"a": [4, 4]}}, tmp_path)
    assert checkpoint.verify(tmp_path).difference is None
    checkpoint.write({"tensors": {"a": [4, 4]}}, tmp_path, resume=True)


def test_directory_that_cannot_be_flushed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def fsync_of_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync_of_files)
    checkpoint.write({"tensors": {"a": [4, 4], "b": [4, 4]}}, tmp_path, max_shard_size=64)
    assert checkpoint.verify(tmp_path).difference is None


@pytest.mark.parametrize("damage", ["", '{"metadata": {}', "indented"])
def test_resume_writes_a_damaged_index_again(tmp_path: Path, damage: str) -> None:
    source = {"tensors": {"a": [4, 4], "b": [4, 4]}}
    checkpoint.write(source, tmp_path, max_shard_size=64)
    index = tmp_path / "model.safetensors.index.json"
    expected = index.read_bytes()
    index.write_text(json.dumps(json.loads(expected), indent=7) if damage == "indented" else damage)
    with pytest.raises(FileExistsError, match=r"the file exists; resume=True \(--resume\)"):
        checkpoint.write(source, tmp_path, max_shard_size=64)
    checkpoint.write(source, tmp_path, max_shard_size=64, resume=True)
    assert index.read_bytes() == expected


def test_directory_must_have_a_name() -> None:
    with pytest.raises(ValueError, match="out_dir must be the path of a directory, got an empty text"):
        checkpoint.write({"tensors": {"a": [4, 4]}}, "")
