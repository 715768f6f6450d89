"""Strict parsing of JSON and TOML from untrusted files; error messages have one line and name the file."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastkaiming import _validation
from fastkaiming.checkpoint import _file_kinds, _os_files

MAX_BYTES = 100_000_000  # the safetensors library rejects longer headers


def read_document(path: Path) -> Any:
    """Return the content of a JSON or TOML file."""
    _os_files.check_regular_file(path)
    kind = _file_kinds.kind_of(path)
    if kind is not None:
        raise ValueError(f"{path}: it must be {'TOML' if path.suffix == '.toml' else 'JSON'}, got {kind}")
    nbytes = path.stat().st_size
    if nbytes > MAX_BYTES:
        raise ValueError(f"{path}: the file must have at most {MAX_BYTES:,} bytes, got {nbytes:,}")
    return parse(str(path), path.read_bytes(), is_toml=path.suffix == ".toml")


def parse(origin: str, text: bytes, *, is_toml: bool = False) -> Any:
    """Return the content of a JSON or TOML text; ``origin`` names the source of the text in errors."""
    kind = "TOML" if is_toml else "JSON"
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{origin}: it must be UTF-8, got byte 0x{text[error.start]:02x} at {error.start}") from None
    try:
        return tomllib.loads(decoded) if is_toml else json.loads(decoded, object_pairs_hook=_reject_duplicate_names)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise ValueError(f"{origin}: it must be {kind}: {reason}") from None


def _reject_duplicate_names(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"duplicate name {name!r}")
        table[name] = value
    return table


def check_table(field: str, value: Any) -> dict[str, Any]:
    """Return the value if it is a table (a dict)."""
    if not isinstance(value, dict):
        raise ValueError(f"{field} must be a table, got {_validation.describe(value)}")
    return value


def check_fields(field: str, table: dict[str, Any], known: Sequence[str]) -> None:
    """Raise ValueError for a field that is not known, because it is usually a typo."""
    unknown = next((name for name in table if name not in known), None)
    if unknown is not None:
        raise ValueError(f"{field} must have no fields other than {', '.join(known)}, got {unknown!r}")
