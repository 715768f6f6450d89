"""Files of drawn tensors, of any size in a fixed memory: while one buffer is written, the next one is filled.

A file has another name until it is whole and on the disk, and its space is reserved before anything is drawn.
"""

import errno
import math
import os
import secrets
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastkaiming import hugepages
from fastkaiming.checkpoint.headers import LAST_BYTE
from fastkaiming.checkpoint.pieces import boxes, shape_of
from fastkaiming.checkpoint.plans import File, Tensor, filler
from fastkaiming.filling import side_by_side
from fastkaiming.generator import Key

BUFFER = 64 << 20  # bytes, a multiple of every element's; there are two
Bytes = NDArray[np.uint8]
KeyOf = Callable[[str], Key]  # of the name of a tensor


class Run(NamedTuple):
    """Consecutive elements of a tensor, which lie in a buffer from byte ``begin`` on."""

    tensor: Tensor
    first: int
    stop: int
    begin: int


def temporary(directory: Path, file: File) -> Path:
    """Return where a file is until it is whole."""
    return directory / f".{file.name}.partial"


def reserve(directory: Path, files: Sequence[File]) -> None:
    """Take the space of all files, or none of it."""
    for number, file in enumerate(files):
        try:
            _reserve(temporary(directory, file), file.nbytes)
        except KeyboardInterrupt:
            discard(directory, files[: number + 1])
            raise
        except OSError as error:
            discard(directory, files[: number + 1])
            reason = f"{os.strerror(error.errno or 0)}: {sum(each.nbytes for each in files):,} bytes cannot be reserved"
            raise OSError(error.errno, reason, str(directory / file.name)) from None


def _reserve(path: Path, nbytes: int) -> None:
    if nbytes > LAST_BYTE:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    path.unlink(missing_ok=True)  # what a killed run left, or a link to somewhere else
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        os.posix_fallocate(descriptor, 0, nbytes)
    finally:
        os.close(descriptor)


def discard(directory: Path, files: Sequence[File]) -> None:
    """Remove what was reserved, and is not a whole file."""
    for file in files:
        with suppress(OSError):
            temporary(directory, file).unlink(missing_ok=True)


def write(key_of: KeyOf, directory: Path, files: Sequence[File], threads: int | None = None) -> None:
    """Fill files whose space is reserved, and give each its name when it is whole."""
    buffers = [_buffer(files) for _ in range(2)]
    with ThreadPoolExecutor(1) as writer:
        written: list[Future[None]] = [writer.submit(lambda: None) for _ in buffers]
        for file in files:
            descriptor = os.open(temporary(directory, file), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                for begin in range(0, file.nbytes, BUFFER):
                    written.append(written.pop(0))
                    buffers.append(buffers.pop(0))
                    written[-1].result()  # of the buffer that is filled next
                    filled = buffers[-1][: min(BUFFER, file.nbytes - begin)]
                    fill(filled, file, begin, key_of, threads)
                    written[-1] = writer.submit(_pwrite, descriptor, filled, begin)
                for each in written:
                    each.result()
                os.fsync(descriptor)
                _publish(descriptor, temporary(directory, file), directory / file.name)
            finally:
                for each in written:
                    each.exception()  # nobody writes to a descriptor that is closed
                os.close(descriptor)


def _publish(descriptor: int, partial: Path, path: Path) -> None:
    """Give a file its name, if it is this one that another run has not put something else in the place of."""
    if not os.path.samestat(os.fstat(descriptor), partial.lstat()):
        raise FileExistsError(errno.EEXIST, "another run writes it as well", str(path))
    partial.rename(path)
    sync(path.parent)


def _buffer(files: Sequence[File]) -> Bytes:
    buffer = np.empty(min(BUFFER, max((file.nbytes for file in files), default=0)), np.uint8)
    hugepages.advise(buffer)
    return buffer


def fill(buffer: Bytes, file: File, begin: int, key_of: KeyOf, threads: int | None) -> None:
    """Fill a buffer with the bytes that a file has from ``begin`` on."""
    head = np.frombuffer(file.header, np.uint8)[begin:][: len(buffer)]
    buffer[: len(head)] = head
    with side_by_side(threads):
        for run in runs(file, begin, begin + len(buffer)):
            memory = buffer[run.begin : run.begin + (run.stop - run.first) * run.tensor.dtype.nbytes]
            if not run.tensor.dtype.is_drawn:
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


def _pwrite(descriptor: int, data: Bytes, offset: int) -> None:
    view = data.data
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def replace(path: Path, data: bytes) -> None:
    """Write a small file, which has its name when it is whole, whoever else writes it."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def sync(directory: Path) -> None:
    """Put the names in a directory on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
