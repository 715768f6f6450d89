"""The fuzzers on inputs that were kept, and on some of chance; hours of them are for whoever has them."""

import subprocess

import entry_points
import numpy as np
import pytest
from processes import ROOT, compiled, core_objects

FUZZ = ROOT / "tests" / "fuzz"


def test_plans_that_a_fuzzer_kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    objects = core_objects(tmp_path_factory)
    sources = [FUZZ / "plan_fuzzer.c", FUZZ / "replay.c"]
    program = compiled(tmp_path_factory.mktemp("fuzz") / "replay", *sources, *objects, "-lm")
    result = subprocess.run([program, FUZZ / "plans.txt"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{len((FUZZ / 'plans.txt').read_text().splitlines())} inputs\n"


def test_calls_of_chance_fill_or_are_refused() -> None:
    entry_points.random_calls(seed=20150206, count=3000)


@pytest.mark.parametrize(
    ("flaw", "told"),
    [
        ("raises", "ZeroDivisionError"),
        ("lines", "in one line"),
        ("writes", "a refused array was written to"),
        ("strays", "bytes beside the elements were written to"),
    ],
)
def test_flaw_of_a_call_comes_out(monkeypatch: pytest.MonkeyPatch, flaw: str, told: str) -> None:
    def flawed(out: object, std: float = 1.0) -> None:
        if flaw == "raises":
            raise ZeroDivisionError(std)
        if flaw == "writes" and isinstance(out, np.ndarray):
            out.fill(0)
        if flaw == "strays" and isinstance(out, np.ndarray):
            whole = out
            while isinstance(whole.base, np.ndarray):
                whole = whole.base
            whole[-1:] = 0
            return
        raise ValueError("two\nlines" if flaw == "lines" else "refused")

    monkeypatch.setattr(entry_points, "FUNCTIONS", [flawed])
    monkeypatch.setattr(entry_points, "CALLS", [entry_points.fill])
    with pytest.raises((ZeroDivisionError, AssertionError)) as raised:
        entry_points.random_calls(seed=1, count=50)
    assert told in f"{raised.type.__name__}: {raised.value}"
