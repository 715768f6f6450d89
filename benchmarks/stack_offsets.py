"""Measure whether the speed of a kernel depends on the offsets of its stack frame and its output within a page.

    python benchmarks/stack_offsets.py --isa avx2 --compilers clang gcc --markdown FILE

It compiles csrc/ with each compiler and times the kernels with the stack pointer at every multiple of 16 bytes modulo
4096, for an output in the first-level cache. The programs run in turn, and the minimum time of each offset counts, so
that other processes have little effect. To compare two versions of the kernels, name the csrc/ folders of two
checkouts: `--csrc ../before/fastkaiming/csrc fastkaiming/csrc`. It needs a C compiler, POSIX and x86-64.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path

from machine import cpu_model

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent / "fastkaiming" / "csrc"
SLOW = 1.2  # times the median


@dataclass(frozen=True)
class Build:
    """The benchmark program, built by one compiler from one folder of sources."""

    compiler: str
    csrc: Path
    program: Path

    @staticmethod
    def compiled(compiler: str, csrc: Path, program: Path) -> Build:
        flags = [f"@{csrc}/cflags.rsp", f"-I{csrc}"]
        sources = [HERE / "stack_offsets.c", *sorted(csrc.rglob("*.c"))]
        subprocess.run([compiler, *flags, *sources, "-o", program, "-lm"], check=True)
        return Build(compiler, csrc, program)

    def version(self) -> str:
        shown = subprocess.run([self.compiler, "--version"], capture_output=True, text=True, check=True)
        return shown.stdout.splitlines()[0]

    def times(self, isa: str, nbytes: int, output_offset: int, rounds: int) -> dict[tuple[str, int], float]:
        """Return nanoseconds per element by kernel and stack offset."""
        arguments = [isa, str(nbytes), str(output_offset), str(rounds)]
        shown = subprocess.run([self.program, *arguments], stdout=subprocess.PIPE, text=True, check=True)
        rows = [line.split() for line in shown.stdout.splitlines()]
        return {(kernel, int(offset)): float(time) for kernel, offset, time in rows}


def least_times(
    builds: list[Build], isa: str, nbytes: int, output_offsets: list[int], rounds: int, turns: int
) -> dict[tuple[Build, int, str], dict[int, float]]:
    """Return the least time at each stack offset, by build, output offset and kernel."""
    least: dict[tuple[Build, int, str], dict[int, float]] = defaultdict(dict)
    for _ in range(turns):
        for output_offset in output_offsets:
            for build in builds:
                for (kernel, offset), time in build.times(isa, nbytes, output_offset, rounds).items():
                    found = least[build, output_offset, kernel]
                    found[offset] = min(time, found.get(offset, time))
    return least


def table(least: dict[tuple[Build, int, str], dict[int, float]]) -> str:
    """Return the times in Markdown, kernel by kernel."""
    text = "| kernel | compiler | sources | output offset | least | median | most | slow stack offsets |\n"
    text += f"|{' --- |' * 8}\n"
    kernels = list(dict.fromkeys(kernel for _, _, kernel in least))
    for (build, output_offset, kernel), times in sorted(least.items(), key=lambda item: kernels.index(item[0][2])):
        median = statistics.median(times.values())
        slow = [str(offset) for offset, time in times.items() if time > SLOW * median]
        text += f"| {kernel} | {build.compiler} | {relpath(build.csrc)} | {output_offset} | {min(times.values()):.3f} "
        text += f"| {median:.3f} | {max(times.values()):.3f} | {len(slow)} of {len(times)}"
        text += f": {', '.join(slow)} |\n" if slow else " |\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the kernels at each stack offset.")
    parser.add_argument("--isa", default="avx2", help="the instruction set (avx2)")
    parser.add_argument("--compilers", nargs="+", default=["clang", "gcc"], metavar="CC", help="(clang gcc)")
    parser.add_argument("--csrc", nargs="+", type=Path, default=[CSRC], metavar="FOLDER", help="the C sources")
    parser.add_argument("--bytes", type=int, default=1 << 14, help="the length of the output (16384)")
    parser.add_argument("--output-offsets", nargs="+", type=int, default=[0, 4, 1040], metavar="N", help="(0 4 1040)")
    parser.add_argument("--rounds", type=int, default=20, help="rounds over all offsets in a run of a program (20)")
    parser.add_argument("--turns", type=int, default=5, help="runs of each program (5)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pairs = [(compiler, csrc) for compiler in options.compilers for csrc in options.csrc]
        builds = [
            Build.compiled(compiler, csrc, Path(folder, f"program{number}"))
            for number, (compiler, csrc) in enumerate(pairs)
        ]
        versions = "; ".join(dict.fromkeys(build.version() for build in builds))
        least = least_times(builds, options.isa, options.bytes, options.output_offsets, options.rounds, options.turns)
    found = f"CPU {cpu_model()}, ISA {options.isa}; {versions}. Nanoseconds per element:\n\n{table(least)}"
    print(found)
    if options.markdown:
        options.markdown.write_text(found)


if __name__ == "__main__":
    main()
