"""A lock on a directory that all runs of one checkpoint share, and that no run of another checkpoint can hold.

The lock is a directory with one entry for each run that holds it. The name of an entry begins with the identity of the
checkpoint. Three operations of file systems are atomic, also over a network, and make this work: a directory with an
entry is renamed only if no directory with entries has the new name, a file is created only if its directory exists,
and a directory is removed only if it is empty.
"""

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK_NAME = ".fastkaiming.lock"
_LOCK = re.compile(re.escape(LOCK_NAME) + r"(\.[0-9a-f]{16})?")  # with the suffix of an entry until it is renamed
_ENTRY = re.compile(r"([0-9a-f]{64})\.[0-9a-f]{16}")
_ATTEMPTS = 200
_PAUSE_SECONDS = 0.001
# Windows and directories with the sticky bit report that they deny access if a lock with entries has the new name.
_OCCUPIED = {errno.EEXIST, errno.ENOTEMPTY, errno.EACCES, errno.EPERM}


@contextmanager
def locked(directory: Path, identity: str) -> Iterator[Path]:
    """Create a directory if it does not exist, hold its lock in the ``with`` block, and yield the entry of this run.

    Raise FileExistsError if a run of another checkpoint holds the lock, and NotADirectoryError if the directory or the
    lock is something else.
    """
    entry, process = directory / LOCK_NAME / f"{identity}.{secrets.token_hex(8)}", os.getpid()
    try:
        _acquire(directory, entry)
        yield entry
    finally:
        if os.getpid() == process:  # a child that a progress callback forked does not release its parent's lock
            with suppress(OSError):  # an error of the block is more important
                _remove_entry(entry)


def remove(directory: Path, identity: str) -> None:
    """Remove the entries of all runs of a complete checkpoint, including killed ones.

    The lock is no longer needed, because the files record the identity and are not overwritten. Names that no run gives
    and the targets of symbolic links belong to others.
    """
    for lock in directory.glob(f"{LOCK_NAME}*"):
        if _LOCK.fullmatch(lock.name) is None or lock.is_symlink():
            continue
        with suppress(OSError):  # another run may remove the same names
            for entry in lock.iterdir():
                match = _ENTRY.fullmatch(entry.name)
                if match is not None and (lock.name != LOCK_NAME or match[1] == identity):
                    entry.unlink(missing_ok=True)
            lock.rmdir()


def _acquire(directory: Path, entry: Path) -> None:
    for _ in range(_ATTEMPTS):
        try:
            _create_directory(directory)
            if not _may_be_directory(entry.parent, follow_symlinks=False):
                raise NotADirectoryError(f"{entry.parent}: the lock must be a directory, got something else; remove it")
            if _create_lock(entry) or _join_lock(entry):
                return
            error: OSError = FileExistsError(
                f"{entry.parent}: runs of several checkpoints are using this directory, or they were killed; if they "
                "were killed, remove this lock"
            )
        except FileNotFoundError as missing:  # another run has removed the directory or the lock after it failed
            error = missing
        time.sleep(_PAUSE_SECONDS)
    raise error


def _create_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        if not _may_be_directory(directory):
            raise NotADirectoryError(f"{directory}: out_dir must be a directory, got a file") from None
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory)) from None


def _may_be_directory(path: Path, *, follow_symlinks: bool = True) -> bool:
    """Return whether a path is a directory or does not exist, from a single look, because other runs may remove it."""
    try:
        return stat.S_ISDIR(path.stat(follow_symlinks=follow_symlinks).st_mode)
    except FileNotFoundError:
        return True


def _create_lock(entry: Path) -> bool:
    """Create the lock with an entry for this run, or return False if the lock exists."""
    lock = entry.parent
    prepared = lock.with_name(f"{LOCK_NAME}{entry.suffix}") / entry.name
    prepared.parent.mkdir()
    try:
        prepared.touch()
        with suppress(OSError):
            lock.rmdir()  # a lock without entries is held by no run; Windows cannot rename a directory to its name
        prepared.parent.rename(lock)
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
        return False
    finally:
        with suppress(OSError):
            _remove_entry(prepared)
    return True


def _join_lock(entry: Path) -> bool:
    """Add an entry to the lock, or return False if another run is adding or removing one at the same time.

    If another checkpoint takes over the lock between the two looks at its entries, the second look shows that, because
    the lock of the new holder has had an entry from the beginning.
    """
    identity, holders = _identity_of(entry), _identities(entry.parent)
    if holders and identity not in holders:
        raise FileExistsError(
            f"{entry.parent}: another checkpoint is being written to this directory (its seed, rules, names, shapes, "
            "dtypes or max_shard_size differ), or a run was killed; if it was killed, remove this lock"
        )
    if holders != {identity}:
        return False
    entry.touch()
    if _identities(entry.parent) == {identity}:
        return True
    _remove_entry(entry)
    return False


def _remove_entry(entry: Path) -> None:
    entry.unlink(missing_ok=True)
    with suppress(OSError):  # the lock has entries of other runs, or another run has removed it
        entry.parent.rmdir()


def _identities(lock: Path) -> set[str]:
    return {_identity_of(entry) for entry in lock.iterdir()}


def _identity_of(entry: Path) -> str:
    return entry.name.partition(".")[0]
