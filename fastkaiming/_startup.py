"""Ctrl-C while the command line starts or ends, when Python would print a traceback.

Importing NumPy and fastkaiming takes a fifth of a second, and only the first import can change what Ctrl-C does then.
``fastkaiming/__init__.py`` therefore imports this module first. It has no effect in other programs. Until it has run,
Ctrl-C prints a traceback, so it imports only modules that are built into Python: ``signal`` takes several times longer.
"""

import _signal  # type: ignore[import-not-found]  # it has no stub
import sys


def _is_command_line() -> bool:
    """Return whether this process runs ``python -m fastkaiming`` or the script ``fastkaiming``."""
    if sys.argv[:1] == ["-m"]:  # until the module has been found
        module = sys.orig_argv[-len(sys.argv)]  # or an option with the module, such as -Imfastkaiming
        return module == "fastkaiming" or (module.startswith("-") and module.endswith("mfastkaiming"))
    program = "".join(sys.argv[:1]).replace("\\", "/").rpartition("/")[2]
    return program in {"fastkaiming", "fastkaiming.exe"}


def end_on_interrupt() -> None:
    """Let an interrupt end the process, unless the process ignores interrupts or has a handler of its own."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def raise_on_interrupt() -> None:
    """Let an interrupt raise KeyboardInterrupt again."""
    if _signal.getsignal(_signal.SIGINT) is _signal.SIG_DFL:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


if _is_command_line():
    end_on_interrupt()
