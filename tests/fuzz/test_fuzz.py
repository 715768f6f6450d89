"""The fuzzers on stored inputs and on a few random ones. Longer runs are separate programs."""

import subprocess

import entry_points
import numpy as np
import pytest
from processes import ROOT, compiled, core_objects

FUZZ = ROOT / "tests" / "fuzz"


def test_stored_plans_give_the_reference_values(tmp_path_factory: pytest.TempPathFactory) -> None:
    objects = core_objects(tmp_path_factory)
    sources = [FUZZ / "plan_fuzzer.c", FUZZ / "replay.c"]
    program = compiled(tmp_path_factory.mktemp("fuzz") / "replay", *sources, *objects, "-lm")
    result = subprocess.run([program, FUZZ / "plans.txt"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{len((FUZZ / 'plans.txt').read_text().splitlines())} inputs\n"


def test_random_calls_fill_or_raise() -> None:
    entry_points.random_calls(seed=20150206, count=3000)


@pytest.mark.parametrize(
    ("flaw", "report"),
    [
        ("raises", "ZeroDivisionError"),
        ("lines", "of one line"),
        ("writes", "an array was changed although the call raised"),
        ("strays", "bytes outside the elements were written"),
    ],
)
def test_flawed_calls_are_detected(monkeypatch: pytest.MonkeyPatch, flaw: str, report: str) -> None:
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
        raise ValueError("two\nlines" if flaw == "lines" else "rejected")

    monkeypatch.setattr(entry_points, "FUNCTIONS", [flawed])
    monkeypatch.setattr(entry_points, "CALLS", [entry_points.fill])
    with pytest.raises((ZeroDivisionError, AssertionError)) as raised:
        entry_points.random_calls(seed=1, count=50)
    assert report in f"{raised.type.__name__}: {raised.value}"
