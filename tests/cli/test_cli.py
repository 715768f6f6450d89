"""The commands of the command line: files, JSON output, error messages of one line, and exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run_error, run_json
from processes import ROOT

import fastkaiming as fk
from fastkaiming import checkpoint, cli

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
RECIPE = """
seed = 7
dtype = "bfloat16"
[rules]
"*.bias" = "zeros"
"*" = "kaiming_normal(nonlinearity='relu')"
[tensors]
"fc.weight" = [64, 32]
"fc.bias" = [64]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def test_checkpoint_is_written_and_verified(tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    plan = run_json(capsys, "checkpoint", recipe, out, "--dry-run")
    assert not out.exists()
    weight = plan["tensors"][1]
    assert (weight["tensor"], weight["fan_in"], weight["fan_out"]) == ("fc.weight", 32, 64)
    assert (weight["mean"], weight["std"]) == (0.0, 0.25)
    report = run_json(capsys, "checkpoint", recipe, out)
    assert (report["files"], report["tensors"], report["bytes"]) == (["model.safetensors"], 2, plan["bytes"])
    verification = run_json(capsys, "verify", out)
    assert verification["difference"] is None
    size = (out / "model.safetensors").stat().st_size
    assert plan["bytes"] == report["bytes"] == verification["bytes"] == size
    with (out / "model.safetensors").open("r+b") as file:
        file.seek(-2, 2)
        file.write(b"\x11\x22")
    difference = run_json(capsys, "verify", out, code=1)["difference"]
    assert difference == {"file": "model.safetensors", "tensor": "fc.weight", "element": [63, 31]}
    assert cli.main(["verify", str(out)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "model.safetensors: fc.weight differs, first at [63, 31]"
    assert lines[1] == "To repair damaged files, run the same checkpoint command again with --resume."


def test_part_writes_one_part_and_resume_keeps_it(
    tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = "--max-shard-size", "1KB"
    first = run_json(capsys, "checkpoint", recipe, tmp_path / "out", *size, "--part", "1/2")
    assert first["files"] == ["model-00001-of-00002.safetensors"]
    assert "--resume" in run_error(capsys, "checkpoint", recipe, tmp_path / "out", *size)
    both = run_json(capsys, "checkpoint", recipe, tmp_path / "out", *size, "--resume")
    assert both["kept"] == first["files"]
    with pytest.raises(SystemExit, match="2"):
        cli.main(["checkpoint", str(recipe), str(tmp_path), "--part", "half"])
    assert "the part must be K/N, for example 2/8, got 'half'" in capsys.readouterr().err


def test_dry_run_counts_fans_with_the_arguments_of_the_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = {"tensors": {"a": {"shape": [8, 2], "init": "kaiming_normal(transposed=True)"}}}
    (tmp_path / "recipe.json").write_text(json.dumps(table))
    row = run_json(capsys, "checkpoint", tmp_path / "recipe.json", tmp_path / "out", "--dry-run")["tensors"][0]
    assert (row["fan_in"], row["fan_out"], row["std"]) == (8, 2, 0.5)


def test_fill_writes_the_same_values_as_the_initializer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.npy"
    run_json(capsys, "fill", out, "64x32", "--seed", 3)
    assert np.array_equal(np.load(out), fk.kaiming_normal((64, 32), rng=3))
    raw = tmp_path / "a.bin"
    run_json(capsys, "fill", raw, "10,20", "--init", "uniform(-1.0, 1.0)", "--dtype", "float16", "--name", "w")
    expected = fk.uniform((10, 20), np.float16, -1.0, 1.0, rng=fk.Generator(0).key("w"))
    assert raw.read_bytes() == expected.tobytes()
    narrow = tmp_path / "narrow.npy"
    run_json(capsys, "fill", narrow, "64x32", "--dtype", "bfloat16")
    assert np.array_equal(np.load(narrow).view("bfloat16"), fk.kaiming_normal((64, 32), "bfloat16", rng=0))
    before = out.read_bytes()
    assert "is not overwritten" in run_error(capsys, "fill", out, "64x32")
    assert out.read_bytes() == before


@pytest.mark.parametrize("name", ["a.npy", "a[1]*.npy"])
def test_fill_reports_the_file_of_a_killed_run(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / f".{name}.0123456789abcdef.partial").write_bytes(b"half")
    assert "or a killed run left it" in run_error(capsys, "fill", tmp_path / name, "3x2")
    assert not (tmp_path / name).exists()


def test_explain_prints_fans_moments_and_density(capsys: pytest.CaptureFixture[str]) -> None:
    result = run_json(capsys, "explain", "64x32x3x3", "--init", "kaiming_uniform(nonlinearity='relu', groups=2)")
    assert (result["fan_in"], result["fan_out"]) == (288, 288)
    assert result["std"] == pytest.approx(np.sqrt(2 / 288))
    assert result["high"] == pytest.approx(np.sqrt(6 / 288))
    assert result["gain"] == pytest.approx(np.sqrt(2))
    assert sum(row["share"] for row in result["shares"]) == pytest.approx(1)
    normal = run_json(capsys, "explain", "4", "--init", "normal(mean=1.0, std=2.0)")
    assert normal["density"] == "0.199471 * exp(-(x - 1)**2 / 8)"
    assert [round(row["share"], 5) for row in normal["shares"][:4]] == [0.00135, 0.0214, 0.13591, 0.34134]
    truncated = run_json(capsys, "explain", "4", "--init", "trunc_normal(a=1.0, b=2.0)")
    density = eval(truncated["density"].partition(" from ")[0], {"exp": np.exp, "x": 1.5})
    assert density == pytest.approx(fk.TruncatedNormal(low=1.0, high=2.0).pdf(1.5), rel=1e-5)


@pytest.mark.parametrize(
    ("init", "layout", "fans", "axes"),
    [
        ("kaiming_normal", "OI*", (512 * 128, 8 * 128), "outputs 8, inputs 512, receptive field 128"),
        ("kaiming_normal(layout='BOI')", "BOI", (128, 512), "batch 8, outputs 512, inputs 128"),
        ("kaiming_normal(layout='BIO')", "BIO", (512, 128), "batch 8, inputs 512, outputs 128"),
        ("xavier_normal(transposed=True)", "IO*", (8 * 128, 512 * 128), "inputs 8, outputs 512, receptive field 128"),
    ],
)
def test_explain_says_how_it_reads_the_axes(
    init: str, layout: str, fans: tuple[int, int], axes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_json(capsys, "explain", "8x512x128", "--init", init)
    assert (result["layout"], result["fan_in"], result["fan_out"]) == (layout, *fans)
    assert cli.main(["explain", "8x512x128", "--init", init]) == 0
    assert f"layout       {layout}   {axes}\n" in capsys.readouterr().out


def test_explain_shows_no_fans_if_the_axes_are_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    """An initializer that does not depend on the fans does not say what the axes mean."""
    assert not {"layout", "fan_in", "gain"} & run_json(capsys, "explain", "8x5x4", "--init", "normal").keys()
    result = run_json(capsys, "explain", "8x4", "--init", "normal(std=0.5)")
    assert (result["layout"], result["fan_in"], result["gain"]) == ("OI*", 4, 1.0)


def test_dry_run_shows_no_fans_if_the_axes_are_not_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"tensors": {"a": {"shape": [8, 5, 4], "init": "normal"}}}))
    row = run_json(capsys, "checkpoint", tmp_path / "recipe.json", tmp_path / "out", "--dry-run")["tensors"][0]
    assert (row["fan_in"], row["fan_out"]) == (None, None)


def test_fill_needs_a_layout_for_three_axes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.npy"
    assert "(8, 5, 4); use layout='BOI'" in run_error(capsys, "fill", out, "8x5x4")
    run_json(capsys, "fill", out, "8x5x4", "--init", "kaiming_normal(layout='BOI')")
    assert np.array_equal(np.load(out), fk.normal((8, 5, 4), std=0.5**0.5, rng=0))


def test_plot_writes_figures_and_reports(tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    run_json(capsys, "checkpoint", recipe, out)
    run_json(capsys, "plot", "histogram", out, "fc.weight", tmp_path / "a.png")
    run_json(capsys, "plot", "propagation", tmp_path / "b.svg", "--depth", 3, "--width", 8)
    run_json(capsys, "plot", "report", out, tmp_path / "c.html")
    (tmp_path / "c.html").rename(tmp_path / "first.html")
    assert "must end in .html" in run_error(capsys, "plot", "report", out, tmp_path / "c.txt")
    assert "did you mean 'fc.weight'?" in run_error(capsys, "plot", "histogram", out, "fc.wieght", tmp_path / "d.png")
    strange = {"tensors": {r"a$\foo$": {"shape": [4, 4]}}}  # matplotlib must not parse this name as a formula
    checkpoint.write(strange, tmp_path / "strange")
    run_json(capsys, "plot", "histogram", tmp_path / "strange", r"a$\foo$", tmp_path / "e.svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "b.svg").read_bytes()
    assert cli.main(["plot", "report", str(out), str(tmp_path / "c.html")]) == 0
    assert "report         100%" in capsys.readouterr().err
    weights = (out / "model.safetensors").read_bytes()
    assert "the file exists and is not overwritten" in run_error(
        capsys, "plot", "report", out, out / "model.safetensors"
    )
    assert (out / "model.safetensors").read_bytes() == weights
    page = (tmp_path / "c.html").read_text()
    assert "fc.weight" in page
    assert "fc.bias" in page
    assert "has no tensor 'none'" in run_error(capsys, "plot", "histogram", out, "none", tmp_path / "d.png")
    assert "plot propagation" not in run_error(capsys, "plot", "propagation", tmp_path / "d.bmpx")
    assert not list(tmp_path.glob("d.*"))


def test_report_includes_complex_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    checkpoint.write({"tensors": {"a": [4, 4], "z": {"shape": [4, 4], "dtype": "C64"}}}, tmp_path / "out")
    run_json(capsys, "plot", "report", tmp_path / "out", tmp_path / "a.html")
    assert "complex64" in (tmp_path / "a.html").read_text("utf-8")


def test_terminal_shows_a_rich_progress_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = pytest.importorskip("rich.progress")
    updates: list[tuple[int, int]] = []

    def update(bar: Any, _task: Any, *, completed: int, total: int) -> None:
        assert bar.console.stderr
        updates.append((completed, total))

    monkeypatch.setattr(progress.Progress, "update", update)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli.main(["fill", str(tmp_path / "a.npy"), "30x20"]) == 0
    assert updates[-1] == (600, 600)


def test_info_prints_versions(capsys: pytest.CaptureFixture[str]) -> None:
    result = run_json(capsys, "info")
    assert (result["fastkaiming"], result["isa"]) == (fk.__version__, fk.isa())
    assert result["numpy"] == np.__version__


def test_bench_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    result = run_json(capsys, "bench", "--elements", 10_000, "--threads", 2)
    assert result["as_expected"] is True
    assert result["min_speedup_over_numpy"] > 0
    assert [(row["memory"], row["operation"], row["threads"]) for row in result["rows"]] == [
        ("newly allocated", "NumPy", 1),
        ("newly allocated", "first memset", 2),
        ("newly allocated", "memset", 2),
        ("newly allocated", "first fill", 2),
        ("already touched", "store bandwidth", 2),
        ("already touched", "NumPy", 1),
        ("already touched", "second fill", 2),
    ]
    assert all(row["seconds"] > 0 and row["measured_weights"] == 10_000 for row in result["rows"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fill", "{}/a.npy", "10x10", "--init", "kaiming"), "must name one of"),
        (("fill", "{}/a.npy", "10"), "at least two axes"),
        (("fill", "{}/a.npy", "10x10", "--dtype", "int8"), "--dtype must be float32, float64, "),
        (("fill", "{}/none/a.npy", "10x10"), "No such file or directory"),
        (("explain", "10x10", "--dtype", "f"), "--dtype must be one of"),
        (("checkpoint", "{}/none.toml", "{}/out"), "none.toml: No such file or directory"),
        (("checkpoint", "{}/bad.toml", "{}/out"), "bad.toml: it must be TOML"),
        (("checkpoint", "{}/recipe.toml", "/dev/null/out"), "/dev/null"),
        (("checkpoint", "{}/recipe.toml", "{}/out", "--dtype", "int4"), "dtype must be one of"),
        (("verify", "{}/none"), "none"),
        (("verify", "{}/recipe.toml"), "recipe.toml: it must be a directory of safetensors files, or one of them"),
        (
            ("checkpoint", "{}/recipe.toml", "{}/out", "--max-shard-size", "5\N{KELVIN SIGN}B"),
            "must be a number of bytes",
        ),
    ],
)
def test_errors_have_one_line(
    tmp_path: Path, recipe: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.toml").write_text("seed = ")
    before = sorted(tmp_path.iterdir())
    assert recipe in before
    assert message in run_error(capsys, *(argument.format(tmp_path) for argument in arguments))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of open files")
def test_checkpoints_can_have_more_tensors_than_open_files(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"tensors": {f"{n}.weight": [2, 2] for n in range(300)}}))
    program = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); from fastkaiming import "
    code = program + "checkpoint; print(len(list(checkpoint.stored_tensors('out'))))"
    for arguments in (["-m", "fastkaiming", "checkpoint", "recipe.json", "out"], ["-c", code]):
        result = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, check=True
        )
    assert result.stdout == b"300\n"


def test_rule_options_replace_the_rules_of_the_recipe(
    tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["checkpoint", str(recipe), str(tmp_path / "out"), "--dry-run", "--json"]
    rules = ["--rule", "*.weight=normal(std=0.5)", "--rule", "*.wieght=zeros"]
    assert cli.main([*arguments, *rules]) == 0
    captured = capsys.readouterr()
    assert [tensor["rule"] for tensor in json.loads(captured.out)["tensors"]] == ["zeros", "normal(std=0.5)"]
    assert captured.err == ("fastkaiming checkpoint: warning: some rules filled no array: no name matches '*.wieght'\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: SOURCE, OUT_DIR"),
        (["a", "b", "--part", "1"], "argument --part: the part must be K/N, for example 2/8, got '1'"),
        (["a", "b", "--part", "٣/٤"], "argument --part: the part must be K/N, for example 2/8, got '٣/٤'"),
        (["a", "b", "--rule", "*.bias"], "argument --rule: the rule must be PATTERN=INIT, for example *.bias=zeros"),
        (["a", "b", "--x\n\x1b[31m"], r"unrecognized arguments: --x \x1b[31m"),
    ],
)
def test_usage_errors_have_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["checkpoint", *arguments])
    assert raised.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert (error.count("\n"), error.isascii() or "٣" in error) == (1, True)
    assert "--help)" in error


def test_names_with_line_breaks_are_escaped_in_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strange = tmp_path / "a\nb\x1b[31m"
    assert r"a b\x1b[31m/none.toml: No such file" in run_error(capsys, "checkpoint", strange / "none.toml", strange)


def test_resume_continues_after_kill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"tensors": {f"{n}": [1024, 2048] for n in range(40)}}))
    arguments = ["checkpoint", str(tmp_path / "recipe.json"), str(tmp_path / "out"), "--max-shard-size", "8MiB"]
    with subprocess.Popen([sys.executable, "-m", "fastkaiming", *arguments], stdout=subprocess.DEVNULL) as process:
        while not list((tmp_path / "out").glob("*.safetensors")) and process.poll() is None:
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    finished = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert "--resume" in run_error(capsys, *arguments)
    assert run_json(capsys, *arguments, "--resume")["kept"] == finished
    assert run_json(capsys, "verify", tmp_path / "out")["difference"] is None


def test_interrupt_leaves_no_incomplete_files(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"tensors": {f"{n:02}": [4096, 4096] for n in range(64)}}))
    # Set the handler explicitly, because background jobs inherit an ignored SIGINT.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from fastkaiming import cli"
    )
    arguments = ["checkpoint", "recipe.json", "out", "--max-shard-size", "256MB"]
    command = [sys.executable, "-c", f"{program}; sys.exit(cli.main({arguments}))"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        while not list((tmp_path / "out").glob(".*.partial")) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert (process.returncode, error.splitlines()[-1]) == (130, "fastkaiming checkpoint: interrupted")
    whole = list((tmp_path / "out").glob("*"))
    assert not [path for path in whole if path.name.startswith(".")]
    assert all(path.stat().st_size == whole[0].stat().st_size for path in whole)


@pytest.mark.parametrize("arguments", [["--help"], ["bench", "--help"]])
def test_help_lists_the_options_of_the_default_command(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(arguments)
    printed = " ".join(capsys.readouterr().out.split())
    assert all(f"--{option} N the" in printed for option in ("elements", "threads", "seed"))
    assert "written as 1000000000, 1_000_000_000, 10**9 or 1e9" in printed
    assert "--json print" in printed
