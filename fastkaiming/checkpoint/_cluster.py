"""Writes the files of a checkpoint in tasks on a Dask cluster, whose workers share the file system."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import fastkaiming
from fastkaiming import _validation
from fastkaiming._fill.context import report_filled
from fastkaiming.checkpoint import _file_writer
from fastkaiming.checkpoint._file_writer import DISK_BLOCK_BYTES, ReservedFile
from fastkaiming.rng import Generator


def check_client(client: Any) -> None:
    """Raise an error unless ``client`` is a client whose results can be waited for."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise _validation.missing_dependency_error("dask", "dask", error) from error
    if not isinstance(client, Client):
        raise TypeError(f"dask must be a distributed.Client or None, not {_validation.describe(client)}")
    if client.asynchronous:
        raise ValueError(
            "dask must be a client that blocks, got one with asynchronous=True: its event loop cannot run while this "
            "function waits for the workers; call it on another thread, for example by asyncio.to_thread"
        )


def write_files(seed: int, reserved: Sequence[ReservedFile], client: Any, lock_entry: Path) -> None:
    """Write each file in a task of its own; if a task fails, the others are cancelled.

    ``lock_entry`` is a path in the directory that only a worker that shares the file system can see.
    """
    from distributed import as_completed

    _check_workers(client, lock_entry)
    tasks = client.map(partial(_write_file, seed, lock_entry), reserved, pure=False)
    file_of = dict(zip(tasks, reserved, strict=True))
    try:
        for future in as_completed(file_of):
            future.result()
            report_filled(file_of[future].file.sampled_elements)
            future.release()  # otherwise Dask would run the task again if its worker died
    finally:
        client.cancel(list(file_of))


def _check_workers(client: Any, lock_entry: Path) -> None:
    """Raise an error if a worker has another version of fastkaiming, or does not see the files of the directory."""
    workers, version = client.ncores(), fastkaiming.__version__
    states = client.run(_state_of_worker, lock_entry, on_error="ignore")  # ignores workers that have died
    if workers and not states:
        raise ValueError(f"the workers must have fastkaiming {version}, got {len(workers)} that cannot import it")
    for worker, (found, is_visible) in states.items():
        if found != version:
            raise ValueError(f"the workers must have fastkaiming {version}, got {found} on {worker}")
        # An equal run that completes the last file removes all entries.
        _check_visible(is_visible or not lock_entry.exists(), worker, lock_entry)


def _state_of_worker(lock_entry: Path) -> tuple[str, bool]:
    return fastkaiming.__version__, lock_entry.exists()


def _write_file(seed: int, lock_entry: Path, reserved: ReservedFile) -> None:
    """Write one file; Dask repeats this task if its worker dies, even after the file was completed.

    The threads of a worker run that many tasks at a time, so they share the memory for the buffers of one run.
    """
    from distributed import get_worker

    worker = get_worker()
    is_visible = lock_entry.exists() or _file_writer.is_whole(reserved.path, reserved.file)
    _check_visible(is_visible, worker.address, lock_entry)
    share = _file_writer.BUFFER_BYTES // worker.state.nthreads // DISK_BLOCK_BYTES * DISK_BLOCK_BYTES
    _file_writer.write_files(
        Generator(seed).key, [reserved], threads=1, keep_whole=True, buffer_bytes=max(share, DISK_BLOCK_BYTES)
    )


def _check_visible(is_visible: bool, worker: str, lock_entry: Path) -> None:
    if not is_visible:
        raise FileNotFoundError(
            f"{lock_entry.parents[1]}: the worker {worker} cannot see the files of this directory; all workers must "
            "share its file system"
        )
