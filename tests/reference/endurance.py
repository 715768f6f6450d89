"""Compares random fills with the reference implementation, and checks that memory use does not grow.

    python tests/reference/endurance.py [--minutes 60] [--seed N] [--json FILE]

Each fill has a random dtype, distribution, key, shape and shard, up to the end of the stream; a random instruction set
and number of threads; and memory with random strides, byte order and address. No byte outside the elements may change.
The program stops at the first difference with exit status 1, and prints how to repeat that fill.
"""

import argparse
import ctypes
import json
import math
import platform
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import reference_parts
from numpy.typing import NDArray
from reference_parts import bits

import fastkaiming as fk
from fastkaiming import _core
from fastkaiming.distributions import Distribution

DTYPES = [
    *map(np.dtype, ("<f4", ">f4", "<f8", ">f8", "<f2", ">f2")),
    *map(np.dtype, (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)),
]
MAX_ELEMENTS = 1 << 18
MAX_THREADS = 7
GUARD = 0xA5
LEAD = (0, 1, 2, 3, 4, 8, 63, 64, 100)  # bytes before the first element
MIB = 1 << 20
ALLOWED_GROWTH = 8 * MIB


@dataclass(frozen=True)
class Plan:
    """A fill and its memory: the order of the axes, their steps, and the number of bytes before it."""

    dtype: np.dtype[Any]
    distribution: Distribution
    key: fk.Key
    shape: tuple[int, ...]
    index: tuple[slice, ...]
    axes: tuple[int, ...]
    steps: tuple[int, ...]
    lead: int
    threads: int
    isa: str

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of elements of the shard along each axis."""
        return tuple(len(range(*part.indices(size))) for part, size in zip(self.index, self.shape, strict=True))


def random_plan(rng: random.Random) -> Plan:
    dtype = rng.choice(DTYPES)
    counts = random_counts(rng)
    selected = [random_axis(rng, count) for count in counts]
    shape = [size for size, _ in selected]
    if rng.random() < 0.3:  # a shard at a large index of a tensor larger than memory
        axis = rng.randrange(len(shape))
        max_shift = 2**64 // math.prod(shape) - 1
        shift = rng.choice((2**31, 2**32, 2**33, 2**34, max_shift, rng.randrange(max_shift)))
        shift = min(max(shift // max(1, math.prod(shape[axis + 1 :])) - rng.randrange(9), 0), max_shift)
        size, part = selected[axis]
        selected[axis] = (size + shift, slice(part.start + shift, part.stop + shift, part.step))
    axes = list(range(len(counts)))
    rng.shuffle(axes)
    return Plan(
        dtype,
        random_distribution(rng, dtype),
        fk.Key(rng.getrandbits(64), rng.getrandbits(rng.choice((8, 64)))),
        tuple(size for size, _ in selected),
        tuple(part for _, part in selected),
        tuple(axes if rng.random() < 0.5 else sorted(axes)),
        tuple(rng.choice((1, 1, 1, -1, 2, -3)) for _ in counts),
        rng.choice(LEAD),
        rng.randint(1, MAX_THREADS),
        rng.choice(_core.available_isas()),
    )


def random_counts(rng: random.Random) -> list[int]:
    """Return the number of elements along each axis: few rows, which are slow in the reference implementation."""
    last = round(2 ** rng.uniform(0, math.log2(MAX_ELEMENTS)))
    rows = round(2 ** rng.uniform(0, min(7.0, math.log2(MAX_ELEMENTS // last + 1))))
    first = rng.choice([count for count in range(1, rows + 1) if rows % count == 0])
    return rng.choice([[last], [rows, last], [first, rows // first, last], [rows, 1, 1, last]])


def random_axis(rng: random.Random, count: int) -> tuple[int, slice]:
    """Return the size of an axis, and a slice that selects `count` elements of it."""
    step = rng.choice((1, 1, 1, 2, 3, 5))
    start = rng.choice((0, rng.randrange(50)))
    stop = start + (count - 1) * step + 1
    return stop + rng.choice((0, rng.randrange(50))), slice(start, stop, step)


def random_distribution(rng: random.Random, dtype: np.dtype[Any]) -> Distribution:
    """Return a distribution whose values every format can represent, most often one that is typical of weights."""
    scale = rng.choice((1.0, 0.02, 2.0 ** rng.uniform(-5, 4)))
    center = rng.choice((0.0, 0.0, rng.uniform(-2, 2) * scale))
    kind = rng.randrange(3)
    if kind == 0:
        return fk.Normal(center, scale)
    if kind == 1:
        return fk.Uniform(center - scale, center + scale)
    low = center + scale * rng.choice((-2.0, rng.uniform(-4, 1)))
    high = rng.choice((2 * center - low, low + scale * rng.uniform(0.5, 6)))
    if high - low < scale / 2 or (dtype.itemsize == 1 and high - low < 1):
        return fk.Normal(center, scale)
    return fk.TruncatedNormal(center, scale, low, high)


def allocate(plan: Plan) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Return memory full of guard bytes, and a view of the elements in the layout of the plan."""
    sizes = [plan.counts[axis] * abs(plan.steps[axis]) for axis in plan.axes]
    memory = np.full(plan.lead + math.prod(sizes) * plan.dtype.itemsize + LEAD[-1], GUARD, np.uint8)
    elements = memory[plan.lead : len(memory) - LEAD[-1]].view(plan.dtype).reshape(sizes)
    in_order = elements.transpose(np.argsort(plan.axes))
    return memory, in_order[tuple(slice(None, None, step) for step in plan.steps)]


def difference(plan: Plan) -> str | None:
    """Run a fill, and return a description of the first difference, or None."""
    native = plan.dtype.newbyteorder("=")
    expected = reference_parts.part(native, plan.distribution, plan.key, plan.shape, plan.index)
    memory, out = allocate(plan)
    _core.select_isa(plan.isa)
    fk.fill_(out, plan.distribution, rng=plan.key, global_shape=plan.shape, index=plan.index, threads=plan.threads)
    found = bits(out.astype(native))
    if not np.array_equal(found, expected):
        wrong = np.argwhere(found != expected)
        return f"{len(wrong)} elements differ, the first at {wrong[0].tolist()}"
    out[...] = np.frombuffer(bytes([GUARD]) * plan.dtype.itemsize, plan.dtype)[0]
    return None if np.all(memory == GUARD) else "bytes outside the elements were written"


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes, without the free memory of its allocator."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])


def main(arguments: list[str] | None = None) -> int:
    """Run until the time is over or a difference is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the random plans (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    options = parser.parse_args(arguments)
    selected = _core.isa()
    try:
        results = run_fills(options.seed, 60 * options.minutes)
    finally:
        _core.select_isa(selected)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 1 if results["differences"] or results["growth"] > ALLOWED_GROWTH else 0


def run_fills(seed: int, seconds: float) -> dict[str, Any]:
    """Run random fills; return their number, their elements, and how much memory grew after a tenth of the time."""
    started = reported = time.monotonic()
    fills = elements = 0
    baseline = 0
    failed = None
    while failed is None and time.monotonic() < started + seconds:
        plan = random_plan(random.Random(f"{seed} {fills}"))
        failed = difference(plan)
        fills += 1
        elements += math.prod(
            len(range(*part.indices(size))) for part, size in zip(plan.index, plan.shape, strict=True)
        )
        now = time.monotonic()
        if baseline == 0 and now > started + seconds / 10:
            baseline = resident_bytes()
        if failed is not None:
            print(f"seed {seed}, fill {fills - 1}: {failed}: {plan}")
        if now > reported + 60:
            reported = now
            print(f"{fills:,} fills, {elements:,} elements, {resident_bytes() / MIB:.0f} MiB", flush=True)
    growth = resident_bytes() - baseline if baseline else 0
    print(f"{fills:,} fills, {elements:,} elements, {failed or 'no difference'}, memory grew by {growth / MIB:.1f} MiB")
    return {"fills": fills, "elements": elements, "differences": int(failed is not None), "growth": growth}


if __name__ == "__main__":
    sys.exit(main())
