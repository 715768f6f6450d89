"""File operations of POSIX and Linux, with replacements for systems that lack a call."""

import os
import threading
from pathlib import Path

from numpy import uint8
from numpy.typing import NDArray

# Windows cannot read or write at an offset in one call, so a seek and an access share this lock. Windows has no fork
# either, so a child process can never inherit the lock while another thread holds it.
_seek_lock = threading.Lock()


def check_regular_file(path: Path) -> None:
    """Raise ValueError if a path exists and is not a regular file, because devices and pipes may never end."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: it must be a regular file, got something else")


def create(path: Path) -> int:
    """Create a file, open it for reading and writing, and return its descriptor; fail if it exists."""
    return os.open(path, _flags(os.O_RDWR | os.O_CREAT | os.O_EXCL), 0o666)


def reopen(path: Path, *, direct: bool = False) -> int:
    """Open an existing file that is not a symbolic link; ``direct`` bypasses the page cache, if the system can."""
    return os.open(path, _flags(os.O_RDWR, "O_NOFOLLOW", *["O_DIRECT"] * direct))


def _flags(flags: int, *names: str) -> int:
    for name in ("O_CLOEXEC", "O_NOINHERIT", "O_BINARY", *names):
        flags |= getattr(os, name, 0)
    return flags


def reserve(descriptor: int, nbytes: int) -> None:
    """Reserve the disk space of a file; without posix_fallocate, a full disk may only be reported by a later write."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, nbytes)
    else:
        os.ftruncate(descriptor, nbytes)


def write_at(descriptor: int, view: memoryview, offset: int) -> int:
    """Write at an offset of a file, and return how many bytes were written."""
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, view, offset)
    with _seek_lock:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, view)


def read_at(descriptor: int, buffer: NDArray[uint8], offset: int) -> int:
    """Read from an offset of a file into a buffer, and return how many bytes were read."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer.data], offset)
    if hasattr(os, "pread"):  # preadv is missing before macOS 11
        data = os.pread(descriptor, len(buffer), offset)
    else:
        with _seek_lock:
            os.lseek(descriptor, offset, os.SEEK_SET)
            data = os.read(descriptor, len(buffer))
    buffer[: len(data)].data[:] = data
    return len(data)


def sync_directory(directory: Path) -> None:
    """Flush the names in a directory to the disk; this does nothing on Windows, which cannot open a directory."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(directory, _flags(os.O_RDONLY, "O_DIRECTORY"))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
