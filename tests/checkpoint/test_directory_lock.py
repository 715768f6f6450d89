"""The lock of a directory: it keeps other checkpoints out, and removing it removes nothing else."""

from pathlib import Path
from typing import Any

import pytest

from fastkaiming import checkpoint
from fastkaiming.checkpoint import _directory_lock
from fastkaiming.checkpoint._directory_lock import LOCK_NAME

MINE, OTHER = "a" * 64, "b" * 64
SUFFIX = "0123456789abcdef"
SOURCE: dict[str, Any] = {"tensors": {"fc.weight": [8, 8]}}


def write(directory: Path) -> checkpoint.Report:
    return checkpoint.write(SOURCE, directory)


def lock_with(lock: Path, *names: str) -> Path:
    """Create a lock with entries of these names."""
    lock.mkdir(parents=True)
    for name in names:
        (lock / name).touch()
    return lock


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


# ---- other people's files ----

NAMES = [f"{LOCK_NAME}.x", f"{LOCK_NAME}.{SUFFIX}", f"{LOCK_NAME}_backup", f"{LOCK_NAME}.{SUFFIX.upper()}"]


@pytest.mark.parametrize("name", NAMES)
def test_files_behind_symbolic_links_are_kept(tmp_path: Path, name: str) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    lock_with(victim, "thesis.tex", f"{MINE}.{SUFFIX}")
    out.mkdir()
    (out / name).symlink_to(victim)
    write(out)
    assert names(victim) == {"thesis.tex", f"{MINE}.{SUFFIX}"}
    assert names(out) == {"model.safetensors", name}


@pytest.mark.parametrize("name", [NAMES[0], *NAMES[2:]])
def test_directories_of_similar_names_are_kept(tmp_path: Path, name: str) -> None:
    similar = lock_with(tmp_path / name, "thesis.tex", f"{MINE}.{SUFFIX}")
    write(tmp_path)
    assert names(similar) == {"thesis.tex", f"{MINE}.{SUFFIX}"}


def test_other_files_in_a_prepared_lock_are_kept(tmp_path: Path) -> None:
    prepared = lock_with(tmp_path / f"{LOCK_NAME}.{SUFFIX}", "thesis.tex", f"{MINE}.{SUFFIX}", f"{MINE}.x", f"{MINE}")
    write(tmp_path)
    assert names(prepared) == {"thesis.tex", f"{MINE}.x", MINE}


def test_prepared_locks_of_killed_runs_are_removed(tmp_path: Path) -> None:
    lock_with(tmp_path / f"{LOCK_NAME}.{SUFFIX}", f"{MINE}.{SUFFIX}")
    lock_with(tmp_path / f"{LOCK_NAME}.{SUFFIX[::-1]}")
    write(tmp_path)
    assert names(tmp_path) == {"model.safetensors"}


def test_files_of_similar_names_as_temporary_ones_are_kept(tmp_path: Path) -> None:
    similar = tmp_path / ".model.safetensors.the-best-attempt.partial"
    similar.touch()
    checkpoint.write(SOURCE, tmp_path, resume=True)
    assert names(tmp_path) == {"model.safetensors", similar.name}


# ---- other checkpoints ----


def test_removing_a_lock_keeps_the_entries_of_another_checkpoint(tmp_path: Path) -> None:
    """A second run of the complete checkpoint may end after another checkpoint has taken the lock."""
    lock = lock_with(tmp_path / LOCK_NAME, f"{MINE}.{SUFFIX}", f"{OTHER}.{SUFFIX}")
    _directory_lock.remove(tmp_path, MINE)
    assert names(lock) == {f"{OTHER}.{SUFFIX}"}


def test_lock_that_another_checkpoint_takes_over_between_the_two_looks_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_with(tmp_path / LOCK_NAME, f"{MINE}.{SUFFIX}")
    identities = _directory_lock._identities

    def taken_over_after_the_first_look(directory: Path) -> set[str]:
        monkeypatch.setattr(_directory_lock, "_identities", identities)
        found = identities(directory)
        (lock / f"{MINE}.{SUFFIX}").rename(lock / f"{OTHER}.{SUFFIX}")
        return found

    monkeypatch.setattr(_directory_lock, "_identities", taken_over_after_the_first_look)
    with (
        pytest.raises(FileExistsError, match="another checkpoint is being written to this directory"),
        _directory_lock.locked(tmp_path, MINE),
    ):
        pytest.fail("two checkpoints hold the lock")
    assert names(lock) == {f"{OTHER}.{SUFFIX}"}


# ---- files in the place of directories ----


def test_out_dir_must_be_a_directory(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.touch()
    with pytest.raises(NotADirectoryError) as raised:
        write(out)
    assert str(raised.value) == f"{out}: out_dir must be a directory, got a file"


def test_file_among_the_parents_of_out_dir_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file") as raised:
        write(tmp_path / "file" / "out")
    assert LOCK_NAME not in str(raised.value)


@pytest.mark.parametrize("kind", ["file", "symbolic link"])
def test_lock_must_be_a_directory(tmp_path: Path, kind: str) -> None:
    lock, victim = tmp_path / "out" / LOCK_NAME, tmp_path / "victim"
    lock.parent.mkdir()
    victim.mkdir()
    if kind == "file":
        lock.touch()
    else:
        lock.symlink_to(victim)
    with pytest.raises(NotADirectoryError) as raised:
        write(lock.parent)
    assert str(raised.value) == f"{lock}: the lock must be a directory, got something else; remove it"
    assert names(lock.parent) == {LOCK_NAME}
    assert names(victim) == set()
