"""The messages about arguments, the units of sizes, and what a command prints before it writes a file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run_error, run_json
from processes import HANG_SECONDS, ROOT

from fastkaiming import cli
from fastkaiming.checkpoint import _file_writer
from fastkaiming.cli import bench, fill


@pytest.mark.parametrize("rule", ["kaiming_normal(modee=1)", "foo", "kaiming_normal(mode=3)", "normal(rng=1)", "keep"])
def test_error_about_a_rule_prints_it_once(tmp_path: Path, rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipes = {
        "init": {"tensors": {"a": {"shape": [4, 4], "init": rule}}},
        "rules": {"tensors": {"a": [4, 4]}, "rules": {"*": rule}},
        "none": {"tensors": {"a": [4, 4]}},
    }
    for name, recipe in recipes.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(recipe))
    commands: list[list[object]] = [
        ["fill", tmp_path / "a.npy", "4x4", "--init", rule],
        ["explain", "4x4", "--init", rule],
        ["checkpoint", tmp_path / "init.json", tmp_path / "out"],
        ["checkpoint", tmp_path / "rules.json", tmp_path / "out"],
        ["checkpoint", tmp_path / "none.json", tmp_path / "out", "--rule", f"*={rule}"],
    ]
    for command in commands:
        message = run_error(capsys, *command)
        assert message.count(repr(rule)) <= 1, message
        assert message.count(rule.partition("(")[0]) <= 2, message  # once in the list of all initializers


@pytest.mark.parametrize(
    ("size", "files"), [("1B", 2), ("1b", 2), ("0.06k", 2), ("0.1Ki", 1), ("1 gb", 1), ("5G", 1), ("5m", 1), ("5", 2)]
)
def test_units_of_sizes(tmp_path: Path, size: str, files: int, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"tensors": {"a": [4, 4], "b.bias": [4]}}))  # 64 and 16 bytes
    command = ["checkpoint", tmp_path / "recipe.json", tmp_path / "out", "--dry-run", "--max-shard-size", size]
    assert run_json(capsys, *command)["files"] == files


@pytest.mark.parametrize("command", [["explain"], ["fill", "a.npy"]])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("99999999999999999999x2", "SHAPE[0] must be an integer from 0 to 18446744073709551616, got 9999"),
        ("2x" + "9" * 300, "SHAPE[1] must be an integer from 0 to 18446744073709551616, got 9999"),
        ("4294967296x4294967297", "SHAPE must hold at most 2**64 elements, got (4294967296, 4294967297)"),
        ("x".join(["1"] * 70), "SHAPE must have at most 32 axes, got 70"),
    ],
)
def test_error_about_a_shape_names_it(
    command: list[str],
    shape: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f": {message}" in run_error(capsys, *command, shape)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "4x4", "--dtype", "complex64"], "--dtype must be float32, float64"),
        (["fill", "{}/a.npy", "0x4"], "SHAPE must have at least one element, got (0, 4)"),
        (["fill", "{}/a.npy", "4611686018427387904x2"], "SHAPE must hold less than 2**63 bytes"),
    ],
)
def test_error_about_an_array_names_the_argument(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f": {message}" in run_error(capsys, *(argument.format(tmp_path) for argument in arguments))
    assert not list(tmp_path.iterdir())


def test_first_line_without_arguments_mentions_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "run", lambda _: print("the benchmark") or 0)
    assert cli.main([]) == 0
    captured = capsys.readouterr()
    assert captured.err == "Running fastkaiming bench; fastkaiming --help lists all commands.\n"
    assert captured.out == "the benchmark\n"
    assert cli.main(["--seed", "1"]) == 0
    assert capsys.readouterr().err == ""


def test_fill_prints_the_size_before_it_writes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.npy"
    assert cli.main(["fill", str(out), "4x4"]) == 0
    captured = capsys.readouterr()
    size = out.stat().st_size
    assert captured.err.startswith(f"{out}: writing {size} bytes\n")
    assert captured.out.startswith(f"{out}: {size} bytes of ")
    assert cli.main(["fill", str(tmp_path / "b.npy"), "4x4", "--json"]) == 0
    assert "writing" not in capsys.readouterr().err
    monkeypatch.setattr(_file_writer, "write_files", lambda *_: pytest.fail("a file is written"))
    with pytest.raises(pytest.fail.Exception):
        cli.main(["fill", str(tmp_path / "c.npy"), "4x4"])
    assert f"writing {size} bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("terminals", "arguments", "is_written"),
    [
        (("stdin", "stderr"), [], False),
        (("stdin", "stderr"), ["--json"], False),
        (("stdin", "stderr"), ["--yes"], True),
        (("stdin",), [], True),
        (("stderr",), [], True),
    ],
)
def test_large_fills_need_yes_on_a_terminal(
    terminals: tuple[str, ...],
    arguments: list[str],
    is_written: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fill, "CONFIRMED_BYTES", 4000)
    for name in ("stdin", "stderr"):
        monkeypatch.setattr(getattr(sys, name), "isatty", lambda name=name: name in terminals)
    command = ["fill", str(tmp_path / "a.bin"), "1001", "--init", "normal", *arguments]
    if is_written:
        assert cli.main(command) == 0
    else:
        message = "a.bin: a file of more than 4,000 bytes must be confirmed with --yes, got 4,004 bytes"
        assert message in run_error(capsys, *command)
    assert (tmp_path / "a.bin").exists() is is_written
    assert cli.main(["fill", str(tmp_path / "b.bin"), "1000", "--init", "normal"]) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudoterminals")
def test_large_fill_on_a_terminal_writes_nothing(tmp_path: Path) -> None:
    master, terminal = os.openpty()
    with open(master, "rb", buffering=0) as screen, open(terminal, "rb", buffering=0) as tty:  # noqa: PTH123
        command = [sys.executable, "-m", "fastkaiming", "fill", "a.npy", "1000000x1000000"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, stdin=tty, stdout=tty, stderr=tty, timeout=HANG_SECONDS, check=False
        )
        message = screen.read(1000).decode()
    assert message == (
        "fastkaiming fill: a.npy: a file of more than 10,000,000,000 bytes must be confirmed with --yes, got "
        "4,000,000,000,128 bytes\r\n"
    )
    assert result.returncode == 2
    assert not list(tmp_path.iterdir())
