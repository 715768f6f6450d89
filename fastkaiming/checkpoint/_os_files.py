"""Open files as POSIX and Linux have them, and as close to that as other systems come."""

import os
import threading
from pathlib import Path

from numpy import uint8
from numpy.typing import NDArray

# For systems that cannot read or write at an offset in one call: Windows, which has no fork either. The lock can
# therefore never be inherited by a child process while another thread holds it.
_seeking = threading.Lock()


def create(path: Path) -> int:
    """Open a file that nobody else has made, to read and to write."""
    return os.open(path, _flags(os.O_RDWR | os.O_CREAT | os.O_EXCL), 0o666)


def reopen(path: Path, *, direct: bool = False) -> int:
    """Open a file that is no link; ``direct`` is past the page cache, where there is a way."""
    return os.open(path, _flags(os.O_RDWR, "O_NOFOLLOW", *["O_DIRECT"] * direct))


def _flags(flags: int, *names: str) -> int:
    for name in ("O_CLOEXEC", "O_NOINHERIT", "O_BINARY", *names):
        flags |= getattr(os, name, 0)
    return flags


def reserve(descriptor: int, nbytes: int) -> None:
    """Take the space of a file; where that cannot be done, a full disk is told when the last byte is reached."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, nbytes)
    else:
        os.ftruncate(descriptor, nbytes)


def write(descriptor: int, view: memoryview, offset: int) -> int:
    """Write to a place of a file, and return how many bytes were written."""
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, view, offset)
    with _seeking:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, view)


def read(descriptor: int, buffer: NDArray[uint8], offset: int) -> int:
    """Read from a place of a file into a buffer, and return how many bytes were read."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer.data], offset)
    if hasattr(os, "pread"):  # preadv is missing before macOS 11
        found = os.pread(descriptor, len(buffer), offset)
    else:
        with _seeking:
            os.lseek(descriptor, offset, os.SEEK_SET)
            found = os.read(descriptor, len(buffer))
    buffer[: len(found)].data[:] = found
    return len(found)


def sync_names(directory: Path) -> None:
    """Put the names in a directory on the disk; Windows opens no directory for that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(directory, _flags(os.O_RDONLY, "O_DIRECTORY"))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
