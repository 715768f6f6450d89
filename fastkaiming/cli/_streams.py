"""The standard streams of a process that runs a command, which may be closed, full, or unable to encode a name."""

import io
import os
import signal
import sys
from typing import Any, TextIO


class _Output(io.FileIO):
    """Standard output. The first error is raised, and what is written after it is discarded."""

    _has_failed = False

    def write(self, data: Any, /) -> Any:  # an int, or None if a non-blocking stream accepts no data
        if self._has_failed:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            self._has_failed = True
            error.filename = "standard output"
            raise


class _Messages(io.FileIO):
    """Standard error. A command continues without its messages, except if it writes them to a pipe without a reader."""

    def write(self, data: Any, /) -> Any:  # an int, or None if a non-blocking stream accepts no data
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError:
            return memoryview(data).nbytes


def replace_standard_streams() -> None:
    """Replace standard output and standard error by streams that report errors and escape what they cannot encode.

    Python has no stream for a descriptor that is closed. Such a descriptor is opened first, because otherwise the first
    file that the command opens would get its number, and messages of C libraries would be written to that file.
    """
    for descriptor, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):  # so that every access is an error
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)
    errors = os.environ.get("PYTHONIOENCODING", "").partition(":")[2] or "backslashreplace"  # of standard output only
    sys.stdout = _text_stream(_Output(1, "w", closefd=False), sys.stdout, errors)
    sys.stderr = _text_stream(_Messages(2, "w", closefd=False), sys.stderr, "backslashreplace")


def _text_stream(file: io.FileIO, replaced: TextIO | None, errors: str) -> TextIO:
    """Return a stream with the encoding of another one, which is None if it is closed."""
    if isinstance(replaced, io.TextIOWrapper) and _is_windows_console(replaced):
        replaced.reconfigure(errors=errors)
        return replaced
    encoding = "utf-8" if replaced is None else replaced.encoding
    in_lines = isinstance(replaced, io.TextIOWrapper) and (replaced.line_buffering or replaced.write_through)
    return io.TextIOWrapper(
        io.BufferedWriter(file), encoding, errors, line_buffering=in_lines or isinstance(file, _Messages)
    )


def _is_windows_console(stream: io.TextIOWrapper) -> bool:
    """Return whether a stream writes Unicode to a console of Windows, whose descriptor expects another encoding."""
    return type(getattr(stream.buffer, "raw", None)).__name__ == "_WindowsConsoleIO"


def end_by_broken_pipe() -> int:
    """End the process by SIGPIPE, like other programs whose output has no reader.

    If the system does not have this signal, return the exit code that a shell reports for it.
    """
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    return 128 + 13
