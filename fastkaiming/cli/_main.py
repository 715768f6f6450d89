"""The command line: ``fastkaiming``, or ``python -m fastkaiming``.

Exit codes: 0, done; 1, what was checked is not as it should be; 2, a refused argument, file or directory, told in one
line; 130, interrupted. Whatever the code, no file stands half written under its own name.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

import fastkaiming
from fastkaiming.cli import _output, bench, checkpoint, explain, fill, info, plot, verify

_COMMANDS = {
    "bench": bench,
    "fill": fill,
    "checkpoint": checkpoint,
    "verify": verify,
    "explain": explain,
    "plot": plot,
    "info": info,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; options without a command are those of ``bench``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in {"-h", "--help", "--version"}):
        given = ["bench", *given]
    options = _parser().parse_args(given)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = partial(_show_warning, options.command)
            code = int(_COMMANDS[options.command].run(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # nobody reads on: https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, MemoryError, OSError, OverflowError, TypeError, ValueError) as error:
        print(f"fastkaiming {options.command}: {_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"fastkaiming {options.command}: interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {_output.one_line(message)} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastkaiming",
        description="Kaiming initialization of huge weight buffers. Without a command: bench.",
        epilog="Exit codes: 0 done, 1 what was checked is not as it should be, 2 refused, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"fastkaiming {fastkaiming.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, room in _COMMANDS.items():
        command = commands.add_parser(name, help=room.HELP, description=f"{room.HELP.capitalize()}.")
        room.configure(command)
        command.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")
    return parser


def _line(error: BaseException) -> str:
    """Return an error in one line, and not in Python's words for errors of the system."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror is not None:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return _output.one_line(text) or type(error).__name__


def _show_warning(command: str, message: Warning | str, *_: object) -> None:
    print(f"fastkaiming {command}: warning: {_output.one_line(str(message))}", file=sys.stderr)
