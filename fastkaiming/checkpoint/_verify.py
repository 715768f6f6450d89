"""Checkpoints checked against what they should be: their own headers tell the seed, and the seed tells every value."""

import mmap
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _core
from fastkaiming._fill.fill import combined_progress, report_filled
from fastkaiming._system.threads import get_num_threads
from fastkaiming.checkpoint import _file_writer, _headers, _os_files, _parse, _plan, _sources
from fastkaiming.checkpoint._file_writer import Bytes
from fastkaiming.checkpoint._plan import File, Tensor
from fastkaiming.distributions import Distribution
from fastkaiming.rng import Generator

_PIECE = 4 << 20  # bytes that a thread draws at a time
_BLOCK = 1 << 20  # bytes of a file that it reads and compares at a time
_STRETCH = 4  # pieces that it does one after the other


class Difference(NamedTuple):
    """The first element that is not as it should be.

    Attributes
    ----------
    file, tensor : str
        The names of the file and of the tensor in it.
    element : tuple of int
        The index of the element in the tensor.
    """

    file: str
    tensor: str
    element: tuple[int, ...]


@dataclass(frozen=True)
class Verification:
    """What :func:`verify` found.

    Attributes
    ----------
    files, tensors, nbytes : int
        How many were compared.
    difference : Difference or None
        The first value that differs from what seed and name give, or None where all are as they should be.
    """

    files: int
    tensors: int
    nbytes: int
    difference: Difference | None


class Stored(NamedTuple):
    """A tensor of a checkpoint.

    Attributes
    ----------
    name, rule : str
        Its name, and the rule by which it was filled.
    array : numpy.ndarray
        Its values, read-only and mapped from the file.
    distribution : Normal, Uniform or TruncatedNormal, or None
        What it was drawn from, if it was.
    """

    name: str
    rule: str
    array: NDArray[Any]
    distribution: Distribution | None


def verify(out_dir: str | Path) -> Verification:
    """Compare every value of a checkpoint with what it should be, which the headers of its files tell.

    Parameters
    ----------
    out_dir : path
        A directory that :func:`write` wrote to, or one safetensors file of it.

    Returns
    -------
    Verification
        The first difference, file by file in the order of names and tensor by tensor, if there is one.

    Raises
    ------
    FileNotFoundError
        No checkpoint there, or a file that the index names is missing.
    ValueError
        A file that is no safetensors file, or one that fastkaiming did not write, or wrote by another stream version.

    Examples
    --------
    >>> import tempfile
    >>> from fastkaiming import checkpoint
    >>> with tempfile.TemporaryDirectory() as out_dir:
    ...     made = checkpoint.write({"tensors": {"fc.weight": [64, 32], "fc.bias": [64]}}, out_dir, seed=7)
    ...     checkpoint.verify(out_dir)
    Verification(files=1, tensors=2, nbytes=8448, difference=None)
    """
    contents = [(path, *_content(path)) for path in _files(Path(out_dir))]
    files = [file for _, _, file in contents]
    with combined_progress(sum(file.drawn_elements for file in files)):
        differences = (first_difference(path, seed, file) for path, seed, file in contents)
        difference = next((each for each in differences if each is not None), None)
    nbytes = sum(tensor.nbytes for file in files for tensor in file.tensors)
    return Verification(len(files), sum(len(file.tensors) for file in files), nbytes, difference)


def stored(out_dir: str | Path) -> Iterator[Stored]:
    """Return the tensors of a checkpoint, as its files hold them; values are read when somebody looks at them.

    Parameters
    ----------
    out_dir : path
        A directory that :func:`write` wrote to, or one safetensors file of it.

    Yields
    ------
    Stored
        The name, the rule, a read-only array and the distribution of each tensor.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`verify` does.

    Examples
    --------
    >>> import tempfile
    >>> from fastkaiming import checkpoint
    >>> with tempfile.TemporaryDirectory() as out_dir:
    ...     made = checkpoint.write({"tensors": {"fc.weight": [64, 32], "fc.bias": [64]}}, out_dir, seed=7)
    ...     {tensor.name: (tensor.array.shape, tensor.rule) for tensor in checkpoint.stored(out_dir)}
    {'fc.bias': ((64,), 'zeros'), 'fc.weight': ((64, 32), 'kaiming_normal')}
    """
    for path in _files(Path(out_dir)):
        _, file = _content(path)
        with path.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        for tensor in file.tensors:
            yield Stored(tensor.name, tensor.rule, _array(mapped, tensor), tensor.distribution)
            _release_pages(mapped, tensor)


def _array(mapped: mmap.mmap, tensor: Tensor) -> NDArray[Any]:
    dtype = tensor.dtype.memory()
    if not tensor.elements:
        return np.empty(tensor.shape, dtype)
    return np.frombuffer(mapped, dtype, tensor.elements, tensor.begin).reshape(tensor.shape)


def _release_pages(mapped: mmap.mmap, tensor: Tensor) -> None:
    """Give the pages of a tensor back; who looks again reads them again."""
    begin = -(-tensor.begin // mmap.PAGESIZE) * mmap.PAGESIZE
    nbytes = tensor.begin + tensor.nbytes - begin
    if nbytes > 0 and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED, begin, nbytes)


def first_difference(path: Path, seed: int, file: File) -> Difference | None:
    """Return the first value of a file that is not what it should be."""
    with path.open("rb", buffering=0) as opened:
        if hasattr(os, "posix_fadvise"):  # several threads read, and each looks like a reader that jumps
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        place = _first_byte(opened.fileno(), file, seed)
    if place is None:
        return None
    tensor = next((each for each in file.tensors if each.begin <= place < each.begin + each.nbytes), None)
    if tensor is None:
        return Difference(path.name, _headers.METADATA, (place,))
    element = np.unravel_index((place - tensor.begin) // tensor.dtype.nbytes, tensor.shape)
    return Difference(path.name, tensor.name, tuple(map(int, element)))


class _Scratch(threading.local):
    """Memory of a thread, small enough for its values and what is read to stay in the caches of its core."""

    def __init__(self) -> None:
        self.drawn = np.empty(_PIECE, np.uint8)
        self.read = np.empty(_BLOCK, np.uint8)


def _first_byte(descriptor: int, file: File, seed: int) -> int | None:
    """Return the first byte that differs; every thread draws and compares stretches of the file."""
    key_of, scratch = Generator(seed).key, _Scratch()

    def compare(stretch: range) -> int | None:
        for begin in stretch:
            drawn = scratch.drawn[: min(_PIECE, file.nbytes - begin)]
            _file_writer.fill(drawn, file, begin, key_of, threads=1)
            place = _first_mismatch(descriptor, begin, drawn, scratch.read)
            if place is not None:
                return place
        return None

    threads = get_num_threads()
    pieces = range(0, file.nbytes, _PIECE)
    stretches = (pieces[first : first + _STRETCH] for first in range(0, len(pieces), _STRETCH))
    with ThreadPoolExecutor(threads) as pool:
        begun = deque((stretch, pool.submit(compare, stretch)) for stretch in islice(stretches, 2 * threads))
        while begun:
            stretch, compared = begun.popleft()
            place = compared.result()
            if place is not None:
                return place
            begun.extend((following, pool.submit(compare, following)) for following in islice(stretches, 1))
            report_filled(_drawn_elements(file, stretch))
    return None


def _drawn_elements(file: File, stretch: range) -> int:
    runs = _file_writer.runs(file, stretch.start, stretch.stop)
    return sum(run.stop - run.first for run in runs if run.tensor.dtype.is_fillable_dtype)


def _first_mismatch(descriptor: int, begin: int, drawn: Bytes, read: Bytes) -> int | None:
    """Return the first byte of a file, from ``begin`` on, that is not as it was drawn."""
    for offset in range(0, len(drawn), len(read)):
        expected = drawn[offset : offset + len(read)]
        found = read[: len(expected)]
        place, count = begin + offset, _pread(descriptor, found, begin + offset)
        whole = count // 8 * 8
        if not np.array_equal(found[:whole].view(np.uint64), expected[:whole].view(np.uint64)) or not np.array_equal(
            found[whole:count], expected[whole:count]
        ):
            return place + int(np.argmax(found[:count] != expected[:count]))
        if count < len(expected):
            return place + count  # somebody has cut the file meanwhile
    return None


def _pread(descriptor: int, buffer: Bytes, offset: int) -> int:
    """Return how many bytes of a buffer the file has from an offset on, once they are read."""
    count = 0
    while more := _os_files.read(descriptor, buffer[count:], offset + count):
        count += more
    return count


# ---- what the files say of themselves ----


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        if path.exists() and path.suffix != ".safetensors":
            raise ValueError(f"{path}: it must be a directory of safetensors files, or one of them")
        return [path]
    index = path / _sources.INDEX
    if not index.exists():
        found = sorted(path.glob("*.safetensors"))
        if not found:
            raise FileNotFoundError(f"{path}: a checkpoint must have safetensors files, got none")
        if any("-of-" in each.name for each in found):
            raise FileNotFoundError(f"{index}: a checkpoint of several files must have an index, got none")
        return found
    table = _parse.table(str(index), _parse.read(index))
    shards = _sources.shards(index, table.get("weight_map"))
    for name, tensors in shards.items():
        if not (path / name).exists():
            raise FileNotFoundError(f"{index}: it names {name}, which is not there")
        others = sorted(_headers.read(path / name).tensors.keys() ^ set(tensors))
        if others:
            raise ValueError(f"{index}: weight_map must name the tensors of {name}, but differs in {others[0]!r}")
    return [path / name for name in sorted(shards)]


def _content(path: Path) -> tuple[int, File]:
    """Return the seed of a file and what it should hold, by its own words."""
    header = _headers.read(path)
    version = header.metadata.get(_plan.STREAM)
    if version is None:
        raise ValueError(f"{path}: its {_headers.METADATA} must tell a seed, so that it can be verified, got none")
    if version != str(_core.STREAM_VERSION):
        raise ValueError(f"{path}: its stream version must be {_core.STREAM_VERSION}, got {version!r:.60}")
    where = f"{path}: {_headers.METADATA}"
    seed = header.metadata.get(_plan.SEED, "")
    if not seed.isascii() or not seed.isdigit() or len(seed) > 20 or int(seed) >= 2**64:
        raise ValueError(f"{where}.{_plan.SEED} must be an integer from 0 to 2**64 - 1, got {seed!r:.60}")
    rule_of = _rules(f"{where}.{_plan.RULES}", header)
    in_order = sorted(header.tensors.items(), key=lambda item: item[1].begin)
    tensors = tuple(
        Tensor(name, entry.dtype, entry.shape, rule_of[name], header.start + entry.begin) for name, entry in in_order
    )
    for tensor in tensors:
        if tensor.begin % tensor.dtype.nbytes:
            raise ValueError(f"{path}: {tensor.name!r} must be aligned to its elements, got byte {tensor.begin}")
        try:
            _ = tensor.distribution
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}.{_plan.RULES}: tensor {tensor.name!r}: {error}") from None
    with path.open("rb") as file:
        return int(seed), File(path.name, file.read(header.start), tensors)


def _rules(where: str, header: _headers.Header) -> Mapping[str, str]:
    table = _parse.table(where, _parse.parsed(where, header.metadata.get(_plan.RULES, "").encode(errors="replace")))
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in table.values()):
        raise ValueError(f"{where} must give the names of tensors for each rule")
    rule_of = {name: rule for rule, names in table.items() for name in names}
    lost = next((name for name in header.tensors if name not in rule_of), None)
    if lost is not None:
        raise ValueError(f"{where} must have a rule for every tensor, got none for {lost!r}")
    return rule_of
