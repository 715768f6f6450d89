"""Speed of checkpoints, measured in pairs (see harness.py) with the disk, a fill in memory, and Python's startup.

    python benchmarks/checkpoints.py [--directory DIR] [--gigabytes N] [--rounds N] [--quick]

A checkpoint of bfloat16 tensors with the shapes of Llama is written to a directory and compared with the same number of
zero bytes in one file; both are synced at the end. The zeros are written through the page cache, as most programs do,
and with O_DIRECT, as fastkaiming does if the file system supports it. A checkpoint of at most 4 GB is verified from the
page cache and compared with a fill of the same number of bytes in already touched memory. The peak memory is measured
in a separate process.
"""

from __future__ import annotations

import argparse
import functools
import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from figures import MEMORY, SLOWDOWN, SPEED_UP
from harness import Case, Contestant, Figure, Timed, median, plain
from machine import about

import fastkaiming
from fastkaiming import checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK = 64 << 20  # bytes of zeros written at a time
CACHED_LAYERS = 9  # of the checkpoint that is verified; memory must hold its 4 GB twice
LAYER = {
    "self_attn.q_proj": (4096, 4096),
    "self_attn.k_proj": (1024, 4096),
    "self_attn.v_proj": (1024, 4096),
    "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (14336, 4096),
    "mlp.up_proj": (14336, 4096),
    "mlp.down_proj": (4096, 14336),
    "input_layernorm": (4096,),
}
SECONDS = Figure(
    lambda cost, _: cost,
    ".2f",
    " s",
    False,
    "seconds",
    lambda result: f"{len(result.own_costs)} runs of a process",
)
PROGRAM = """
from pathlib import Path
from fastkaiming import checkpoint
checkpoint.write({recipe!r}, {out!r})
print(1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]))
"""


def recipe(layers: int, scale: int) -> dict[str, Any]:
    """Return a recipe with layers of Llama 8B, whose sides are divided by a scale."""
    tensors = {
        f"model.layers.{layer}.{name}.weight": [side // scale for side in shape]
        for layer in range(layers)
        for name, shape in LAYER.items()
    }
    return {"dtype": "bfloat16", "tensors": tensors}


def nbytes_of(source: dict[str, Any]) -> int:
    return sum(tensor.nbytes for tensor in checkpoint.plan(source).tensors)


def cases(layers: int, scale: int, directory: Path) -> list[Case]:
    """Return the rows."""
    source, cached = recipe(layers, scale), recipe(min(layers, CACHED_LAYERS), scale)
    nbytes, cached_nbytes = nbytes_of(source), nbytes_of(cached)
    size, cached_size = (f"{each / 1e9:.3g} GB of bfloat16" for each in (nbytes, cached_nbytes))
    out, zeros, made = directory / "fastkaiming", directory / "zeros", directory / "made"

    def cleared() -> None:
        shutil.rmtree(out, ignore_errors=True)
        zeros.unlink(missing_ok=True)
        os.sync()

    def read() -> None:
        if not made.exists():
            cleared()
            checkpoint.write(cached, made)
        read_all(made)

    return [
        Case(
            f"checkpoint of {size}, written, against zeros",
            SLOWDOWN,
            *(1.25, 1.05),
            Timed("fastkaiming", cleared, lambda _: checkpoint.write(source, out), nbytes // 2),
            (Timed("zeros", cleared, lambda _: write_zeros(zeros, nbytes), nbytes // 2),),
        ),
        Case(
            f"checkpoint of {size}, written, against zeros with O_DIRECT",
            SLOWDOWN,
            *(1.25, 1.05),
            Timed("fastkaiming", cleared, lambda _: checkpoint.write(source, out), nbytes // 2),
            (Timed("zeros", cleared, lambda _: write_zeros(zeros, nbytes, os.O_DIRECT), nbytes // 2),),
        ),
        Case(
            f"checkpoint of {cached_size}, verified, against a fill in memory",
            SPEED_UP,
            *(0.8, 0.95),
            Timed("verify", read, lambda _: checkpoint.verify(made), cached_nbytes // 2),
            (fill(cached_nbytes // 2),),
        ),
        Case(f"checkpoint of {size}, peak memory", MEMORY, 600, 300, PeakMemory(source, out)),
        Case("--dry-run of 70e9 parameters, whole command", SECONDS, 1, 0.5, dry_run(directory)),
        Case(
            "import, in addition to NumPy's",
            Figure(lambda cost, numpy: 1e3 * (cost - numpy), ".0f", " ms", False, "seconds", import_detail),
            *(60, 40),
            command("import numpy, fastkaiming"),
            (command("import numpy"),),
            repeats=5,
        ),
    ]


def write_zeros(path: Path, nbytes: int, flags: int = 0) -> None:
    """Write zeros to the disk in whole pages, which direct writes require."""
    zeros = mmap.mmap(-1, BLOCK)
    zeros.write(bytes(BLOCK))  # otherwise all of it would be the same zero page
    block = memoryview(zeros)
    whole = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags)
    try:
        for begin in range(0, whole, BLOCK):
            os.write(descriptor, block[: min(BLOCK, whole - begin)])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fill(count: int) -> Contestant:
    """Return a contestant that fills bfloat16 elements in already touched memory."""
    buffer = functools.cache(lambda: np.full(count, 1, ml_dtypes.bfloat16))
    return Timed("fill", buffer, lambda target: fastkaiming.normal_(target, rng=1), count)


def read_all(directory: Path) -> None:
    """Read the files of a directory, so that they are in the page cache."""
    for path in directory.iterdir():
        with path.open("rb") as file:
            while file.read(BLOCK):
                pass


@dataclass(frozen=True)
class PeakMemory:
    """A contestant whose cost is the peak resident memory of a process that writes a checkpoint, in bytes."""

    source: dict[str, Any]
    out: Path
    name: str = "fastkaiming"

    def cost(self) -> float:
        shutil.rmtree(self.out, ignore_errors=True)
        program = PROGRAM.format(recipe=self.source, out=str(self.out))
        return float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)


def command(*arguments: str) -> Contestant:
    """Return a contestant whose cost is the time of a Python process."""
    flags = [] if arguments[0] == "-m" else ["-c"]

    def run(_: object) -> None:
        subprocess.run([sys.executable, *flags, *arguments], capture_output=True, check=True)

    return Timed(arguments[-1], lambda: None, run, 1)


def dry_run(directory: Path) -> Contestant:
    path = directory / "recipe.json"
    tensors = {name: [2 * side for side in shape] for name, shape in recipe(80, 1)["tensors"].items()}
    path.write_text(json.dumps({"dtype": "bfloat16", "tensors": tensors}))
    return command("-m", "fastkaiming", "checkpoint", str(path), str(directory / "none"), "--dry-run")


def import_detail(result: Any) -> str:
    return f"{1e3 * median(result.own_costs):.0f} ms against {1e3 * median(result.other_costs):.0f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one row after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, help="a directory on the measured disk (default: temporary)")
    parser.add_argument("--gigabytes", type=int, default=20, help="size of the checkpoint (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per row (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="use a tiny checkpoint, to check that the program runs")
    options = parser.parse_args(arguments)
    layers = max(1, round(options.gigabytes * 1e9 / nbytes_of(recipe(1, 1))))
    print(about(), flush=True)
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        for case in cases(1 if options.quick else layers, 32 if options.quick else 1, Path(directory)):
            print(plain(case.measure(1 if options.quick else options.rounds)), flush=True)


if __name__ == "__main__":
    main()
