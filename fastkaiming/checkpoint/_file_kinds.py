"""Recognizes files that are not what their names say, such as downloads that failed, for error messages."""

import re
from pathlib import Path

_START_BYTES = 256  # how much of a file is read
_LFS_POINTER = "a Git LFS pointer (the file was not downloaded: run git lfs pull)"
_KINDS = {
    re.compile(first_bytes): kind
    for first_bytes, kind in (
        (rb"version https://git-lfs\.github\.com/spec/", _LFS_POINTER),
        (rb"/annex/objects/", "a git-annex pointer (the file was not downloaded: run git annex get)"),
        (rb"(\xef\xbb\xbf)?\s*<(?i:!doctype html|html|head)\b", "an HTML page"),
        (rb"(\xef\xbb\xbf)?\s*<\?xml\b", "an XML document"),
        (rb"PK\x03\x04", "a zip archive, as torch.save writes it (.bin, .pt)"),
        (rb"\x80[\x02-\x05]", "a pickle, as older versions of torch.save write it (.bin, .pt)"),
        (rb"\x1f\x8b", "a gzip archive"),
        (rb"GGUF", "a GGUF file"),
        (rb"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (rb"\x93NUMPY", "a .npy file"),
    )
}


def kind_of(path: Path) -> str | None:
    """Return what a file is according to its first bytes, or None if that is not known."""
    if path.exists() and not path.is_file():  # a pipe could have no first bytes yet
        return "a directory" if path.is_dir() else "something that is not a regular file"
    with path.open("rb") as file:
        return kind_of_bytes(file.read(_START_BYTES))


def kind_of_bytes(data: bytes) -> str | None:
    """Return what a file is according to its first bytes, or None if that is not known.

    >>> kind_of_bytes(b"<!DOCTYPE html>")
    'an HTML page'
    """
    if not data:
        return "an empty file"
    if data[8:9] == b"{":
        return None  # a safetensors file, whose first 8 bytes can be any number
    return next((kind for first_bytes, kind in _KINDS.items() if first_bytes.match(data)), None)


def is_lfs_pointer(path: Path) -> bool:
    """Return whether a file is a Git LFS pointer, which is in the place of a file that was not downloaded."""
    return kind_of(path) == _LFS_POINTER


def text_of_bytes(data: bytes) -> str | None:
    """Return a text with the first line of a file, or None if it is not printable, for messages of servers in files.

    >>> text_of_bytes(b"Entry not found")
    "text that begins with 'Entry not found'"
    """
    line = data.decode("ascii", "replace").strip().partition("\n")[0].rstrip()
    return f"text that begins with {line[:60]!r}" if line.isascii() and line.isprintable() else None
