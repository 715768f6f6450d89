"""Standard output and standard error that are closed, full, read by nobody or not able to encode a name; interrupts."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import HANG_SECONDS, ROOT

import fastkaiming as fk
from fastkaiming import _startup, checkpoint
from fastkaiming.cli import _streams

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the tests run commands in a shell of POSIX systems")
COMMANDS = {
    "fill": "fill out.npy 30x20",
    "checkpoint": "checkpoint recipe.json out",
    "dry run": "checkpoint recipe.json none --dry-run",
    "verify": "verify checkpoint",
    "explain": "explain 64x32",
    "plot": "plot propagation plot.svg --depth 3 --width 8",
    "info": "info",
    "bench": "bench --elements 10000",
    "help": "--help",
    "help of a command": "plot report --help",
    "version": "--version",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipe.json").write_text(json.dumps({"tensors": {"a\N{LATIN SMALL LETTER E WITH ACUTE}": [4, 4]}}))
    checkpoint.write(tmp_path / "recipe.json", tmp_path / "checkpoint")
    return tmp_path


def shell(folder: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in which $FK is the command line."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    variables = {"PYTHONPATH": str(ROOT), "FK": f"{sys.executable} -m fastkaiming"}
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=inherited | variables | environment,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )


def needs_matplotlib(command: str) -> None:
    if command.startswith("plot propagation"):
        pytest.importorskip("matplotlib")


@pytest.mark.parametrize("options", ["", "--json"])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("target", ["-", "/dev/full"])
def test_standard_output_that_cannot_be_written_is_an_error(
    folder: Path, command: str, options: str, target: str
) -> None:
    needs_matplotlib(command)
    redirection = ">&-" if target == "-" else f">{target}"
    result = shell(folder, f"$FK {command} {options} {redirection}")
    reason = "Bad file descriptor" if target == "-" else "No space left on device"
    assert result.stderr.splitlines()[-1].endswith(f": standard output: {reason}")
    assert "Traceback" not in result.stderr
    assert result.returncode == 2


def test_files_are_complete_if_standard_output_is_closed(folder: Path) -> None:
    result = shell(folder, "$FK fill out.npy 30x20 <&- >&- 2>&-; echo $?; $FK checkpoint recipe.json out >&-")
    assert result.stdout == "2\n"
    assert np.array_equal(np.load(folder / "out.npy"), fk.kaiming_normal((30, 20), rng=0))
    assert checkpoint.verify(folder / "out").difference is None


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_pipe_without_a_reader_ends_the_process_like_other_programs(
    folder: Path, command: str, unbuffered: str
) -> None:
    needs_matplotlib(command)
    result = shell(folder, f"$FK {command} | true; echo ${{PIPESTATUS[0]}}", PYTHONUNBUFFERED=unbuffered)
    assert int(result.stdout) == 128 + signal.SIGPIPE
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr
    assert "rror" not in result.stderr


def test_pipe_of_messages_without_a_reader_leaves_no_incomplete_file(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "fastkaiming", "fill", "out.npy", "30x20"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=folder, env=environment, stdout=writer, stderr=writer, timeout=HANG_SECONDS, check=False
    )
    os.close(writer)
    assert result.returncode == -signal.SIGPIPE
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("target", ["&-", "/dev/full"])
def test_work_continues_without_standard_error(folder: Path, target: str) -> None:
    script = f"$FK fill out.npy 30x20 --json 2>{target} && $FK fill out.npy 30x20 2>{target}; echo $?"
    report, _, code = shell(folder, script).stdout.rstrip().rpartition("\n")
    assert json.loads(report)["bytes"] == (folder / "out.npy").stat().st_size
    assert code == "2"
    assert shell(folder, f"$FK nonsense 2>{target}").returncode == 2


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_names_that_the_output_cannot_encode_are_escaped(folder: Path, environment: dict[str, str]) -> None:
    result = shell(folder, f"$FK {COMMANDS['dry run']}", **environment)
    assert r"a\xe9" in result.stdout
    assert (result.returncode, result.stderr) == (0, "")
    result = shell(folder, r"$FK fill $'\xc3\xa9\xff.npy' 4x4 && $FK verify checkpoint", **environment)
    assert result.returncode == 0
    assert result.stdout.isascii()


@pytest.mark.parametrize(("handler", "shown"), [("replace", "a?"), ("xmlcharrefreplace", "a&#233;"), ("", "a\\xe9")])
def test_error_handler_of_the_user_is_kept(folder: Path, handler: str, shown: str) -> None:
    result = shell(folder, f"$FK {COMMANDS['dry run']}", PYTHONIOENCODING=f"ascii:{handler}")
    assert shown in result.stdout
    assert (result.returncode, result.stderr) == (0, "")


def test_messages_are_escaped_whatever_the_error_handler_of_the_user(folder: Path) -> None:
    result = shell(folder, r"$FK fill $'\xc3\xa9.npy' 4x4", PYTHONIOENCODING="ascii:replace")
    assert r"\xe9.npy: writing" in result.stderr
    assert "?.npy: 192 bytes" in result.stdout


def test_console_of_windows_keeps_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream of such a console converts UTF-8, which the descriptor of the console does not."""
    raw = type("_WindowsConsoleIO", (io.BytesIO,), {})()
    console = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8")
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(sys, "stderr", None)
    _streams.replace_standard_streams()
    assert sys.stdout is console
    assert console.errors == "backslashreplace"
    assert isinstance(sys.stderr, io.TextIOWrapper)


@pytest.mark.parametrize("script", ["module", "script"])
def test_interrupt_during_the_imports_prints_no_traceback(tmp_path: Path, script: str) -> None:
    """The package that is imported here instead of NumPy never finishes."""
    (tmp_path / "numpy.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(1000)\n")
    (tmp_path / "fastkaiming").write_text("import sys\nfrom fastkaiming.cli import program\nsys.exit(program())\n")
    arguments = ["-m", "fastkaiming", "info"] if script == "module" else [str(tmp_path / "fastkaiming"), "info"]
    # Background jobs inherit an ignored SIGINT.
    wrapper = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with subprocess.Popen(
        [sys.executable, "-c", wrapper, sys.executable, *arguments],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, error) == (-signal.SIGINT, "")


def test_little_is_imported_before_an_interrupt_ends_the_process() -> None:
    """An interrupt during the imports of the first module prints a traceback."""
    program = "import sys; before = {*sys.modules}; import _startup; print(*{*sys.modules} - before)"
    folder = Path(fk.__file__).parent
    result = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(result.stdout.split()) <= {"_startup", "_signal"}


@pytest.mark.parametrize(
    ("original", "argv", "is_command_line"),
    [
        (["python", "-m", "fastkaiming", "info"], ["-m", "info"], True),
        (["python", "-mfastkaiming", "info"], ["-m", "info"], True),
        (["python", "-Imfastkaiming"], ["-m"], True),
        (["python", "-m", "pytest", "fastkaiming"], ["-m", "fastkaiming"], False),
        (["python", "-mmyfastkaiming"], ["-m"], False),
        (["python", "/usr/bin/fastkaiming"], ["/usr/bin/fastkaiming"], True),
        (["python", "C:\\bin\\fastkaiming.exe"], ["C:\\bin\\fastkaiming.exe", "info"], True),
        (["python", "my-fastkaiming"], ["my-fastkaiming"], False),
        (["python", "-c", ""], ["-c"], False),
        (["python"], [""], False),
        ([], [], False),
    ],
)
def test_command_line_is_recognized(
    monkeypatch: pytest.MonkeyPatch, original: list[str], argv: list[str], is_command_line: bool
) -> None:
    monkeypatch.setattr(sys, "orig_argv", original)
    monkeypatch.setattr(sys, "argv", argv)
    assert _startup._is_command_line() == is_command_line


def test_import_of_the_library_does_not_change_what_an_interrupt_does() -> None:
    program = "import signal, fastkaiming; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    handler = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", f"{handler}; {program}"], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout == "True\n"
