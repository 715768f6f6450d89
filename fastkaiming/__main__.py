"""Runs the command line as ``python -m fastkaiming``."""

import sys

from fastkaiming.cli import program

if __name__ == "__main__":
    sys.exit(program())
