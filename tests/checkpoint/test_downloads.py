"""Sources and checkpoints with files that were not downloaded, or that are not what their names say."""

import io
import json
import os
import sys
import zipfile
from pathlib import Path

import pytest
from commands import run_error

from fastkaiming import checkpoint
from fastkaiming.checkpoint import _file_kinds

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4976698672\n"
INDEX = "model.safetensors.index.json"


def zip_archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
    return stream.getvalue()


KINDS = {
    "pointer": (LFS_POINTER, "a Git LFS pointer (the file was not downloaded: run git lfs pull)"),
    "annex": (b"/annex/objects/MD5E-s1--0\n", "a git-annex pointer (the file was not downloaded: run git annex get)"),
    "page": (b"\n <!DOCTYPE html><html><head></head></html>", "an HTML page"),
    "page without doctype": (b"<HTML><body>404</body></HTML>", "an HTML page"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML document"),
    "zip": (zip_archive(), "a zip archive, as torch.save writes it (.bin, .pt)"),
    "pickle": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "a pickle, as older versions of torch.save write it"),
    "gzip": (b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + bytes(600_000), "a gzip archive"),
    "GGUF": (b"GGUF\x03\0\0\0" + bytes(50), "a GGUF file"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file"),
    "NumPy": (b"\x93NUMPY\x01\0v\0{'descr': '<f4'}", "a .npy file"),
    "empty": (b"", "an empty file"),
}


@pytest.mark.parametrize(("data", "kind"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "recipe.toml", "pytorch_model.bin", "model"])
def test_error_says_what_a_file_is(
    name: str, data: bytes, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert f", got {kind}" in run_error(capsys, "checkpoint", path, tmp_path / "out")
    assert f", got {kind}" in run_error(capsys, "verify", path)
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", INDEX])
def test_error_says_what_a_file_of_a_directory_is(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(LFS_POINTER)
    with pytest.raises(ValueError, match=rf"{name}: it must be .*, got a Git LFS pointer"):
        checkpoint.plan(tmp_path)


@pytest.mark.parametrize("text", ["Entry not found", "404: Not Found\n", '{"error":"Repository not found"}'])
def test_error_shows_the_message_of_a_server(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text(text)
    for function in (checkpoint.plan, checkpoint.verify):
        with pytest.raises(ValueError, match="it must be a safetensors file, got text that begins with ") as raised:
            function(path)
        assert str(raised.value).endswith(repr(text.strip()))


def test_error_says_that_a_file_is_truncated(tmp_path: Path) -> None:
    checkpoint.write({"tensors": {"a": [64, 64]}}, tmp_path)
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    for length in (4, 100, len(data) - 1):
        path.write_bytes(data[:length])
        for function, argument in ((checkpoint.plan, path), (checkpoint.verify, tmp_path)):
            with pytest.raises(ValueError, match=f"{path.name}: .*; the file is truncated"):
                function(argument)
    path.write_bytes(data + b"1")
    with pytest.raises(ValueError, match=r"that the header describes, got 16,385$"):
        checkpoint.verify(tmp_path)


@pytest.fixture
def downloaded(tmp_path: Path) -> Path:
    """Return a directory with two shards, and a config that describes another tensor."""
    checkpoint.write({"tensors": {"a": [64, 64], "b": [64, 64]}}, tmp_path, max_shard_size="20KB")
    # A recipe in the place of the config does not need transformers.
    (tmp_path / "config.json").write_text(json.dumps({"tensors": {"from_config": [2, 2]}}))
    return tmp_path


def names(source: Path) -> list[str]:
    return sorted(checkpoint.plan(source).recipe.tensors)


def test_headers_take_precedence_over_the_config(downloaded: Path) -> None:
    assert names(downloaded) == ["a", "b"]


@pytest.mark.parametrize("state", ["missing", "pointer", "link"])
@pytest.mark.parametrize("count", [1, 2])
def test_config_replaces_shards_that_were_not_downloaded(downloaded: Path, state: str, count: int) -> None:
    for path in sorted(downloaded.glob("*.safetensors"))[:count]:
        path.unlink()
        if state == "pointer":
            path.write_bytes(LFS_POINTER)
        if state == "link":
            path.symlink_to("../blobs/0123")
    assert names(downloaded) == ["from_config"]
    (downloaded / "config.json").unlink()
    expected = (
        "got a Git LFS pointer" if state == "pointer" else "it lists model-00001-of-00002.safetensors, which does"
    )
    with pytest.raises((FileNotFoundError, ValueError), match=expected):
        names(downloaded)
    with pytest.raises((FileNotFoundError, ValueError), match=expected):
        names(downloaded / INDEX)


def test_config_replaces_a_single_pointer_but_not_a_damaged_file(downloaded: Path) -> None:
    (downloaded / INDEX).write_bytes(LFS_POINTER)
    path = downloaded / "model.safetensors"
    path.write_bytes(LFS_POINTER)
    assert names(downloaded) == ["from_config"]
    path.write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(ValueError, match="it must be a safetensors file, got an HTML page"):
        names(downloaded)
    path.write_bytes(next(downloaded.glob("model-00001*")).read_bytes())
    assert names(downloaded) == ["a"]


def test_error_lists_the_files_of_a_directory_without_a_source(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"must hold one of .*, got an empty directory"):
        checkpoint.plan(tmp_path)
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text("text")
    (tmp_path / "pytorch_model.bin").write_bytes(zip_archive())
    with pytest.raises(FileNotFoundError, match=r"got 'pytorch_model.bin', which is a zip archive, .*; and 5 more$"):
        checkpoint.plan(tmp_path)


def test_source_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "none/model: No such file" in run_error(capsys, "checkpoint", tmp_path / "none" / "model", tmp_path / "out")


def test_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.bin")
    for function in (checkpoint.plan, checkpoint.verify):
        with pytest.raises(ValueError, match="got something that is not a regular file"):
            function(tmp_path / "model.bin")


def test_unreadable_file_does_not_hide_what_a_directory_contains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind_of = _file_kinds.kind_of

    def kind_of_readable_files(path: Path) -> str | None:
        if path.name == "private.key":  # root can read every file
            raise PermissionError(13, "Permission denied", str(path))
        return kind_of(path)

    monkeypatch.setattr(_file_kinds, "kind_of", kind_of_readable_files)
    (tmp_path / "private.key").touch()
    (tmp_path / "pytorch_model.bin").write_bytes(zip_archive())
    with pytest.raises(FileNotFoundError, match=r"got 'pytorch_model\.bin', which is a zip .*; 'private\.key'"):
        checkpoint.write(tmp_path, tmp_path / "out")


def test_header_of_zeros_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(100))
    with pytest.raises(ValueError, match="the file must begin with the length of its header, got 0"):
        checkpoint.plan(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows restricts symbolic links")
def test_broken_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match=r"got 'model\.safetensors', which is a link to a file that does not"):
        checkpoint.plan(tmp_path)
    for resume in (False, True):
        with pytest.raises(
            ValueError, match=r"model\.safetensors: it must be a regular file, got a link to a file that"
        ):
            checkpoint.write({"tensors": {"a": [4, 4]}}, tmp_path, resume=resume)
