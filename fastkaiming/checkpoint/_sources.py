"""Where names and shapes come from: a recipe, the header of a file, the index of a checkpoint, a config, a module."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastkaiming import _validation
from fastkaiming.checkpoint import _headers, _parse, _recipes
from fastkaiming.checkpoint._recipes import Recipe, Spec

INDEX = "model.safetensors.index.json"


def read(source: Any) -> Recipe:
    """Return what a source says; of files with weights, no more than the headers is read."""
    if isinstance(source, Recipe):
        return source
    if isinstance(source, Mapping):
        return _recipes.recipe_from_table("source", dict(source))
    if isinstance(source, str | os.PathLike):
        return _from_path(Path(source))
    torch = sys.modules.get("torch")  # whose module it would be
    if torch is not None and isinstance(source, torch.nn.Module):
        from fastkaiming.checkpoint import _frameworks

        return _frameworks.from_module(source)
    raise TypeError(f"source must be a recipe, a path or a torch module, not {_validation.shown(source)}")


def _from_path(path: Path) -> Recipe:
    if path.is_dir():
        candidates = (INDEX, "model.safetensors", "config.json")
        found = next((path / name for name in candidates if (path / name).exists()), None)
        if found is None:
            raise FileNotFoundError(f"{path}: a source directory must hold one of {', '.join(candidates)}, got none")
        path = found
    if path.suffix == ".safetensors":
        return Recipe(_specs(_headers.read(path)))
    if path.suffix not in {".toml", ".json"}:
        raise ValueError(f"{path}: a source must be a .toml, .json or .safetensors file, or a directory with one")
    table = _parse.table(str(path), _parse.read(path))
    if "weight_map" in table:
        return Recipe(_from_index(path, table["weight_map"]))
    if "model_type" in table and "tensors" not in table:
        from fastkaiming.checkpoint import _frameworks

        return _frameworks.from_config(path)
    return _recipes.recipe_from_table(str(path), table)


def shards(path: Path, weight_map: Any) -> dict[str, list[str]]:
    """Return the names of tensors by the file that an index finds them in, which lies beside the index."""
    by_file: dict[str, list[str]] = {}
    if not weight_map:
        raise ValueError(f"{path}: weight_map must name tensors, got none")
    for name, file in _parse.table(f"{path}: weight_map", weight_map).items():
        if not isinstance(file, str) or not _is_name_of_shard(file):
            raise ValueError(f"{path}: weight_map.{name!r} must name a safetensors file beside it, got {file!r:.60}")
        by_file.setdefault(file, []).append(name)
    return by_file


def _is_name_of_shard(file: str) -> bool:
    return file.isprintable() and file == Path(file).name and "\\" not in file and file.endswith(".safetensors")


def _from_index(path: Path, weight_map: Any) -> dict[str, Spec]:
    found: dict[str, Spec] = {}
    for file, names in shards(path, weight_map).items():
        specs = _specs(_headers.read(path.parent / file))
        missing = next((name for name in names if name not in specs), None)
        if missing is not None:
            raise ValueError(f"{path}: weight_map.{missing!r} must name a file that holds it, got {file!r}")
        found |= {name: specs[name] for name in names}
    return {name: found[name] for name in weight_map}


def _specs(header: _headers.Header) -> dict[str, Spec]:
    in_order = sorted(header.tensors.items(), key=lambda item: item[1].begin)
    return {name: Spec(entry.shape, stored=entry.dtype) for name, entry in in_order}
