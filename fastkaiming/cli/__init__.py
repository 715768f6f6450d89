"""The command line: ``fastkaiming``, or ``python -m fastkaiming``. Each command has a module of its name."""

from fastkaiming.cli._main import main

__all__ = ["main"]
