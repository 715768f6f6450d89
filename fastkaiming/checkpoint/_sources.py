"""Reads names and shapes from a source: a recipe, a safetensors header, an index, a config or a torch module."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastkaiming import _validation
from fastkaiming.checkpoint import _headers, _parse, _recipes
from fastkaiming.checkpoint._recipes import Recipe, TensorSpec

INDEX_NAME = "model.safetensors.index.json"


def read_source(source: Any, seed: int) -> Recipe:
    """Return the recipe of a source; only the headers of safetensors files are read.

    The code of a model may compute values, for which it draws random numbers that depend on ``seed``.
    """
    if isinstance(source, Recipe):
        return source
    if isinstance(source, Mapping):
        return _recipes.recipe_from_table("source", dict(source))
    if isinstance(source, str | os.PathLike):
        return _from_path(Path(source), seed)
    torch = sys.modules.get("torch")  # a module of torch can only exist if torch is imported
    if torch is not None and isinstance(source, torch.nn.Module):
        from fastkaiming.checkpoint import _modules

        return _modules.from_module(source)
    raise TypeError(f"source must be a recipe, a path or a torch module, not {_validation.describe(source)}")


def _from_path(path: Path, seed: int) -> Recipe:
    if path.is_dir():
        candidates = (INDEX_NAME, "model.safetensors", "config.json")
        found = next((path / name for name in candidates if (path / name).exists()), None)
        if found is None:
            raise FileNotFoundError(f"{path}: a source directory must hold one of {', '.join(candidates)}, got none")
        path = found
    if path.suffix == ".safetensors":
        return Recipe(_specs_from_header(_headers.read_header(path)))
    if path.suffix not in {".toml", ".json"}:
        raise ValueError(f"{path}: a source must be a .toml, .json or .safetensors file, or a directory with one")
    table = _parse.check_table(str(path), _parse.read_document(path))
    if "weight_map" in table:
        return Recipe(_specs_from_index(path, table["weight_map"]))
    if "model_type" in table and "tensors" not in table:
        from fastkaiming.checkpoint import _transformers

        return _transformers.from_config(path, seed)
    return _recipes.recipe_from_table(str(path), table)


def tensors_by_shard(path: Path, weight_map: Any) -> dict[str, list[str]]:
    """Return the names of the tensors in each file that an index lists; the files must lie beside the index."""
    names_by_file: dict[str, list[str]] = {}
    if not weight_map:
        raise ValueError(f"{path}: weight_map must name tensors, got none")
    for name, file in _parse.check_table(f"{path}: weight_map", weight_map).items():
        if not isinstance(file, str) or not _is_shard_name(file):
            raise ValueError(f"{path}: weight_map.{name!r} must name a safetensors file beside it, got {file!r:.60}")
        names_by_file.setdefault(file, []).append(name)
    return names_by_file


def _is_shard_name(file: str) -> bool:
    return file.isprintable() and file == Path(file).name and "\\" not in file and file.endswith(".safetensors")


def _specs_from_index(path: Path, weight_map: Any) -> dict[str, TensorSpec]:
    found: dict[str, TensorSpec] = {}
    for file, names in tensors_by_shard(path, weight_map).items():
        specs = _specs_from_header(_headers.read_header(path.parent / file))
        missing = next((name for name in names if name not in specs), None)
        if missing is not None:
            raise ValueError(f"{path}: weight_map.{missing!r} must name the file that holds the tensor, got {file!r}")
        found |= {name: specs[name] for name in names}
    return {name: found[name] for name in weight_map}


def _specs_from_header(header: _headers.Header) -> dict[str, TensorSpec]:
    in_order = sorted(header.tensors.items(), key=lambda item: item[1].begin)
    return {name: TensorSpec(entry.shape, stored_dtype=entry.dtype) for name, entry in in_order}
