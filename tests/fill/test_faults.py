"""Failures of the operating system during a fill: either the values are right, or the fill raises an error."""

import hashlib
import os
import platform
import signal
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import reference
from processes import COUNT, FILL, LONG_FILL, ROOT, compiled, digest_of_fill, python

if platform.system() != "Linux":
    pytest.skip("needs what only Linux has", allow_module_level=True)

# ---- Threads that cannot be created ----


@pytest.fixture(scope="module")
def refuse_threads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("threads") / "refuse_threads.so"
    return compiled(library, "-shared", "-fPIC", ROOT / "tests" / "c" / "refuse_threads.c", "-ldl")


def counting_threads(library: Path, allowed: int) -> dict[str, str]:
    return {"LD_PRELOAD": str(library), "ALLOWED_THREADS": str(allowed), "OPENBLAS_NUM_THREADS": "1"}


@pytest.mark.parametrize(("allowed", "requested"), [(0, 1), (1, 2), (2, 2)])
def test_refused_threads_leave_the_bytes_alone(refuse_threads: Path, allowed: int, requested: int) -> None:
    result = python(f"{FILL}\nprint(digest())", **counting_threads(refuse_threads, allowed))
    assert result.stdout.split() == [digest_of_fill()], result.stderr
    assert result.stderr == f"threads requested: {requested}\n"


REFUSED_BY_A_LIMIT = f"""{FILL}
import os, resource, sys, threading

def refuse_threads():
    if sys.argv[1] == "RLIMIT_NPROC":  # does not apply to a privileged user
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    else:  # less memory than a stack needs
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), used + (4 << 20)))

out = np.zeros({COUNT}, np.uint32)
threading.stack_size(8 << 20)
refuse_threads()
try:
    threading.Thread(target=print).start()
except RuntimeError as error:
    print(error)
_core.fill(out, _core.WORDS_U32, 9, 0, 1, threads=3)
print(hashlib.sha256(out).hexdigest())
"""


@pytest.mark.parametrize("limit", ["RLIMIT_NPROC", "RLIMIT_AS"])
def test_threads_refused_by_a_limit(limit: str) -> None:
    result = python(REFUSED_BY_A_LIMIT, limit, OPENBLAS_NUM_THREADS="1")
    if "in setuid" in result.stderr or "in setgroups" in result.stderr:
        pytest.skip(f"this root user cannot change its user: {result.stderr}")
    assert result.stdout.splitlines() == ["can't start new thread", digest_of_fill()], result.stderr
    assert result.returncode == 0


@pytest.mark.parametrize("threads", [None, 3])
def test_affinity_to_one_cpu(refuse_threads: Path, threads: int | None) -> None:
    program = f"""
import hashlib, os
import numpy as np
import fastkaiming as fk

os.sched_setaffinity(0, {{max(os.sched_getaffinity(0))}})
out = fk.uniform((1 << 20,), rng=5, threads={threads})
print(fk.get_num_threads(), hashlib.sha256(out).hexdigest())
"""
    place = reference.Place(reference.philox_key(5), stream=0, first=0, count=1 << 20)
    values = reference.uniform(place, reference.uniform_parameters(0.0, 1.0, np.float32))
    result = python(program, **counting_threads(refuse_threads, 9))
    assert result.stdout.split() == ["1", hashlib.sha256(values.tobytes()).hexdigest()], result.stderr
    assert result.stderr == f"threads requested: {0 if threads is None else threads - 1}\n"


@pytest.fixture
def control_group() -> Iterator[Callable[[int, int], Path]]:
    """Yield a function that creates a control group with a CPU quota and period, of either version."""
    made = []

    def make(quota: int, period: int) -> Path:
        for parent in (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")):
            group = parent / f"fastkaiming-{os.getpid()}"
            try:
                group.mkdir()
                made.append(group)
                if (group / "cpu.max").exists():
                    (group / "cpu.max").write_text(f"{quota} {period}")
                else:
                    (group / "cpu.cfs_period_us").write_text(f"{period}")
                    (group / "cpu.cfs_quota_us").write_text(f"{quota}")
            except OSError:
                continue
            return group
        pytest.skip("this system makes no control group for us")

    yield make
    for group in made:
        group.rmdir()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.parametrize(("quota", "expected"), [(50_000, "1"), (150_000, "2")], ids=["half a CPU", "1.5 CPUs"])
def test_quota_of_a_control_group(control_group: Callable[[int, int], Path], quota: int, expected: str) -> None:
    enter = """
import os, pathlib, sys
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import fastkaiming
print(fastkaiming.get_num_threads())
"""
    result = python(f"{enter}{FILL}\nprint(digest())", str(control_group(quota, 100_000) / "cgroup.procs"))
    assert result.stdout.split() == [expected, digest_of_fill()], result.stderr


# ---- Allocations that fail ----


REFUSED_ALLOCATIONS = """
import ctypes, itertools, sys
import numpy as np
from fastkaiming import _core

system = ctypes.CDLL(None)
system.refuse_allocation.argtypes, system.refuse_allocation.restype = [ctypes.c_long], None
outs = [np.zeros(2 * _core.MAX_WORK_UNIT_ELEMENTS + 7, dtype) for dtype in (np.float32, np.float32, np.float16)]
roundings = [_core.UNROUNDED, _core.UNROUNDED, _core.FLOAT16]
first, last = (int(argument) for argument in sys.argv[1:])

def fill():
    normals = [_core.Template(None, _core.NORMAL_F32, rounding, (1.0, 0.0), store=_core.STORE_STREAMING)
               for rounding in roundings]
    pairs = list(zip(outs, normals))[first:last]
    _core.fill_all([_core.Plan(out, normal, 1, 0, 0) for out, normal in pairs], threads=3)

fill()
wholes = [out.copy() for out in outs]
for nth in itertools.count(1):
    for out in outs:
        out.fill(0)
    outcome = "filled"
    system.refuse_allocation(nth)
    try:
        fill()
    except MemoryError:
        outcome = "refused"
    try:
        if not system.stop_refusing():
            break
    except MemoryError:  # raised by this call itself, after a fill without failures
        break
    print(outcome, all(np.all(out == (whole if outcome == "filled" else 0)) for out, whole in zip(outs, wholes)))
    fill()
    assert all(np.array_equal(out, whole) for out, whole in zip(outs, wholes))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's internal names of malloc")
@pytest.mark.parametrize(
    ("first", "last"),
    [pytest.param(0, 3, id="several"), pytest.param(0, 1, id="streaming"), pytest.param(2, 3, id="rounded")],
)
def test_each_allocation_refused_in_turn(tmp_path: Path, first: int, last: int) -> None:
    library = compiled(tmp_path / "refuse_memory.so", "-shared", "-fPIC", ROOT / "tests" / "c" / "refuse_memory.c")
    environment = {"LD_PRELOAD": str(library), "OPENBLAS_NUM_THREADS": "1"}
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):  # this build needs its own allocator
        environment["PYTHONMALLOC"] = "malloc"
    result = python(REFUSED_ALLOCATIONS, str(first), str(last), **environment)
    assert result.returncode == 0, result.stderr
    # Either nothing is written or everything: memory that only additional threads need is optional.
    assert set(result.stdout.splitlines()) == {"refused True", "filled True"}


def test_no_address_space_for_an_array() -> None:
    program = f"""{FILL}
import resource
import fastkaiming as fk

used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), used + (64 << 20)))
try:
    fk.normal((1 << 16, 1 << 12), rng=1)
except MemoryError:
    print("refused")
print(digest())
"""
    result = python(program, OPENBLAS_NUM_THREADS="1")
    assert result.stdout.split() == ["refused", digest_of_fill()], result.stderr


def test_mapped_file_that_is_truncated_during_a_fill(tmp_path: Path) -> None:
    """If pages are not checked, the system terminates a process that writes beyond the end of a file, as documented."""
    program = f"""{LONG_FILL}
import faulthandler

faulthandler.enable()
out = np.memmap(sys.argv[1], np.float32, "w+", shape=1 << 28)[::4]  # so sparse that no page is checked

def truncate(_done, _total):
    os.truncate(sys.argv[1], 0)
    while True:  # so that only the other thread writes beyond the end
        time.sleep(1)

fill(2, truncate)
"""
    result = python(program, str(tmp_path / "weights"))
    assert result.returncode == -signal.SIGBUS, result.stderr
    assert result.stderr.startswith("Fatal Python error: Bus error")  # the handler of the process ran
