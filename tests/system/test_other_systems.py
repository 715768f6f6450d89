"""fastkaiming works on systems that lack features of Linux. The tests simulate such systems."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import python

from fastkaiming.checkpoint import _os_files

NOT_ON_MACOS = ["os.posix_fallocate", "os.posix_fadvise", "os.O_DIRECT", "os.sched_getaffinity", "os.sched_yield"]
NOT_ON_WINDOWS = [
    *NOT_ON_MACOS, "os.preadv", "os.pwrite", "os.pread", "os.readv", "os.O_CLOEXEC", "os.O_NOFOLLOW", "os.O_DIRECTORY",
    "os.fork", "os.register_at_fork", "mmap.MAP_PRIVATE", "mmap.MAP_ANONYMOUS", "mmap.MADV_DONTNEED",
    "mmap.MADV_HUGEPAGE",
]  # fmt: skip

WITHOUT = """
import mmap, os, sys
from pathlib import Path
import numpy as np

out, platform, *missing = sys.argv[1:]
system_open, system_link, system_unlink = os.open, os.link, os.unlink

class Map(mmap.mmap):
    madvise = property()  # makes hasattr() return False

def open_no_directory(path, *how):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return system_open(path, *how)

def assert_closed(path):
    opened = [os.readlink(entry) for entry in os.scandir("/proc/self/fd") if os.path.exists(entry)]
    assert os.path.abspath(path) not in opened, path

def link_if_closed(old, new):
    assert_closed(old)
    system_link(old, new)

def unlink_if_closed(path):
    assert_closed(path)
    system_unlink(path)

for name in missing:
    module, attribute = name.split(".")
    if hasattr(sys.modules[module], attribute):
        delattr(sys.modules[module], attribute)
os.process_cpu_count = os.cpu_count  # as in CPython 3.13 without sched_getaffinity
if platform == "win32":
    os.open, os.link, os.unlink, mmap.mmap = open_no_directory, link_if_closed, unlink_if_closed, Map
sys.platform = platform

import fastkaiming as fk
from fastkaiming import checkpoint
from fastkaiming._system import memory, threads

assert threads.usable_cpus(Path("/nowhere")) == (os.cpu_count() or 1)
assert memory.available_memory(Path("/nowhere")) is None
large = fk.kaiming_normal((2048, 1024), rng=3)
assert (large[1000:] == fk.kaiming_normal_(large[1000:].copy(), rng=3, global_shape=large.shape,
                                           index=(slice(1000, 2048), slice(None)))).all()
model = {"a.weight": np.empty((64, 48), np.float32), "a.bias": np.ones(64, np.float32)}
fk.init_(model, rng=5)
made = checkpoint.write({"tensors": {"a.weight": [64, 48], "b.weight": [64, 48], "a.bias": [64]}}, out, seed=5,
                        max_shard_size="20KB")
assert len(made.files) == 2, made
assert checkpoint.verify(out).difference is None
stored = {each.name: each.array.copy() for each in checkpoint.stored_tensors(out)}
assert all((stored[name] == array).all() for name, array in model.items())
with open(Path(out) / made.files[0], "r+b") as file:
    file.seek(-1, 2)
    last = file.read(1)
    file.seek(-1, 2)
    file.write(bytes([last[0] ^ 1]))
assert checkpoint.verify(out).difference.file == made.files[0]
print("as ever")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="this system lacks it in earnest")
@pytest.mark.parametrize(("platform", "missing"), [("darwin", NOT_ON_MACOS), ("win32", NOT_ON_WINDOWS)])
def test_fills_and_checkpoints_on_simulated_other_systems(tmp_path: Path, platform: str, missing: list[str]) -> None:
    result = python(WITHOUT, str(tmp_path), platform, *missing)
    assert result.stdout == "as ever\n", result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_no_lock_is_used_on_systems_with_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child could inherit a locked lock, and processes that share a file descriptor share its position as well."""
    monkeypatch.setattr(_os_files, "_seek_lock", None)
    monkeypatch.delattr(os, "preadv", raising=False)  # as on macOS 10
    opened = _os_files.create(tmp_path / "file")
    try:
        assert _os_files.write_at(opened, memoryview(b"abcdef"), 2) == 6
        found = np.zeros(4, np.uint8)
        assert _os_files.read_at(opened, found, 3) == 4
        assert found.tobytes() == b"bcde"
        assert _os_files.read_at(opened, found, 6) == 2
        assert os.lseek(opened, 0, os.SEEK_CUR) == 0
    finally:
        os.close(opened)
