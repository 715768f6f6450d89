"""All files of a checkpoint record its identity: a mixture of two checkpoints is neither written nor verified."""

import dataclasses
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fastkaiming import checkpoint, cli
from fastkaiming.checkpoint import _file_writer, _os_files, _recipes

TENSORS: dict[str, Any] = {f"{name}.weight": [64, 64] for name in "abcd"}
SOURCE: dict[str, Any] = {"dtype": "bfloat16", "tensors": TENSORS, "rules": {"*": "kaiming_normal"}}
INDEX = "model.safetensors.index.json"

# Other checkpoints whose files have the same names and sizes
OTHERS: dict[str, dict[str, Any]] = {
    "seed": {"seed": 2},
    "rule": {"rules": {"*": "kaiming_uniform"}},
    "rule of a tensor in another file": {"rules": {"a.weight": "xavier_normal", "*": "kaiming_normal"}},
    "dtype": {"dtype": "float16"},
    "shape": {"tensors": TENSORS | {"a.weight": [32, 128]}},
    "name": {"tensors": {"A.weight": [64, 64]} | {name: [64, 64] for name in list(TENSORS)[1:]}},
}


def write(directory: Path, changes: dict[str, Any] | None = None, **arguments: Any) -> checkpoint.Report:
    return checkpoint.write(SOURCE | (changes or {}), directory, max_shard_size="10KB", **arguments)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def metadata(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    table: dict[str, str] = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])["__metadata__"]
    return table


def test_identity_is_the_documented_digest(tmp_path: Path) -> None:
    """The computation here follows docs/checkpoints.md and shares no code with the package."""
    recipe = {"tensors": {"fc.weight": [4, 2], "fc.bias": [4], "größe": {"shape": [], "dtype": "int64"}}}
    report = checkpoint.write(recipe, tmp_path, seed=7, max_shard_size=32)
    files = [
        [["fc.weight", "F32", [4, 2], "kaiming_normal(layout='OI')"]],
        [["größe", "I64", [], "zeros"], ["fc.bias", "F32", [4], "zeros"]],
    ]
    digests = sorted(hashlib.sha256(json.dumps(file, separators=(",", ":")).encode()).hexdigest() for file in files)
    expected = hashlib.sha256("\n".join(["1", "7", "rules", "{}", *digests]).encode()).hexdigest()
    assert [metadata(tmp_path / name)["fastkaiming.identity"] for name in report.files] == [expected] * 2


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("resume", [False, True])
def test_part_of_another_checkpoint_raises_and_changes_nothing(
    tmp_path: Path, changes: dict[str, Any], resume: bool
) -> None:
    write(tmp_path, part=(2, 2), seed=1)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=r"model-00002-of-00004\.safetensors: it belongs to another checkpoint"):
        write(tmp_path, {"seed": 1} | changes, part=(1, 2), resume=resume)
    assert contents(tmp_path) == before
    write(tmp_path, part=(1, 2), seed=1, resume=resume)
    assert checkpoint.verify(tmp_path).difference is None


def test_error_names_the_seeds(tmp_path: Path) -> None:
    write(tmp_path, part=(1, 2), seed=1)
    with pytest.raises(FileExistsError, match="its seed is 1, and the seed of this run is 2"):
        write(tmp_path, part=(2, 2), seed=2)


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_verify_rejects_a_mixture(tmp_path: Path, changes: dict[str, Any]) -> None:
    write(tmp_path / "one", seed=1)
    write(tmp_path / "other", {"seed": 1} | changes)
    shutil.copy(tmp_path / "other" / "model-00003-of-00004.safetensors", tmp_path / "one")
    if "tensors" in changes:  # the name of a tensor in the first file differs, which the index of both does not show
        shutil.copy(tmp_path / "other" / "model-00001-of-00004.safetensors", tmp_path / "one")
        shutil.copy(tmp_path / "other" / INDEX, tmp_path / "one")
    with pytest.raises(ValueError, match=r"model-0000\d-of-00004.* another checkpoint than model-0000\d-of-00004"):
        checkpoint.verify(tmp_path / "one")
    with pytest.raises(ValueError, match="another checkpoint"):
        list(checkpoint.stored_tensors(tmp_path / "one"))


def test_verify_rejects_files_that_the_index_does_not_list(tmp_path: Path) -> None:
    write(tmp_path / "sharded")
    checkpoint.write(SOURCE, tmp_path / "single")
    shutil.copy(tmp_path / "single" / "model.safetensors", tmp_path / "sharded")
    with pytest.raises(ValueError, match=r"model\.safetensors: it is not in model\.safetensors\.index\.json"):
        checkpoint.verify(tmp_path / "sharded")


@pytest.mark.parametrize("size", [None, 1, "32768"])
def test_verify_rejects_an_index_with_another_size(tmp_path: Path, size: Any) -> None:
    write(tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == 32768
    index["metadata"]["total_size"] = size
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=rf"metadata\.total_size must be 32768, .* got {size!r}"):
        checkpoint.verify(tmp_path)


def test_verify_accepts_a_single_file_of_any_name(tmp_path: Path) -> None:
    checkpoint.write(SOURCE, tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "best-of-breed.safetensors")
    assert checkpoint.verify(tmp_path).difference is None


def test_verify_rejects_an_index_without_a_file(tmp_path: Path) -> None:
    write(tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if "00004-" not in file}
    index["metadata"]["total_size"] -= 64 * 64 * 2
    (tmp_path / INDEX).write_text(json.dumps(index))
    (tmp_path / "model-00004-of-00004.safetensors").unlink()
    with pytest.raises(ValueError, match=r"the headers of its files must give the identity [0-9a-f]{64}, got"):
        checkpoint.verify(tmp_path)


def test_single_file_can_be_verified_alone_and_renamed(tmp_path: Path) -> None:
    report = write(tmp_path / "sharded")
    assert checkpoint.verify(tmp_path / "sharded" / report.files[2]).difference is None
    checkpoint.write(SOURCE, tmp_path / "single")
    (tmp_path / "single" / "model.safetensors").rename(tmp_path / "single" / "weights.safetensors")
    assert checkpoint.verify(tmp_path / "single").difference is None


def without_identity(path: Path) -> None:
    """Rewrite a file as earlier builds wrote it."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]["fastkaiming.identity"]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def test_file_of_an_earlier_build_gives_a_clear_error(tmp_path: Path) -> None:
    checkpoint.write(SOURCE, tmp_path)
    without_identity(tmp_path / "model.safetensors")
    message = r"model\.safetensors: .*fastkaiming\.identity.* an earlier build of fastkaiming wrote it"
    with pytest.raises(ValueError, match=message):
        checkpoint.verify(tmp_path)
    with pytest.raises(FileExistsError, match=message):
        checkpoint.write(SOURCE, tmp_path, resume=True)


def test_parts_in_any_order_write_the_same_index_at_the_end(tmp_path: Path) -> None:
    write(tmp_path / "whole")
    for order in ((1, 2, 3, 4, 5), (5, 3, 4, 1, 2)):
        directory = tmp_path / str(order)
        for position, number in enumerate(order):
            write(directory, part=(number, 5))
            files_are_complete = set(order[: position + 1]) >= {1, 2, 3, 4}
            assert (directory / INDEX).exists() == files_are_complete
        assert contents(directory) == contents(tmp_path / "whole")


def test_resume_writes_a_missing_index(tmp_path: Path) -> None:
    report = write(tmp_path)
    before = contents(tmp_path)
    (tmp_path / INDEX).unlink()
    assert write(tmp_path, resume=True).kept == report.files
    assert contents(tmp_path) == before


# ---- files appear under their final names exclusively ----


def interrupt_writing(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Run an action once, after all checks and before the first byte is written."""
    write_buffer = _file_writer._write_buffer

    def interrupted(*arguments: Any) -> None:
        monkeypatch.setattr(_file_writer, "_write_buffer", write_buffer)
        action()
        write_buffer(*arguments)

    monkeypatch.setattr(_file_writer, "_write_buffer", interrupted)


def no_links(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def remove_links(monkeypatch: pytest.MonkeyPatch, links: str) -> None:
    """Simulate a file system without hard links, and a system that cannot rename exclusively either."""
    if links != "hard links":
        monkeypatch.setattr(os, "link", no_links)
    if links == "neither":
        monkeypatch.setattr(_os_files, "_exclusive_rename", lambda: None)


LINKS = pytest.mark.parametrize("links", ["hard links", "exclusive renames", "neither"])


@LINKS
def test_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: str
) -> None:
    remove_links(monkeypatch, links)
    name = "model-00001-of-00004.safetensors"
    interrupt_writing(monkeypatch, lambda: (tmp_path / name).write_text("of somebody else"))
    with pytest.raises(FileExistsError, match=rf"another run has written the file, which is not overwritten: .*{name}"):
        write(tmp_path)
    assert contents(tmp_path) == {name: b"of somebody else"}


@LINKS
def test_array_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: str, capsys: pytest.CaptureFixture[str]
) -> None:
    remove_links(monkeypatch, links)
    path = tmp_path / "a.npy"
    interrupt_writing(monkeypatch, lambda: path.write_text("of somebody else"))
    assert cli.main(["fill", str(path), "64x64"]) == 2
    assert "a.npy: another run has written the file" in capsys.readouterr().err
    assert contents(tmp_path) == {"a.npy": b"of somebody else"}


@LINKS
def test_small_file_that_exists_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: str) -> None:
    remove_links(monkeypatch, links)
    _file_writer.write_atomically(tmp_path / "a.svg", b"mine")
    with pytest.raises(FileExistsError, match=r"another run has written the file.*a\.svg"):
        _file_writer.write_atomically(tmp_path / "a.svg", b"other")
    assert contents(tmp_path) == {"a.svg": b"mine"}


@LINKS
def test_checkpoint_is_complete_on_any_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: str) -> None:
    write(tmp_path / "expected")
    remove_links(monkeypatch, links)
    write(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


def test_run_without_resume_stops_at_a_file_of_the_same_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two equal runs, one writes the checkpoint, and the other reports that it did not."""
    (tmp_path / "first").mkdir()
    write(tmp_path / "expected")
    name = "model-00001-of-00004.safetensors"
    interrupt_writing(monkeypatch, lambda: shutil.copy(tmp_path / "expected" / name, tmp_path / "first"))
    with pytest.raises(FileExistsError, match=f"another run has written the file.*{name}"):
        write(tmp_path / "first")
    assert list(contents(tmp_path / "first")) == [name]


def test_resumed_run_keeps_a_file_of_the_same_checkpoint_that_appears_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    report = write(tmp_path / "expected")
    interrupt_writing(
        monkeypatch, lambda: [shutil.copy(tmp_path / "expected" / name, tmp_path / "out") for name in report.files[:2]]
    )
    assert write(tmp_path / "out", resume=True).kept == report.files[:2]
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


def test_file_that_appears_while_files_are_examined_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    report = write(tmp_path / "expected")
    name, stat = report.files[1], Path.stat

    def appears_after_the_first_look(path: Path, **options: Any) -> os.stat_result:
        if path == tmp_path / "out" / name and not os.path.exists(path):  # noqa: PTH110 - Path.exists calls this function
            shutil.copy(tmp_path / "expected" / name, tmp_path / "out")
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", appears_after_the_first_look)
    assert write(tmp_path / "out", resume=True).kept == (name,)


def test_config_that_appears_meanwhile_must_be_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are those of both configs, but one config.json cannot belong to two models."""
    recipe = _recipes.recipe_from_table("source", SOURCE)
    recipe = dataclasses.replace(recipe, companions=(_recipes.Companion("config.json", b'{"rope_theta": 1}', "a"),))
    for number, text in enumerate(['{"rope_theta": 1}', '{"rope_theta": 2}']):
        out = tmp_path / str(number)
        interrupt_writing(monkeypatch, partial((out / "config.json").write_text, text))
        if number == 0:
            checkpoint.write(recipe, out)
        else:
            with pytest.raises(FileExistsError, match=r"config\.json: another run has written the file with other"):
                checkpoint.write(recipe, out)
        assert (out / "config.json").read_text() == text


def test_damaged_file_that_another_run_repairs_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = write(tmp_path)
    path = tmp_path / report.files[0]
    whole = contents(tmp_path)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    reserve, repaired_ones = _file_writer.reserve, []

    def repaired_by_another_run(*arguments: Any) -> Any:
        reserved = reserve(*arguments)
        path.unlink()
        path.write_bytes(whole[path.name])
        repaired_ones.append(path.stat().st_ino)
        return reserved

    monkeypatch.setattr(_file_writer, "reserve", repaired_by_another_run)
    write(tmp_path, resume=True)
    assert contents(tmp_path) == whole
    assert repaired_ones == [path.stat().st_ino]


# ---- the directory of a running or killed run ----


def test_run_of_another_seed_raises_while_one_is_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[str] = []

    def other_seed() -> None:
        for resume in (False, True):
            with pytest.raises(FileExistsError) as raised:
                write(tmp_path, seed=2, resume=resume)
            errors.append(str(raised.value))

    interrupt_writing(monkeypatch, other_seed)
    write(tmp_path, seed=1)
    assert all("another checkpoint is being written to this directory" in error for error in errors)
    assert len(errors) == 2
    assert not list(tmp_path.glob(".*"))
    assert checkpoint.verify(tmp_path).difference is None
    assert {metadata(path)["fastkaiming.seed"] for path in tmp_path.glob("*.safetensors")} == {"1"}


def test_failed_run_leaves_the_directory_to_a_run_that_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first part creates the directory and fails, while the second part has not written anything yet."""
    out = tmp_path / "new" / "out"

    def fail() -> None:
        raise OSError(28, "No space left on device")

    def first_part_fails() -> None:
        interrupt_writing(monkeypatch, fail)
        with pytest.raises(OSError, match="No space left"):
            write(out, part=(1, 2))

    interrupt_writing(monkeypatch, first_part_fails)
    write(out, part=(2, 2))
    assert sorted(contents(out)) == ["model-00002-of-00004.safetensors", "model-00004-of-00004.safetensors"]
    write(out, part=(1, 2))
    assert checkpoint.verify(out).difference is None


def test_failed_run_removes_the_directories_that_it_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    interrupt_writing(monkeypatch, fail)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []
