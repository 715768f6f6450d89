"""The benchmark harness: arithmetic on a fake clock, tables, and a quick run of targets.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import fastkaiming
from fastkaiming import _core

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import calls  # noqa: E402
import families  # noqa: E402
import figures  # noqa: E402
import layouts  # noqa: E402
import machine  # noqa: E402
import targets  # noqa: E402
from harness import Case, Figure, Result, Timed, UnavailableError, markdown, plain, race  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bench:
    """Creates contestants that take given times on a shared fake clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def contestant(self, name: str, *seconds: float, units: int = 1) -> Timed:
        """Return a contestant whose runs take these seconds; the first one is the warm-up."""
        left: Iterator[float] = iter(seconds)

        def prepare() -> float:
            self.now += 1000.0  # must not be timed
            return next(left)

        def run(duration: float) -> None:
            self.log.append(name)
            self.now += duration

        return Timed(name, prepare, run, units, clock=lambda: self.now)


def unavailable(name: str) -> Timed:
    def prepare() -> None:
        raise UnavailableError("no such library here")

    return Timed(name, prepare, print, 1)


def no_detail(_: Result) -> str:
    return "detail"


FASTER = Figure(lambda cost, other: other / cost, ".2f", "x", True, "seconds", no_detail)
SLOWER = Figure(lambda cost, other: cost / other, ".2f", "x", False, "seconds", no_detail)
ABSOLUTE = Figure(lambda cost, _: cost, ".1f", " s", False, "seconds", no_detail)


def test_cost_is_per_unit_and_excludes_the_preparation() -> None:
    assert Bench().contestant("a", 6.0, units=4).cost() == 1.5


def test_cost_excludes_freeing_the_result() -> None:
    bench = Bench()

    class Made:
        def __del__(self) -> None:
            bench.now += 100.0

    def run(_: object) -> Made:
        bench.now += 2.0
        return Made()

    contestant = Timed("a", lambda: None, run, 1, clock=lambda: bench.now)
    assert contestant.cost() == 2.0
    assert bench.now == 102.0


def test_rounds_alternate_their_order_after_a_warm_up() -> None:
    bench = Bench()
    contestants = [bench.contestant(name, 9, 1, 2, 3) for name in "abc"]
    assert race(contestants, 3) == {"a": [1, 2, 3], "b": [1, 2, 3], "c": [1, 2, 3]}
    assert "".join(bench.log) == "abc" + "abc" + "cba" + "abc"


def test_figure_is_the_median_of_the_round_ratios() -> None:
    # A machine that halves its speed in the second round and again in the third: the ratio of the medians is 2, but
    # fastkaiming was 4, 2 and 3 times as fast.
    bench = Bench()
    own, other = bench.contestant("fastkaiming", 99, 1, 2, 4), bench.contestant("other", 99, 4, 4, 12)
    result = Case("row", FASTER, 2, 4, own, (other,)).measure(3)
    assert result.quartiles == (2.5, 3.0, 3.5)
    assert result.reached == "minimum"


def test_fastest_of_the_others_counts() -> None:
    bench = Bench()
    own, slow, fast = (bench.contestant(name, 99, *times) for name, *times in (("a", 4, 4), ("b", 1, 9), ("c", 2, 3)))
    result = Case("row", FASTER, 1, 2, own, (slow, fast)).measure(2)
    assert result.other == "c"
    assert result.quartiles[1] == pytest.approx((0.5 + 0.75) / 2)


def test_row_without_other_contestants() -> None:
    result = Case("row", ABSOLUTE, 3, 2, Bench().contestant("fastkaiming", 99, 3, 1, 2)).measure(3)
    assert result.other is None
    assert result.quartiles == (1.5, 2.0, 2.5)
    assert result.reached == "target"


@pytest.mark.parametrize(
    ("figure", "minimum", "target", "value", "reached"),
    [
        (FASTER, 2, 4, 4.0, "target"),
        (FASTER, 2, 4, 3.9, "minimum"),
        (FASTER, 2, 4, 2.0, "minimum"),
        (FASTER, 2, 4, 1.9, "no"),
        (SLOWER, 4, 2, 2.0, "target"),
        (SLOWER, 4, 2, 2.1, "minimum"),
        (SLOWER, 4, 2, 4.0, "minimum"),
        (SLOWER, 4, 2, 4.1, "no"),
    ],
)
def test_reached_level(figure: Figure, minimum: float, target: float, value: float, reached: str) -> None:
    bench = Bench()
    own, other = bench.contestant("fastkaiming"), bench.contestant("other")
    costs = (
        {"fastkaiming": [1.0], "other": [value]}
        if figure.higher_is_better
        else {"fastkaiming": [value], "other": [1.0]}
    )
    assert Result(Case("row", figure, minimum, target, own, (other,)), costs).reached == reached


def result_of(figure: Figure, own: list[float], other: str, other_costs: list[float], itemsize: int = 4) -> Result:
    bench = Bench()
    case = Case("row", figure, 0.42, 0.60, bench.contestant("fastkaiming"), (bench.contestant(other),), itemsize)
    return Result(case, {"fastkaiming": own, other: other_costs})


def test_share_of_this_runs_store_bandwidth() -> None:
    # 4 bytes in 0.2 ns are 20 GB/s; in 0.1 and 0.125 ns they are 40 and 32 GB/s.
    result = result_of(figures.SHARE, [0.2e-9, 0.25e-9, 0.2e-9], "plain stores", [0.125e-9, 0.125e-9, 0.1e-9])
    assert result.quartiles == pytest.approx((0.5, 0.5, 0.5625))
    assert figures.SHARE.detail(result) == (
        "20.0 GB/s, 0.200 ns per element; 0.50 of this run's 32.0 GB/s (plain stores), 0.54 of the usual 37"
    )


@pytest.mark.parametrize(
    ("has_streaming_stores", "limits"),
    [(True, {"memset", "plain stores", "streaming stores"}), (False, {"memset", "plain stores"})],
)
def test_streaming_stores_are_measured_if_supported(
    has_streaming_stores: bool, limits: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "has_streaming_stores", lambda: has_streaming_stores)
    shares = [row for row in targets.cases(targets.QUICK) if row.figure is figures.SHARE]
    assert len(shares) == 10
    assert all({other.name for other in row.others} == limits for row in shares)


def test_share_of_the_usual_store_bandwidth_if_this_run_is_unusual() -> None:
    # 8 bytes in 0.16 ns are 50 GB/s, unusually fast: 0.4 ns, that is 20 GB/s, are compared with the usual 37.
    result = result_of(figures.SHARE, [0.4e-9] * 3, "streaming stores", [0.16e-9] * 3, itemsize=8)
    assert result.quartiles[1] == pytest.approx(20 / 37)
    assert figures.SHARE.detail(result) == (
        "20.0 GB/s, 0.400 ns per element; 0.40 of this run's 50.0 GB/s (streaming stores), 0.54 of the usual 37"
    )


def test_speed_up_and_slowdown() -> None:
    result = result_of(figures.SPEED_UP, [0.2e-9], "NumPy", [9.8e-9])
    assert result.cells()[1:] == (
        "49x (49 to 49)", "0.42x", "0.6x", "target", "0.2 ns per element against 9.8 (NumPy)",
    )  # fmt: skip
    result = result_of(figures.SLOWDOWN, [3e-9], "plain stores", [2e-9])
    assert result.cells()[1] == "1.5x the time (1.5 to 1.5)"


def test_microseconds_and_mebibytes() -> None:
    bench = Bench()
    case = Case("call", figures.CALL_TIME, 8, 4, bench.contestant("fastkaiming"), (bench.contestant("torch"),))
    call = Result(case, {"fastkaiming": [3.5e-6, 3.5e-6, 3.5e-6], "torch": [5e-6, 7e-6, 14e-6]})
    assert call.cells()[1:] == (
        "3.50 us (3.50 to 3.50)", "8.00 us", "4.00 us", "target", "0.50 of the time of torch, 7.00 us",
    )  # fmt: skip
    memory = Result(
        Case("memory", figures.MEMORY, 16, 1, bench.contestant("fastkaiming")), {"fastkaiming": [3 * 2**19]}
    )
    assert memory.cells()[1:5] == ("1.50 MiB (1.50 to 1.50)", "16.00 MiB", "1.00 MiB", "minimum")


def test_milliseconds_of_a_model() -> None:
    case = Case("model", families.WHOLE_CALL, 150, 60, Bench().contestant("fastkaiming"))
    model = Result(case, {"fastkaiming": [0.05, 0.07, 0.08]})
    assert model.cells()[1:] == (
        "70.0 ms (60.0 to 75.0)", "150.0 ms", "60.0 ms", "minimum", "3 calls of init_, 7.00 us per array",
    )  # fmt: skip


@pytest.mark.parametrize("draw", ["normal", "uniform"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_rows_are_compared_with_the_same_number_of_float32_elements(dtype: str, draw: str) -> None:
    rows = {row.name: row for row in layouts.cases(targets.shared_bytes, 2**16, figures.SPEED_UP)}
    row = rows[f"{dtype} {draw}, elements per second against float32's"]
    for contestant, stored in zip((row.fastkaiming, *row.others), (dtype, "float32"), strict=True):
        assert isinstance(contestant, Timed)
        weights = contestant.prepare()
        contestant.run(weights)
        assert (weights.dtype.name, weights.size, contestant.units) == (stored, 2**14, 2**14)
        values = weights.astype(np.float64)
        assert values.mean() == pytest.approx(0.5 if draw == "uniform" else 0.0, abs=0.02)
        assert values.std() == pytest.approx(12**-0.5 if draw == "uniform" else 0.02, rel=0.05)


def rows_of_families() -> dict[str, Case]:
    rows = families.cases(targets.shared_bytes, targets.QUICK, (), figures.SHARE, figures.SPEED_UP)
    return {row.name: row for row in rows}


def test_truncated_rows_lie_between_their_bounds() -> None:
    shares = [row for row in rows_of_families().values() if row.figure is figures.SHARE]
    expected = {(-2, 2): 0.88, (-0.2, 0.2): 0.02, (-1, 2.5): 0.76, (2, 9): 0.34}
    for row, (bounds, std) in zip(shares, expected.items(), strict=True):
        assert isinstance(row.fastkaiming, Timed)
        weights = row.fastkaiming.prepare()
        row.fastkaiming.run(weights)
        assert bounds[0] <= weights.min() < weights.max() <= bounds[1]
        assert weights.std() == pytest.approx(std, rel=0.05)


def test_model_row_fills_ten_thousand_arrays_of_4_kib() -> None:
    model = rows_of_families()["init_ of 10,000 arrays of 4 KiB, whole call"].fastkaiming
    assert isinstance(model, Timed)
    params = model.prepare()
    assert len(params) == 10_000
    assert {(weights.nbytes, weights.dtype.name) for weights in params.values()} == {(4096, "float32")}
    params["layers.9999.weight"].fill(0)
    model.run(params)
    key = fastkaiming.Generator(0).key("layers.9999.weight")
    assert (params["layers.9999.weight"] == fastkaiming.kaiming_normal((16, 64), rng=key)).all()


def test_row_of_torch_is_unavailable_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = rows_of_families()["float32 truncated normal, against torch"].measure(1)
    assert result.cells()[1:] == ("-", "60x", "90x", "-", "not measured: torch is not installed")


def test_rows_of_calls_fill_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "CALLS", 2)
    uniform, normal = calls.cases()[:2]
    for row, side, least in ((uniform, 16, 0.0), (normal, 64, -8.0)):
        for contestant in (row.fastkaiming, *row.others):
            assert isinstance(contestant, Timed)
            weights = contestant.prepare()
            weights.fill(np.nan)
            contestant.run(weights)
            assert weights.shape == (side, side)
            assert least <= weights.min() < weights.max() < 8


def test_calls_of_torch_are_unavailable_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for row in calls.cases()[2:]:
        assert row.measure(1).cells()[-1] == "not measured: torch is not installed"


@pytest.fixture
def results() -> list[Result]:
    bench = Bench()
    good = Case("first", FASTER, 2, 4, bench.contestant("fastkaiming", 9, 2, 2), (bench.contestant("other", 9, 6, 6),))
    missing = Case("second", SLOWER, 1.5, 1.2, bench.contestant("fastkaiming", 9), (unavailable("other"),))
    return [case.measure(2) for case in (good, missing)]


def test_markdown_table(results: list[Result]) -> None:
    assert markdown(results) == (
        "| what | median (quartiles) | minimum | target | reached | in detail |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| first | 3.00x (3.00 to 3.00) | 2.00x | 4.00x | minimum | detail |\n"
        "| second | - | 1.50x | 1.20x | - | not measured: no such library here |\n"
    )


def test_plain_rows(results: list[Result]) -> None:
    assert [plain(result) for result in results] == [
        "first\n    3.00x (3.00 to 3.00), minimum 2.00x, target 4.00x, reached: minimum\n    detail\n",
        "second\n    -, minimum 1.50x, target 1.20x, reached: -\n    not measured: no such library here\n",
    ]


def test_records_contain_every_round(results: list[Result]) -> None:
    assert [result.record() for result in results] == [
        {
            "name": "first",
            "minimum": 2,
            "target": 4,
            "median": 3.0,
            "quartiles": [3.0, 3.0],
            "reached": "minimum",
            "other": "other",
            "cost_unit": "seconds",
            "costs": {"fastkaiming": [2.0, 2.0], "other": [6.0, 6.0]},
        },
        {"name": "second", "minimum": 1.5, "target": 1.2, "unavailable": "no such library here"},
    ]


@pytest.mark.parametrize(("nbytes", "text"), [(512, "512 B"), (4096, "4 KiB"), (2**20, "1 MiB"), (2**32, "4 GiB")])
def test_binary_size(nbytes: int, text: str) -> None:
    assert machine.binary_size(nbytes) == text


def test_selected_isa_is_restored_and_an_unsupported_one_is_unavailable() -> None:
    before = fastkaiming.isa()
    with targets.selected_isa("scalar"):
        assert fastkaiming.isa() == "scalar"
    assert fastkaiming.isa() == before
    with pytest.raises(UnavailableError, match="this machine does not support mmx"), targets.selected_isa("mmx"):
        pass


def targets_py(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, ROOT / "benchmarks" / "targets.py", *arguments]
    same_package = {**os.environ, "PYTHONPATH": str(Path(fastkaiming.__file__).parents[1])}
    return subprocess.run(program, capture_output=True, text=True, check=False, env=same_package)


@pytest.mark.extended
def test_quick_run_of_the_whole_table(tmp_path: Path) -> None:
    files = "--json", tmp_path / "r.json", "--markdown", tmp_path / "r.md"
    done = targets_py("--quick", "--rounds", "2", *files, "--baseline", sys.executable)
    assert (done.returncode, done.stderr) == (0, "")
    record: dict[str, Any] = json.loads((tmp_path / "r.json").read_text())
    assert record["machine"]["fastkaiming"] == fastkaiming.__version__
    assert record["machine"]["ISA"] == fastkaiming.isa()
    assert (record["quick"], record["rounds"]) == (True, 2)
    measured = [row for row in record["rows"] if "unavailable" not in row]
    assert len(record["rows"]) == 50
    assert len(measured) >= 40  # without AVX2, torch, MKL and a resettable memory peak
    for row in measured:
        rounds = 40 if row["cost_unit"] == "seconds per call" else 2
        assert all(len(costs) == rounds and min(costs) >= 0 for costs in row["costs"].values()), row["name"]
    table = (tmp_path / "r.md").read_text().splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[4:]] == [row["name"] for row in record["rows"]]


def test_only_selects_matching_rows() -> None:
    done = targets_py("--quick", "--rounds", "1", "--only", "FLOAT32 normal*numpy")
    assert done.returncode == 0
    assert done.stdout.count("reached: ") == 1
    assert "\nfloat32 normal, against NumPy\n" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("--only", "gpu"), "--only 'gpu' matches no row"),
        (("--rounds", "0"), "--rounds must be at least 1, received 0"),
    ],
)
def test_wrong_options_are_errors(arguments: tuple[str, str], rule: str) -> None:
    done = targets_py("--quick", *arguments)
    assert done.returncode == 2
    assert rule in done.stderr
