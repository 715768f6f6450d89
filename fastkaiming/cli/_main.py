"""The argument parser of the command line, its error messages and its exit codes.

The exit codes are 0 for success, 1 if a check failed, 2 for an error in the arguments, files, directories or standard
output, with a message of one line, and 130 for an interrupt. If the output is a pipe without a reader, SIGPIPE ends the
process. In none of these cases does an incomplete file have its final name.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import fastkaiming
from fastkaiming import _startup
from fastkaiming.cli import _output, _streams, bench, checkpoint, explain, fill, info, plot, verify

_COMMANDS = {
    "bench": bench,
    "fill": fill,
    "checkpoint": checkpoint,
    "verify": verify,
    "explain": explain,
    "plot": plot,
    "info": info,
}


def program() -> int:
    """Run the command of this process and return its exit code."""
    _streams.replace_standard_streams()
    try:
        _startup.raise_on_interrupt()
        return main()
    except BrokenPipeError:
        return _streams.end_by_broken_pipe()
    except KeyboardInterrupt:
        return _interrupted("fastkaiming")
    finally:
        _startup.end_on_interrupt()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. If no command is given, with or without options, run ``bench``."""
    name = "fastkaiming"
    try:
        options = _build_parser().parse_args(_with_command(sys.argv[1:] if arguments is None else arguments))
        name = f"fastkaiming {options.command}"
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = partial(_show_warning, name)
            code = int(_COMMANDS[options.command].run(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        raise
    except (ImportError, MemoryError, OSError, OverflowError, TypeError, ValueError) as error:
        print(f"{name}: {_error_message(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return _interrupted(name)


def _with_command(words: Sequence[str]) -> list[str]:
    """Return the words of the command line with the default command, if they have none."""
    if not words:
        print("Running fastkaiming bench; fastkaiming --help lists all commands.", file=sys.stderr)
    has_command = words and (not words[0].startswith("-") or words[0] in {"-h", "--help", "--version"})
    return [*words] if has_command else ["bench", *words]


def _interrupted(name: str) -> int:
    print(f"{name}: interrupted", file=sys.stderr)
    return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {_output.one_line(message)} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        print(message, end="", file=file or sys.stderr, flush=True)  # argparse would ignore errors


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastkaiming",
        usage="%(prog)s [-h] [--version] [COMMAND] ...",
        description="Fill weights, write and verify checkpoints, and examine initializers.",
        epilog="Exit codes: 0 success, 1 a check failed, 2 an error in the arguments, files or standard output, "
        "130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"fastkaiming {fastkaiming.__version__}")
    # `main` passes these options to the parser of bench. They are added here only so that the help lists them.
    default_options = parser.add_argument_group("options of bench, which runs if you give no command")
    bench.add_options(default_options)
    _add_json_option(default_options)
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND", prog=parser.prog
    )
    for name, module in _COMMANDS.items():
        description = f"{module.HELP[0].upper()}{module.HELP[1:]}."
        command = commands.add_parser(name, help=module.HELP, description=description)
        module.configure(command)
        _add_json_option(command)
    return parser


def _add_json_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--json", action="store_true", help="print a single JSON object instead of text")


def _error_message(error: BaseException) -> str:
    """Return the message of an error in one line; for errors of the system, without Python's error number."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror is not None:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return _output.one_line(text) or type(error).__name__


def _show_warning(name: str, message: Warning | str, *_: object) -> None:
    print(f"{name}: warning: {_output.one_line(str(message))}", file=sys.stderr)
