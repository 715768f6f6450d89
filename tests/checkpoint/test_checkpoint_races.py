"""Runs that start at the same instant, and runs that are killed, never leave a mixture of two checkpoints."""

import json
import os
import subprocess
import sys

import pytest
from processes import HANG_SECONDS, ROOT

SCRIPT = ROOT / "tests" / "helpers" / "checkpoint_races.py"
ONE_WRITES = {"[0, 2] complete"}
EXPECTED = {
    "two seeds": ONE_WRITES,
    "two seeds, resumed": ONE_WRITES,
    "three seeds": {"[0, 2, 2] complete"},
    "one seed": ONE_WRITES,
    # Both runs may share the work, or one takes over from the other.
    "one seed, resumed": {"[0, 0] complete", "[0, 2] complete"},
    "parts": {"[0, 0, 0] complete"},
    "parts of two seeds": {"[0, 2] incomplete"},
    "a part, resumed beside the others": {"[0, 0, 0] complete"},
    # Groups of runs one after the other. The first group is what started together with the killed run.
    "kill": {"[[], [0]] complete"},
    # The other seed raises an error, or the run was killed before it locked the directory.
    "kill, another seed": {"[[], [2], [0]] complete", "[[], [0], [2]] complete"},
    "kill, two resumed": {"[[], [0, 0]] complete", "[[], [0, 2]] complete"},
    "kill, another seed at once": {"[[2], [0]] complete", "[[0], [2]] complete"},
    "kill a part": {"[[0, 0], [0]] complete"},
    "kill a part, resume all": {"[[0, 0], [0]] complete"},
}


def outcomes(scenario: str, rounds: int) -> dict[str, int]:
    """Run a scenario several times, and return how often each outcome occurred."""
    result = subprocess.run(
        [sys.executable, SCRIPT, scenario, str(rounds)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS * max(1, rounds // 20),
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    counts: dict[str, int] = json.loads(result.stdout)
    assert sum(counts.values()) == rounds
    return counts


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("rounds", [5, pytest.param(300, marks=pytest.mark.extended)])
@pytest.mark.parametrize("scenario", EXPECTED)
def test_no_race_leaves_a_mixture(scenario: str, rounds: int) -> None:
    assert outcomes(scenario, rounds).keys() <= EXPECTED[scenario]
