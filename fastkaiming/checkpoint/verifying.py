"""Checkpoints checked against what they should be: their own headers tell the seed, and the seed tells every value."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _core
from fastkaiming.checkpoint import documents, headers, plans, sources, writing
from fastkaiming.checkpoint.plans import File, Tensor
from fastkaiming.distributions import Distribution
from fastkaiming.filling import as_one
from fastkaiming.generator import Generator

_PIECE = 16 << 20  # bytes that are drawn and compared at a time


class Difference(NamedTuple):
    """The first element that is not as it should be; ``element`` is its index in the tensor."""

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
    """A tensor of a checkpoint, its values mapped from the file; what it was drawn from, if it was."""

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
    with as_one(sum(tensor.elements for file in files for tensor in file.tensors if tensor.dtype.is_drawn)):
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
    """
    for path in _files(Path(out_dir)):
        _, file = _content(path)
        data = np.memmap(path, np.uint8, "r")
        for tensor in file.tensors:
            values = data[tensor.begin : tensor.begin + tensor.nbytes]
            array = values.view(tensor.dtype.memory()).reshape(tensor.shape)
            yield Stored(tensor.name, tensor.rule, array, tensor.distribution)


def first_difference(path: Path, seed: int, file: File) -> Difference | None:
    """Return the first value of a file that is not what it should be."""
    with path.open("rb", buffering=0) as opened:
        place = _first_byte(opened.fileno(), file, seed)
    if place is None:
        return None
    tensor = next((each for each in file.tensors if each.begin <= place < each.begin + each.nbytes), None)
    if tensor is None:
        return Difference(path.name, headers.METADATA, (place,))
    element = np.unravel_index((place - tensor.begin) // tensor.dtype.nbytes, tensor.shape)
    return Difference(path.name, tensor.name, tuple(map(int, element)))


def _first_byte(descriptor: int, file: File, seed: int) -> int | None:
    """Return the first byte that differs; while one piece is read and compared, the next one is drawn."""
    buffers = [np.empty(min(_PIECE, file.nbytes), np.uint8) for _ in range(3)]
    read, key_of = buffers.pop(), Generator(seed).key
    with ThreadPoolExecutor(1) as comparing:
        found: list[Future[int | None]] = []
        for number, begin in enumerate(range(0, file.nbytes, _PIECE)):
            expected = buffers[number % 2][: min(_PIECE, file.nbytes - begin)]
            writing.fill(expected, file, begin, key_of, None)
            if found and (place := found.pop().result()) is not None:
                return place
            found.append(comparing.submit(_compared, descriptor, read, expected, begin))
        return found.pop().result() if found else None


def _compared(descriptor: int, buffer: writing.Bytes, expected: writing.Bytes, begin: int) -> int | None:
    data = buffer[: len(expected)]
    count = 0
    while count < len(data):
        more = os.preadv(descriptor, [data[count:].data], begin + count)
        if more == 0:
            return begin + count  # somebody has cut the file meanwhile
        count += more
    whole = len(data) // 8 * 8
    words = data[:whole].view(np.uint64), expected[:whole].view(np.uint64)
    if np.array_equal(*words) and np.array_equal(data[whole:], expected[whole:]):
        return None
    return begin + int(np.argmax(data != expected))


# ---- what the files say of themselves ----


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    index = path / sources.INDEX
    if not index.exists():
        found = sorted(path.glob("*.safetensors"))
        if not found:
            raise FileNotFoundError(f"{path}: a checkpoint must have safetensors files, got none")
        if any("-of-" in each.name for each in found):
            raise FileNotFoundError(f"{index}: a checkpoint of several files must have an index, got none")
        return found
    table = documents.table(str(index), documents.read(index))
    shards = sources.shards(index, table.get("weight_map"))
    for name, tensors in shards.items():
        if not (path / name).exists():
            raise FileNotFoundError(f"{index}: it names {name}, which is not there")
        others = sorted(headers.read(path / name).tensors.keys() ^ set(tensors))
        if others:
            raise ValueError(f"{index}: weight_map must name the tensors of {name}, but differs in {others[0]!r}")
    return [path / name for name in sorted(shards)]


def _content(path: Path) -> tuple[int, File]:
    """Return the seed of a file and what it should hold, by its own words."""
    header = headers.read(path)
    version = header.metadata.get(plans.STREAM)
    if version is None:
        raise ValueError(f"{path}: its {headers.METADATA} must tell a seed, so that it can be verified, got none")
    if version != str(_core.STREAM_VERSION):
        raise ValueError(f"{path}: its stream version must be {_core.STREAM_VERSION}, got {version!r:.60}")
    where = f"{path}: {headers.METADATA}"
    seed = header.metadata.get(plans.SEED, "")
    if not seed.isascii() or not seed.isdigit() or len(seed) > 20 or int(seed) >= 2**64:
        raise ValueError(f"{where}.{plans.SEED} must be an integer from 0 to 2**64 - 1, got {seed!r:.60}")
    rule_of = _rules(f"{where}.{plans.RULES}", header)
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
            raise ValueError(f"{where}.{plans.RULES}: tensor {tensor.name!r}: {error}") from None
    with path.open("rb") as file:
        return int(seed), File(path.name, file.read(header.start), tensors)


def _rules(where: str, header: headers.Header) -> Mapping[str, str]:
    table = documents.table(
        where, documents.parsed(where, header.metadata.get(plans.RULES, "").encode(errors="replace"))
    )
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in table.values()):
        raise ValueError(f"{where} must give the names of tensors for each rule")
    rule_of = {name: rule for rule, names in table.items() for name in names}
    lost = next((name for name in header.tensors if name not in rule_of), None)
    if lost is not None:
        raise ValueError(f"{where} must have a rule for every tensor, got none for {lost!r}")
    return rule_of
