"""The header of a safetensors file: 8 bytes with its length, then a JSON table. The data is never read here.

The format: https://github.com/huggingface/safetensors#format
"""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fastkaiming import _validation
from fastkaiming.checkpoint import _file_kinds, _os_files, _parse
from fastkaiming.checkpoint._dtypes import DTYPES, Dtype

_LENGTH = struct.Struct("<Q")
_START_BYTES = 64  # enough to show what the file is, if it is not a safetensors file
_ALIGNMENT = 8
_MAX_AXES = 32  # the limit of NumPy 1
METADATA_KEY = "__metadata__"
MAX_FILE_BYTES = 2**63 - 1  # the limit of file offsets


class Entry(NamedTuple):
    """A tensor in a header: its dtype, its shape, and its bytes [begin, end) in the data section."""

    dtype: Dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """The content of a header; ``data_start`` is the byte of the file at which the data section begins."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, Entry]
    data_start: int


def encode_header(tensors: Mapping[str, Entry], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes that precede the data, padded so that the data is aligned."""
    table: dict[str, Any] = {METADATA_KEY: dict(metadata)}
    for name, (dtype, shape, begin, end) in tensors.items():
        table[name] = {"dtype": dtype.name, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > _parse.MAX_BYTES:
        raise ValueError(
            f"a header must have at most {_parse.MAX_BYTES:,} bytes, got {len(text):,} for {len(tensors):,} "
            "tensors; use a smaller max_shard_size to write more files"
        )
    return _LENGTH.pack(len(text)) + text


def read_header(path: Path) -> Header:
    """Return the header of a file, after checking that every byte of the data belongs to exactly one tensor."""
    _os_files.check_regular_file(path)
    kind = _file_kinds.kind_of(path)
    if kind is not None:
        raise ValueError(f"{path}: it must be a safetensors file, got {kind}")
    with path.open("rb") as file:
        nbytes = file.seek(0, 2)
        file.seek(0)
        length = _header_length(path, file.read(_START_BYTES), nbytes)
        file.seek(_LENGTH.size)
        text = file.read(length)
    field = f"{path}: the header"
    table = _parse.check_table(field, _parse.parse(field, text))
    metadata = _check_metadata(field, table.pop(METADATA_KEY, {}))
    tensors = {check_name(str(path), name): _parse_entry(f"{path}: {name!r}", each) for name, each in table.items()}
    data_start = _LENGTH.size + length
    _check_offsets(path, tensors, nbytes - data_start)
    return Header(metadata, tensors, data_start)


def _header_length(path: Path, start: bytes, nbytes: int) -> int:
    """Return the length of a header, according to the first bytes of its file."""
    if len(start) < _LENGTH.size:
        raise ValueError(
            f"{path}: the file must begin with the length of its header, got {nbytes} bytes; the file is truncated"
        )
    length = int(_LENGTH.unpack_from(start)[0])
    if length > _parse.MAX_BYTES:
        kind = _file_kinds.text_of_bytes(start)
        if kind is not None:
            raise ValueError(f"{path}: it must be a safetensors file, got {kind}")
        raise ValueError(f"{path}: the header must have at most {_parse.MAX_BYTES:,} bytes, got {length:,}")
    if length == 0:
        raise ValueError(f"{path}: the file must begin with the length of its header, got 0")
    if _LENGTH.size + length > nbytes:
        raise ValueError(
            f"{path}: the header must end within the {nbytes:,} bytes of the file, got {length:,}; the file is "
            "truncated, or it is not a safetensors file"
        )
    return length


def checked_nbytes(field: str, dtype: Dtype, shape: tuple[int, ...]) -> int:
    """Return the size of a tensor in bytes, or raise ValueError if no file can hold it."""
    if math.prod(size for size in shape if size) * dtype.nbytes > MAX_FILE_BYTES:
        raise ValueError(f"{field} must hold less than 2**63 bytes, got {list(shape)} of {dtype.numpy}")
    return math.prod(shape) * dtype.nbytes


def check_name(field: str, name: Any) -> str:
    """Return the name if a tensor in a file can have it."""
    if _validation.text(f"{field}: a name", name) == METADATA_KEY:
        raise ValueError(f"{field}: a tensor must not have the name {METADATA_KEY}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{field}: a name must be encodable as UTF-8, got {name!a:.60}") from None
    return str(name)


def check_shape(field: str, value: Any) -> tuple[int, ...]:
    """Return a shape as a tuple, with at most as many axes as NumPy arrays can have."""
    shape = check_sizes(field, value)
    check_axes(field, shape)
    return shape


def check_axes(field: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError for a shape with more axes than NumPy arrays can have."""
    if len(shape) > _MAX_AXES:
        raise ValueError(f"{field} must have at most {_MAX_AXES} axes, got {len(shape)}")


def check_sizes(field: str, value: Any) -> tuple[int, ...]:
    """Return a list of sizes as a tuple."""
    if not isinstance(value, list | tuple) or not all(type(size) is int and 0 <= size < 2**63 for size in value):
        raise ValueError(f"{field} must be a list of integers from 0 to 2**63 - 1, got {_validation.describe(value)}")
    return tuple(value)


def _check_metadata(field: str, table: Any) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
        raise ValueError(f"{field} must have only strings in {METADATA_KEY}, got {table!r:.60}")
    return table


def _parse_entry(field: str, value: Any) -> Entry:
    table = _parse.check_table(field, value)
    _parse.check_fields(field, table, ("dtype", "shape", "data_offsets"))
    dtype = DTYPES.get(str(table.get("dtype")))
    if dtype is None:
        raise ValueError(f"{field}.dtype must be one of {', '.join(DTYPES)}, got {table.get('dtype')!r:.60}")
    shape = check_shape(f"{field}.shape", table.get("shape"))
    offsets = check_sizes(f"{field}.data_offsets", table.get("data_offsets"))
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{field}.data_offsets must be the start and end offsets of the tensor, got {list(offsets)}")
    nbytes = checked_nbytes(f"{field}.shape", dtype, shape)
    if offsets[1] - offsets[0] != nbytes:
        raise ValueError(f"{field}.data_offsets must be {nbytes} bytes apart, got {list(offsets)}")
    return Entry(dtype, shape, *offsets)


def _check_offsets(path: Path, tensors: Mapping[str, Entry], nbytes: int) -> None:
    end = 0
    for name, entry in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if entry.begin != end:
            problem = "overlap with" if entry.begin < end else "leave a gap after"
            raise ValueError(
                f"{path}: {name!r}.data_offsets must not {problem} other tensors, got {[entry.begin, entry.end]}"
            )
        end = entry.end
    if end != nbytes:
        hint = "; the file is truncated" if nbytes < end else ""
        raise ValueError(
            f"{path}: the data must have the {end:,} bytes that the header describes, got {nbytes:,}{hint}"
        )
