"""The system calls of a fill for newly allocated memory and mapped files, and their effects."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from processes import HANG_SECONDS, ROOT, compiled, python

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="fills make these system calls on Linux only")

# ---- Newly allocated memory ----

RECORDED = """
import ctypes, mmap, sys
import ml_dtypes
import numpy as np
import fastkaiming as fk

UNIT, MINCORE, POPULATE = 2 << 20, -1 % 2**64, 23
library = ctypes.CDLL(None)

class Request(ctypes.Structure):
    _fields_ = [("address", ctypes.c_size_t), ("length", ctypes.c_size_t), ("kind", ctypes.c_size_t)]

    @property
    def span(self):
        return self.address, self.address + self.length

def new_memory(nbytes):
    return np.frombuffer(mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)

def layout(name, nbytes):
    '''Return `nbytes` of new memory that begins 4112 bytes after a page boundary, and a view of its elements.'''
    kind, dtype = name.split()
    memory = new_memory(nbytes + 8192)[4112:][:nbytes]
    if kind == "misaligned":
        return memory, memory[1 : 1 - np.dtype(dtype).itemsize].view(dtype)
    elements = memory.view({"bfloat16": ml_dtypes.bfloat16, "float8": ml_dtypes.float8_e5m2}.get(dtype, dtype))
    if kind == "contiguous":
        return memory, elements
    matrix = elements.reshape(-1, 2048)
    return memory, {
        "transposed": lambda: matrix.T,
        "alternate": lambda: matrix[:, ::2],
        "half": lambda: matrix[:, :1024],
        "quarter": lambda: matrix[:, :512],
        "backwards": lambda: matrix[::-1, ::-1],
        "staged": lambda: elements.reshape(8, -1, 2048).transpose(1, 0, 2),
    }[kind]()

def fill(out, threads, fail_populate=False):
    '''Fill `out`, and return the recorded calls for its memory.'''
    made = ctypes.POINTER(Request)()
    begin, end = np.lib.array_utils.byte_bounds(out) if hasattr(np.lib, "array_utils") else np.byte_bounds(out)
    library.start_recording(fail_populate)
    fk.fill_(out, fk.Uniform(-1, 1), rng=3, threads=threads)
    count = library.requests(ctypes.byref(made))
    assert count < 4096
    return [request for request in made[:count] if request.address < end and begin < request.address + request.length]

def of_kind(requests, kind):
    return [request.span for request in requests if request.kind == kind]
"""

LAYOUTS = [
    *(f"contiguous {dtype}" for dtype in ("float32", "float64", "float16", "bfloat16", "float8", ">f4")),
    *(f"{layout} float32" for layout in ("misaligned", "transposed", "alternate", "half", "backwards", "staged")),
    "transposed float16",
]


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a process whose system calls are recorded."""
    build = tmp_path_factory.mktemp("recorder")
    source = ROOT / "tests" / "c" / "record_pages.c"
    library = compiled(build / "record_pages.so", "-shared", "-fPIC", source)
    return {"LD_PRELOAD": str(library), "OPENBLAS_NUM_THREADS": "1"}


def run(program: str, *arguments: str, **environment: str) -> None:
    result = python(RECORDED + program, *arguments, **environment)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("layout", LAYOUTS)
def test_new_memory_is_populated_once_and_completely(layout: str, recorder: dict[str, str]) -> None:
    program = """
memory, out = layout(sys.argv[1], 64 << 20)
requests = fill(out, threads=2)
(advised,) = of_kind(requests, mmap.MADV_HUGEPAGE)
populated = of_kind(requests, POPULATE)

# Huge pages are requested once, before any page is mapped, and only for memory of the array.
begin = memory.ctypes.data
end = begin + memory.nbytes
assert advised[0] % UNIT == advised[1] % UNIT == 0
assert begin <= advised[0] < begin + UNIT and end - UNIT < advised[1] <= end
assert requests.index(next(r for r in requests if r.kind == mmap.MADV_HUGEPAGE)) < requests.index(
    next(r for r in requests if r.kind == POPULATE))

# Every page was mapped before its elements were written, and hardly any was requested twice. In the layout "staged",
# a work unit may contain parts of two matrices that are far apart.
at, missing = begin, 0
for first, last in sorted(populated):
    missing += max(0, first - at)
    at = max(at, last)
assert missing <= (8 * UNIT if "staged" in sys.argv[1] else 0)
assert at >= end - 64
assert sum(last - first for first, last in populated) < 1.3 * memory.nbytes

# The second fill requests nothing.
assert {request.kind for request in fill(out, threads=2)} == {MINCORE}
"""
    run(program, layout, **recorder)


@pytest.mark.parametrize(
    ("dtype", "threads"),
    [*((dtype, 4) for dtype in ("float32", "float64", "bfloat16", "float8", ">f4")), ("float32", 16)],
)
def test_no_two_work_units_share_a_huge_page(dtype: str, threads: int, recorder: dict[str, str]) -> None:
    program = """
memory, out = layout(f"contiguous {sys.argv[1]}", 64 << 20)
units = [(first // UNIT, (last - 1) // UNIT) for first, last in of_kind(fill(out, int(sys.argv[2])), POPULATE)]
assert all(first == last for first, last in units)
assert len(set(units)) == len(units) == 33
"""
    run(program, dtype, str(threads), **recorder)


def test_small_and_scattered_fills_request_no_pages(recorder: dict[str, str]) -> None:
    program = """
for name, nbytes in (("contiguous float32", (1 << 20) - 8), ("quarter float32", 16 << 20)):
    memory, out = layout(name, nbytes)
    assert fill(out, threads=2) == []
memory, out = layout("contiguous float32", 3 << 20)
assert {request.kind for request in fill(out, threads=2)} == {MINCORE, POPULATE}  # too small for huge pages
"""
    run(program, **recorder)


@pytest.mark.parametrize("layout", [*LAYOUTS, "quarter float32"])
@pytest.mark.parametrize("fail_populate", [False, True], ids=["", "older kernel"])
def test_values_in_new_memory(layout: str, fail_populate: bool, recorder: dict[str, str]) -> None:
    program = """
for threads in (1, 3):
    for nbytes in (3 << 20, 17 << 20):
        memory, out = layout(sys.argv[1], nbytes)
        requests = fill(out, threads, fail_populate=sys.argv[2] == "True")
        assert of_kind(requests, POPULATE) or "quarter" in sys.argv[1]
        row = max(1, out[:1].size)
        for first in range(0, len(out), max(1, (1 << 17) // row)):  # parts too small for system calls
            part = np.empty(out[first : first + (1 << 17) // row].shape, out.dtype)
            index = (slice(first, first + len(part)), *[slice(0, size) for size in out.shape[1:]])
            fk.fill_(part, fk.Uniform(-1, 1), rng=3, global_shape=out.shape, index=index)
            assert np.array_equal(part, out[first : first + len(part)])
"""
    run(program, layout, str(fail_populate), **recorder)


# ---- Mapped files ----

MAPPED = """
import errno, os, sys, threading
import numpy as np
import fastkaiming as fk
from fastkaiming import _core

def mapped(path, elements, dtype=np.float32):
    return np.memmap(path, dtype, "w+", shape=elements)

def check_raises(out, threads):
    try:
        fk.fill_(out, fk.Normal(), rng=1, threads=threads)
    except OSError as error:
        assert error.errno == errno.EFAULT
        assert "the file was truncated or its disk is full" in str(error)
    else:
        raise AssertionError("nothing was raised")
    assert len(os.listdir("/proc/self/task")) == 1
"""


@pytest.mark.parametrize("threads", [1, 3])
def test_mapped_file_on_a_full_disk_raises(tmp_path: Path, threads: int) -> None:
    program = """
before = len(os.listdir("/proc/self/fd"))
out = mapped("out/weights", 8 << 20)  # 32 MiB on a disk of 8 MiB
check_raises(out, int(sys.argv[1]))
assert np.fromfile("out/weights", np.float32).any()  # threads may write any of the first work units, in any order
check_raises(out.reshape(-1, 2048).T, int(sys.argv[1]))
check_raises(out.view(np.float16), int(sys.argv[1]))
del out
os.truncate("out/weights", 0)
enough = mapped("out/weights", 1 << 20)
fk.fill_(enough, fk.Normal(), rng=1)
assert np.array_equal(enough, fk.normal(1 << 20, rng=1))
del enough
assert len(os.listdir("/proc/self/fd")) == before
"""
    (tmp_path / "out").mkdir()
    unshared = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = "mount -t tmpfs -o size=8m tmpfs out"
    try:
        subprocess.run([*unshared, mount], cwd=tmp_path, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system does not allow the test to mount a file system")
    result = subprocess.run(
        [*unshared, f'{mount} && exec "$0" -c "$1" "$2"', sys.executable, MAPPED + program, str(threads)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("threads", [1, 3])
def test_truncated_mapped_file_raises(tmp_path: Path, threads: int) -> None:
    program = """
out = mapped(sys.argv[1], 8 << 20)
out[:] = 1
os.truncate(sys.argv[1], 5 << 20)
check_raises(out, int(sys.argv[2]))
assert not (out[: 1 << 20] == 1).any()  # the first 4 MiB are written
others = [np.zeros(1 << 20, np.float32) for _ in range(2)]
try:
    fk.init_({"a.weight": others[0].reshape(1024, 1024), "b.weight": out.reshape(1024, -1),
              "c.weight": others[1].reshape(1024, 1024)}, rng=1, threads=int(sys.argv[2]))
except OSError as error:
    assert error.errno == errno.EFAULT
else:
    raise AssertionError("nothing was raised")
"""
    result = python(MAPPED + program, str(tmp_path / "weights"), str(threads), OPENBLAS_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr


def test_file_truncated_in_a_callback_raises(tmp_path: Path) -> None:
    program = """
def truncate(done, total):
    calls.append(done)
    os.truncate(sys.argv[1], 0)

_core.select_isa("scalar")  # slow enough for progress reports during the fill
calls = []
out = mapped(sys.argv[1], 1 << 26)
with fk.progress(truncate):
    check_raises(out, 1)
assert len(calls) == 1 and 0 < calls[0] < out.size
"""
    result = python(MAPPED + program, str(tmp_path / "weights"), OPENBLAS_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr


def test_truncated_file_raises_in_a_forked_child_too(tmp_path: Path) -> None:
    program = """
def fork(done, total):
    if not children:
        children.append(os.fork())
        if children == [0]:
            os.truncate(sys.argv[1], 0)
        else:
            os.waitpid(children[0], 0)

_core.select_isa("scalar")
children = []
out = mapped(sys.argv[1], 1 << 26)
with fk.progress(fork):
    check_raises(out, 1)
print("raised")
"""
    result = python(MAPPED + program, str(tmp_path / "weights"), OPENBLAS_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["raised", "raised"]
