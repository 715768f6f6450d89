"""minimax.py and minimax_quantile.py derive the constants of docs/stream-v1.md."""

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from processes import ROOT

CONSTANT = re.compile(r"-?0x1(?:\.[0-9a-f]+)?p[+-]\d+")
POWERS_OF_THE_GRID = {2.0**-31, 2.0**-63, 2.0**-64}
ONE_AND_BOUNDARY = {1.0, float.fromhex("0x1.7p-6")}  # constants of denominators, and the boundary of the central region


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mpmath") is None, reason="mpmath is not installed")
@pytest.mark.parametrize(
    ("program", "begin", "end", "given"),
    [
        ("minimax.py", "\n## 5. ", "\n## 7. ", POWERS_OF_THE_GRID),
        ("minimax_quantile.py", "\n### The quantile in binary32", "\n### The quantile in binary64", ONE_AND_BOUNDARY),
    ],
)
def test_derived_constants_match_the_specification(program: str, begin: str, end: str, given: set[float]) -> None:
    command = [sys.executable, str(ROOT / "tests" / "generators" / program)]
    derived = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    section = (ROOT / "docs" / "stream-v1.md").read_text("utf-8").split(begin)[1].split(end)[0]
    stated = set(map(float.fromhex, CONSTANT.findall(section)))
    assert set(map(float.fromhex, CONSTANT.findall(derived))) - given == stated - given
