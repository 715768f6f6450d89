"""Checkpoints written by the workers of a cluster."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import HANG_SECONDS, ROOT, python

import fastkaiming as fk
from fastkaiming import checkpoint
from fastkaiming.checkpoint import _file_writer

distributed = pytest.importorskip("distributed")

SOURCE = {"tensors": {f"{n}.weight": [64, 48] for n in range(9)}}
MANY_FILES = {"tensors": {f"{n:03}.weight": [64, 48] for n in range(300)}}


@contextmanager
def cluster(workers: int, **options: Any) -> Iterator[Any]:
    """Yield a client of a new cluster."""
    options = {"threads_per_worker": 1, "dashboard_address": None} | options
    with distributed.LocalCluster(n_workers=workers, **options) as started, distributed.Client(started) as client:
        yield client


def test_cluster_writes_the_same_files(tmp_path: Path) -> None:
    checkpoint.write(SOURCE, tmp_path / "here", max_shard_size="20KB")
    reports: list[tuple[int, int]] = []
    with cluster(2) as client:
        with distributed.get_task_stream(client=client) as tasks, fk.progress(lambda *report: reports.append(report)):
            report = checkpoint.write(SOURCE, tmp_path / "there", max_shard_size="20KB", dask=client)
        with pytest.raises(FileExistsError):
            checkpoint.write(SOURCE, tmp_path / "there", max_shard_size="20KB", dask=client)
    assert len(report.files) > 2
    assert [done for done, _ in reports] == [n * 64 * 48 for n in range(1, 10)]
    assert {total for _, total in reports} == {9 * 64 * 48}
    assert len(tasks.data) == len(report.files)
    assert len({task["worker"] for task in tasks.data}) == 2
    here, there = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("here", "there"))
    assert here == there


def test_worker_with_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers have this version; another one could write other values under a header of this one."""
    with cluster(1) as client:
        monkeypatch.setattr(fk, "__version__", "0.0.1")
        with pytest.raises(ValueError, match=r"the workers must have fastkaiming 0\.0\.1, got [0-9].* on tcp://"):
            checkpoint.write(SOURCE, tmp_path, dask=client)


def test_worker_that_cannot_import_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster(1) as client:
        monkeypatch.setattr(client, "run", lambda *_, **__: {})
        with pytest.raises(ValueError, match=r"the workers must have fastkaiming .*, got 1 that cannot import it"):
            checkpoint.write(SOURCE, tmp_path, dask=client)


def test_dask_argument_must_be_a_client(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"dask must be a distributed\.Client or None, not int 1"):
        checkpoint.write(SOURCE, tmp_path / "out", dask=1)
    assert not list(tmp_path.iterdir())


ASYNCHRONOUS = f"""
import asyncio, sys
from distributed import Client
from fastkaiming import checkpoint

async def main():
    async with Client(processes=False, dashboard_address=None, asynchronous=True) as client:
        try:
            checkpoint.write({SOURCE}, sys.argv[1], dask=client)
        except ValueError as error:
            print(error)

asyncio.run(main())
"""


def test_asynchronous_client_raises(tmp_path: Path) -> None:
    """In a process of its own, because the event loop would wait for itself without end."""
    result = python(ASYNCHRONOUS, str(tmp_path / "out"))
    assert result.stdout.startswith("dask must be a client that blocks, got one with asynchronous=True"), result.stderr
    assert not list(tmp_path.iterdir())


def kill_a_worker_while_writing(directory: Path, seed: int) -> None:
    """Write many small files with two workers, kill one worker after some files, and check all files."""
    with cluster(2) as client:
        processes = sorted(client.run(os.getpid).values())
        killed: list[int] = []

        def kill(done: int, _total: int) -> None:
            if not killed and done > (20 + 7 * seed % 200) * 64 * 48:
                killed.append(processes[seed % 2])
                os.kill(killed[0], signal.SIGKILL)

        with fk.progress(kill):
            report = checkpoint.write(MANY_FILES, directory, seed=seed, max_shard_size="12300", dask=client)
    assert killed
    assert (len(report.files), report.kept) == (300, ())
    assert not list(directory.glob(".*"))
    assert checkpoint.verify(directory).difference is None


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.extended)])
def test_other_workers_finish_the_files_of_a_killed_worker(tmp_path: Path, rounds: int) -> None:
    for seed in range(rounds):
        kill_a_worker_while_writing(tmp_path / str(seed), seed)


def test_task_can_be_repeated_at_any_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker dies before it writes, after half of a file, after the link of the final name, or after the end."""
    checkpoint.write(SOURCE, tmp_path / "expected", max_shard_size="20KB")
    deaths = iter(["before", "half", "link", "after", "after"])

    write_files = _file_writer.write_files

    def dies_once(key_for: Any, reserved: Any, *arguments: Any, **keywords: Any) -> Any:
        death = next(deaths, None)
        (each,) = reserved
        if death == "half":
            with each.temporary_path.open("r+b") as half:
                half.write(os.urandom(each.file.nbytes // 2))
        elif death == "link":
            each.temporary_path.write_bytes((tmp_path / "expected" / each.file.name).read_bytes())
            os.link(each.temporary_path, each.path)
        elif death == "after":
            write_files(key_for, reserved, *arguments, **keywords)
        return write_files(key_for, reserved, *arguments, **keywords)

    monkeypatch.setattr(_file_writer, "write_files", dies_once)
    with cluster(1, processes=False) as client:
        report = checkpoint.write(SOURCE, tmp_path / "out", max_shard_size="20KB", dask=client)
    expected, out = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("expected", "out")
    )
    assert next(deaths, None) is None
    assert out == expected
    assert report.kept == ()


def test_worker_that_cannot_see_the_directory_is_named(tmp_path: Path) -> None:
    """The worker runs in a mount namespace in which another, empty file system is at the path of the directory."""
    out = tmp_path / "out"
    out.mkdir()
    unshared = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = 'mount -t tmpfs -o "size=64k" tmpfs "$1"'
    try:
        subprocess.run([*unshared, mount, "sh", str(out)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system does not allow mounts in user namespaces")
    with cluster(0) as client:
        start = f'{mount} && exec "$2" -m distributed.cli.dask_worker "$3" --no-nanny --no-dashboard --nthreads 1'
        command = [*unshared, start, "sh", str(out), sys.executable, client.scheduler.address]
        with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL) as worker:
            try:
                client.wait_for_workers(1, timeout=HANG_SECONDS)
                (address,) = client.scheduler_info()["workers"]
                with pytest.raises(OSError, match=f"{out}: the worker {address} cannot see the files of this dir"):
                    checkpoint.write(SOURCE, out, max_shard_size="20KB", dask=client)
            finally:
                worker.kill()
    assert list(out.iterdir()) == []


def test_threads_of_a_worker_share_the_memory_for_buffers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_buffer = _file_writer._page_aligned_buffer
    limit, sizes, together = 8 << 12, [], threading.Barrier(4, timeout=HANG_SECONDS)

    def counted(*arguments: Any) -> Any:
        buffer = new_buffer(*arguments)
        sizes.append(len(buffer))
        if len(sizes) <= 8:
            together.wait()  # so that four tasks have both of their buffers at the same time
        return buffer

    monkeypatch.setattr(_file_writer, "BUFFER_BYTES", limit)
    monkeypatch.setattr(_file_writer, "_page_aligned_buffer", counted)
    source = {"tensors": {f"{n}.weight": [256, 256] for n in range(8)}}
    with cluster(1, processes=False, threads_per_worker=4) as client:
        checkpoint.write(source, tmp_path, max_shard_size=1, dask=client)
    assert sizes == [limit // 4] * 16
    monkeypatch.undo()
    assert checkpoint.verify(tmp_path).difference is None
