"""Fills use less than 16 KiB of stack and work on threads with a stack of 32 KiB."""

import platform

import pytest
from extended import ISAS, extended
from processes import ROOT, answers, compiled, core_objects, python

import fastkaiming as fk

linux_only = pytest.mark.skipif(platform.system() != "Linux", reason="requires Linux")

MAX_BYTES = 16 * 1024
LAYOUTS = {
    "one",
    "direct",
    "streaming",
    "misaligned",
    "swapped",
    "strided",
    "transposed",
    "short rows",
    "short rows around block 2^32",
}


@pytest.fixture(scope="module")
def depths(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], int]:
    """Return the largest stack depth for each instruction set and layout, measured by tests/c/stack_test.c."""
    if platform.system() != "Linux":
        pytest.skip("other systems may use the stack of a new thread differently")
    source = ROOT / "tests" / "c" / "stack_test.c"
    program = compiled(tmp_path_factory.mktemp("stack") / "stack", source, *core_objects(tmp_path_factory), "-lm")
    deepest: dict[tuple[str, str], int] = {}
    for line in answers(program, []):
        isa, _operation, _format, rest = line.split(maxsplit=3)
        layout, _threads, depth = rest.rsplit(maxsplit=2)
        deepest[isa, layout] = max(deepest.get((isa, layout), 0), int(depth))
    return deepest


def test_fills_use_less_than_16_kib_of_stack(depths: dict[tuple[str, str], int]) -> None:
    assert depths.keys() == {(isa, layout) for isa in fk.available_isas() for layout in LAYOUTS}
    assert {case: depth for case, depth in depths.items() if not 0 < depth < MAX_BYTES} == {}
    print(f"{max(depths.values())} bytes at most")


ON_SMALL_STACKS = """
import sys, threading
import ml_dtypes
import numpy as np
import fastkaiming as fk
from fastkaiming import _core

try:
    threading.stack_size(int(sys.argv[1]))
except ValueError as error:
    print("rejected", error)
    sys.exit()
_core.select_isa(sys.argv[2])

def layouts(dtype):
    def zeros(*shape):
        return np.zeros(shape, dtype)

    yield "contiguous", zeros(700, 400)
    yield "small", zeros(16, 16)
    yield "transposed", zeros(400, 700).T
    yield "with steps", zeros(1400, 1200)[::2, ::3]
    yield "backwards", zeros(700, 400)[::-1, ::-1]
    yield "misaligned", np.zeros(1 + 280_000 * zeros(1).itemsize, np.uint8)[1:].view(dtype).reshape(700, 400)
    if np.dtype(dtype).kind == "f":
        yield "swapped", np.zeros((700, 400), np.dtype(dtype).newbyteorder())

def on_a_new_thread(function, *arguments, **named):
    def run():
        try:
            function(*arguments, **named)
        except BaseException as error:
            errors.append(error)

    errors = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]

# The main thread makes no calls before, so the initialization of Python, NumPy and fastkaiming in a first call runs on
# small stacks, too. If the program crashes, the last name printed is that of the failing case.
arrays = []
narrow = (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)
for dtype in (np.float16, np.float32, np.float64, *narrow):
    for layout, out in layouts(dtype):
        bounded = [fk.TruncatedNormal(0.0, 1.0, low, high) for low, high in ((-2, 2), (-1, 3), (0.5, 0.75), (5, 6))]
        for distribution in (fk.Normal(), fk.Uniform(), *bounded):
            print(np.dtype(dtype).name, layout, distribution, flush=True)
            on_a_new_thread(fk.fill_, out, distribution, rng=1, threads=2)
            arrays.append((out.copy(), distribution))
            out[...] = 0
for filled, distribution in arrays:
    again = np.empty_like(filled)
    fk.fill_(again, distribution, rng=1)
    assert filled.tobytes() == again.tobytes()

streamed, plain = np.zeros(1 << 20, np.float32), np.zeros(1 << 20, np.float32)
on_a_new_thread(_core.fill, streamed, _core.NORMAL_F32, 1, 0, 0, scale=1.0, store=_core.STORE_STREAMING)
_core.fill(plain, _core.NORMAL_F32, 1, 0, 0, scale=1.0, store=_core.STORE_PLAIN)
assert np.array_equal(streamed, plain)

model = {f"{layer}.weight": np.zeros((64, 64), np.float32) for layer in range(4)}
on_a_new_thread(fk.init_, model, rng=1)
on_a_new_thread(fk.kaiming_normal_, np.zeros((64, 64), np.float32))
print("all right")
"""


@linux_only
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kib", [32, *extended([48, 64])])
def test_fills_work_on_small_stacks(kib: int, isa: str) -> None:
    result = python(ON_SMALL_STACKS, str(kib * 1024), isa, OPENBLAS_NUM_THREADS="1")
    last = result.stdout.splitlines()[-1:]
    if last and last[0].startswith("rejected"):
        pytest.skip(f"this Python cannot create such a thread: {last[0]}")
    assert result.returncode == 0, f"{last} ended with {result.returncode}: {result.stderr}"
    assert last == ["all right"]
