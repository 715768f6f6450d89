"""JSON and TOML as strangers write them: what cannot be read is refused in one line that names the file."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastkaiming import _validation

MAX_BYTES = 100_000_000  # the reference implementation of safetensors reads no longer header


def read(path: Path) -> Any:
    """Return what a JSON or TOML file says."""
    check_file(path)
    nbytes = path.stat().st_size
    if nbytes > MAX_BYTES:
        raise ValueError(f"{path}: it must have at most {MAX_BYTES:,} bytes, got {nbytes:,}")
    return parsed(str(path), path.read_bytes(), is_toml=path.suffix == ".toml")


def check_file(path: Path) -> None:
    """Refuse what has no end, or no beginning, such as devices and pipes."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: it must be a file, got something else")


def parsed(origin: str, text: bytes, *, is_toml: bool = False) -> Any:
    """Return what a JSON or TOML text says; ``origin`` is where it stands."""
    kind = "TOML" if is_toml else "JSON"
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{origin}: it must be UTF-8, got byte 0x{text[error.start]:02x} at {error.start}") from None
    try:
        return tomllib.loads(decoded) if is_toml else json.loads(decoded, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise ValueError(f"{origin}: it must be {kind}: {reason}") from None


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"duplicate name {name!r}")
        found[name] = value
    return found


def table(field: str, value: Any) -> dict[str, Any]:
    """Return a table."""
    if not isinstance(value, dict):
        raise ValueError(f"{field} must be a table, got {_validation.shown(value)}")
    return value


def check_fields(field: str, given: dict[str, Any], known: Sequence[str]) -> None:
    """Refuse a field that nobody reads, which is a typing error as a rule."""
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        raise ValueError(f"{field} must have no fields but {', '.join(known)}, got {unknown!r}")
