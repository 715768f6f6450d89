"""The constants of the page are those that minimax.py derives."""

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from processes import ROOT

CONSTANT = re.compile(r"-?0x1(?:\.[0-9a-f]+)?p[+-]\d+")
POWERS_OF_THE_GRID = {2.0**-31, 2.0**-63, 2.0**-64}


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mpmath") is None, reason="mpmath is not installed")
def test_constants_of_the_page_are_derived() -> None:
    program = [sys.executable, str(ROOT / "tests" / "minimax.py")]
    derived = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    normal = (ROOT / "docs" / "stream-v1.md").read_text("utf-8").split("\n## 5. ")[1].split("\n## 7. ")[0]
    stated = set(map(float.fromhex, CONSTANT.findall(normal))) - POWERS_OF_THE_GRID
    assert set(map(float.fromhex, CONSTANT.findall(derived))) == stated
