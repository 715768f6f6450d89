"""Programs that tests run in other processes: C programs, and Python that may crash, hang or be interrupted."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
import reference

from fastkaiming import _core

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "fastkaiming" / "csrc"

HANG_SECONDS = 120  # turns a deadlock into a failure; not a limit of speed


def compiled(output: Path, *arguments: str | Path) -> Path:
    """Compile C with the flags of the core, and return the path of the program or library."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"no C compiler: {compiler[0]}")
    subprocess.run([*compiler, f"@{CSRC}/cflags.rsp", f"-I{CSRC}", *arguments, "-o", output], check=True)
    return output


def vectors_of(isa: str) -> list[str]:
    """Return the compiler flags for a program that uses the vector operations of an instruction set."""
    targets = re.findall(r'#define FK_TARGET "(.*)"', (CSRC / "simd" / f"kernel_{isa}.c").read_text())
    return [
        f'-DVECTOR_HEADER="simd/vec_{isa}.h"',
        *(f"-m{feature}" for target in targets for feature in target.split(",")),
    ]


def core_objects(directories: pytest.TempPathFactory) -> list[Path]:
    """Return the object files of the core, which are compiled once for all programs."""
    return _core_objects(directories.getbasetemp() / "core")


@cache
def _core_objects(build: Path) -> list[Path]:
    build.mkdir(exist_ok=True)  # it may exist from a call that was skipped because there is no compiler

    def compile_one(source: Path) -> Path:
        return compiled(build / f"{source.stem}.o", "-fPIC", "-c", source)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, sorted(CSRC.rglob("*.c"))))


def answers(program: Path, questions: list[str]) -> list[str]:
    """Return the lines that a program prints when it reads the given lines."""
    result = subprocess.run(
        [program],
        input="".join(f"{question}\n" for question in questions),
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert result.returncode == 0, f"{result.stdout}{result.stderr}"
    return result.stdout.splitlines()


def python(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program that imports the same library as the tests, without FASTKAIMING_ environment variables."""
    return python_within(HANG_SECONDS, program, *arguments, **environment)


def python_within(
    seconds: float, program: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a Python program like `python` does, with another time limit."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FASTKAIMING_")}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=inherited | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


COUNT = 5 * _core.MAX_WORK_UNIT_ELEMENTS - 100  # five chunks, the last of them shorter

FILL = f"""
import hashlib
import numpy as np
from fastkaiming import _core

def digest():
    out = np.empty({COUNT}, np.uint32)
    _core.fill(out, _core.WORDS_U32, 9, 0, 1, threads=3)
    return hashlib.sha256(out).hexdigest()
"""

# A fill that is long enough to be observed or interrupted, and a function that waits until it has started.
LONG_FILL = f"""{FILL}
import os, signal, sys, threading, time

_core.select_isa("scalar")
out = np.zeros(1 << 28, np.float32)  # zeroed pages use no memory until they are filled

def fill(threads, progress=None):
    _core.fill(out, _core.NORMAL_F32, _core.philox_key(1), 0, 0, scale=1.0, threads=threads, progress=progress)

def wait_for_its_beginning():
    while not out[0]:
        pass
"""


@cache
def digest_of_fill() -> str:
    """Return the correct result of digest() in FILL."""
    words = reference.words(reference.Place(key=9, stream=0, first=1, count=COUNT))
    return hashlib.sha256(words.tobytes()).hexdigest()
