"""``write``: a plan carried out in a directory, in which nothing is lost and nothing stands half written."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastkaiming import _validation
from fastkaiming._fill.fill import combined_progress, report_filled
from fastkaiming.checkpoint import _file_writer, _parse, _plan, _sources, _verify
from fastkaiming.checkpoint._file_writer import Reserved
from fastkaiming.checkpoint._plan import File, Plan
from fastkaiming.initializers._model import warn_about_unused
from fastkaiming.rng import Generator


@dataclass(frozen=True)
class Report:
    """What :func:`write` did.

    Attributes
    ----------
    files : tuple of str
        The names of the files that this call was to make.
    kept : tuple of str
        Those that stood there whole, and were kept.
    tensors : int
        How many tensors stand in the files.
    nbytes : int
        How many bytes the files have.
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
    max_shard_size: int | str = "5GB",
    part: tuple[int, int] | None = None,
    resume: bool = False,
    dask: Any = None,
) -> Report:
    """Write a checkpoint of random weights: safetensors files and their index, of any size in a fixed memory.

    Every tensor has the values of ``Generator(seed).key(name)``, whichever file it stands in and whoever writes it.
    Two buffers of 64 MiB are all the memory that it takes: while one is written, the other is filled.

    Parameters
    ----------
    source : path, mapping or torch.nn.Module
        Where names and shapes come from: a recipe (a .toml or .json file, or a mapping of that form); a .safetensors
        file, a model.safetensors.index.json or a directory with one of them, of which only headers are read; the
        config.json of a Hugging Face model or its directory (by transformers); a module, which may be on torch's meta
        device. Of a module, parameters and persistent buffers are written, tied ones once.
    out_dir : path
        The directory, which is made where there is none. Other files than those of checkpoints are left alone.
    seed : int, optional
        From 0 to 2**64 - 1; by default that of the recipe, or 0.
    dtype : str or dtype, optional
        Of tensors of floating-point numbers for which neither the recipe nor a rule tells one; by default that of the
        source, or float32. Integers and booleans stay what they are, and are zeros.
    rules : mapping or sequence of pairs, optional
        As in :func:`fastkaiming.init_`, each a text, or a table with ``init`` and ``dtype``. They stand in place of
        those of the recipe; a tensor's own ``init`` comes before them, and what no rule matches is filled as its
        layer is in :func:`fastkaiming.torch.init_module_`, or by ``fastkaiming.DEFAULT_RULES``.
    max_shard_size : int or str, default "5GB"
        The most bytes of tensors in a file; GB are 10**9, GiB 2**30. A larger tensor has a file of its own.
    part : tuple of int, optional
        ``(k, n)`` makes the k-th of n parts, k from 1 to n: every n-th file, and the index, which all parts make alike.
    resume : bool, default False
        Keep the files of this very checkpoint that are whole: their headers are the same, and so is every value. A run
        that still goes on there ends with an error, and this one takes over.
    dask : distributed.Client, optional
        Make the files on the workers of a cluster, each on one thread; ``out_dir`` is on a file system that they share.

    Returns
    -------
    Report
        The files, and how much stands in them.

    Raises
    ------
    TypeError
        An argument of the wrong kind.
    ValueError
        A source that breaks a rule of its format, an initializer that refuses a tensor, and the like, with the file and
        the field; nothing is written then.
    FileExistsError
        A checkpoint stands in ``out_dir``, or with ``resume`` another one.
    OSError
        A directory that cannot be written to, or a disk without the space, which is reserved before anything is drawn.

    Warns
    -----
    UserWarning
        A rule whose pattern no name is the first to match: it has a typing error, or stands behind a wider one.

    Examples
    --------
    >>> import tempfile
    >>> from fastkaiming import checkpoint
    >>> recipe = {"rules": {"*.bias": "zeros", "*": "normal(std=0.02)"}, "tensors": {"a.weight": [8, 8], "a.bias": [8]}}
    >>> with tempfile.TemporaryDirectory() as out_dir:
    ...     checkpoint.write(recipe, out_dir, dtype="float16").files
    ('model.safetensors',)
    """
    plan = _plan.make_plan(source, seed, dtype, rules, max_shard_size)
    warn_about_unused(plan.unused, plan.recipe.tensors)
    files = plan.files if part is None else _part(plan.files, part)
    _validation.flag("resume", resume)
    if dask is not None:
        _check_client(dask)
    directory = Path(out_dir)
    made = [each for each in (directory, *directory.parents) if not each.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _check_directory(directory, plan, files, resume)
        for leftover in _leftovers(directory, plan, files):
            leftover.unlink(missing_ok=True)
        with combined_progress(sum(file.drawn_elements for file in files)):
            kept = tuple(
                file.name for file in files if (directory / file.name).exists() and _is_whole(directory, plan, file)
            )
            missing = [file for file in files if file.name not in kept]
            _make(directory, plan, missing, dask)
    finally:
        with suppress(OSError):  # what is not empty stays
            for each in made:
                each.rmdir()
    tensors = sum(len(file.tensors) for file in files)
    return Report(tuple(file.name for file in files), kept, tensors, sum(file.nbytes for file in files))


def _part(files: Sequence[File], part: Any) -> Sequence[File]:
    if not isinstance(part, Sequence) or isinstance(part, str) or len(part) != 2:
        raise TypeError(f"part must be a pair (k, n), not {_validation.shown(part)}")
    parts = _validation.integer("n of part (k, n)", part[1], 1, 2**31)
    return files[_validation.integer("k of part (k, n)", part[0], 1, parts) - 1 :: parts]


def _check_client(dask: Any) -> None:
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise _validation.missing("dask", "dask", error) from error
    if not isinstance(dask, Client):
        raise TypeError(f"dask must be a distributed.Client or None, not {_validation.shown(dask)}")


def _check_directory(directory: Path, plan: Plan, files: Sequence[File], resume: bool) -> None:
    """Refuse a directory with weights that are not this checkpoint's; without ``resume``, with those to be made."""
    ours = {file.name: file for file in plan.files}
    to_make = {file.name for file in files}
    for path in sorted(directory.glob("*.safetensors")):
        _parse.check_file(path)
        if path.name not in ours:
            raise FileExistsError(f"{path}: out_dir must hold no other checkpoint")
        if path.name in to_make and not resume:
            raise FileExistsError(f"{path}: it exists; resume=True (--resume) keeps what is whole of this checkpoint")
        if path.name in to_make and not _has_header(path, ours[path.name]):
            raise FileExistsError(f"{path}: it is of another checkpoint (its header differs), or damaged")
    if not resume:
        for path in _leftovers(directory, plan, files):
            raise FileExistsError(f"{path}: a run was killed here, or goes on; resume=True (--resume) takes over")
    index = directory / _sources.INDEX
    _parse.check_file(index)
    if index.exists() and index.read_bytes() != plan.index:
        raise FileExistsError(f"{index}: out_dir must hold no other checkpoint")
    for companion in plan.recipe.companions:
        path = directory / companion.name
        _parse.check_file(path)
        if path.exists() and path.read_bytes() != companion.read_bytes():
            raise FileExistsError(f"{path}: it must be the same as {companion}, which belongs to this checkpoint")


def _leftovers(directory: Path, plan: Plan, files: Sequence[File]) -> list[Path]:
    """Return what other runs have begun there, but for the files of other parts."""
    of_other_parts = {file.name for file in plan.files} - {file.name for file in files}
    return [
        path for path, name in _file_writer.leftovers(directory, "*.safetensors").items() if name not in of_other_parts
    ]


def _has_header(path: Path, file: File) -> bool:
    with path.open("rb") as opened:
        return opened.read(len(file.header)) == file.header


def _is_whole(directory: Path, plan: Plan, file: File) -> bool:
    path = directory / file.name
    return path.stat().st_size == file.nbytes and _verify.first_difference(path, plan.seed, file) is None


def _make(directory: Path, plan: Plan, files: Sequence[File], client: Any) -> None:
    reserved = _file_writer.reserve(directory.resolve(), files)
    try:
        if client is None:
            _file_writer.write(Generator(plan.seed).key, reserved)
        else:
            _spread(plan.seed, reserved, client)
    finally:
        _file_writer.discard(reserved)
    if plan.index is not None:
        _file_writer.replace(directory / _sources.INDEX, plan.index)
    for companion in plan.recipe.companions:
        if not (directory / companion.name).exists():
            _file_writer.replace(directory / companion.name, companion.read_bytes())


def _spread(seed: int, reserved: Sequence[Reserved], client: Any) -> None:
    """Make each file by a task on a cluster; the first that fails ends the others."""
    from distributed import as_completed

    made_by = dict(zip(client.map(partial(_write_one, seed), reserved, pure=False), reserved, strict=True))
    try:
        for future in as_completed(made_by):
            future.result()
            report_filled(made_by[future].file.drawn_elements)
            future.release()  # or it would be made again if its worker died
    finally:
        client.cancel(list(made_by))


def _write_one(seed: int, reserved: Reserved) -> None:
    _file_writer.write(Generator(seed).key, [reserved], threads=1)
