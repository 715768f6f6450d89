"""What tests run outside their own process: C programs, and Python that may crash, hang or be interrupted."""

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

HANG_SECONDS = 120  # says nothing of speed: it turns a deadlock into a failure


def compiled(output: Path, *arguments: str | Path) -> Path:
    """Compile C as the core is compiled, and return the program or the library."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"no C compiler: {compiler[0]}")
    subprocess.run([*compiler, f"@{CSRC}/cflags.rsp", f"-I{CSRC}", *arguments, "-o", output], check=True)
    return output


def vectors_of(isa: str) -> list[str]:
    """Return how a program is compiled for the vector operations of an instruction set."""
    targets = re.findall(r'#define FK_TARGET "(.*)"', (CSRC / "simd" / f"kernel_{isa}.c").read_text())
    return [
        f'-DVECTOR_HEADER="simd/vec_{isa}.h"',
        *(f"-m{feature}" for target in targets for feature in target.split(",")),
    ]


def core_objects(directories: pytest.TempPathFactory) -> list[Path]:
    """Return the core's C files, compiled once for all programs that are linked with them."""
    return _core_objects(directories.getbasetemp() / "core")


@cache
def _core_objects(build: Path) -> list[Path]:
    build.mkdir(exist_ok=True)  # from a call that was skipped for want of a compiler

    def compile_one(source: Path) -> Path:
        return compiled(build / f"{source.stem}.o", "-fPIC", "-c", source)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, sorted(CSRC.rglob("*.c"))))


def answers(program: Path, questions: list[str]) -> list[str]:
    """Return what a program prints for each line that it reads."""
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
    """Run a program that finds the library where the tests do, without the settings that this process may have."""
    return python_within(HANG_SECONDS, program, *arguments, **environment)


def python_within(
    seconds: float, program: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Do so for a program that has more to do than hang in one place."""
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


COUNT = 5 * _core.CHUNK_ELEMENTS - 100  # five pieces

FILL = f"""
import hashlib
import numpy as np
from fastkaiming import _core

def digest():
    out = np.empty({COUNT}, np.uint32)
    _core.fill(out, _core.WORDS_U32, 9, 0, 1, threads=3)
    return hashlib.sha256(out).hexdigest()
"""

# A fill of which there is time to look at the middle, and how to wait for that.
LONG_FILL = f"""{FILL}
import os, signal, sys, threading, time

_core.select_isa("scalar")
out = np.zeros(1 << 28, np.float32)  # zeroed pages take no memory until they are filled

def fill(threads, progress=None):
    _core.fill(out, _core.NORMAL_F32, _core.philox_key(1), 0, 0, scale=1.0, threads=threads, progress=progress)

def wait_for_its_beginning():
    while not out[0]:
        pass
"""


@cache
def digest_of_fill() -> str:
    """Return what digest() in FILL has to."""
    words = reference.words(reference.Place(key=9, stream=0, first=1, count=COUNT))
    return hashlib.sha256(words.tobytes()).hexdigest()
