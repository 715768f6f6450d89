"""Files of drawn tensors, of any size in a fixed memory: while one buffer is written, the next one is filled.

A file has another name until it is whole and on the disk, and its space is reserved before anything is drawn.
"""

import errno
import math
import mmap
import os
import secrets
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastkaiming._fill.fill import deferred_fills
from fastkaiming.checkpoint import _os_files
from fastkaiming.checkpoint._headers import LAST_BYTE
from fastkaiming.checkpoint._plan import File, Tensor, filler
from fastkaiming.rng import Key

BUFFER = 64 << 20  # bytes, a multiple of every element's and every disk block's; there are two
_BLOCK = 4096  # bytes, a multiple of the blocks of disks
_ENDING = len(".0123456789abcdef.partial")
Box = tuple[slice, ...]
Bytes = NDArray[np.uint8]
KeyOf = Callable[[str], Key]  # of the name of a tensor


class Run(NamedTuple):
    """Consecutive elements of a tensor, which lie in a buffer from byte ``begin`` on."""

    tensor: Tensor
    first: int
    stop: int
    begin: int


class Reserved(NamedTuple):
    """A file whose space is taken under a name of this run alone, until it is whole and gets its own."""

    file: File
    path: Path
    partial: Path
    process: int  # the number of the process that has reserved it


def temporary(path: Path) -> Path:
    """Return a name beside a path that no other run has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")


def leftovers(directory: Path, pattern: str) -> dict[Path, str]:
    """Return the names of files that other runs make there or were killed at, by their temporary ones."""
    return {path: path.name[1:-_ENDING] for path in directory.glob(f".{pattern}.{'?' * 16}.partial")}


def reserve(directory: Path, files: Sequence[File]) -> list[Reserved]:
    """Take the space of all files, or none of it."""
    process = os.getpid()
    reserved = [Reserved(file, directory / file.name, temporary(directory / file.name), process) for file in files]
    for file, path, partial, _ in reserved:
        try:
            _reserve(partial, file.nbytes)
        except KeyboardInterrupt:
            discard(reserved)
            raise
        except OSError as error:
            discard(reserved)
            reason = f"{os.strerror(error.errno or 0)}: {sum(each.nbytes for each in files):,} bytes cannot be reserved"
            raise OSError(error.errno, reason, str(path)) from None
    return reserved


def _reserve(path: Path, nbytes: int) -> None:
    if nbytes > LAST_BYTE:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    descriptor = _os_files.create(path)
    try:
        _os_files.reserve(descriptor, nbytes)
    finally:
        os.close(descriptor)


def discard(reserved: Sequence[Reserved]) -> None:
    """Remove the files that this process has reserved and that are not whole yet; a forked child has reserved none."""
    for each in reserved:
        if each.process == os.getpid():
            with suppress(OSError):
                each.partial.unlink(missing_ok=True)


def write(key_of: KeyOf, reserved: Sequence[Reserved], threads: int | None = None) -> None:
    """Fill files whose space is reserved, and give each its name when it is whole."""
    buffers = [_buffer([each.file for each in reserved]) for _ in range(2)]
    with ThreadPoolExecutor(1) as writer:
        for each in reserved:
            _write_file(key_of, each, buffers, writer, threads)


def _write_file(
    key_of: KeyOf, reserved: Reserved, buffers: list[Bytes], writer: ThreadPoolExecutor, threads: int | None
) -> None:
    file, process = reserved.file, os.getpid()
    written: list[Future[None]] = [writer.submit(lambda: None) for _ in buffers]
    with _opened(reserved) as (direct, cached):
        try:
            for begin in range(0, file.nbytes, BUFFER):
                written.append(written.pop(0))
                buffers.append(buffers.pop(0))
                with _naming(reserved.path):
                    written[-1].result()  # of the buffer that is filled next
                filled = buffers[-1][: min(BUFFER, file.nbytes - begin)]
                fill(filled, file, begin, key_of, threads)
                written[-1] = writer.submit(_pwrite, direct, cached, filled, begin)
            with _naming(reserved.path):
                for each in written:
                    each.result()
                os.fsync(cached)
        finally:
            if os.getpid() == process:  # the writer does not exist in a process that a progress callback has forked
                for each in written:
                    each.exception()  # nobody writes to a descriptor that is closed
    with _naming(reserved.path):
        reserved.partial.replace(reserved.path)  # Windows renames no open file
        _os_files.sync_names(reserved.path.parent)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in errors of the system, which know of its temporary name at most."""
    try:
        yield
    except FileNotFoundError:
        reason = "its partial file is gone: another run has taken over, or somebody removed it"
        raise FileExistsError(errno.EEXIST, reason, str(path)) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def _opened(reserved: Reserved) -> Iterator[tuple[int, int]]:
    """Lend a descriptor that writes past the page cache, where the file system can, and one that writes into it.

    The copies into the page cache cost more than the draw.
    """
    with _naming(reserved.path):
        direct = cached = _os_files.reopen(reserved.partial)
    try:
        with suppress(OSError):
            direct = _os_files.reopen(reserved.partial, direct=True)
        yield direct, cached
    finally:
        for descriptor in {direct, cached}:
            os.close(descriptor)


def _buffer(files: Sequence[File]) -> Bytes:
    """Return memory that begins with a page, as direct writes want it: open(2), O_DIRECT."""
    nbytes = min(BUFFER, max((file.nbytes for file in files), default=1))
    if hasattr(mmap, "MAP_PRIVATE"):  # huge pages are not for what is shared
        memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:
        memory = mmap.mmap(-1, nbytes)
    return np.frombuffer(memory, np.uint8)


def fill(buffer: Bytes, file: File, begin: int, key_of: KeyOf, threads: int | None) -> None:
    """Fill a buffer with the bytes that a file has from ``begin`` on."""
    head = np.frombuffer(file.header, np.uint8)[begin:][: len(buffer)]
    buffer[: len(head)] = head
    with deferred_fills(threads):
        for run in runs(file, begin, begin + len(buffer)):
            memory = buffer[run.begin : run.begin + (run.stop - run.first) * run.tensor.dtype.nbytes]
            if not run.tensor.dtype.is_fillable_dtype:
                memory[:] = 0
                continue
            _fill_run(run, memory.view(run.tensor.dtype.memory()), key_of(run.tensor.name))


def _fill_run(run: Run, elements: NDArray[Any], key: Key) -> None:
    done = 0
    for box in boxes(run.tensor.shape, run.first, run.stop):
        shape = shape_of(box)
        count = math.prod(shape)
        part = elements[done : done + count].reshape(shape)
        filler(run.tensor.rule)(part, rng=key, global_shape=run.tensor.shape, index=box)
        done += count


def runs(file: File, begin: int, end: int) -> Iterator[Run]:
    """Return the elements that stand in bytes ``begin`` to ``end`` of a file.

    No element stands on both sides of such a border: tensors are aligned to their elements, and borders to any.
    """
    first_tensor = max(0, bisect_right(file.tensors, begin, key=lambda tensor: tensor.begin) - 1)
    for tensor in islice(file.tensors, first_tensor, None):
        if tensor.begin >= end:
            return
        first, stop = max(begin, tensor.begin), min(end, tensor.begin + tensor.nbytes)
        if first < stop:
            size = tensor.dtype.nbytes
            yield Run(tensor, (first - tensor.begin) // size, (stop - tensor.begin) // size, first - begin)


def _pwrite(direct: int, cached: int, data: Bytes, offset: int) -> None:
    blocks = len(data) // _BLOCK * _BLOCK  # which are all that a direct write takes: open(2), O_DIRECT
    try:
        _pwrite_all(direct, data[:blocks].data, offset)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        blocks = 0  # this file system wants something else of direct writes
    _pwrite_all(cached, data[blocks:].data, offset + blocks)


def _pwrite_all(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = _os_files.write(descriptor, view, offset)
        view, offset = view[written:], offset + written


def replace(path: Path, data: bytes) -> None:
    """Write a small file, which has its name when it is whole, whoever else writes it."""
    partial = temporary(path)
    try:
        with os.fdopen(_os_files.create(partial), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        partial.unlink(missing_ok=True)
    _os_files.sync_names(path.parent)


def boxes(shape: tuple[int, ...], first: int, stop: int) -> Iterator[Box]:
    """Cut elements ``first`` to ``stop`` of a tensor, in row-major order, into boxes that follow each other in memory.

    >>> for box in boxes((4, 5), 3, 17):
    ...     print(box)
    (slice(0, 1, None), slice(3, 5, None))
    (slice(1, 3, None), slice(0, 5, None))
    (slice(3, 4, None), slice(0, 2, None))
    """
    if first >= stop:
        return
    if not shape:
        yield ()
        return
    row = math.prod(shape[1:])
    begin, offset = divmod(first, row)
    if offset or stop - first < row:
        end = min(stop, (begin + 1) * row)
        for box in boxes(shape[1:], offset, offset + end - first):
            yield slice(begin, begin + 1), *box
    else:
        rows = (stop - first) // row
        end = first + rows * row
        yield slice(begin, begin + rows), *(slice(0, size) for size in shape[1:])
    yield from boxes(shape, end, stop)


def shape_of(box: Box) -> tuple[int, ...]:
    """Return the shape of a box."""
    return tuple(part.stop - part.start for part in box)
