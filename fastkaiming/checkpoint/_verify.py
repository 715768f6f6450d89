"""``verify`` and ``stored_tensors``: compare the files of a checkpoint with the seed and the rules in their headers."""

import hashlib
import mmap
import os
import re
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

from fastkaiming._fill.context import combined_progress, report_filled
from fastkaiming._system.threads import get_num_threads
from fastkaiming.checkpoint import _file_kinds, _file_writer, _headers, _identity, _os_files, _parse, _sources
from fastkaiming.checkpoint._file_writer import Bytes
from fastkaiming.checkpoint._identity import Recorded
from fastkaiming.checkpoint._plan import File, Tensor
from fastkaiming.checkpoint._rules import sha256_of_rule
from fastkaiming.distributions import Distribution
from fastkaiming.rng import Generator

_CHUNK_BYTES = 4 << 20  # a thread generates the values of a chunk at a time
_READ_BYTES = 1 << 20  # a thread reads and compares this much of the file at a time
_CHUNKS_PER_TASK = 4
_NAME_OF_SEVERAL = re.compile(r".*-\d{5,}-of-\d{5,}\.safetensors")


class Difference(NamedTuple):
    """The first element that differs from its expected value.

    Attributes
    ----------
    file, tensor : str
        The name of the file, and the name of the tensor in it.
    element : tuple of int, or None
        The index of the element in the tensor. It is None if the file records only a digest of the tensor, because code
        of a model computed the values.
    """

    file: str
    tensor: str
    element: tuple[int, ...] | None


@dataclass(frozen=True)
class Verification:
    """The result of :func:`verify`.

    Attributes
    ----------
    files, tensors, nbytes : int
        The number of files and tensors that were compared, and the total size of the files in bytes, including their
        headers.
    difference : Difference or None
        The first value that differs from the value for the seed and the name, or None if all values are as expected.
    """

    files: int
    tensors: int
    nbytes: int
    difference: Difference | None


class StoredTensor(NamedTuple):
    """A tensor in the files of a checkpoint.

    Attributes
    ----------
    name, rule : str
        The name of the tensor, and the rule that filled it.
    array : numpy.ndarray
        The values, as a read-only array that is mapped from the file.
    distribution : Normal, Uniform or TruncatedNormal, or None
        The distribution of the values, or None for integer, boolean, complex and empty tensors.
    """

    name: str
    rule: str
    array: NDArray[Any]
    distribution: Distribution | None


def verify(out_dir: str | Path) -> Verification:
    """Compare every value of a checkpoint with its expected value, which follows from the headers of the files.

    Parameters
    ----------
    out_dir : path
        A directory that :func:`write` wrote to, or one safetensors file in it.

    Returns
    -------
    Verification
        The numbers of files and tensors, and the first difference, if there is one. Files are compared in the order
        of their names, and tensors in the order of the file.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint in ``out_dir``, or if a file that the index lists is missing.
    ValueError
        If a file is not a valid safetensors file, was not written by fastkaiming, has another stream version, or
        belongs to another checkpoint than the other files of the directory.

    Examples
    --------
    >>> import tempfile
    >>> from fastkaiming import checkpoint
    >>> with tempfile.TemporaryDirectory() as out_dir:
    ...     report = checkpoint.write({"tensors": {"fc.weight": [64, 32], "fc.bias": [64]}}, out_dir, seed=7)
    ...     checkpoint.verify(out_dir)
    Verification(files=1, tensors=2, nbytes=8936, difference=None)
    """
    contents = _checkpoint_contents(Path(out_dir))
    files = [each.file for each in contents]
    with combined_progress(sum(file.sampled_elements for file in files)):
        differences = (first_difference(path, recorded.seed, file) for path, recorded, file in contents)
        difference = next((each for each in differences if each is not None), None)
    tensors, nbytes = sum(len(file.tensors) for file in files), sum(file.nbytes for file in files)
    return Verification(len(files), tensors, nbytes, difference)


def stored_tensors(out_dir: str | Path) -> Iterator[StoredTensor]:
    """Return an iterator over the tensors in the files of a checkpoint; values are read only when they are accessed.

    Parameters
    ----------
    out_dir : path
        A directory that :func:`write` wrote to, or one safetensors file in it.

    Yields
    ------
    StoredTensor
        The name, the rule, a read-only array and the distribution of each tensor.

    Raises
    ------
    FileNotFoundError, ValueError
        In the same cases as :func:`verify`.

    Examples
    --------
    >>> import tempfile
    >>> from fastkaiming import checkpoint
    >>> with tempfile.TemporaryDirectory() as out_dir:
    ...     report = checkpoint.write({"tensors": {"fc.weight": [64, 32], "fc.bias": [64]}}, out_dir, seed=7)
    ...     {tensor.name: (tensor.array.shape, tensor.rule) for tensor in checkpoint.stored_tensors(out_dir)}
    {'fc.bias': ((64,), 'zeros'), 'fc.weight': ((64, 32), "kaiming_normal(layout='OI')")}
    """
    for path, _, file in _checkpoint_contents(Path(out_dir)):
        with path.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        for tensor in file.tensors:
            yield StoredTensor(tensor.name, tensor.rule, _mapped_array(mapped, tensor), tensor.distribution)
            _release_pages(mapped, tensor)


def _mapped_array(mapped: mmap.mmap, tensor: Tensor) -> NDArray[Any]:
    dtype = tensor.dtype.numpy_dtype()
    if not tensor.elements:
        return np.empty(tensor.shape, dtype)
    return np.frombuffer(mapped, dtype, tensor.elements, tensor.begin).reshape(tensor.shape)


def _release_pages(mapped: mmap.mmap, tensor: Tensor) -> None:
    """Release the memory pages of a tensor; they are read again if the array is accessed later."""
    begin = -(-tensor.begin // mmap.PAGESIZE) * mmap.PAGESIZE
    nbytes = tensor.begin + tensor.nbytes - begin
    if nbytes > 0 and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED, begin, nbytes)


def first_difference(path: Path, seed: int, file: File) -> Difference | None:
    """Return the first difference between a file and its expected content, or None if they are equal."""
    with path.open("rb", buffering=0) as opened:
        if hasattr(os, "posix_fadvise"):  # the kernel would mistake the reads of several threads for random access
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        position = _first_differing_byte(opened.fileno(), file, seed)
        wrong_digest = _first_wrong_digest(opened.fileno(), file)
    if wrong_digest is not None and (position is None or wrong_digest.begin < position):
        return Difference(path.name, wrong_digest.name, None)
    if position is None:
        return None
    tensor = next((each for each in file.tensors if each.begin <= position < each.begin + each.nbytes), None)
    if tensor is None:
        return Difference(path.name, _headers.METADATA_KEY, (position,))
    element = np.unravel_index((position - tensor.begin) // tensor.dtype.nbytes, tensor.shape)
    return Difference(path.name, tensor.name, tuple(map(int, element)))


class _ThreadBuffers(threading.local):
    """The buffers of a thread, which are small enough to stay in the caches of its core."""

    def __init__(self) -> None:
        self.expected = np.empty(_CHUNK_BYTES, np.uint8)
        self.actual = np.empty(_READ_BYTES, np.uint8)


def _first_differing_byte(descriptor: int, file: File, seed: int) -> int | None:
    """Return the position of the first byte that differs; each task generates and compares a few chunks of the file."""
    key_for, buffers = Generator(seed).key, _ThreadBuffers()

    def compare(chunks: range) -> int | None:
        for begin in chunks:
            expected = buffers.expected[: min(_CHUNK_BYTES, file.nbytes - begin)]
            _file_writer.fill_buffer(expected, file, begin, key_for, threads=1)
            for part in _file_writer.element_ranges(file, begin, begin + len(expected)):
                if part.is_digest_only:
                    _read_fully(descriptor, part.memory(expected), begin + part.offset)
            position = _first_mismatch(descriptor, begin, expected, buffers.actual)
            if position is not None:
                return position
        return None

    threads = get_num_threads()
    all_chunks = range(0, file.nbytes, _CHUNK_BYTES)
    tasks = (all_chunks[first : first + _CHUNKS_PER_TASK] for first in range(0, len(all_chunks), _CHUNKS_PER_TASK))
    with ThreadPoolExecutor(threads) as pool:
        submitted = deque((chunks, pool.submit(compare, chunks)) for chunks in islice(tasks, 2 * threads))
        while submitted:
            chunks, result = submitted.popleft()
            position = result.result()
            if position is not None:
                return position
            submitted.extend((following, pool.submit(compare, following)) for following in islice(tasks, 1))
            report_filled(_sampled_elements(file, chunks))
    return None


def _first_wrong_digest(descriptor: int, file: File) -> Tensor | None:
    """Return the first tensor whose data does not have the digest that its rule records."""
    buffer = np.empty(_READ_BYTES, np.uint8)
    for tensor in file.tensors:
        expected = sha256_of_rule(tensor.rule)
        if expected is None:
            continue
        actual = hashlib.sha256()
        for begin in range(0, tensor.nbytes, len(buffer)):
            part = buffer[: min(len(buffer), tensor.nbytes - begin)]
            actual.update(part[: _read_fully(descriptor, part, tensor.begin + begin)].tobytes())
        if actual.hexdigest() != expected:
            return tensor
    return None


def _sampled_elements(file: File, chunks: range) -> int:
    parts = _file_writer.element_ranges(file, chunks.start, chunks.stop)
    return sum(part.stop - part.first for part in parts if part.tensor.is_sampled)


def _first_mismatch(descriptor: int, begin: int, expected_chunk: Bytes, buffer: Bytes) -> int | None:
    """Return the position of the first byte of a file, from ``begin`` on, that differs from the expected bytes."""
    for offset in range(0, len(expected_chunk), len(buffer)):
        expected = expected_chunk[offset : offset + len(buffer)]
        actual = buffer[: len(expected)]
        position, count = begin + offset, _read_fully(descriptor, actual, begin + offset)
        whole = count // 8 * 8
        if not np.array_equal(actual[:whole].view(np.uint64), expected[:whole].view(np.uint64)) or not np.array_equal(
            actual[whole:count], expected[whole:count]
        ):
            return position + int(np.argmax(actual[:count] != expected[:count]))
        if count < len(expected):
            return position + count  # the file was truncated during the comparison
    return None


def _read_fully(descriptor: int, buffer: Bytes, offset: int) -> int:
    """Read from an offset of a file until the buffer is full or the file ends, and return how many bytes were read."""
    count = 0
    while more := _os_files.read_at(descriptor, buffer[count:], offset + count):
        count += more
    return count


# ---- the expected content of the files, from their headers ----


class _Content(NamedTuple):
    """A file, what it records about its checkpoint, and its expected content."""

    path: Path
    recorded: Recorded
    file: File


def _checkpoint_contents(path: Path) -> list[_Content]:
    """Return the expected content of each file of a checkpoint, after checking that the files belong together."""
    if not path.is_dir():
        if path.exists() and path.suffix != ".safetensors":
            kind = _file_kinds.kind_of(path) or "another file"
            raise ValueError(f"{path}: it must be a directory of safetensors files, or one of them, got {kind}")
        return [_expected_content(path)]
    contents = [_expected_content(each) for each in _files_of_directory(path)]
    first = contents[0]
    for each in contents:
        if each.recorded != first.recorded:
            reason = _identity.difference(each.recorded, first.recorded, first.path.name)
            raise ValueError(f"{each.path}: it belongs to another checkpoint than {first.path.name}: {reason}")
    identity = _identity.digest(first.recorded, ((tensor.row for tensor in each.file.tensors) for each in contents))
    if identity != first.recorded.identity:
        raise ValueError(
            f"{path}: the headers of its files must give the identity {first.recorded.identity:.64}, got {identity}: "
            "a file is missing, a file does not belong to this checkpoint, or a header was changed"
        )
    return contents


def _files_of_directory(directory: Path) -> list[Path]:
    found = _os_files.visible_files(directory, "*.safetensors")
    index = directory / _sources.INDEX_NAME
    if not index.exists():
        if not found:
            raise FileNotFoundError(f"{directory}: a checkpoint must have safetensors files, got none")
        if any(_NAME_OF_SEVERAL.fullmatch(each.name) for each in found):
            raise FileNotFoundError(
                f"{index}: a checkpoint of several files must have an index, got none; the run that completes the last "
                "file writes it"
            )
        return found
    listed = _files_of_index(index)
    for each in found:
        if each.name not in listed:
            raise ValueError(f"{each}: it is not in {index.name}, so it does not belong to this checkpoint")
    return found


def _files_of_index(index: Path) -> set[str]:
    """Return the names of the files that an index lists, after comparing it with their headers."""
    table = _parse.check_table(str(index), _parse.read_document(index))
    shards, total = _sources.tensors_by_shard(index, table.get("weight_map")), 0
    for name, tensors in shards.items():
        path = index.with_name(name)
        if not path.exists():
            raise FileNotFoundError(f"{index}: it lists {name}, which does not exist")
        entries = _headers.read_header(path).tensors
        differing = sorted(entries.keys() ^ set(tensors))
        if differing:
            raise ValueError(f"{index}: weight_map must name the tensors of {name}, but differs in {differing[0]!r}")
        total += sum(entry.end - entry.begin for entry in entries.values())
    found = _parse.check_table(f"{index}: metadata", table.get("metadata")).get("total_size")
    if found != total:
        raise ValueError(f"{index}: metadata.total_size must be {total}, the bytes of all tensors, got {found!r:.60}")
    return set(shards)


def _expected_content(path: Path) -> _Content:
    """Return the content of a file as its header describes it."""
    header = _headers.read_header(path)
    recorded = _identity.recorded(path, header)
    field = f"{path}: {_headers.METADATA_KEY}.{_identity.RULES_KEY}"
    rule_of = _rules_by_tensor(field, header)
    in_order = sorted(header.tensors.items(), key=lambda item: item[1].begin)
    tensors = tuple(
        Tensor(name, entry.dtype, entry.shape, rule_of[name], header.data_start + entry.begin)
        for name, entry in in_order
    )
    for tensor in tensors:
        if tensor.begin % tensor.dtype.nbytes:
            raise ValueError(f"{path}: {tensor.name!r} must be aligned to its element size, got byte {tensor.begin}")
        try:
            _ = tensor.distribution
        except (TypeError, ValueError) as error:
            raise ValueError(f"{field}: tensor {tensor.name!r}: {error}") from None
    with path.open("rb") as file:
        return _Content(path, recorded, File(path.name, file.read(header.data_start), tensors))


def _rules_by_tensor(field: str, header: _headers.Header) -> Mapping[str, str]:
    text = header.metadata.get(_identity.RULES_KEY, "").encode(errors="replace")
    table = _parse.check_table(field, _parse.parse(field, text))
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in table.values()):
        raise ValueError(f"{field} must have a list of tensor names for each rule, got {table!r:.60}")
    rule_of = {name: rule for rule, names in table.items() for name in names}
    missing = next((name for name in header.tensors if name not in rule_of), None)
    if missing is not None:
        raise ValueError(f"{field} must have a rule for every tensor, got none for {missing!r}")
    return rule_of
