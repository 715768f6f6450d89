"""Signals, forks and the end of the interpreter during a fill: it stops or continues, and the next fill is right."""

import platform
from collections.abc import Callable

import pytest
from extended import extended
from processes import FILL, HANG_SECONDS, LONG_FILL, digest_of_fill, python, python_within

linux_only = pytest.mark.skipif(platform.system() != "Linux", reason="needs what only Linux has")


PROMPTLY = f"""{LONG_FILL}
sent = []

def send_sigint():
    wait_for_its_beginning()
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # background processes inherit SIG_IGN
sender = threading.Thread(target=send_sigint)
sender.start()
try:
    fill(int(sys.argv[1]))
except KeyboardInterrupt:
    seconds = time.perf_counter() - sent[0]
    sender.join()
    print(out[-1] == 0.0, digest(), seconds)
"""


@pytest.mark.parametrize("threads", [1, 3])
def test_ctrl_c_ends_a_fill(threads: int, record_property: Callable[[str, object], None]) -> None:
    result = python(PROMPTLY, str(threads))
    unfinished, next_fill, seconds = result.stdout.split() or pytest.fail(result.stderr)
    assert unfinished == "True"
    assert next_fill == digest_of_fill()
    record_property("seconds from Ctrl-C to KeyboardInterrupt", float(seconds))
    print(f"{float(seconds) * 1000:.0f} ms from Ctrl-C to KeyboardInterrupt")


# The core checks for pending signals every 50 ms, so a fill must take longer. The shortest of three times counts:
# other processes may slow down a single fill, and a fill at full speed would then end before the first check.
SHORTEST_SECONDS = """
import time

def shortest_seconds(fill, enough):
    times = []
    while len(times) < 3:
        begun = time.perf_counter()
        fill()
        times.append(time.perf_counter() - begun)
        if times[-1] < enough:
            break
    return min(times)
"""

AT_RANDOM = f"""{FILL}{SHORTEST_SECONDS}
import os, random, signal, sys, threading, time
import fastkaiming as fk

def send_sigint(seconds):
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
_core.select_isa("scalar")
expected = digest()
size, seconds = 1 << 19, 0.0
while seconds < 0.2:
    size *= 2
    whole = np.empty(size, np.float32)
    seconds = shortest_seconds(lambda: fk.normal_(whole, rng=1, threads=1), 0.2)
random_numbers = random.Random(1)
interrupted = 0
for i in range(int(sys.argv[1])):
    part = np.zeros(random_numbers.randrange(1, size + 1), np.float32)
    sender = threading.Thread(target=send_sigint, args=(random_numbers.uniform(0, seconds / 2),))
    returned = False
    try:
        sender.start()
        fk.normal_(part, rng=1, threads=1 + i % 3)
        returned = True
        while True:
            time.sleep(0.01)
    except KeyboardInterrupt:
        sender.join()
    right = part == whole[:part.size]
    assert np.all(right | (part == 0))
    assert np.all(right) or not returned
    interrupted += not np.all(right)
    assert digest() == expected
print(expected, interrupted)
"""


@pytest.mark.parametrize("times", [*extended([60]), pytest.param(1000, marks=pytest.mark.slow)])
def test_ctrl_c_at_random_moments(times: int) -> None:
    result = python_within(HANG_SECONDS + times, AT_RANDOM, str(times))
    printed, interrupted = result.stdout.split() or pytest.fail(result.stderr)
    assert printed == digest_of_fill()
    assert 0 < int(interrupted) <= times
    print(f"{interrupted} of {times} fills were interrupted")


# ---- Forks ----


@linux_only
def test_a_fill_in_a_forked_child() -> None:
    program = f"""{FILL}
import os, signal

before = digest()
child = os.fork()
if child == 0:
    signal.alarm(60)  # terminates the process instead of blocking forever
    print(digest(), flush=True)
    os._exit(0)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(status, before, digest())
"""
    result = python(program)
    assert result.stdout.split() == [digest_of_fill(), "0", digest_of_fill(), digest_of_fill()], result.stderr


FORKED = f"""{LONG_FILL}
import multiprocessing

def stop(_done, _total):
    if over.is_set():
        raise InterruptedError

def fill_until_over():
    try:
        fill(3, stop)
    except InterruptedError:
        pass

def in_a_child_of_fork():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # terminates the process instead of blocking forever
        os.write(writing, digest().encode())
        os._exit(0)
    os.close(writing)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return os.read(reading, 64).decode() if status == 0 else status

def in_a_child_of_multiprocessing():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.apply(digest)

over = threading.Event()
filling = threading.Thread(target=fill_until_over)
filling.start()
wait_for_its_beginning()
for in_a_child in (in_a_child_of_fork, in_a_child_of_multiprocessing) * 3:
    print(in_a_child())
print(out[-1] == 0.0)  # the other fill was still running
over.set()
filling.join()
"""


@linux_only
def test_forks_while_another_thread_fills() -> None:
    result = python(FORKED)
    assert result.stdout.split() == [digest_of_fill()] * 6 + ["True"], result.stderr


FORKED_WITHIN = f"""{LONG_FILL}{SHORTEST_SECONDS}

signal.alarm(100)  # terminates the process instead of blocking forever
threads, way, raising, several = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "raises", sys.argv[4] == "several"
children, unfinished = [], []

def fork_once():
    if children:
        return
    unfinished.append(arrays[-1][-1] == 0)
    children.append(os.fork())
    if children == [0]:
        signal.alarm(100)
        if raising:
            raise InterruptedError

def report(done, total):
    if way == "callback" and done < total:
        fork_once()

def handle(_number, _frame):
    fork_once()

def send():
    while not arrays[0][0]:
        pass
    os.kill(os.getpid(), signal.SIGUSR1)

signal.signal(signal.SIGUSR1, handle)

count, seconds = 1 << 20, 0.0
while seconds < 0.15 * threads:
    count *= 2
    expected = np.zeros(count, np.float32)
    seconds = shortest_seconds(lambda: _core.fill(expected, _core.NORMAL_F32, 1, 0, 0, scale=1.0), 0.15 * threads)
arrays = [np.zeros(count // 4, np.float32) for _ in range(4)] if several else [np.zeros(count, np.float32)]
normal = _core.Template(None, _core.NORMAL_F32, _core.UNROUNDED, (1.0, 0.0))
plans = [_core.Plan(out, normal, 1, 0, i * arrays[0].size) for i, out in enumerate(arrays)]
sender = threading.Thread(target=send)
if way == "handler":
    sender.start()
outcome = "returned"
try:
    _core.fill_all(plans, threads, report)
except InterruptedError:
    outcome = "raised"
right = np.array_equal(np.concatenate(arrays), expected)
if children == [0]:
    print("child", outcome, right, flush=True)
    os._exit(0)
status = os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])
print("parent", outcome, right, status)
assert unfinished == [True]
"""


@linux_only
@pytest.mark.parametrize("plans", ["one", "several"])
@pytest.mark.parametrize("way", ["callback", "handler"])
@pytest.mark.parametrize("threads", ["2", *extended(["1", "3"])])
def test_a_fork_within_a_fill_leaves_it_whole_in_both_processes(threads: str, way: str, plans: str) -> None:
    result = python(FORKED_WITHIN, threads, way, "returns", plans)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["child returned True", "parent returned True 0"], result.stderr


@linux_only
@pytest.mark.parametrize("way", ["callback", "handler"])
@pytest.mark.parametrize("threads", ["1", *extended(["3"])])
def test_an_exception_in_the_child_of_a_fork_within_a_fill(threads: str, way: str) -> None:
    result = python(FORKED_WITHIN, threads, way, "raises", "one")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["child raised False", "parent returned True 0"], result.stderr


PROGRESS_IN_A_CHILD = """
import os, signal, sys
import numpy as np
import fastkaiming as fk
from fastkaiming import _core

signal.alarm(100)
_core.select_isa("scalar")
reports, children = [], []

def report(done, total):
    reports.append((done, total))
    if not children:
        children.append(os.fork())
        if children == [0]:
            signal.alarm(100)
            reports.clear()

def model():
    return {f"{layer}.weight": np.zeros((1 << 10, 1 << 12), np.float32) for layer in range(4)}

expected, weights = model(), model()
fk.init_(expected, rng=3, threads=1)
with fk.progress(report):
    fk.init_(weights, rng=3, threads=3)
assert all(np.array_equal(weights[name], expected[name]) for name in expected)
done = [done for done, _ in reports]
assert done == sorted(set(done))
assert reports[-1] == (1 << 24, 1 << 24)
if children == [0]:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
"""


@linux_only
def test_a_fork_while_a_whole_model_is_filled() -> None:
    result = python(PROGRESS_IN_A_CHILD)
    assert result.stdout.split() == ["7"], result.stderr


# ---- The end of the interpreter ----


AT_EXIT = f"""{LONG_FILL}
import ctypes
import fastkaiming as fk

system = ctypes.CDLL(None)
system.__cxa_atexit(system.usleep, ctypes.c_void_p(300_000), None)  # the process ends after the interpreter

daemon, threads = sys.argv[1] == "daemon", int(sys.argv[2])
whole = None
if not daemon:
    out = out[:1 << 21]
    whole = fk.normal(out.shape, rng=1)

def fill_and_compare():
    fill(threads)
    print(np.array_equal(out, whole))

threading.Thread(target=fill_and_compare, daemon=daemon).start()
wait_for_its_beginning()
print(out[-1] == 0.0)
sys.exit(3)
"""


@linux_only
@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize(
    ("kind", "printed"),
    [pytest.param("daemon", ["True"], id="stopped"), pytest.param("thread", ["True", "True"], id="awaited")],
)
def test_exit_during_a_fill(kind: str, printed: list[str], threads: str) -> None:
    result = python(AT_EXIT, kind, threads)
    assert (result.returncode, result.stderr) == (3, "")
    assert result.stdout.split() == printed
