"""Measure the limits of the kernels on this machine: instructions and cycles per word, and store bandwidth.

    python benchmarks/roofline.py --markdown FILE

The program reads the loops of the kernels from the built core (objdump), counts their vector instructions, times the
kernels on an array in the second-level cache, and times the same instructions without data dependencies. Without
dependencies, each instruction writes to a register of its own, so that only the execution ports and the front end limit
the throughput. The rest of a kernel's time is latency: waiting for results and for registers that are reloaded from the
stack. The program needs binutils, a C compiler and x86-64.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import about

from fastkaiming import _core

CSRC = Path(__file__).resolve().parents[1] / "fastkaiming" / "csrc"
OPERATIONS = {
    "words": _core.WORDS_U32,
    "uniform_f32": _core.UNIFORM_F32,
    "normal_f32": _core.NORMAL_F32,
    "uniform_f64": _core.UNIFORM_F64,
    "normal_f64": _core.NORMAL_F64,
}
# Of operations with a kernel for each format, the kernel that does not round.
KERNELS = {  # kernel names that differ from the names in OPERATIONS
    "words": "words_u32",
    "uniform_f32": "uniform_symmetric_f32_float32",
    "normal_f32": "normal_f32_float32",
    "uniform_f64": "uniform_symmetric_f64",
}
SINGLE = (_core.UNIFORM_F32, _core.NORMAL_F32, _core.CONSTANT_F32)
WORD_BYTES = 4
KINDS = {  # by the start of the mnemonic; the first match counts
    "multiply": r"vpmul|vpmadd52",
    "shift": r"vps[rl][la]|vpro[rl]|vpsh[lr]d",
    "shuffle": r"vpshuf|vpunpck|vunpck|vperm|vmovs[hl]dup|vpblendd|vshuf|vinsert|vextract|vgather|vpmovz|valign",
    "logic": r"vp?xor|vp?and|vp?or|vptern",
    "arithmetic": r"vfn?m|vmul[ps]|vadd[ps]|vsub[ps]|vpadd|vpsub|vmin|vmax|vdiv",
    "root": r"vsqrt",
    "conversion": r"vcvt|vgetexp|vgetmant",
    "selection": r"vblend|vpblendv|vpmov[dq]2m|vptest|vpcmp|vcmp|k[a-z]+[bwdq]$",
}
STORED = re.compile(r"\(%[^)]*\)(\{%k\d\})?$")
CYCLES = """
#include <stdio.h>
#include <time.h>
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static double least(void (*run)(long), long turns) {
    double best = 1;
    for (int i = 0; i < 15; i++) {
        const double start = now();
        run(turns);
        const double took = now() - start;
        best = took < best ? took : best;
    }
    return best / (double)turns;
}
static void chain(long turns) {
    for (unsigned long x = 1; turns > 0; turns--) {
        __asm__ volatile(".rept 100\\n add $1, %0\\n .endr" : "+r"(x)); /* a dependent chain: one cycle each */
    }
}
static _Alignas(64) float memory[1024]; /* loads use the first half, stores the second */
"""

# Ones, which never become numbers that some CPUs process slowly, such as denormals.
SET_INPUT = '__asm__ volatile("vbroadcastss (%0), %%ymm15" :: "D"(memory) : "memory");'


@dataclass(frozen=True)
class Loop:
    """The instructions of a kernel for one tile."""

    isa: str
    operation: str
    instructions: tuple[str, ...]
    words: int

    @property
    def is_gathering(self) -> bool:
        return any(text.startswith("vgather") for text in self.instructions)

    def counts(self) -> dict[str, float]:
        """Return instructions per word, by kind; loads and stores count if they are separate instructions."""
        found = dict.fromkeys([*KINDS, "load", "store"], 0.0)
        for text in self.instructions:
            kind = kind_of(text)
            if kind:
                found[kind] += 1 / self.words
        return found


def kind_of(instruction: str) -> str | None:
    """Return the kind of a vector instruction; None for register moves, which need no port, and for the rest."""
    if instruction.startswith("vmov") and "dup" not in instruction.split()[0]:
        if STORED.search(instruction):
            return "store"
        if "{%k" in instruction:
            return "selection"
        return "load" if "(" in instruction else None
    return next((kind for kind, start in KINDS.items() if re.match(start, instruction)), None)


def widths(isa: str) -> tuple[int, int]:
    """Return the number of words in a vector and in a tile of the kernel, from its header."""
    header = (CSRC / "simd" / f"vec_{isa.removesuffix('ifma')}.h").read_text()
    lanes, groups = (int(re.findall(rf"#define {name} (\d+)", header)[0]) for name in ("FK_W64", "FK_GROUPS"))
    return 2 * lanes, 4 * lanes * groups


def without_streaming(instructions: list[str]) -> tuple[str, ...]:
    """Return the instructions without streaming stores and their loads, which a fill in the cache does not use."""
    left = list(instructions)
    for text in instructions:
        if text.startswith("vmovnt"):
            register = text.split()[1].split(",")[0]
            place = left.index(text)
            feeding = max(i for i in range(place) if left[i].endswith(f",{register}") and kind_of(left[i]) == "load")
            del left[place], left[feeding]
    return tuple(left)


def loop_of(listing: str, isa: str, operation: str) -> Loop:
    """Return the loop over tiles: the shortest backward jump around nearly all multiplications of the kernel."""
    symbol = f"fk_{KERNELS.get(operation, operation)}_{isa}"
    body = re.search(rf"^[0-9a-f]+ <{symbol}>:\n(.*?)\n\n", listing, re.DOTALL | re.MULTILINE)
    if body is None:
        raise SystemExit(f"the core has no symbol {symbol}: it is stripped, or not built for x86-64")
    lines = [(int(place, 16), text.strip()) for place, text in re.findall(r"^ *([0-9a-f]+):\t(.*)$", body[1], re.M)]
    multiplications = sum("vpmuludq" in text for _, text in lines)
    lanes, words = widths(isa)
    candidates = []
    for end, text in lines:
        jump = re.match(r"j\w+ +([0-9a-f]+)", text)
        if jump and (start := int(jump[1], 16)) < end:
            inside = without_streaming([text.split("#")[0].strip() for place, text in lines if start <= place < end])
            stored = sum(kind_of(text) == "store" for text in inside)
            if stored >= words / lanes and sum("vpmuludq" in text for text in inside) > 0.85 * multiplications:
                candidates.append(inside)
    return Loop(isa, operation, min(candidates, key=len), words)


def without_dependencies(loop: Loop) -> list[str]:
    """Return the vector instructions of a loop, changed so that none reads a register that another one writes."""
    input_register, written = 15, 15
    texts = []
    for turn, text in enumerate(text for text in loop.instructions if kind_of(text)):
        destination, masked = turn % written, 2 + turn % 5
        name, operands = text.split(None, 1)
        place = 64 * (turn % 32) + (2048 if STORED.search(text) and kind_of(text) == "store" else 0)
        operands = re.sub(r"-?(0x)?[0-9a-f]*\(%[^)]*\)", f"{place}(%%rdi)", operands)
        operands = re.sub(r"%([xyz])mm\d+", rf"%%\1mm{input_register}", operands)
        if not STORED.search(text):
            operands = re.sub(rf"%%([xyz])mm{input_register}(\{{.*\}})?$", rf"%%\1mm{destination}\2", operands)
        operands = re.sub(r"%k\d", "%%k1", operands)
        operands = re.sub(r"%%k1$", f"%%k{masked}", operands)
        texts.append(f"{name} {operands}")
    return texts


def clock_and_bounds(loops: list[Loop]) -> tuple[float, dict[tuple[str, str], float]]:
    """Return the clock in GHz, and for each loop the cycles per word of its instructions without dependencies."""
    source = CYCLES
    for number, loop in enumerate(loops):
        lines = "".join(
            f'        "{text}\\n"\n'.replace("{", "%{").replace("}", "%}") for text in without_dependencies(loop)
        )
        source += f"static void loop{number}(long turns) {{\n    {SET_INPUT}\n    for (; turns > 0; turns--) {{\n"
        source += f'    __asm__ volatile(\n{lines}    :: "D"(memory) : "memory");\n    }}\n}}\n'
    source += "int main(void) {\n    for (int i = 0; i < 1024; i++) { memory[i] = 1; }\n"
    source += '    printf("%.9g\\n", least(chain, 100000) / 100);\n'
    source += "".join(f'    printf("%.9g\\n", least(loop{number}, 20000));\n' for number in range(len(loops))) + "}\n"
    with tempfile.TemporaryDirectory() as folder:
        text, program = Path(folder, "loops.c"), Path(folder, "loops")
        text.write_text(source)
        subprocess.run(["cc", "-O1", "-o", program, text], check=True)
        seconds = [float(line) for line in subprocess.run([program], stdout=subprocess.PIPE, check=True).stdout.split()]
    cycle, *turns = seconds
    bounds = {(loop.isa, loop.operation): turn / cycle / loop.words for loop, turn in zip(loops, turns, strict=True)}
    return 1e-9 / cycle, bounds


def seconds_a_word(operation: int, nbytes: int, threads: int = 1, rounds: int = 25) -> float:
    """Return the seconds per word in an array of a size in bytes.

    The difference to an array of half the size excludes the constant cost of a call.
    """
    dtype = np.uint32 if operation == _core.WORDS_U32 else np.float32 if operation in SINGLE else np.float64
    whole = np.zeros(nbytes // np.dtype(dtype).itemsize, dtype)
    center = float(operation == _core.CONSTANT_F32)  # some CPUs store zeros faster than other values
    least = []
    for part in (whole, whole[: len(whole) // 2]):
        took = []
        for _ in range(rounds):
            start = time.perf_counter()
            _core.fill(part, operation, 1, 0, 0, scale=1.0, center=center, low=-1.0, high=1.0, threads=threads)
            took.append(time.perf_counter() - start)
        least.append(min(took))
    return (least[0] - least[1]) / (nbytes / 2 / WORD_BYTES)


def table(isas: list[str], in_cache: int, in_memory: int) -> str:
    """Return the Markdown tables: instructions per word by kind, and cycles per word."""
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", _core.__file__], capture_output=True, text=True, check=True
    ).stdout
    loops = [loop_of(listing, isa, operation) for isa in isas for operation in OPERATIONS]
    clock, bounds = clock_and_bounds([loop for loop in loops if not loop.is_gathering])
    kinds = [*KINDS, "load", "store"]
    text = f"{about()}; {clock:.2f} GHz.\n\nInstructions per 32-bit word:\n\n"
    text += f"| ISA | kernel | {' | '.join(kinds)} | total |\n|{' --- |' * (len(kinds) + 3)}\n"
    for loop in loops:
        counts = loop.counts()
        cells = " | ".join(f"{counts[kind]:.2f}" for kind in kinds)
        text += f"| {loop.isa} | {loop.operation} | {cells} | {sum(counts.values()):.2f} |\n"
    text += "\nCycles per word, on one core unless noted otherwise:\n\n"
    text += "| ISA | kernel | without dependencies | in the cache | in memory | in memory, two cores, each |\n"
    text += "| --- | --- | --- | --- | --- | --- |\n"
    for loop in loops:
        _core.select_isa(loop.isa)
        operation = OPERATIONS[loop.operation]
        bound = bounds.get((loop.isa, loop.operation))
        measured = [
            seconds_a_word(operation, in_cache),
            seconds_a_word(operation, in_memory, rounds=5),
            2 * seconds_a_word(operation, in_memory, threads=2, rounds=5),
        ]
        cells = " | ".join(f"{1e9 * seconds * clock:.2f}" for seconds in measured)
        text += f"| {loop.isa} | {loop.operation} | {'-' if bound is None else f'{bound:.2f}'} | {cells} |\n"
    _core.select_isa(isas[0])
    alone, beside = (threads * seconds_a_word(_core.CONSTANT_F32, in_memory, threads, 15) for threads in (1, 2))
    cells = f"{1e9 * alone * clock:.2f} | {1e9 * beside * clock:.2f}"
    return f"{text}| {isas[0]} | stores of a constant | - | - | {cells} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Count and time the kernels' instructions, by kind and ISA.")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables to this file")
    parser.add_argument("--quick", action="store_true", help="use small arrays, to check that the program runs")
    options = parser.parse_args()
    isas = [isa for isa in _core.available_isas() if isa.startswith("avx")]
    if not isas:
        parser.error("this machine has neither AVX-512 nor AVX2")
    found = table(isas, 1 << 19, 1 << (22 if options.quick else 28))
    print(found)
    if options.markdown:
        options.markdown.write_text(found)


if __name__ == "__main__":
    main()
