"""Writes files of any size in a fixed amount of memory: one buffer is filled while the other one is written.

The disk space of all files is reserved before any value is generated. A file has a temporary name until all of its
bytes are on the disk.
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

from fastkaiming._fill.context import deferred_fills, report_filled
from fastkaiming.checkpoint import _os_files
from fastkaiming.checkpoint._headers import MAX_FILE_BYTES
from fastkaiming.checkpoint._plan import File, Tensor
from fastkaiming.checkpoint._rules import filler_of_rule, sha256_of_rule, zero_rows_of_rule
from fastkaiming.rng import Key

BUFFER_BYTES = 64 << 20  # of each of the two buffers; a multiple of every element size and disk block size
DISK_BLOCK_BYTES = 4096  # a multiple of the block sizes of disks
_EXISTS = "another run has written the file, which is not overwritten"
_TEMPORARY_SUFFIX_LENGTH = len(".0123456789abcdef.partial")
Region = tuple[slice, ...]
Bytes = NDArray[np.uint8]
KeyFunction = Callable[[str], Key]  # maps the name of a tensor to its key


class _TakenError(FileExistsError):
    """Another run has written a file, or has removed its temporary file."""


class ElementRange(NamedTuple):
    """Consecutive elements of a tensor, and the byte ``offset`` of a buffer at which they begin."""

    tensor: Tensor
    first: int
    stop: int
    offset: int

    @property
    def is_digest_only(self) -> bool:
        """Whether code computed the values, and only their digest is known."""
        return self.tensor.values is None and sha256_of_rule(self.tensor.rule) is not None

    def memory(self, buffer: Bytes) -> Bytes:
        """Return the bytes of the elements in a buffer."""
        return buffer[self.offset : self.offset + (self.stop - self.first) * self.tensor.dtype.nbytes]


class ReservedFile(NamedTuple):
    """A file whose disk space is reserved under a temporary name, which is replaced when the file is complete."""

    file: File
    path: Path
    temporary_path: Path
    process: int  # the ID of the process that reserved the file


def temporary_name(path: Path) -> Path:
    """Return a random path in the same directory, which no other run uses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")


def temporary_files(directory: Path, pattern: str) -> dict[Path, str]:
    """Return the temporary files of running or killed runs, with the final name of each."""
    paths = directory.glob(f".{pattern}.{'[0-9a-f]' * 16}.partial")
    return {path: path.name[1:-_TEMPORARY_SUFFIX_LENGTH] for path in paths}


def reserve(directory: Path, files: Sequence[File]) -> list[ReservedFile]:
    """Reserve the disk space of all files, or raise OSError and reserve none."""
    process = os.getpid()
    reserved = [
        ReservedFile(file, directory / file.name, temporary_name(directory / file.name), process) for file in files
    ]
    for file, path, temporary_path, _ in reserved:
        try:
            _reserve_file(temporary_path, file.nbytes)
        except KeyboardInterrupt:
            discard(reserved)
            raise
        except OSError as error:
            discard(reserved)
            reason = f"{os.strerror(error.errno or 0)}: {sum(each.nbytes for each in files):,} bytes cannot be reserved"
            raise OSError(error.errno, reason, str(path)) from None
    return reserved


def _reserve_file(path: Path, nbytes: int) -> None:
    if nbytes > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    descriptor = _os_files.create(path)
    try:
        _os_files.reserve(descriptor, nbytes)
    finally:
        os.close(descriptor)


def discard(reserved: Sequence[ReservedFile]) -> None:
    """Remove the incomplete files that this process reserved; a forked child does not remove its parent's files."""
    for each in reserved:
        if each.process == os.getpid():
            with suppress(OSError):
                each.temporary_path.unlink(missing_ok=True)


def write_files(
    key_for: KeyFunction,
    reserved: Sequence[ReservedFile],
    threads: int | None = None,
    *,
    keep_whole: bool = False,
    buffer_bytes: int | None = None,
) -> list[str]:
    """Write files, give each its final name when it is complete, and return the names of those that were kept.

    If ``keep_whole`` is true, a file that another run or an earlier attempt has completed is kept, and it is an error
    otherwise. The two buffers have ``buffer_bytes`` bytes each, or BUFFER_BYTES.
    """
    nbytes = min(buffer_bytes or BUFFER_BYTES, max((each.file.nbytes for each in reserved), default=1))
    buffers = [_page_aligned_buffer(nbytes) for _ in range(2)]
    kept: list[str] = []
    with ThreadPoolExecutor(1) as writer:
        for each in reserved:
            if keep_whole and is_whole(each.path, each.file):
                report_filled(each.file.sampled_elements)
                kept.append(each.file.name)
                continue
            try:
                _write_file(key_for, each, buffers, writer, threads)
            except _TakenError:
                if not (keep_whole and is_whole(each.path, each.file)):
                    raise
                kept.append(each.file.name)
    return kept


def is_whole(path: Path, file: File) -> bool:
    """Return whether a file has the size and the header of a planned one.

    The header records the identity of the checkpoint, and a file gets its final name only when all of its bytes are on
    the disk, so its values need not be read.
    """
    try:
        with path.open("rb") as opened:
            return path.stat().st_size == file.nbytes and opened.read(len(file.header)) == file.header
    except FileNotFoundError:
        return False


def _write_file(
    key_for: KeyFunction, reserved: ReservedFile, buffers: list[Bytes], writer: ThreadPoolExecutor, threads: int | None
) -> None:
    file, process, nbytes = reserved.file, os.getpid(), len(buffers[0])
    writes: list[Future[None]] = [writer.submit(lambda: None) for _ in buffers]
    with _descriptors(reserved) as (direct, cached):
        try:
            for begin in range(0, file.nbytes, nbytes):
                writes.append(writes.pop(0))
                buffers.append(buffers.pop(0))
                with _errors_with_path(reserved.path):
                    writes[-1].result()  # the buffer can be filled again when its last write is complete
                buffer = buffers[-1][: min(nbytes, file.nbytes - begin)]
                fill_buffer(buffer, file, begin, key_for, threads)
                writes[-1] = writer.submit(_write_buffer, direct, cached, buffer, begin)
            with _errors_with_path(reserved.path):
                for each in writes:
                    each.result()
                os.fsync(cached)
        finally:
            if os.getpid() == process:  # a child that a progress callback forked has no writer thread to wait for
                for each in writes:
                    each.exception()  # wait, so that no write can use a descriptor after it is closed
    with _errors_with_path(reserved.path):
        # After closing, because Windows cannot rename an open file
        _os_files.rename_exclusively(reserved.temporary_path, reserved.path)
        _os_files.sync_directory(reserved.path.parent)


@contextmanager
def _errors_with_path(path: Path) -> Iterator[None]:
    """Raise errors of the operating system with the final path of a file instead of its temporary one."""
    try:
        yield
    except FileNotFoundError:
        reason = "its temporary file is missing: another run has taken over, or somebody removed it"
        raise _TakenError(errno.EEXIST, reason, str(path)) from None
    except FileExistsError:
        raise _TakenError(errno.EEXIST, _EXISTS, str(path)) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def _descriptors(reserved: ReservedFile) -> Iterator[tuple[int, int]]:
    """Open a descriptor that bypasses the page cache, if the file system can, and one that uses the page cache.

    Copying into the page cache takes longer than generating the values.
    """
    with _errors_with_path(reserved.path):
        direct = cached = _os_files.reopen(reserved.temporary_path)
    try:
        with suppress(OSError):
            direct = _os_files.reopen(reserved.temporary_path, direct=True)
        yield direct, cached
    finally:
        for descriptor in {direct, cached}:
            os.close(descriptor)


def _page_aligned_buffer(nbytes: int) -> Bytes:
    """Return memory that begins at a page boundary, which direct writes require: open(2), O_DIRECT."""
    if hasattr(mmap, "MAP_PRIVATE"):  # Linux does not use huge pages for shared mappings by default
        memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:
        memory = mmap.mmap(-1, nbytes)
    return np.frombuffer(memory, np.uint8)


def fill_buffer(buffer: Bytes, file: File, begin: int, key_for: KeyFunction, threads: int | None) -> None:
    """Fill a buffer with the bytes of a file from offset ``begin`` on.

    The data of a tensor of which only the digest is known is left unchanged.
    """
    head = np.frombuffer(file.header, np.uint8)[begin:][: len(buffer)]
    buffer[: len(head)] = head
    parts = [*element_ranges(file, begin, begin + len(buffer))]
    with deferred_fills(threads):
        for part in parts:
            dtype, memory = part.tensor.dtype, part.memory(buffer)
            if part.tensor.is_sampled:
                _fill_range(part, memory.view(dtype.numpy_dtype()), key_for(part.tensor.name))
            elif part.tensor.values is not None:
                data = np.frombuffer(part.tensor.values.data, np.uint8)
                memory[:] = data[part.first * dtype.nbytes : part.stop * dtype.nbytes]
            elif not part.is_digest_only:
                memory[:] = 0
    for part in parts:
        _clear_zero_rows(part, part.memory(buffer))


def _clear_zero_rows(part: ElementRange, memory: Bytes) -> None:
    """Fill the rows of zeros that a rule names, after the deferred fills."""
    for row in zero_rows_of_rule(part.tensor.rule):
        length, size = math.prod(part.tensor.shape[1:]), part.tensor.dtype.nbytes
        first, stop = max(row * length - part.first, 0), (row + 1) * length - part.first
        memory[first * size : max(stop, 0) * size] = 0


def _fill_range(part: ElementRange, elements: NDArray[Any], key: Key) -> None:
    done = 0
    shape, filler = part.tensor.shape, filler_of_rule(part.tensor.rule)
    for region in regions(shape, part.first, part.stop):
        local_shape = region_shape(region)
        count = math.prod(local_shape)
        filler(elements[done : done + count].reshape(local_shape), rng=key, global_shape=shape, index=region)
        done += count


def element_ranges(file: File, begin: int, end: int) -> Iterator[ElementRange]:
    """Yield the elements that lie in bytes ``begin`` to ``end`` of a file.

    No element crosses these limits, because tensors are aligned to their element size, and each limit is a multiple of
    every element size or the end of the file.
    """
    first_tensor = max(0, bisect_right(file.tensors, begin, key=lambda tensor: tensor.begin) - 1)
    for tensor in islice(file.tensors, first_tensor, None):
        if tensor.begin >= end:
            return
        first, stop = max(begin, tensor.begin), min(end, tensor.begin + tensor.nbytes)
        if first < stop:
            size = tensor.dtype.nbytes
            yield ElementRange(tensor, (first - tensor.begin) // size, (stop - tensor.begin) // size, first - begin)


def _write_buffer(direct: int, cached: int, data: Bytes, offset: int) -> None:
    nbytes = len(data) // DISK_BLOCK_BYTES * DISK_BLOCK_BYTES  # direct writes need whole blocks: open(2), O_DIRECT
    try:
        _write_all(direct, data[:nbytes].data, offset)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        nbytes = 0  # this file system has other requirements for direct writes
    _write_all(cached, data[nbytes:].data, offset + nbytes)


def _write_all(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = _os_files.write_at(descriptor, view, offset)
        view, offset = view[written:], offset + written


def is_unchanged(path: Path, examined: os.stat_result) -> bool:
    """Return whether a path is still that of a file whose status was read before."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(status, examined) and status.st_mtime_ns == examined.st_mtime_ns


def remove_damaged(path: Path, examined: os.stat_result) -> None:
    """Remove a damaged file, but not a whole one with which another run has replaced it after it was examined."""
    aside = temporary_name(path)
    try:
        path.rename(aside)
        if not is_unchanged(aside, examined):
            _os_files.rename_exclusively(aside, path)
    except (FileNotFoundError, FileExistsError):
        pass  # another run has removed the damaged file, or has already written the file
    aside.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a new small file under a temporary name and rename it, so that no reader sees an incomplete file."""
    temporary_path = temporary_name(path)
    try:
        with os.fdopen(_os_files.create(temporary_path), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with _errors_with_path(path):
            _os_files.rename_exclusively(temporary_path, path)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        temporary_path.unlink(missing_ok=True)
    _os_files.sync_directory(path.parent)


def regions(shape: tuple[int, ...], first: int, stop: int) -> Iterator[Region]:
    """Split elements ``first`` to ``stop`` of a tensor, in row-major order, into regions that are contiguous in memory.

    >>> for region in regions((4, 5), 3, 17):
    ...     print(region)
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
        for region in regions(shape[1:], offset, offset + end - first):
            yield slice(begin, begin + 1), *region
    else:
        rows = (stop - first) // row
        end = first + rows * row
        yield slice(begin, begin + rows), *(slice(0, size) for size in shape[1:])
    yield from regions(shape, end, stop)


def region_shape(region: Region) -> tuple[int, ...]:
    """Return the shape of a region."""
    return tuple(axis.stop - axis.start for axis in region)
