"""The command line, ``fastkaiming`` or ``python -m fastkaiming``. Each command is in the module of the same name."""

from fastkaiming.cli._main import main, program

__all__ = ["main", "program"]
