"""Reads names and shapes from a source: a recipe, a safetensors header, an index, a config or a torch module."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastkaiming import _validation
from fastkaiming.checkpoint import _file_kinds, _headers, _parse, _recipes
from fastkaiming.checkpoint._dtypes import Dtype
from fastkaiming.checkpoint._recipes import Recipe, TensorSpec

INDEX_NAME = "model.safetensors.index.json"


def read_source(source: Any, seed: int, dtype: Dtype | None) -> Recipe:
    """Return the recipe of a source; only the headers of safetensors files are read.

    The code of a model may compute values, for which it draws random numbers that depend on ``seed``. ``dtype`` is the
    one that the user requests, which the config of a model must agree with.
    """
    if isinstance(source, Recipe):
        return source
    if isinstance(source, Mapping):
        return _recipes.recipe_from_table("source", dict(source))
    if isinstance(source, str | os.PathLike):
        return _from_path(Path(source), seed, dtype)
    torch = sys.modules.get("torch")  # a module of torch can only exist if torch is imported
    if torch is not None and isinstance(source, torch.nn.Module):
        from fastkaiming.checkpoint import _modules

        return _modules.from_module(source)
    raise TypeError(f"source must be a recipe, a path or a torch module, not {_validation.describe(source)}")


def _from_path(path: Path, seed: int, dtype: Dtype | None) -> Recipe:
    if path.is_dir():
        path = _source_in_directory(path)
    if path.suffix == ".safetensors":
        return Recipe(_specs_from_header(_headers.read_header(path)))
    if path.suffix not in {".toml", ".json"}:
        kind = _file_kinds.kind_of(path) or "another file"
        raise ValueError(
            f"{path}: a source must be a .toml, .json or .safetensors file, or a directory with one, got {kind}"
        )
    table = _parse.check_table(str(path), _parse.read_document(path))
    if "weight_map" in table:
        return Recipe(_specs_from_index(path, table["weight_map"]))
    if path.name == "config.json" and not {"model_type", "tensors"} & table.keys():
        raise ValueError(f"{path}: a Hugging Face config must have the field model_type, got none")
    if "model_type" in table and "tensors" not in table:
        from fastkaiming.checkpoint import _transformers

        return _transformers.from_config(path, seed, dtype)
    return _recipes.recipe_from_table(str(path), table)


def _source_in_directory(directory: Path) -> Path:
    """Return the file of a directory that gives names and shapes.

    These are the headers of the safetensors files if all of these files were downloaded, or else the model's config.
    """
    headers = [directory / name for name in (INDEX_NAME, "model.safetensors")]
    config = directory / "config.json"
    complete = [path for path in headers if path.exists() and _is_downloaded(path)]
    found = next((path for path in (*complete, config, *headers) if path.exists()), None)
    if found is None:
        names = ", ".join(path.name for path in (*headers, config))
        raise FileNotFoundError(f"{directory}: a source directory must hold one of {names}, got {_contents(directory)}")
    return found


def _is_downloaded(path: Path) -> bool:
    """Return whether a file, and every file that it lists if it is an index, is there and is not a Git LFS pointer."""
    if not path.exists() or _file_kinds.is_lfs_pointer(path):
        return False
    return path.name != INDEX_NAME or all(_is_downloaded(path.parent / file) for file in read_index(path))


def _contents(directory: Path) -> str:
    """Return the names of some files in a directory, first those of which it is known what they are."""
    kinds = {path.name: _readable_kind(path) for path in sorted(directory.iterdir())}
    names = [f"{name!r}, which is {kind}" for name, kind in kinds.items() if kind]
    names += [f"{name!r}" for name, kind in kinds.items() if not kind]
    return "; ".join(names[:5]) + (f"; and {len(names) - 5} more" if len(names) > 5 else "") or "an empty directory"


def _readable_kind(path: Path) -> str | None:
    """Return what a file is, or None if that is not known because it cannot be read."""
    try:
        return _file_kinds.kind_of(path) if path.exists() else "a link to a file that does not exist"
    except OSError:
        return None


def read_index(path: Path) -> dict[str, list[str]]:
    """Return the names of the tensors in each file that an index lists."""
    return tensors_by_shard(path, _parse.check_table(str(path), _parse.read_document(path)).get("weight_map"))


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
        if not (path.parent / file).exists():
            raise FileNotFoundError(f"{path}: it lists {file}, which does not exist")
        specs = _specs_from_header(_headers.read_header(path.parent / file))
        missing = next((name for name in names if name not in specs), None)
        if missing is not None:
            raise ValueError(f"{path}: weight_map.{missing!r} must name the file that holds the tensor, got {file!r}")
        found |= {name: specs[name] for name in names}
    return {name: found[name] for name in weight_map}


def _specs_from_header(header: _headers.Header) -> dict[str, TensorSpec]:
    in_order = sorted(header.tensors.items(), key=lambda item: item[1].begin)
    return {name: TensorSpec(entry.shape, stored_dtype=entry.dtype) for name, entry in in_order}
