"""Fills in a separate process: by another build of fastkaiming, or without huge pages.

Run as a program, this file is that process: it reads fills from standard input, one JSON object per line, and prints
the seconds of each. Both contestants of a comparison run in such processes. The other build may be older, so this file
uses only public names.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import UnavailableError
from layouts import known

import fastkaiming

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

THREADS = 2
PR_SET_THP_DISABLE = 41  # of linux/prctl.h


@dataclass(frozen=True)
class Fill:
    """The fill that a process executes."""

    draw: str
    dtype: str
    nbytes: int
    new_memory: bool


@dataclass(frozen=True)
class Build:
    """A contestant: a fill by the build of fastkaiming that an interpreter imports."""

    name: str
    fill: Fill
    python: str = sys.executable
    huge_pages: bool = True

    def cost(self) -> float:
        """Return the seconds per element."""
        process = process_of(self.python, self.huge_pages)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(asdict(self.fill)) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            raise UnavailableError(f"the process of {self.python} has died") from None
        if isinstance(answer, str):
            raise UnavailableError(answer)
        return float(answer) / (self.fill.nbytes // known(self.fill.dtype).itemsize)


@functools.cache
def process_of(python: str, huge_pages: bool) -> subprocess.Popen[str]:
    """Return the process of a build, which ends when this process ends."""
    own_path = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" or python == sys.executable}
    command = [python, str(Path(__file__).resolve()), "with" if huge_pages else "without"]
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own_path)
    except OSError as error:
        raise UnavailableError(str(error)) from None


# --- in the process --------------------------------------------------------------------------------------------------


def memset(weights: NDArray[Any]) -> None:
    from fastkaiming.cli._memset import memset  # imported here because older builds do not have it

    memset(weights, THREADS)


FILLS: dict[str, Callable[[NDArray[Any]], object]] = {
    "normal": functools.partial(fastkaiming.normal_, std=0.02, rng=0, threads=THREADS),
    "uniform": functools.partial(fastkaiming.uniform_, rng=0, threads=THREADS),
    "truncated normal": functools.partial(fastkaiming.trunc_normal_, a=-2.0, b=2.0, rng=0, threads=THREADS),
    "memset": memset,
}


@functools.lru_cache(maxsize=1)
def touched(nbytes: int) -> NDArray[np.uint8]:
    return np.full(nbytes, 1, np.uint8)


def seconds(fill: Fill) -> float:
    if fill.new_memory:
        touched.cache_clear()
        np.empty(fill.nbytes, np.uint8).fill(1)  # freed immediately, as in touch_and_free in stores.py
    memory = np.empty(fill.nbytes, np.uint8) if fill.new_memory else touched(fill.nbytes)
    weights = memory.view(known(fill.dtype)).reshape(-1, 4096)
    start = time.perf_counter()
    FILLS[fill.draw](weights)
    return time.perf_counter() - start


def disable_huge_pages() -> None:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def main() -> None:
    if sys.argv[1] == "without":
        disable_huge_pages()
    for line in sys.stdin:
        answer: float | str
        try:
            answer = seconds(Fill(**json.loads(line)))
        except UnavailableError as reason:
            answer = str(reason)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
