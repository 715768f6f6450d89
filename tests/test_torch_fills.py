"""The benchmark of torch's models and of calls on its tensors: what is built, freed and filled, and when."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import calls  # noqa: E402
import stores  # noqa: E402
import torch_fills  # noqa: E402
from harness import Timed  # noqa: E402


def test_bytes_of_a_model_and_of_a_list_of_layers() -> None:
    layer = (3 * 5 + 3) * 4
    assert torch_fills.bytes_of(lambda: torch.nn.Linear(5, 3)) == layer
    assert torch_fills.bytes_of(lambda: [torch.nn.Linear(5, 3) for _ in range(4)]) == 4 * layer


def test_the_previous_model_is_freed_and_its_memory_touched_before_each_build(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    log: list[object] = []

    def make() -> Any:
        model = torch.nn.Linear(5, 3)
        model.itself = [model]  # only the garbage collector frees it
        if model.weight.device.type != "meta":
            made.append(weakref.ref(model))
            log.append("built")
        return model

    def touch_and_free(nbytes: int) -> None:
        log.append((nbytes, [each() for each in made if each() is not None]))

    monkeypatch.setattr(stores, "touch_and_free", touch_and_free)
    result = torch_fills.built("a model", make, 1, 2).measure(2)
    assert {name: len(costs) for name, costs in result.costs.items()} == {"fastkaiming": 2, "torch": 2}
    assert log == [((3 * 5 + 3) * 4, []), "built"] * 6  # two of them are discarded


@pytest.mark.parametrize("row", calls.cases()[2:], ids=lambda row: row.name)
def test_calls_on_tensors_are_by_fastkaiming_and_by_torch(row: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "CALLS", 1)
    values = []
    for contestant in (row.ours, *row.others):
        assert isinstance(contestant, Timed)
        prepared = contestant.prepare()
        torch.manual_seed(0)
        with contestant.within():
            contestant.run(prepared)
        values.append(prepared[1])
    ours, theirs = values
    torch.manual_seed(0)
    name = "uniform_" if "tensor.uniform_()" in row.name else "kaiming_uniform_"
    own = torch.zeros(prepared[1].shape)
    own.uniform_() if name == "uniform_" else torch.nn.init.kaiming_uniform_(own)
    assert torch.equal(theirs, own)
    assert ours.shape == own.shape
    assert not torch.equal(ours, own)
    assert ours.std() == pytest.approx(own.std().item(), rel=0.2)
