"""``write``: writes the files of a plan to a directory, without losing other files or leaving incomplete ones."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from fastkaiming import _validation
from fastkaiming._fill.context import combined_progress
from fastkaiming.checkpoint import (
    _cluster,
    _directory_lock,
    _file_writer,
    _headers,
    _identity,
    _os_files,
    _plan,
    _sources,
    _verify,
)
from fastkaiming.checkpoint._plan import File, Plan
from fastkaiming.initializers._model import warn_about_unused
from fastkaiming.rng import Generator


@dataclass(frozen=True)
class Report:
    """The result of :func:`write`.

    Attributes
    ----------
    files : tuple of str
        The names of all files of this call, including those that were kept.
    kept : tuple of str
        The names of the files that were already complete and were kept, or, with ``resume``, that another run of the
        same checkpoint completed in the meantime.
    tensors : int
        The number of tensors in the files.
    nbytes : int
        The total size of the files in bytes, including their headers.
    """

    files: tuple[str, ...]
    kept: tuple[str, ...]
    tensors: int
    nbytes: int


def write(
    source: Any,
    out_dir: str | Path,
    *,
    seed: int | None = None,
    dtype: Any = None,
    rules: Any = None,
    max_shard_size: int | str | None = None,
    part: tuple[int, int] | None = None,
    resume: bool = False,
    dask: Any = None,
) -> Report:
    """Write a checkpoint of random weights as safetensors files with an index.

    Every tensor is filled from the key ``Generator(seed).key(name)``, regardless of the file that holds it and of the
    process that writes it. Whatever the size of the checkpoint, the function needs memory for two buffers of 64 MiB:
    one is filled while the other is written.

    Parameters
    ----------
    source : path, mapping or torch.nn.Module
        The source of names and shapes. It is one of the following: a recipe (a .toml or .json file, or a mapping with
        the same structure); a .safetensors file, a model.safetensors.index.json, or a directory with one of them, of
        which only the headers are read; the config.json of a Hugging Face model or its directory, which requires
        transformers 5; or a module, which may be on torch's meta device. For a config, the files are those that
        transformers' ``save_pretrained`` would write. The parameters and persistent buffers of a module are written,
        tied tensors once. In a directory, the headers take precedence over config.json, unless weights were not
        downloaded: a file that the index lists is missing, or a file is a Git LFS pointer.
    out_dir : path
        The directory for the files, which is created if it does not exist. Files that do not belong to a checkpoint
        are not touched.
    seed : int, optional
        The seed, from 0 to 2**64 - 1. The default is the recipe's seed, or 0.
    dtype : str or dtype, optional
        The dtype of floating-point tensors if neither the recipe's entry for the tensor nor a rule gives one. The
        default is the source's dtype, or float32. Integer and boolean tensors keep their dtype. They are zeros, except
        for those of a config, which have the values of the model.
    rules : mapping or sequence of pairs, optional
        Patterns and rules as in :func:`fastkaiming.init_`. Each rule is a string, or a table with ``init`` and
        ``dtype``. These rules replace the rules of the recipe. The ``init`` of a single tensor takes precedence over
        all rules. A tensor that no rule matches has the value that the constructor of the model of a config gives it;
        in a module, it is filled by the default of its layer, as in :func:`fastkaiming.torch.init_module_`; and
        otherwise by ``fastkaiming.DEFAULT_RULES``. These need a rule for a tensor with three or more axes whose layer
        is not known, as in every recipe and header.
    max_shard_size : int or str, optional
        The maximum size of the tensors in a file, as a number of bytes or with a unit. The units are B; K, M, G and T
        or KB, MB, GB and TB, which are powers of 1000; and KiB, MiB, GiB and TiB, which are powers of 1024. Upper and
        lower case are the same. A larger tensor has a file of its own. The default is 5GB, and for a config the default
        of ``save_pretrained``, which is 50GB in transformers 5.24.
    part : tuple of int, optional
        ``(k, n)`` writes the k-th of n parts, with k from 1 to n: every n-th file from the k-th on. All parts must be
        parts of the same checkpoint. Whichever part completes the last file writes the index.
    resume : bool, default False
        If True, keep the complete files of this checkpoint, which have the same header and the same values, and write
        the others. If another run is still writing the same files of this checkpoint, that run raises an error and this
        one continues, or this one keeps the files that the other has completed.
    dask : distributed.Client, optional
        A client of a Dask cluster, whose workers write the files: each thread of a worker writes one file at a time.
        The buffers of all threads of a worker take 128 MiB together. All workers must share the file system of
        ``out_dir``. If a worker dies, the other workers write its files again.

    Returns
    -------
    Report
        The names of the files, their size, and the number of their tensors.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If the source is invalid, an initializer rejects a tensor, or an argument has an invalid value. The message
        names the file and the field, and nothing is written.
    FileExistsError
        If ``out_dir`` holds a checkpoint; with ``resume`` or ``part``, if it holds a file of a different checkpoint.
        The same holds if another run is writing one.
    OSError
        If the directory is not writable, or if the disk does not have enough space. The space for all files is
        reserved before any value is generated.

    Warns
    -----
    UserWarning
        If a pattern is not the first match of any name, because of a typo or because an earlier pattern matches more.

    Examples
    --------
    >>> import tempfile
    >>> from fastkaiming import checkpoint
    >>> recipe = {"rules": {"*.bias": "zeros", "*": "normal(std=0.02)"}, "tensors": {"a.weight": [8, 8], "a.bias": [8]}}
    >>> with tempfile.TemporaryDirectory() as out_dir:
    ...     checkpoint.write(recipe, out_dir, dtype="float16").files
    ('model.safetensors',)
    """
    if not os.fspath(out_dir):
        raise ValueError("out_dir must be the path of a directory, got an empty text")
    plan = _plan.make_plan(source, seed, dtype, rules, max_shard_size)
    warn_about_unused(plan.unused, plan.recipe.tensors)
    files = plan.files if part is None else _files_of_part(plan.files, part)
    _validation.flag("resume", resume)
    if dask is not None:
        _cluster.check_client(dask)
    directory = Path(out_dir)
    new_directories = [each for each in (directory, *directory.parents) if not each.exists()]
    try:
        _check_directory(directory, plan, files, resume)  # a run that would fail does not take the lock from others
        with _directory_lock.locked(directory, plan.recorded.identity) as lock_entry:
            _check_directory(directory, plan, files, resume)
            for path in _temporary_files(directory, plan, files):
                if not resume:
                    raise FileExistsError(
                        f"{path}: another run was killed here or is still running; resume=True (--resume) takes over"
                    )
                path.unlink(missing_ok=True)
            _remove_damaged_index(directory / _sources.INDEX_NAME, plan)
            with combined_progress(sum(file.sampled_elements for file in files)):
                kept = _write_files(directory, plan, files, resume, dask, lock_entry)
            _finish(directory, plan)
    finally:
        with suppress(OSError):  # rmdir fails for a directory that is not empty, which is kept
            for each in new_directories:
                each.rmdir()
    tensors = sum(len(file.tensors) for file in files)
    in_order = tuple(file.name for file in files if file.name in kept)
    return Report(tuple(file.name for file in files), in_order, tensors, sum(file.nbytes for file in files))


def _files_of_part(files: Sequence[File], part: Any) -> Sequence[File]:
    if not isinstance(part, Sequence) or isinstance(part, str) or len(part) != 2:
        raise TypeError(f"part must be a pair (k, n), not {_validation.describe(part)}")
    parts = _validation.integer("n of part (k, n)", part[1], 1, 2**31)
    return files[_validation.integer("k of part (k, n)", part[0], 1, parts) - 1 :: parts]


def _check_directory(directory: Path, plan: Plan, files: Sequence[File], resume: bool) -> None:
    """Raise FileExistsError if a directory holds other weights, or, without ``resume``, files that would be written.

    The files of other parts are checked, too: a part must belong to the same checkpoint.
    """
    planned = {file.name: file for file in plan.files}
    to_write = {file.name for file in files}
    for path in _os_files.visible_files(directory, "*.safetensors"):
        _os_files.check_regular_file(path)
        if path.name not in planned:
            raise FileExistsError(f"{path}: out_dir must not hold another checkpoint")
        reason = _difference(path, plan, planned[path.name])
        if reason is not None:
            raise FileExistsError(f"{path}: {reason}")
        if path.name in to_write and not resume:
            raise FileExistsError(
                f"{path}: the file exists; resume=True (--resume) keeps the complete files of this checkpoint"
            )
    _check_index(directory / _sources.INDEX_NAME, plan, resume)
    for companion in plan.recipe.companions:
        path = directory / companion.name
        _os_files.check_regular_file(path)
        if path.exists() and path.read_bytes() != companion.data:
            raise FileExistsError(
                f"{path}: it must be the same as {companion.origin}, which belongs to this checkpoint"
            )


def _check_index(index: Path, plan: Plan, resume: bool) -> None:
    """Raise FileExistsError if an index is that of another checkpoint, or, without ``resume``, if it is damaged."""
    _os_files.check_regular_file(index)
    if not index.exists() or index.read_bytes() == plan.index:
        return
    if plan.index is None or not resume:
        raise FileExistsError(f"{index}: out_dir must not hold another checkpoint")
    try:
        listed = json.loads(index.read_bytes())["weight_map"]
    except (ValueError, TypeError, KeyError):
        listed = None
    if listed is not None and listed != json.loads(plan.index)["weight_map"]:
        raise FileExistsError(f"{index}: out_dir must not hold another checkpoint")


def _remove_damaged_index(index: Path, plan: Plan) -> None:
    """Remove an index of this checkpoint whose bytes differ; an equal run may do the same."""
    with suppress(FileNotFoundError):
        if index.read_bytes() != plan.index:
            index.unlink()


def _temporary_files(directory: Path, plan: Plan, files: Sequence[File]) -> list[Path]:
    """Return the temporary files of other runs, except those of the other parts of this checkpoint."""
    other_parts = {file.name for file in plan.files} - {file.name for file in files}
    found = _file_writer.temporary_files(directory, "*.safetensors")
    return [path for path, name in found.items() if name not in other_parts]


def _difference(path: Path, plan: Plan, file: File) -> str | None:
    """Return the reason why a file does not have its planned header, or None if it has it."""
    try:
        with path.open("rb") as opened:
            if opened.read(len(file.header)) == file.header:
                return None
        header = _headers.read_header(path)
    except FileNotFoundError:
        return None  # another run of this checkpoint has removed the damaged file
    except ValueError as error:
        return f"it is not a whole safetensors file, so remove it and run again: {_without_path(error, path)}"
    return f"it belongs to another checkpoint or is damaged: {_difference_of_headers(path, header, plan)}"


def _difference_of_headers(path: Path, header: _headers.Header, plan: Plan) -> str:
    """Return the reason why the header of a whole file is not the planned one."""
    try:
        found = _identity.recorded(path, header)
    except ValueError as error:
        return _without_path(error, path)
    if found.identity == plan.recorded.identity:
        return "its header has other bytes than that of this run"
    return _identity.difference(found, plan.recorded, "this run")


def _without_path(error: ValueError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _write_files(
    directory: Path, plan: Plan, files: Sequence[File], resume: bool, client: Any, lock_entry: Path
) -> set[str]:
    """Write the files that are missing or damaged, and return the names of the others.

    Without ``resume``, raise FileExistsError if a file exists: then another run has written it since the directory was
    checked, and of two equal runs only one may report that it has written the checkpoint.
    """
    kept: set[str] = set()
    damaged: dict[Path, os.stat_result] = {}
    for file in files:
        path = directory / file.name
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        if not resume:
            raise FileExistsError(
                f"{path}: another run has written the file; resume=True (--resume) keeps the complete files of this "
                "checkpoint"
            )
        try:
            if status.st_size == file.nbytes and _verify.first_difference(path, plan.seed, file) is None:
                kept.add(file.name)
            else:
                damaged[path] = status
        except FileNotFoundError:
            if _file_writer.is_unchanged(path, status):  # the error comes from a progress callback
                raise
    reserved = _file_writer.reserve(directory.resolve(), [file for file in files if file.name not in kept])
    try:
        for path, status in damaged.items():
            _file_writer.remove_damaged(path, status)
        if client is None:
            kept.update(_file_writer.write_files(Generator(plan.seed).key, reserved, keep_whole=resume))
        else:
            _cluster.write_files(plan.seed, reserved, client, lock_entry.resolve())
    finally:
        _file_writer.discard(reserved)
    return kept


def _finish(directory: Path, plan: Plan) -> None:
    """Write the index if all files are complete, which the run finds that completes the last one."""
    if not all(_file_writer.is_whole(directory / file.name, file) for file in plan.files):
        return
    small_files = {companion.name: companion.data for companion in plan.recipe.companions}
    if plan.index is not None:
        small_files[_sources.INDEX_NAME] = plan.index
    for name, data in small_files.items():
        _write_once(directory / name, data)
        for path in _file_writer.temporary_files(directory, escape(name)):
            path.unlink(missing_ok=True)  # of a killed run, or of another part, which does not need it any more
    _directory_lock.remove(directory, plan.recorded.identity)


def _write_once(path: Path, data: bytes) -> None:
    """Write a small file that all parts write with the same content."""
    if not path.exists():
        try:
            _file_writer.write_atomically(path, data)
        except FileExistsError:
            if not path.exists():
                raise
    if path.read_bytes() != data:
        raise FileExistsError(f"{path}: another run has written the file with other content")
