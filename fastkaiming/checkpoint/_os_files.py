"""File operations of POSIX and Linux, with replacements for systems that lack a call."""

import ctypes
import errno
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from numpy import uint8
from numpy.typing import NDArray

_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # linux/fcntl.h, linux/fs.h

# Windows cannot read or write at an offset in one call, so a seek and an access share this lock. Windows has no fork
# either, so a child process can never inherit the lock while another thread holds it.
_seek_lock = threading.Lock()


def check_regular_file(path: Path) -> None:
    """Raise ValueError if a path exists and is not a regular file, because devices and pipes may never end."""
    if path.is_symlink() and not path.exists():
        raise ValueError(f"{path}: it must be a regular file, got a link to a file that does not exist")
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


def rename_exclusively(old: Path, new: Path) -> None:
    """Rename a file, but raise FileExistsError if the new name exists; a plain rename would replace that file.

    Not every file system has hard links, and not every system can rename exclusively. Without either, another program
    could create the new name between the check and the rename.
    """
    try:
        os.link(old, new)
    except FileNotFoundError:
        raise
    except FileExistsError:
        if not _is_same_file(old, new):  # it is the same if a network file system lost its reply and tried again
            raise
    except (AttributeError, OSError):
        if not _renamed_by_kernel(old, new):
            if os.path.lexists(new):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new)) from None
            os.rename(old, new)  # noqa: PTH104 - Path.rename does the same
        return
    old.unlink(missing_ok=True)


def _is_same_file(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except FileNotFoundError:
        return False


def _renamed_by_kernel(old: Path, new: Path) -> bool:
    """Rename a file exclusively; return False if the system or the file system cannot do that."""
    rename = _exclusive_rename()
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), _RENAME_NOREPLACE) == 0:
        return True
    error = ctypes.get_errno()
    if error in {errno.EEXIST, errno.ENOENT}:
        raise OSError(error, os.strerror(error), str(new))
    return False


def _exclusive_rename() -> Callable[..., int] | None:
    """Return renameat2(2), which Linux has."""
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None


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


def visible_files(directory: Path, pattern: str) -> list[Path]:
    """Return the files of a directory that match a pattern, sorted, without hidden ones.

    macOS stores attributes of a file in a hidden file beside it if the file system cannot.
    """
    return sorted(path for path in directory.glob(pattern) if not path.name.startswith("."))


_CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM)


def sync_directory(directory: Path) -> None:
    """Flush the names in a directory to the disk, if the operating system and the file system can do this.

    Windows cannot open a directory, and some file systems, for example in networks, cannot flush one.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        descriptor = os.open(directory, _flags(os.O_RDONLY, "O_DIRECTORY"))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
