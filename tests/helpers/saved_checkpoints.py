"""Compares the checkpoint of a config with what transformers' save_pretrained writes for an ordinary construction."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastkaiming import checkpoint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5")
stats = pytest.importorskip("scipy.stats")
safe_open = pytest.importorskip("safetensors").safe_open

SHARD_BYTES = 60_000  # less than most models of the tests have, so that they have several files


def model_class_of(name: str) -> Any:
    """Return a model class, or skip the test."""
    if not hasattr(transformers, name):
        pytest.skip(f"this version of transformers does not have {name}")
    return getattr(transformers, name)


def config_directory(name: str, arguments: dict[str, Any], directory: Path) -> Path:
    """Write the config.json of a model class, and return its directory."""
    config = model_class_of(name).config_class(**arguments)
    config.architectures = [name]
    config.save_pretrained(directory)
    return directory


def construct(config: Path, model_class: Any, seed: int) -> Any:
    """Return an ordinarily constructed model."""
    torch.manual_seed(seed)
    return model_class._from_config(model_class.config_class.from_pretrained(config))


def headers(directory: Path) -> dict[str, dict[str, tuple[Any, str]]]:
    """Return the shape and the dtype of each tensor, by file."""
    found = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # it has no __iter__
            found[path.name] = {name: (each.get_shape(), each.get_dtype()) for name, each in slices.items()}
    return found


def tensors(directory: Path) -> dict[str, Any]:
    """Return all tensors of a checkpoint."""
    found: dict[str, Any] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found


def assert_same_as_saved(config: Path, model_class: Any, directory: Path, **options: Any) -> Path:
    """Write the checkpoint of a config, compare it with that of save_pretrained, and return its directory."""
    out, saved = directory / "fastkaiming", [directory / "first", directory / "second"]
    checkpoint.write(config, out, seed=1, max_shard_size=SHARD_BYTES, **options)
    for seed, each in enumerate(saved):
        construct(config, model_class, seed).save_pretrained(each, max_shard_size=SHARD_BYTES)
    assert {path.name for path in out.iterdir()} == {path.name for path in saved[0].iterdir()}
    assert headers(out) == headers(saved[0])
    index = "model.safetensors.index.json"
    if (saved[0] / index).exists():
        assert json.loads((out / index).read_text()) == json.loads((saved[0] / index).read_text())
    assert checkpoint.verify(out).difference is None
    assert_same_distributions(tensors(out), *map(tensors, saved))
    assert_loads(out, model_class, directory / "loaded")
    return out


def assert_same_distributions(found: dict[str, Any], first: dict[str, Any], second: dict[str, Any]) -> None:
    """Compare each tensor with those of two ordinary constructions, in which random numbers differ."""
    assert found.keys() == first.keys()
    for name, values in found.items():
        assert torch.equal(zero_rows(values), zero_rows(first[name])), name
        if torch.equal(first[name], second[name]):
            assert torch.equal(values, first[name]), name
        else:
            actual, expected = (each.double().numpy().ravel() for each in (values, first[name]))
            assert np.isfinite(actual).all(), name
            assert stats.ks_2samp(actual, expected).pvalue > 1e-6, name


def zero_rows(values: Any) -> Any:
    """Return the numbers of the rows that contain only zeros."""
    return torch.nonzero((values.reshape(values.shape[0], -1) == 0).all(1)) if values.dim() > 1 else torch.zeros(0)


def assert_loads(out: Path, model_class: Any, again: Path) -> None:
    """Load a checkpoint without a missing name, and compare the values that save_pretrained writes back."""
    model, report = model_class.from_pretrained(out, output_loading_info=True)
    assert not {key: value for key, value in report.items() if value}
    del model._weight_conversions  # save as a model that was constructed, without the prefixes of loaded files
    model.save_pretrained(again)
    expected, loaded = tensors(out), tensors(again)
    assert expected.keys() == loaded.keys()
    assert [name for name in expected if not torch.equal(expected[name], loaded[name])] == []
