"""Random fills, one after the other, each against the second implementation: zero differences, in a flat memory.

    python tests/fuzz/endurance.py [--minutes 60] [--seed N] [--json FILE]

A fill is of any dtype, distribution, key, shape and part of it, up to the ends of the stream, by any instruction set
and number of threads, into memory of any strides, byte order and address. Bytes beside it have to stay. Ends with 1 at
the first difference, and says how to have that fill again.
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
    """A fill, and the memory that it goes to: the order of the axes in it, their steps, and bytes before it."""

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
        """How many elements it takes along each axis."""
        return tuple(len(range(*part.indices(size))) for part, size in zip(self.index, self.shape, strict=True))


def random_plan(chance: random.Random) -> Plan:
    dtype = chance.choice(DTYPES)
    counts = random_counts(chance)
    selected = [random_axis(chance, count) for count in counts]
    shape = [size for size, _ in selected]
    if chance.random() < 0.3:  # far out in a tensor larger than any memory
        axis = chance.randrange(len(shape))
        room = 2**64 // math.prod(shape) - 1
        shift = chance.choice((2**31, 2**32, 2**33, 2**34, room, chance.randrange(room)))
        shift = min(max(shift // max(1, math.prod(shape[axis + 1 :])) - chance.randrange(9), 0), room)
        size, part = selected[axis]
        selected[axis] = (size + shift, slice(part.start + shift, part.stop + shift, part.step))
    axes = list(range(len(counts)))
    chance.shuffle(axes)
    return Plan(
        dtype,
        random_distribution(chance, dtype),
        fk.Key(chance.getrandbits(64), chance.getrandbits(chance.choice((8, 64)))),
        tuple(size for size, _ in selected),
        tuple(part for _, part in selected),
        tuple(axes if chance.random() < 0.5 else sorted(axes)),
        tuple(chance.choice((1, 1, 1, -1, 2, -3)) for _ in counts),
        chance.choice(LEAD),
        chance.randint(1, MAX_THREADS),
        chance.choice(_core.available_isas()),
    )


def random_counts(chance: random.Random) -> list[int]:
    """Return how many elements are taken along each axis; few rows, for the second implementation is slow at them."""
    last = round(2 ** chance.uniform(0, math.log2(MAX_ELEMENTS)))
    rows = round(2 ** chance.uniform(0, min(7.0, math.log2(MAX_ELEMENTS // last + 1))))
    first = chance.choice([count for count in range(1, rows + 1) if rows % count == 0])
    return chance.choice([[last], [rows, last], [first, rows // first, last], [rows, 1, 1, last]])


def random_axis(chance: random.Random, count: int) -> tuple[int, slice]:
    """Return the size of an axis, and a slice that takes so many elements of it."""
    step = chance.choice((1, 1, 1, 2, 3, 5))
    start = chance.choice((0, chance.randrange(50)))
    stop = start + (count - 1) * step + 1
    return stop + chance.choice((0, chance.randrange(50))), slice(start, stop, step)


def random_distribution(chance: random.Random, dtype: np.dtype[Any]) -> Distribution:
    """Return one whose numbers every format can hold, most often like weights', sometimes not."""
    scale = chance.choice((1.0, 0.02, 2.0 ** chance.uniform(-5, 4)))
    center = chance.choice((0.0, 0.0, chance.uniform(-2, 2) * scale))
    kind = chance.randrange(3)
    if kind == 0:
        return fk.Normal(center, scale)
    if kind == 1:
        return fk.Uniform(center - scale, center + scale)
    low = center + scale * chance.choice((-2.0, chance.uniform(-4, 1)))
    high = chance.choice((2 * center - low, low + scale * chance.uniform(0.5, 6)))
    if high - low < scale / 2 or (dtype.itemsize == 1 and high - low < 1):
        return fk.Normal(center, scale)
    return fk.TruncatedNormal(center, scale, low, high)


def room_for(plan: Plan) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Return memory full of guard bytes, and the elements in it, which lie as the plan has it."""
    sizes = [plan.counts[axis] * abs(plan.steps[axis]) for axis in plan.axes]
    memory = np.full(plan.lead + math.prod(sizes) * plan.dtype.itemsize + LEAD[-1], GUARD, np.uint8)
    elements = memory[plan.lead : len(memory) - LEAD[-1]].view(plan.dtype).reshape(sizes)
    in_order = elements.transpose(np.argsort(plan.axes))
    return memory, in_order[tuple(slice(None, None, step) for step in plan.steps)]


def difference(plan: Plan) -> str | None:
    """Make a fill, and return what is wrong with it."""
    native = plan.dtype.newbyteorder("=")
    expected = reference_parts.part(native, plan.distribution, plan.key, plan.shape, plan.index)
    memory, out = room_for(plan)
    _core.select_isa(plan.isa)
    fk.fill_(out, plan.distribution, rng=plan.key, global_shape=plan.shape, index=plan.index, threads=plan.threads)
    found = bits(out.astype(native))
    if not np.array_equal(found, expected):
        wrong = np.argwhere(found != expected)
        return f"{len(wrong)} elements differ, the first at {wrong[0].tolist()}"
    out[...] = np.frombuffer(bytes([GUARD]) * plan.dtype.itemsize, plan.dtype)[0]
    return None if np.all(memory == GUARD) else "bytes beside the elements were written"


def resident() -> int:
    """Return the memory that this process holds on to, in bytes, less what its allocator keeps for later."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])


def main(arguments: list[str] | None = None) -> int:
    """Run until the time is over, or something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the plans (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(arguments)
    own = _core.isa()
    try:
        figures = endured(options.seed, 60 * options.minutes)
    finally:
        _core.select_isa(own)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if figures["differences"] or figures["growth"] > ALLOWED_GROWTH else 0


def endured(seed: int, seconds: float) -> dict[str, Any]:
    """Return how many fills were made, of how many elements, and how the memory grew after the first tenth of them."""
    started = told = time.monotonic()
    fills = elements = 0
    settled = 0
    failed = None
    while failed is None and time.monotonic() < started + seconds:
        plan = random_plan(random.Random(f"{seed} {fills}"))
        failed = difference(plan)
        fills += 1
        elements += math.prod(
            len(range(*part.indices(size))) for part, size in zip(plan.index, plan.shape, strict=True)
        )
        now = time.monotonic()
        if settled == 0 and now > started + seconds / 10:
            settled = resident()
        if failed is not None:
            print(f"seed {seed}, fill {fills - 1}: {failed}: {plan}")
        if now > told + 60:
            told = now
            print(f"{fills:,} fills, {elements:,} elements, {resident() / MIB:.0f} MiB", flush=True)
    growth = resident() - settled if settled else 0
    print(f"{fills:,} fills, {elements:,} elements, {failed or 'no difference'}, memory grew by {growth / MIB:.1f} MiB")
    return {"fills": fills, "elements": elements, "differences": int(failed is not None), "growth": growth}


if __name__ == "__main__":
    sys.exit(main())
