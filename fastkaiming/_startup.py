"""Ctrl-C while the command line starts or ends, when Python would print a traceback.

Importing NumPy and fastkaiming takes a fifth of a second, and only the first import can change what Ctrl-C does then.
``fastkaiming/__init__.py`` therefore imports this module first. It has no effect in other programs.
"""

import re
import signal
import sys


def _is_command_line() -> bool:
    """Return whether this process runs ``python -m fastkaiming`` or the script ``fastkaiming``."""
    if sys.argv[:1] == ["-m"]:  # until the module has been found
        return re.fullmatch(r"(-\w*m)?fastkaiming", sys.orig_argv[-len(sys.argv)]) is not None
    return re.fullmatch(r"(.*[/\\])?fastkaiming(\.exe)?", "".join(sys.argv[:1])) is not None


def end_on_interrupt() -> None:
    """Let an interrupt end the process, unless the process ignores interrupts or has a handler of its own."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_on_interrupt() -> None:
    """Let an interrupt raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if _is_command_line():
    end_on_interrupt()
