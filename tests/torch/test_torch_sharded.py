"""Tensors sharded over processes: each rank's part, and what they gather, are the bits of one process."""

import subprocess
import sys
from pathlib import Path

import pytest
from extended import extended
from processes import HANG_SECONDS, ROOT

pytest.importorskip("torch")
pytest.importorskip("fastkaiming.torch")

CASES = [
    *("functions", "accelerated", "of_no_axes", "beside_the_mesh", "cut_as_no_placement_does"),
    *("fsdp", "fsdp_and_tensor_parallelism"),
]


@pytest.mark.parametrize("ranks", [2, *extended([1, 4])])
def test_ranks_fill_their_part_of_the_whole(ranks: int, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "torch_ranks.py"), str(ranks), str(tmp_path / "store")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.split()) == sorted(ranks * CASES)
