"""The kernels spill vectors to aligned stack frames only, with any compiler."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from processes import CSRC, compiled

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which("objdump") is None, reason="requires x86-64 and objdump"
)


@pytest.mark.extended
@pytest.mark.parametrize("isa", ["avx2", "avx512", "avx512ifma"])
def test_vectors_on_the_stack_are_aligned(tmp_path: Path, isa: str) -> None:
    """An unaligned vector may cross a page, which is slow: docs/experiments.md, "Stack frame alignment"."""
    kernels = compiled(tmp_path / "kernels.o", "-c", CSRC / "simd" / f"kernel_{isa}.c")
    command = ["objdump", "-d", "--no-show-raw-insn", str(kernels)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    moves = re.findall(r"\tvmov.*\(%r[sb]p\).*", listing)
    vectors = [move for move in moves if re.search(r"%[yz]mm", move)]
    assert any(re.match(r"\tvmov(ap[sd]|dqa)", move) for move in vectors)
    assert [move for move in vectors if re.match(r"\tvmov(up[sd]|dqu)", move)] == []
