"""The benchmarks of torch's models and of calls on its tensors."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import calls  # noqa: E402
import torch_fills  # noqa: E402
from harness import Timed  # noqa: E402


@pytest.mark.extended
def test_model_is_built_and_freed_twice_before_each_measured_build() -> None:
    made: list[Any] = []
    alive: list[int] = []

    def make() -> Any:
        alive.append(sum(each() is not None for each in made))
        model = torch.nn.Linear(5, 3)
        model.itself = [model]  # only the garbage collector frees it
        made.append(weakref.ref(model))
        return model

    result = torch_fills.built("a model", make, 1, 2).measure(2)
    assert {name: len(costs) for name, costs in result.costs.items()} == {"fastkaiming": 2, "torch": 2}
    assert alive == [0] * 18  # two contestants, three rounds (one discarded), each with two builds before it


@pytest.mark.parametrize("row", calls.cases()[2:], ids=lambda row: row.name)
def test_rows_of_calls_use_fastkaiming_and_torch(row: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "CALLS", 1)
    values = []
    for contestant in (row.fastkaiming, *row.others):
        assert isinstance(contestant, Timed)
        prepared = contestant.prepare()
        torch.manual_seed(0)
        with contestant.within():
            contestant.run(prepared)
        values.append(prepared[1])
    accelerated, plain = values
    torch.manual_seed(0)
    name = "uniform_" if "tensor.uniform_()" in row.name else "kaiming_uniform_"
    own = torch.zeros(prepared[1].shape)
    own.uniform_() if name == "uniform_" else torch.nn.init.kaiming_uniform_(own)
    assert torch.equal(plain, own)
    assert accelerated.shape == own.shape
    assert not torch.equal(accelerated, own)
    assert accelerated.std() == pytest.approx(own.std().item(), rel=0.2)
