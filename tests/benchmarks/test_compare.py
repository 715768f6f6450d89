"""The grid of libraries: measurement, tables and plots, with fake libraries."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import fastkaiming

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import compare  # noqa: E402
import grid  # noqa: E402
import workers  # noqa: E402
from grid import Cell, GridRunner, Outcome, cells  # noqa: E402
from harness import UnavailableError  # noqa: E402
from libraries import Draw, Job, Method, check_support, imported  # noqa: E402
from results import LibraryStatus, Record, plain  # noqa: E402
from tables import markdown, within  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers import Memory

MIB = 1 << 20
JOB = Job("normal", "float32", MIB, 2)


class Library:
    """A library whose methods take the given nanoseconds per element, or raise the given exception."""

    def __init__(self, nanoseconds: Mapping[str, float | Exception], reason: str = "") -> None:
        self.nanoseconds, self.reason = nanoseconds, reason
        self.calls: list[tuple[str, Memory]] = []
        self.held = False

    def names(self, _: Job) -> tuple[str, ...]:
        if self.reason:
            raise UnavailableError(self.reason)
        return tuple(self.nanoseconds)

    def seconds(self, job: Job, name: str, memory: Memory) -> float:
        self.calls.append((name, memory))
        self.held = True
        cost = self.nanoseconds[name]
        if isinstance(cost, Exception):
            raise cost
        return 1e-9 * cost * job.elements

    def forget(self) -> None:
        self.held = False


class Died(Library):
    """A library whose process dies in a fill."""

    def forget(self) -> None:
        raise UnavailableError("its process has died")


def runner(limit: float = 1.0, **libraries: Library) -> Any:
    made: Any = {"fastkaiming": Library({"fastkaiming": 0.5, "plain stores": 0.2}), **libraries}
    return GridRunner(made, limit)


# --- cells -----------------------------------------------------------------------------------------------------------


def test_cells_cover_every_draw_dtype_and_size_once() -> None:
    found = cells([1 << 12, 1 << 30], threads=2)
    assert len({cell.name for cell in found}) == len(found) == 3 * 3 * (2 + 1)
    assert found[0].name == "float32 normal, 4 KiB, 2 threads, already touched memory"
    assert found[-1].name == "bfloat16 truncated, 1 GiB, 2 threads, newly allocated memory"
    assert not any(cell.new for cell in found if cell.job.nbytes == 1 << 12)


@pytest.mark.parametrize(
    ("dtype", "nbytes", "shape"),
    [
        ("float32", 1 << 12, (32, 32)),
        ("bfloat16", 1 << 12, (32, 64)),
        ("float64", 1 << 12, (16, 32)),
        ("float32", 1 << 30, (1 << 16, 4096)),
    ],
)
def test_job_has_the_shape_and_std_of_he_initialization(dtype: str, nbytes: int, shape: tuple[int, int]) -> None:
    job = Job("normal", dtype, nbytes, 1)
    assert job.shape == shape
    assert job.std == pytest.approx((2 / shape[1]) ** 0.5)


# --- measuring -------------------------------------------------------------------------------------------------------


def test_run_continues_after_a_library_dies() -> None:
    dead = Died({"torch": UnavailableError("its process has died")})
    outcome = runner(torch=dead).measure(Cell(JOB, new=False), 2)
    assert outcome.absent == {"torch": "its process has died"}
    assert set(outcome.costs) == {"fastkaiming", "plain stores"}


def test_costs_are_per_element_and_memory_is_freed() -> None:
    numpy = Library({"NumPy": 10.0})
    outcome = runner(NumPy=numpy).measure(Cell(JOB, new=False), 3)
    assert outcome.costs["NumPy"] == pytest.approx([10e-9] * 3)
    assert outcome.costs["fastkaiming"] == pytest.approx([0.5e-9] * 3)
    assert not outcome.absent
    assert len(numpy.calls) == 4  # the warm-up is one
    assert numpy.calls[0][1] == workers.Memory(new=False, kept=True)
    assert not numpy.held


def test_new_memory_has_no_warm_up_after_touched_memory() -> None:
    numpy = Library({"NumPy": 10.0})
    grid_runner = runner(NumPy=numpy)
    grid_runner.measure(Cell(JOB, new=False), 3)
    grid_runner.measure(Cell(JOB, new=True), 3)
    assert len(numpy.calls) == 4 + 3
    grid_runner.measure(Cell(replace(JOB, threads=1), new=True), 3)
    assert len(numpy.calls) == 4 + 3 + 4


def test_slow_libraries_are_skipped_but_fastkaiming_is_not() -> None:
    grown = replace(JOB, nbytes=64 * MIB)  # 2**24 elements
    grid_runner = runner(limit=0.005, NumPy=Library({"NumPy": 10.0}), torch=Library({"torch": 0.25}))
    grid_runner.measure(Cell(JOB, new=False), 1)
    outcome = grid_runner.measure(Cell(grown, new=False), 1)
    assert outcome.absent == {"NumPy": "skipped: about 0.17 s per fill"}
    assert set(outcome.costs) == {"fastkaiming", "plain stores", "torch"}


def test_time_of_newly_allocated_memory_does_not_decide_what_is_skipped() -> None:
    costs: dict[str, float | Exception] = {"NumPy": 1.0}
    grid_runner = runner(limit=0.05, NumPy=Library(costs))
    grid_runner.measure(Cell(JOB, new=False), 1)
    costs["NumPy"] = 10.0
    grid_runner.measure(Cell(JOB, new=True), 1)
    assert not grid_runner.measure(Cell(replace(JOB, nbytes=64 * MIB), new=False), 1).absent


def test_libraries_that_fail_do_not_affect_the_others() -> None:
    outcome = runner(
        NumPy=Library({}, reason="has no bfloat16"),
        MKL=Library({"MKL ARS5": RuntimeError("no licence\nfor anything"), "MKL Philox": 5.0}),
    ).measure(Cell(JOB, new=False), 2)
    assert outcome.absent == {"NumPy": "has no bfloat16", "MKL ARS5": "no licence"}
    assert set(outcome.costs) == {"fastkaiming", "plain stores", "MKL Philox"}
    assert all(len(costs) == 2 for costs in outcome.costs.values())


@pytest.mark.parametrize(("memory", "kept"), [(9 * MIB, True), (4 * MIB, False), (None, True)])
def test_touched_memory_is_kept_if_it_fits_for_all_libraries(
    memory: int | None, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "available_memory", lambda: memory)
    numpy = Library({"NumPy": 10.0})
    runner(NumPy=numpy).measure(Cell(JOB, new=False), 1)
    assert {each.kept for _, each in numpy.calls} == {kept}


def test_cell_larger_than_the_memory_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "available_memory", lambda: 3 * MIB - 1)
    outcome = runner().measure(Cell(JOB, new=False), 1)
    assert not outcome.costs
    assert outcome.absent == {"fastkaiming": "1 MiB thrice are more than the available memory"}


class Clock:
    """A clock that advances only in the steps of a method."""

    now = 0.0

    def touch_and_free(self, nbytes: int, threads: int) -> None:
        assert (nbytes, threads) == (1 << 16, 2)
        self.now += 1000.0

    def method(self) -> Method:
        def step(seconds: float, result: object) -> object:
            self.now += seconds
            return result

        return Method(lambda target: step(1.0, target), lambda: step(10.0, "target"), lambda _: step(100.0, None))


@pytest.mark.parametrize(("new", "seconds", "in_all"), [(True, 11.0, 1000 + 11.0), (False, 1.0, 10 + 100 + 16.0)])
def test_first_touch_is_timed_only_for_new_memory(
    new: bool, seconds: float, in_all: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    monkeypatch.setattr(workers, "touch_and_free", clock.touch_and_free)
    monkeypatch.setattr(workers, "_methods", lambda _, __: {"method": clock.method()})
    job = replace(JOB, nbytes=1 << 16)  # filled 16 times in a run of already touched memory
    assert workers._seconds("library", job, "method", workers.Memory(new)) == seconds
    assert clock.now == in_all


def test_each_thread_has_a_core_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cpu in range(4):
        topology = tmp_path / f"cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}\n")
    monkeypatch.setattr(workers, "CPUS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert workers.cores(2) == {0, 2}
    with pytest.raises(UnavailableError, match="3 threads need 3 cores, but only 2 are available"):
        workers.cores(3)


# --- output ----------------------------------------------------------------------------------------------------------


def outcome_of(nbytes: int, absent: Mapping[str, str] | None = None, /, **costs: list[float]) -> Outcome:
    seconds = {name.replace("_", " "): [1e-9 * cost for cost in each] for name, each in costs.items()}
    return Outcome(Cell(replace(JOB, nbytes=nbytes), new=False), seconds, dict(absent or {}))


@pytest.fixture
def record() -> Record:
    statuses = {
        "fastkaiming": LibraryStatus("0.1", in_place=True),
        "NumPy": LibraryStatus("2.4", in_place=True),
        "torch": LibraryStatus("2.13", in_place=True),
        "JAX": LibraryStatus("0.10", in_place=False),
        "TensorFlow": LibraryStatus("", in_place=False, missing="not installed"),
    }
    small: dict[str, list[float]] = {"fastkaiming": [1] * 3, "plain_stores": [0.5] * 3, "NumPy": [5, 6, 8]}
    large: dict[str, list[float]] = {"fastkaiming": [0.5, 1, 2], "plain_stores": [0.4] * 3, "NumPy": [3, 8, 14]}
    refused = {"torch": "has no such thing"}
    outcomes = (
        outcome_of(MIB, refused, **small, JAX=[20] * 3),
        outcome_of(64 * MIB, {**refused, "JAX": "skipped: about 3 s per fill"}, **large, streaming_stores=[0.2] * 3),
    )
    return Record({"CPU": "abacus"}, statuses, "3", outcomes)


def test_record_survives_a_json_round_trip(record: Record) -> None:
    assert Record.from_json(record.to_json()) == record


def test_markdown_tables_of_a_record(record: Record) -> None:
    # In the three rounds NumPy took 6, 8 and 7 times as long on the large array, while both became slower.
    assert markdown(record) == (
        "CPU abacus, fastkaiming 0.1, NumPy 2.4, torch 2.13, JAX 0.10; medians of 3 rounds.\n\n"
        "Not measured here: TensorFlow (not installed).\n\n"
        "### float32 normal\n\n"
        "|  | 64 MiB, 2 threads |\n"
        "| --- | --- |\n"
        "| store bandwidth | 0.2 ns |\n"
        "| fastkaiming | 1 ns |\n"
        "| NumPy | 8 ns, 7x (6.5 to 7.5) |\n"
        "| JAX (always newly allocated) | 20 ns, 20x (20 to 20) at 1 MiB |\n\n"
        "torch: has no such thing.\n"
    )


def test_text_around_the_tables_of_a_page_is_kept() -> None:
    marks = "<!-- written by compare.py -->\n", "<!-- to here -->\n"
    page = "Before.\n\n{}{}{}\nAfter.\n"
    once = within(page.format(marks[0], "", marks[1]), "| old |\n")
    assert within(once, "| new |\n") == page.format(marks[0], "\n| new |\n\n", marks[1])
    assert within("Without marks.\n", "| new |\n") == "| new |\n"


def test_plain_text_of_a_cell(record: Record) -> None:
    lines = plain(record.outcomes[1]).splitlines()
    assert lines[0] == "float32 normal, 64 MiB, 2 threads, already touched memory"
    assert [re.sub(" +", " ", line.strip()) for line in lines[1:]] == [
        "fastkaiming 1 ns 4.00 GB/s",
        "plain stores 0.4 ns 10.00 GB/s 0.4x (0.3 to 0.6)",
        "NumPy 8 ns 0.50 GB/s 7x (6.5 to 7.5)",
        "streaming stores 0.2 ns 20.00 GB/s 0.2x (0.15 to 0.3)",
        "torch has no such thing",
        "JAX skipped: about 3 s per fill",
    ]


def test_pictures_are_small_and_show_every_library(record: Record, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import plots

    plots.draw(record, tmp_path / "docs")
    for name in ("peers_size", "peers_limit"):
        picture = (tmp_path / f"docs/{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 150_000
    size, limit = plots.over_size(record), plots.beside_limit(record)
    assert {"store bandwidth", "fastkaiming", "NumPy", "JAX"} == {text.get_text() for text in size.axes[0].texts}
    bars: Any = limit.axes[0]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["fastkaiming", "NumPy", "torch", "JAX"]
    assert [text.get_text().strip() for text in bars.texts] == ["4", "0.5", "has no such thing", "0.2 (1 MiB)", "20"]
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([4, 0.5, 0.2])
    for figure in (size, limit):
        assert any("Not measured here: TensorFlow" in text.get_text().replace("\n", " ") for text in figure.texts)


def test_labels_of_lines_do_not_overlap(record: Record) -> None:
    pytest.importorskip("matplotlib")
    import plots

    crowd = outcome_of(MIB, **{name: [1.0] * 3 for name in ("fastkaiming", "plain_stores", "NumPy", "torch", "MKL")})
    libraries = {**record.libraries, "MKL": LibraryStatus("1", in_place=True)}
    figure = plots.over_size(replace(record, libraries=libraries, outcomes=(crowd,)))
    names: list[Any] = list(figure.axes[0].texts)
    heights = sorted(name.xyann[1] for name in names)
    assert len(heights) == 5
    assert min(high - low for low, high in pairwise(heights)) >= plots.GAP - 1e-9
    assert 0 <= heights[0] < heights[-1] <= 1
    assert plots.separate_labels([0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9])
    assert plots.separate_labels([0.5, 0.5, 0.9]) == pytest.approx([0.5 - plots.GAP / 2, 0.5 + plots.GAP / 2, 0.9])
    assert plots.separate_labels([1.0, 1.0]) == pytest.approx([1 - plots.GAP, 1.0])


# --- the command -----------------------------------------------------------------------------------------------------


def compare_py(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, ROOT / "benchmarks" / "compare.py", *arguments]
    same_package = {**os.environ, "PYTHONPATH": str(Path(fastkaiming.__file__).parents[1])}
    return subprocess.run(program, capture_output=True, text=True, check=False, env=same_package)


@pytest.mark.extended
def test_tables_from_json_equal_those_of_the_run(tmp_path: Path) -> None:
    kept, first, again = tmp_path / "r.json", tmp_path / "first.md", tmp_path / "again.md"
    what = ("--quick", "--only", "float32 normal*touched*", "--libraries", "numpy")
    threads = "2 threads" if len(workers.one_cpu_per_core()) > 1 else "1 thread"
    done = compare_py(*what, "--json", kept, "--markdown", first)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(kept.read_text())
    assert [cell["name"] for cell in found["cells"]] == [
        f"float32 normal, 4 KiB, {threads}, already touched memory",
        f"float32 normal, 64 MiB, {threads}, already touched memory",
    ]
    assert {"fastkaiming", "plain stores", "NumPy"} <= set(found["cells"][0]["costs"])
    assert all(min(costs) > 0 for cell in found["cells"] for costs in cell["costs"].values())
    assert found["libraries"]["fastkaiming"]["version"] == fastkaiming.__version__
    again_done = compare_py("--from-json", kept, "--markdown", again)
    assert (again_done.returncode, again_done.stdout) == (0, "")
    assert again.read_text() == first.read_text()


def test_missing_library_is_reported() -> None:
    class Absent:
        module = "torch"

        def version(self) -> str:
            raise UnavailableError("not installed")

    worker: Any = Absent()
    assert compare.status_of(worker) == LibraryStatus("", in_place=True, missing="not installed")
    with pytest.raises(UnavailableError, match="not installed"):
        imported("no_library_of_this_name")


@pytest.mark.parametrize(
    ("draws", "dtypes", "reason"),
    [(("normal",), (), "has no normal distribution"), ((), ("float32",), "has no float32")],
)
def test_unsupported_jobs_raise(draws: tuple[Draw, ...], dtypes: tuple[str, ...], reason: str) -> None:
    with pytest.raises(UnavailableError, match=f"^{reason}$"):
        check_support(JOB, draws=draws, dtypes=dtypes)
    check_support(JOB, draws=("uniform",), dtypes=("float64",))


class TestBadOptions:
    """A wrong option ends the program with one line on stderr, before anything is measured."""

    CASES: ClassVar = [
        (("--only", "gpu"), "--only 'gpu' matches no cell"),
        (("--rounds", "0"), "--rounds must be at least 1, received 0"),
        (("--seconds", "0"), "--seconds must be above 0, received 0.0"),
        (
            ("--libraries", "numpy,cupy"),
            "--libraries must be among numpy, randomgen, mkl, torch, jax, tensorflow, received 'cupy'",
        ),
        (("--from-json", "no/such.json"), "No such file or directory: 'no/such.json'"),
    ]

    @pytest.mark.parametrize(("arguments", "rule"), CASES)
    def test_error_names_the_option(
        self, arguments: tuple[str, str], rule: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as left:
            compare.main(arguments)
        assert left.value.code == 2
        assert rule in capsys.readouterr().err
