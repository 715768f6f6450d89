"""The default command, ``python -m fastkaiming``: its output, its progress display and its exit code."""

import argparse
import math
import os
import re
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

import fastkaiming
from fastkaiming import _core, cli
from fastkaiming.cli import _output, bench
from fastkaiming.cli._memset import UNIT, memset, work_units

MODULE = ("-m", "fastkaiming")


def run(*arguments: str, program: tuple[str, ...] = MODULE) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *program, *arguments], capture_output=True, text=True, check=False)


def program_after(statement: str) -> tuple[str, ...]:
    """Return a program that executes a statement, which replaces functions, and then runs the module."""
    return ("-c", f"import runpy, fastkaiming; {statement}; runpy.run_module('fastkaiming', run_name='__main__')")


def test_output_has_all_rows_and_the_check() -> None:
    done = run("--elements", "3000000", "--threads", "2", "--seed", "7")
    assert (done.returncode, done.stderr.splitlines()) == (0, ["first fill     100%", "second fill    100%"])
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        f"fastkaiming {fastkaiming.__version__}, {fastkaiming.isa()} kernels, 2 threads",
        "kaiming_normal_ on 3,000,000 float32 weights: 1,600 x 1,875, 0.01 GB",
        "",
    ]
    rows = [(line[:16].rstrip(), line.partition(" GB/s   ")[2][:9]) for line in lines if " GB/s " in line]
    assert rows == [
        *(("NumPy", "1 thread,"), ("first memset", "2 threads"), ("memset", "2 threads"), ("first fill", "2 threads")),
        *(("store bandwidth", "2 threads"), ("NumPy", "1 thread,"), ("second fill", "2 threads")),
    ]
    headings = [at for at, line in enumerate(lines) if line.endswith(":")]
    assert [lines[at].partition(" memory")[0] for at in headings] == ["Newly allocated", "Already touched"]
    assert [lines[at + 1].split()[0] for at in headings] == ["NumPy", "store"]
    assert lines[-3].startswith("mean ")
    assert f"expected {math.sqrt(2 / 1875):>11.8f}" in lines[-2]
    assert lines[-1] == "as expected (tolerance: 6 standard errors)"


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("fastkaiming.kaiming_normal_ = lambda w, **_: w.fill(0.0)", id="zeros"),
        pytest.param("fastkaiming.kaiming_normal_ = lambda w, **_: fastkaiming.uniform_(w)", id="mean and std"),
        pytest.param(
            "right = fastkaiming.kaiming_normal_;"
            "fastkaiming.kaiming_normal_ = lambda w, **_: right(w, gain=1.45, rng=0)",
            id="std off by a fortieth",
        ),
    ],
)
def test_wrong_weights_exit_with_1(statement: str) -> None:
    done = run("--elements", "100000", program=program_after(statement))
    assert done.returncode == 1
    assert done.stdout.endswith("NOT AS EXPECTED (tolerance: 6 standard errors)\n")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--elements", "0", f"--elements must be an integer from 1 to {sys.maxsize // 4}, got 0"),
        ("--elements", "1.5", "argument --elements: it must be an integer such as 1000000000, 10**9 or 1e9, got '1.5'"),
        ("--elements", "1e99", f"--elements must be an integer from 1 to {sys.maxsize // 4}, got "),
        ("--threads", "0", "--threads must be an integer from 1 to 1024, got 0"),
        ("--threads", "1025", "--threads must be an integer from 1 to 1024, got 1025"),
        ("--seed", "-1", f"seed must be an integer from 0 to {2**64 - 1}, got -1"),
        ("--seed", str(2**64), f"seed must be an integer from 0 to {2**64 - 1}, got {2**64}"),
    ],
)
def test_invalid_options_exit_with_2(option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main([option, value])
    except SystemExit as exit_request:  # from argparse
        code = int(str(exit_request.code))
    assert code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("1000000000", 10**9), ("1_000_000_000", 10**9), ("10**9", 10**9), ("1e9", 10**9), ("1E+9", 10**9)),
        *(("2**25", 2**25), ("-5", -5), ("0", 0), ("25e0", 25)),
    ],
)
def test_count_reads_powers_and_underscores(text: str, number: int) -> None:
    assert bench.count(text) == number


@pytest.mark.parametrize("text", ["", "1.5", "1e", "1__0", "_1", "10**", "10**-1", "1e-3", "2**1_0", "\u0663", "1e999"])
def test_count_rejects_other_texts(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="it must be an integer such as 1000000000, 10\\*\\*9 or 1e9"):
        bench.count(text)


def fake_times(monkeypatch: pytest.MonkeyPatch, *durations: float) -> None:
    """Replace the clock of the benchmark by one with these durations, and measure NumPy on 500,000 weights."""
    instants = iter([instant for start, duration in enumerate(durations) for instant in (start, start + duration)])
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: next(instants)))
    monkeypatch.setattr(bench, "NUMPY_SAMPLE", 500_000)
    monkeypatch.setattr(_core, "has_streaming_stores", lambda: True)


# The durations for 8 MB. In newly allocated memory, NumPy fills a quarter in 32 ms, the memsets reach 0.5 and 4 GB/s,
# and the fill 1 GB/s. In already touched memory, memset reaches 4 GB/s, streaming stores 2 GB/s, NumPy fills a quarter
# in 20 ms, and the fill reaches 3 GB/s.
DURATIONS = 0.032, 0.016, 0.002, 0.008, 0.002, 0.004, 0.020, 0.0026667


def test_rows_print_times_and_rates(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake_times(monkeypatch, *DURATIONS)
    assert cli.main(["--elements", "2000000", "--threads", "2"]) == 0
    new, touched = capsys.readouterr().out.split("\n\n")[1:3]
    assert new.splitlines()[1:] == [
        "NumPy               0.128 s     0.06 GB/s   1 thread, scaled from 500,000 weights",
        "first memset        0.016 s     0.50 GB/s   2 threads, "
        "a warm-up: a virtual machine's host may have to provide the memory first",
        "memset              0.002 s     4.00 GB/s   2 threads, in work units of 2 MiB",
        "first fill          0.008 s     1.00 GB/s   2 threads, 25% of memset's speed, 16 times NumPy's",
    ]
    assert touched.splitlines()[1:] == [
        "store bandwidth     0.002 s     4.00 GB/s   2 threads, by memset",
        "NumPy               0.080 s     0.10 GB/s   1 thread, scaled from 500,000 weights",
        "second fill         0.003 s     3.00 GB/s   2 threads, 75% of the store bandwidth, 30 times NumPy's speed",
    ]


def test_the_comparison_most_favourable_to_numpy_is_labelled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_times(monkeypatch, *DURATIONS)
    assert cli.main(["--elements", "2000000"]) == 0
    assert capsys.readouterr().out.split("\n\n")[3] == (
        "10 times NumPy's speed in the comparison most favourable to NumPy: "
        "the first fill, and NumPy on already touched memory"
    )


def test_memory_is_touched_and_freed_before_each_measurement_of_new_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[tuple[str, int]] = []
    fill = fastkaiming.kaiming_normal_

    def logged_memset(weights: bench.Weights, _: int) -> None:
        log.append(("memset", weights.size))

    def logged_numpy(weights: bench.Weights, _: float) -> float:
        log.append(("NumPy", weights.size))
        return 1.0

    def logged_fill(weights: bench.Weights, **arguments: int) -> None:
        log.append(("fill", weights.size))
        fill(weights, rng=arguments["rng"], threads=arguments["threads"])

    monkeypatch.setattr(bench, "memset", logged_memset)
    monkeypatch.setattr(bench, "numpy_seconds", logged_numpy)
    monkeypatch.setattr(fastkaiming, "kaiming_normal_", logged_fill)
    monkeypatch.setattr(bench, "NUMPY_SAMPLE", 1000)
    assert cli.main(["--elements", "5000"]) == 0
    assert log == [
        *(("memset", 1000), ("NumPy", 1000), ("memset", 5000), ("memset", 5000), ("fill", 5000)),
        *(("memset", 5000), ("NumPy", 1000), ("fill", 5000)),
    ]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (0, 3 * UNIT), (5, 3 * UNIT + 7), (UNIT, 2 * UNIT)])
def test_memset_writes_every_byte_and_no_other(start: int, stop: int, threads: int) -> None:
    memory = np.zeros(4 * UNIT, np.uint8)
    memset(memory[start:stop], threads)
    assert not memory[:start].any()
    assert not memory[stop:].any()
    assert memory[start:stop].all()


def test_no_two_threads_share_a_huge_page() -> None:
    start = 7 * UNIT + 16
    units = work_units(start, 3 * UNIT)
    assert [address % UNIT for address, _ in units] == [16, 0, 0, 0]
    assert all(address // UNIT == (address + nbytes - 1) // UNIT for address, nbytes in units)
    assert sum(nbytes for _, nbytes in units) == 3 * UNIT
    assert all(low + nbytes == high for (low, nbytes), (high, _) in pairwise(units))


def test_streaming_stores_are_not_named_without_streaming_kernels() -> None:
    program = program_after("fastkaiming._core.select_isa('scalar')")
    done = run("--elements", "100000", program=program)
    assert re.search("^store bandwidth .* by memset$", done.stdout, re.MULTILINE)
    assert "streaming" not in done.stdout


def test_bench_fills_fewer_weights_if_memory_is_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "available_memory", lambda: 10_000_000)
    assert cli.main(["--elements", "3000000"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Not enough memory: 2,000,000 weights instead of 3,000,000.\n")
    assert "kaiming_normal_ on 2,000,000 float32 weights" in printed


@pytest.mark.parametrize(
    ("elements", "available", "expected"),
    [
        (1_000_000_000, None, 1_000_000_000),
        (9_000_000, 40_000_000, 9_000_000),  # exactly nine tenths
        (9_000_001, 40_000_000, 9_000_000),
        (1_000_000_000, 40_000_003, 9_000_000),
        (1_000_000_000, 43_999_999, 9_000_000),
        (1_234_567, 6_000_000, 1_234_567),
        (5, 0, 1),
    ],
)
def test_affordable_weights_fit_into_nine_tenths_of_memory(elements: int, available: int | None, expected: int) -> None:
    assert bench.affordable(elements, available) == expected


@pytest.mark.parametrize(
    ("elements", "shape"), [(1, (1, 1)), (13, (1, 13)), (36, (6, 6)), (10**9, (31250, 32000)), (999_983, (1, 999_983))]
)
def test_matrix_shape_is_as_close_to_a_square_as_possible(elements: int, shape: tuple[int, int]) -> None:
    assert bench.matrix_shape(elements) == shape


def weights_with_moments_off(mean_off: float, std_off: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return a million weights whose mean and std differ from those of kaiming_normal_ by given standard errors.

    With 10,000 columns, the expected std is sqrt(2 / 10000). For a million weights, the standard error of the mean is
    std / 1000, and the standard error of the std is std / sqrt(2000000).
    """
    std = math.sqrt(2 / 10_000)
    mean, spread = mean_off * std / 1000, std * (1 + std_off / math.sqrt(2_000_000))
    weights = np.empty((100, 10_000), np.float32)
    weights[::2], weights[1::2] = mean - spread, mean + spread
    return weights


@pytest.mark.parametrize(
    ("mean_off", "std_off", "good"),
    [
        *((0, 0, True), (5.9, 0, True), (-5.9, 0, True), (0, 5.9, True), (0, -5.9, True), (5.9, -5.9, True)),
        *((6.1, 0, False), (-6.1, 0, False), (0, 6.1, False), (0, -6.1, False)),
    ],
)
def test_check_tolerates_six_standard_errors(
    mean_off: float, std_off: float, good: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.show_moments(weights_with_moments_off(mean_off, std_off)) is good
    mean, std, verdict = capsys.readouterr().out.splitlines()[1:]
    assert mean.endswith(f"{mean_off:>+7.2f} standard errors")
    assert std.endswith(f"{std_off:>+7.2f} standard errors")
    assert verdict.startswith("as expected" if good else "NOT AS EXPECTED")


def test_moments_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "CHUNK", 4)
    moments = bench.sample_moments(np.arange(10, dtype=np.float32), 3.0)
    assert moments == pytest.approx((4.5, math.sqrt(8.25)), rel=1e-15)


def test_sample_std_is_accurate_for_a_large_mean() -> None:
    weights = np.array([1e6 - 1, 1e6 + 1], np.float32)
    assert bench.sample_moments(weights, 1e6) == (1e6, 1.0)


def test_constant_weights_have_a_std_of_0() -> None:
    mean, std = bench.sample_moments(np.full(3, 0.1, np.float32), 0.0)
    assert mean == pytest.approx(0.1, rel=1e-7)
    assert std == pytest.approx(0.0, abs=1e-8)


def test_progress_prints_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    show = _output.tenths("a fill")
    for done in (50, 149, 151, 199, 420, 1000):
        show(done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "a fill          10%",
        "a fill          40%",
        "a fill         100%",
    ]


def test_progress_redraws_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    show = _output.redrawn_bar("a fill")
    show(250, 1000)
    bar = f"a fill       [{'#' * 10}{' ' * 30}]  25%"
    assert capsys.readouterr().err == f"\r{bar}"
    show(1000, 1000)
    assert capsys.readouterr().err == f"\r{' ' * len(bar)}\r"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo-terminals")
def test_terminal_shows_a_bar_instead_of_lines() -> None:
    master, slave = os.openpty()
    with os.fdopen(master, "rb", buffering=0) as screen:
        program = program_after("import sys; sys.modules['rich.progress'] = None")  # rich would show its own bar
        subprocess.run([sys.executable, *program, "--elements", "1000"], stdout=slave, stderr=slave, check=True)
        os.close(slave)
        printed = screen.read(100_000).decode()
    assert "\rfirst fill          0.0" in printed
    assert "first fill     100%" not in printed
