"""The instruction counts of the roofline agree with the stream specification and the widths of vectors."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys

import pytest
from processes import ROOT

from fastkaiming import _core

sys.path.insert(0, str(ROOT / "benchmarks"))

import roofline

LANES = {"avx512ifma": 16, "avx512": 16, "avx2": 8}  # of 32 bits
ISAS = [isa for isa in _core.available_isas() if isa in LANES]
KERNELS = [(isa, operation) for isa in ISAS for operation in roofline.OPERATIONS]

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which("objdump") is None, reason="needs objdump and x86-64"
)


@pytest.fixture(scope="module")
def listing() -> str:
    command = ["objdump", "-d", "--no-show-raw-insn", _core.__file__]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("isa", "operation"), KERNELS)
def test_counts_match_the_specification(listing: str, isa: str, operation: str) -> None:
    """Three of the 20 products of ten rounds are the same for all counters (docs/stream-v1.md, section 2)."""
    counts = roofline.loop_of(listing, isa, operation).counts()
    products_a_counter, words_a_counter, counters = 17, 4, LANES[isa] / 2
    if isa == "avx512ifma":  # also multiplies for the high halves, except in the last round
        products_a_counter += 15
    assert counts["multiply"] == pytest.approx(products_a_counter / words_a_counter / counters)
    roots_a_word = (
        0.5 / LANES[isa] if "normal" in operation else 0
    )  # one for two values, each of two words in double precision
    assert counts["root"] == pytest.approx(roots_a_word)
    assert counts["store"] >= 1 / LANES[isa] * 0.999


@pytest.mark.parametrize(
    ("instruction", "kind"),
    [
        ("vpmuludq 0x40(%rsp),%zmm1,%zmm2", "multiply"),
        ("vpmadd52huq %zmm3,%zmm1,%zmm2", "multiply"),
        ("vpsrlq $0x20,%zmm1,%zmm2", "shift"),
        ("vpshldd $0x2,%zmm3,%zmm1,%zmm2", "shift"),
        ("vmovshdup %zmm1,%zmm2", "shuffle"),
        ("vpternlogq $0x96,%zmm3,%zmm1,%zmm2", "logic"),
        ("vfmadd132ps %zmm3,%zmm1,%zmm2", "arithmetic"),
        ("vsqrtps %zmm1,%zmm2", "root"),
        ("vgetexpps %zmm1,%zmm2{%k1}{z}", "conversion"),
        ("vmovaps %zmm1,%zmm2{%k1}", "selection"),
        ("vmovaps 0x40(%rsp),%zmm2", "load"),
        ("vmovups %zmm2,0x40(%rdi)", "store"),
        ("vmovaps %zmm1,%zmm2", None),
        ("add $0x40,%rdi", None),
    ],
)
def test_kinds_of_instructions(instruction: str, kind: str | None) -> None:
    assert roofline.kind_of(instruction) == kind


def test_streaming_stores_and_their_loads_are_excluded() -> None:
    instructions = [
        "vmovaps (%rsi),%zmm3",
        "vmovaps 0x40(%rsi),%zmm4",
        "vmovntdq %zmm3,(%rdi)",
        "vpxorq %zmm4,%zmm4,%zmm5",
    ]
    assert roofline.without_streaming(instructions) == ("vmovaps 0x40(%rsi),%zmm4", "vpxorq %zmm4,%zmm4,%zmm5")
