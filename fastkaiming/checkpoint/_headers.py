"""The header of a safetensors file: 8 bytes of length, a table in JSON, and not a byte of the data.

The format: https://github.com/huggingface/safetensors#format
"""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fastkaiming import _validation
from fastkaiming.checkpoint import _parse
from fastkaiming.checkpoint._dtypes import OF_FILES, Dtype

_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8
_MAX_AXES = 32  # of an array of NumPy 1
METADATA = "__metadata__"
LAST_BYTE = 2**63 - 1  # that a file can count


class Entry(NamedTuple):
    """A tensor of a file: what it is, and the bytes of the data section that it fills."""

    dtype: Dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """What a file says of itself; ``start`` is where its data begins."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, Entry]
    start: int


def encoded(tensors: Mapping[str, Entry], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes before the data, padded so that the data is aligned."""
    table: dict[str, Any] = {METADATA: dict(metadata)}
    for name, (dtype, shape, begin, end) in tensors.items():
        table[name] = {"dtype": dtype.name, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > _parse.MAX_BYTES:
        raise ValueError(
            f"a header must have at most {_parse.MAX_BYTES:,} bytes, got {len(text):,} for {len(tensors):,} "
            "tensors; a smaller max_shard_size makes more files of them"
        )
    return _LENGTH.pack(len(text)) + text


def read(path: Path) -> Header:
    """Return the header of a file, which holds what it says: every byte of the data belongs to one tensor."""
    _parse.check_file(path)
    with path.open("rb") as file:
        nbytes = file.seek(0, 2)
        file.seek(0)
        prefix = file.read(_LENGTH.size)
        if len(prefix) < _LENGTH.size:
            raise ValueError(f"{path}: the file must begin with the length of its header, got {nbytes} bytes")
        (length,) = _LENGTH.unpack(prefix)
        if length > _parse.MAX_BYTES:
            raise ValueError(f"{path}: the header must have at most {_parse.MAX_BYTES:,} bytes, got {length:,}")
        if _LENGTH.size + length > nbytes:
            raise ValueError(f"{path}: the header must end within the {nbytes:,} bytes of the file, got {length:,}")
        text = file.read(length)
    where = f"{path}: the header"
    table = _parse.table(where, _parse.parsed(where, text))
    metadata = _metadata(where, table.pop(METADATA, {}))
    tensors = {check_name(str(path), name): _entry(f"{path}: {name!r}", each) for name, each in table.items()}
    start = _LENGTH.size + length
    _check_offsets(path, tensors, nbytes - start)
    return Header(metadata, tensors, start)


def nbytes_of(field: str, dtype: Dtype, shape: tuple[int, ...]) -> int:
    """Return the bytes of a tensor, which a file can count."""
    if math.prod(size for size in shape if size) * dtype.nbytes > LAST_BYTE:
        raise ValueError(f"{field} must hold less than 2**63 bytes, got {list(shape)} of {dtype.numpy}")
    return math.prod(shape) * dtype.nbytes


def check_name(where: str, name: Any) -> str:
    """Return what can be the name of a tensor in a file."""
    if _validation.text(f"{where}: a name", name) == METADATA:
        raise ValueError(f"{where}: a tensor must not have the name {METADATA}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{where}: a name must be one that UTF-8 can hold, got {name!a:.60}") from None
    return str(name)


def shape(field: str, value: Any) -> tuple[int, ...]:
    """Return a shape, of no more axes than arrays can have."""
    axes = sizes(field, value)
    if len(axes) > _MAX_AXES:
        raise ValueError(f"{field} must have at most {_MAX_AXES} axes, got {len(axes)}")
    return axes


def sizes(field: str, value: Any) -> tuple[int, ...]:
    """Return a list of sizes."""
    if not isinstance(value, list | tuple) or not all(type(size) is int and 0 <= size < 2**63 for size in value):
        raise ValueError(f"{field} must be a list of integers from 0 to 2**63 - 1, got {_validation.shown(value)}")
    return tuple(value)


def _metadata(where: str, table: Any) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
        raise ValueError(f"{where} must have texts in {METADATA}, got {table!r:.60}")
    return table


def _entry(where: str, given: Any) -> Entry:
    table = _parse.table(where, given)
    _parse.check_fields(where, table, ("dtype", "shape", "data_offsets"))
    dtype = OF_FILES.get(str(table.get("dtype")))
    if dtype is None:
        raise ValueError(f"{where}.dtype must be one of {', '.join(OF_FILES)}, got {table.get('dtype')!r:.60}")
    axes = shape(f"{where}.shape", table.get("shape"))
    offsets = sizes(f"{where}.data_offsets", table.get("data_offsets"))
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{where}.data_offsets must be where the tensor begins and ends, got {list(offsets)}")
    nbytes = nbytes_of(f"{where}.shape", dtype, axes)
    if offsets[1] - offsets[0] != nbytes:
        raise ValueError(f"{where}.data_offsets must be {nbytes} bytes apart, got {list(offsets)}")
    return Entry(dtype, axes, *offsets)


def _check_offsets(path: Path, tensors: Mapping[str, Entry], nbytes: int) -> None:
    end = 0
    for name, entry in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if entry.begin != end:
            kind = "overlap" if entry.begin < end else "leave a gap before"
            raise ValueError(f"{path}: {name!r}.data_offsets must not {kind} others, got {[entry.begin, entry.end]}")
        end = entry.end
    if end != nbytes:
        raise ValueError(f"{path}: the data must have the {end:,} bytes that the header tells of, got {nbytes:,}")
