"""DTensors: local and gathered values are bitwise identical to those of a single process."""

import subprocess
import sys
from pathlib import Path

import pytest
from extended import extended
from processes import HANG_SECONDS, ROOT

pytest.importorskip("torch")
pytest.importorskip("fastkaiming.torch")

CASES = [
    *("functions", "accelerated", "tensor_without_axes", "rank_outside_the_mesh", "inconsistent_placement"),
    *("fsdp", "fsdp_and_tensor_parallelism", "reset", "reset_transformers", "parametrized"),
]


@pytest.mark.parametrize("ranks", [2, *extended([1, 4])])
def test_every_rank_fills_its_part_of_the_same_tensor(ranks: int, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "torch_ranks.py"), str(ranks), str(tmp_path / "store")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.split()) == sorted(ranks * CASES)
