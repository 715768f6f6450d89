"""Threads, signals and callbacks during a fill never change its values.

Failing system calls and interruptions of the process are tested in tests/fill/test_faults.py and
tests/fill/test_interruptions.py.
"""

import array
import gc
import itertools
import mmap
import platform
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from numpy.typing import NDArray
from processes import COUNT, CSRC, HANG_SECONDS, ROOT, answers, compiled

import fastkaiming as fk
from fastkaiming import _core

THREADS = Path("/proc/self/task")
UNBOUNDED = 1 << 27  # elements: no fill here completes so many; zeroed pages take no memory until they are filled

linux_only = pytest.mark.skipif(platform.system() != "Linux", reason="requires Linux")


# ---- The loop: tests/c/threads_test.c ----


@pytest.fixture(scope="module", params=[[], ["-fsanitize=thread"]], ids=["", "thread sanitizer"])
def loops(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if platform.system() != "Linux":
        pytest.skip("the linker of this system cannot wrap pthread_create")
    build = tmp_path_factory.mktemp("loops")
    if request.param:
        (build / "empty.c").write_text("int main(void) { return 0; }\n")
        try:
            subprocess.run([compiled(build / "empty", *request.param, build / "empty.c")], check=True)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"the thread sanitizer does not work here: {error}")
    source = ROOT / "tests" / "c" / "threads_test.c"
    return compiled(
        build / "loops", *request.param, "-Wl,--wrap=pthread_create", source, CSRC / "threads" / "threads.c"
    )


def outcomes(program: Path, questions: list[str]) -> list[dict[str, str]]:
    return [dict(item.split("=") for item in line.split()) for line in answers(program, questions)]


def slices(size: int, grain: int) -> str:
    """Return the slices of [0, size): they end at multiples of grain."""
    return "".join(f"{begin}:{min(begin + grain, size)}," for begin in range(0, size, grain))


RANGES = [
    *itertools.product((0, 1, 2, 7, 63, 64, 65, 127, 128, 129, 1000), (1, 2, 7, 64, 1000, 1 << 40)),
    *itertools.product((2**63 - 1, 2**63, 2**64 - 1), (2**60 + 1, 2**63 - 1, 2**63, 2**64 - 1)),
]


def test_every_slice_is_processed_once(loops: Path) -> None:
    cases = [(*places, threads) for places in RANGES for threads in (1, 2, 3, 7)]
    questions = [f"loop {size} {grain} {threads} 9999 0" for size, grain, threads in cases]
    for (*places, threads), outcome in zip(cases, outcomes(loops, questions), strict=True):
        expected = slices(*places)
        assert outcome["slices"] == expected, places
        # There are no more threads than slices, so a small fill starts none.
        assert int(outcome["created"]) == max(0, min(threads, expected.count(",")) - 1), places
        assert outcome["misnumbered"] == "0", places
        assert outcome["result"] == "0"


@pytest.mark.parametrize("loops", [[]], indirect=True, ids=[""])  # too many threads for the sanitizer
def test_at_most_1024_threads_are_used(loops: Path) -> None:
    (outcome,) = outcomes(loops, ["loop 4000 1 5000 9999 0"])
    assert (outcome["created"], outcome["misnumbered"]) == ("1023", "0")
    assert outcome["slices"] == slices(4000, 1)


@pytest.mark.parametrize("created", [0, 1, 3, 6, 7])
def test_loop_completes_if_threads_cannot_be_created(loops: Path, created: int) -> None:
    # Every thread waits in its slice for all others, so the loop ends only if `parties` threads work at once.
    parties = min(created, 7) + 1
    (outcome,) = outcomes(loops, [f"loop {160 * parties} 10 8 {created} {parties}"])
    assert int(outcome["created"]) == parties - 1
    assert outcome["slices"] == slices(160 * parties, 10)


def test_workers_receive_only_signals_of_their_own_faults(loops: Path) -> None:
    (outcome,) = outcomes(loops, ["loop 80 10 4 9999 4"])
    assert outcome["created"] == "3"
    assert outcome["open_in_workers"] == "0"
    assert outcome["faults_closed_in_workers"] == "0"
    assert outcome["closed_in_caller"] == "0"


@pytest.mark.parametrize("threads", [1, 3])
def test_watcher_stops_the_loop(loops: Path, threads: int) -> None:
    stopped, undisturbed = outcomes(loops, [f"watch 1000 {threads} 2 -7", f"watch 200 {threads} 0 5"])
    assert (stopped["result"], undisturbed["result"]) == ("-7", "0")
    assert stopped["calls"] == "2"
    assert int(undisturbed["calls"]) >= 1
    assert int(stopped["worked"]) < 30_000
    assert undisturbed["worked"] == "6000"
    for outcome in (stopped, undisturbed):
        assert outcome["calls_elsewhere"] == "0"
        done = [int(count) for count in outcome["done"].split(",")[:-1]]
        assert done == sorted(set(done))
        assert done[0] > 0
        assert all(count % 30 == 0 for count in done)  # whole slices, in the unit that the body reports
        assert done[-1] <= int(outcome["worked"])


@pytest.mark.parametrize("threads", [1, 3])
def test_no_worker_continues_after_the_watcher_ended_its_thread(loops: Path, threads: int) -> None:
    (outcome,) = outcomes(loops, [f"exit 1000 {threads}"])
    assert 0 < int(outcome["at_the_end"]) == int(outcome["later"]) < 30_000


# ---- Fills ----


@pytest.fixture
def slow() -> Iterator[None]:
    """Select the slowest kernels, so that fills can be observed."""
    before = _core.select_isa("scalar")
    yield
    _core.select_isa(before)


def words(stream: int, count: int, threads: int) -> NDArray[np.uint32]:
    out = np.empty(count, np.uint32)
    _core.fill(out, _core.WORDS_U32, 9, stream, 1, threads=threads)
    return out


def expected_words(stream: int, count: int) -> NDArray[Any]:
    return reference.words(reference.Place(key=9, stream=stream, first=1, count=count))


def tasks() -> int:
    return len(list(THREADS.iterdir()))


@linux_only
@pytest.mark.usefixtures("slow")
def test_threads_end_with_the_fill() -> None:
    def look(_done: int, _total: int) -> None:
        seen.append(tasks())
        raise InterruptedError

    seen: list[int] = []
    before = tasks()
    with pytest.raises(InterruptedError):
        _core.fill(np.zeros(UNBOUNDED, np.float32), _core.NORMAL_F32, 1, 0, 0, scale=1.0, threads=3, progress=look)
    assert seen == [before + 2]
    for _ in range(1000):
        if tasks() == before:
            break
        time.sleep(0.01)  # the system may list a thread for a moment after it was joined
    assert tasks() == before


def test_many_python_threads_can_fill_at_once() -> None:
    together = threading.Barrier(64)

    def fill(stream: int) -> NDArray[np.uint32]:
        together.wait(HANG_SECONDS)
        return words(stream % 4, COUNT, threads=1 + stream % 3)

    with ThreadPoolExecutor(64) as pool:
        futures = [pool.submit(fill, stream) for stream in range(64)]
    expected = [expected_words(stream, COUNT) for stream in range(4)]
    for stream, future in enumerate(futures):
        assert np.array_equal(future.result(), expected[stream % 4])


@pytest.mark.usefixtures("slow")
def test_other_python_threads_run_during_a_fill() -> None:
    outs = [np.zeros(1, np.float32)]
    half_filled, over = threading.Event(), threading.Event()

    def look() -> None:
        while not over.is_set():
            out = outs[-1]
            if out[0] and not out[-1]:  # true only during the fill
                half_filled.set()
                return

    observer = threading.Thread(target=look)
    observer.start()
    while not half_filled.is_set() and len(outs) < 50:  # some fills may complete before the system runs the observer
        outs.append(np.zeros(1 << 22, np.float32))
        _core.fill(outs[-1], _core.NORMAL_F32, 1, 0, 0, scale=1.0)
    over.set()
    observer.join()
    assert half_filled.is_set()


# ---- Interruptions ----


@pytest.mark.usefixtures("slow")
def test_fill_continues_after_signal_handlers_return() -> None:
    def handle(_number: int, _frame: object) -> None:
        unfinished.append(out[-1] == 0.0)
        if len(unfinished) == 3:
            raise InterruptedError

    unfinished: list[bool] = []
    out = np.zeros(UNBOUNDED, np.float32)
    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.05)
        with pytest.raises(InterruptedError):
            _core.fill(out, _core.NORMAL_F32, 1, 0, 0, scale=1.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert unfinished == [True, True, True]


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("error", [InterruptedError("seen"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_callback_exception_cancels_the_fill(threads: int, error: BaseException) -> None:
    def stop(done: int, total: int) -> None:
        reports.append((done, total))
        raise error

    reports: list[tuple[int, int]] = []
    out = np.zeros(UNBOUNDED, np.float32)
    with pytest.raises(type(error)) as caught:
        _core.fill(out, _core.NORMAL_F32, 1, 0, 0, scale=1.0, threads=threads, progress=stop)
    assert caught.value is error
    ((done, total),) = reports
    assert total == UNBOUNDED
    written = np.count_nonzero(out)
    assert written == done if threads == 1 else done <= written < total  # workers continue while the callback runs
    assert np.array_equal(words(2, COUNT, threads), expected_words(2, COUNT))


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("threads", [1, 3])
def test_progress_increases_to_the_total_on_the_calling_thread(threads: int) -> None:
    reports: list[tuple[int, int]] = []
    places: set[int] = set()

    def report(done: int, total: int) -> None:
        reports.append((done, total))
        places.add(threading.get_ident())

    for total in (1 << exponent for exponent in range(20, 30)):
        reports.clear()
        _core.fill(np.empty(total, np.float32), _core.NORMAL_F32, 1, 0, 0, scale=1.0, threads=threads, progress=report)
        done = [done for done, _ in reports]
        assert done == sorted(set(done))
        assert done[0] > 0
        assert done[-1] == total
        assert {of for _, of in reports} == {total}
        if len(reports) > 4:
            break
    assert len(reports) > 4
    assert places == {threading.get_ident()}


# ---- The buffer stays exported ----


def test_array_cannot_be_resized_in_a_callback() -> None:
    out = array.array("f", bytes(400))
    with pytest.raises(BufferError, match="cannot resize an array that is exporting buffers"):
        _core.fill(out, _core.NORMAL_F32, 1, 0, 0, scale=1.0, progress=lambda _done, _total: out.append(0.0))
    assert len(out) == 100
    out.append(0.0)  # the buffer was released, although the fill raised an exception
    _core.fill(out, _core.NORMAL_F32, 1, 0, 0, scale=1.0)
    out.append(0.0)
    assert len(out) == 102


def test_view_cannot_be_released_during_a_fill() -> None:
    view = memoryview(bytearray(400)).cast("f")
    with pytest.raises(BufferError, match="memoryview has 1 exported buffer"):
        _core.fill(view, _core.NORMAL_F32, 1, 0, 0, scale=1.0, progress=lambda _done, _total: view.release())
    view.release()


@pytest.mark.usefixtures("slow")
def test_array_cannot_be_resized_by_another_thread_during_a_fill() -> None:
    def resize() -> None:
        with pytest.raises(ValueError, match="cannot resize an array that references or is referenced"):
            holder[0].resize(1)
        resize_failed.set()

    def report(_done: int, _total: int) -> None:
        other = threading.Thread(target=resize)
        other.start()
        other.join()
        raise InterruptedError

    resize_failed = threading.Event()
    holder = [np.zeros(UNBOUNDED, np.float32)]
    with pytest.raises(InterruptedError):
        _core.fill(holder[0], _core.NORMAL_F32, 1, 0, 0, scale=1.0, progress=report)
    assert resize_failed.is_set()
    holder[0].resize(1)


@pytest.mark.usefixtures("slow")
def test_plan_keeps_the_memory_alive() -> None:
    def report(_done: int, _total: int) -> None:
        gc.collect()
        alive.append(finalizer.alive)
        raise InterruptedError

    alive: list[bool] = []
    normal = _core.Template(None, _core.NORMAL_F32, _core.UNROUNDED, (1.0, 0.0))
    plans = [_core.Plan(owner := np.zeros(UNBOUNDED, np.float32), normal, 1, 0, 0)]
    finalizer = weakref.finalize(owner, list)
    del owner
    with pytest.raises(InterruptedError):
        _core.fill_all(plans, threads=3, progress=report)
    plans.clear()
    gc.collect()
    assert (alive, finalizer.alive) == ([True], False)


@pytest.mark.usefixtures("slow")
def test_map_cannot_be_closed_by_another_thread_during_a_fill() -> None:
    def close() -> None:
        for close_or_move in (memory.close, lambda: memory.resize(mmap.PAGESIZE)):
            with pytest.raises(BufferError, match=r"exported pointers exist|mmap can't resize"):
                close_or_move()
            failures.append(True)

    def report(_done: int, _total: int) -> None:
        other = threading.Thread(target=close)
        other.start()
        other.join()
        raise InterruptedError

    failures: list[bool] = []
    memory = mmap.mmap(-1, 4 * UNBOUNDED)
    with pytest.raises(InterruptedError), fk.progress(report):
        fk.fill_(memoryview(memory).cast("f"), fk.Normal(), threads=3)
    assert failures == [True, True]
    memory.close()
