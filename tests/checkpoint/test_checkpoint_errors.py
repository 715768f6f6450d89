"""Invalid sources: each raises an error of one line that names the source, and nothing is written."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

import fastkaiming as fk
from fastkaiming import checkpoint, cli
from fastkaiming.checkpoint import _file_writer


def safetensors_file(path: Path, table: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


INVALID_HEADERS = {
    "no length": (b"", None, "must begin with the length"),
    "past the end": (b"{}", 1000, "must end within the 10 bytes"),
    "200 MB": (b"{}", 200_000_000, "at most 100,000,000 bytes"),
    "not UTF-8": (b'{"\xff": 1}', None, "must be UTF-8, got byte 0xff at 2"),
    "not JSON": (b"{", None, "must be JSON"),
    "deep": (b"[" * 100_000, None, "must be JSON: it is nested too deeply"),
    "duplicate": (b'{"a": {}, "a": {}}', None, "duplicate name 'a'"),
    "a list": (b"[]", None, "must be a table"),
    "a number": ({"a": 1}, None, "'a' must be a table"),
    "no dtype": ({"a": {"shape": [2], "data_offsets": [0, 8]}}, None, r"'a'.dtype must be one of"),
    "field": (
        {"a": entry() | {"more": 1}},
        None,
        "'a' must have no fields other than dtype, shape, data_offsets, got 'more'",
    ),
    "axes": ({"a": entry(shape=[2**62] * 100_000 + [0])}, None, "'a'.shape must have at most 32 axes, got 100001"),
    "surrogate": (b'{"\\ud800": {}}', None, "a name must be encodable as UTF-8"),
    "shape": ({"a": entry(shape=[-2])}, None, "'a'.shape must be a list of integers"),
    "boolean": ({"a": entry(shape=[True])}, None, "'a'.shape must be a list of integers"),
    "overflow": ({"a": entry(shape=[2**62, 2**62])}, None, r"'a'.shape must hold less than 2\*\*63 bytes"),
    "size": ({"a": entry(offsets=(0, 4))}, None, "'a'.data_offsets must be 8 bytes apart"),
    "overlap": (
        {"a": entry(), "b": entry(offsets=(4, 12))},
        None,
        "'b'.data_offsets must not overlap with other tensors",
    ),
    "gap": (
        {"a": entry(), "b": entry(offsets=(12, 20))},
        None,
        "'b'.data_offsets must not leave a gap after other tensors",
    ),
    "truncated": ({"a": entry(shape=[20], offsets=(0, 80))}, None, "the data must have the 80 bytes"),
    "metadata": ({"__metadata__": {"a": 1}}, None, "must have only strings in __metadata__"),
}


@pytest.mark.parametrize(("text", "length", "message"), INVALID_HEADERS.values(), ids=INVALID_HEADERS)
def test_invalid_header_raises(
    tmp_path: Path, text: Any, length: int | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = safetensors_file(tmp_path / "source.safetensors", text, b"", length)
    if message == "must begin with the length":
        path.write_bytes(b"1234")
    with pytest.raises(ValueError, match=message) as raised:
        checkpoint.write(path, tmp_path / "out")
    assert cli.main(["checkpoint", str(path), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"fastkaiming checkpoint: {raised.value}\n"
    assert str(path) in str(raised.value)
    assert list(tmp_path.iterdir()) == [path]


INVALID_RECIPES: dict[str, tuple[dict[str, Any], str]] = {
    "no tensors": ({}, "tensors must be a table of names and shapes, got none"),
    "unknown field": ({"tensor": {}, "tensors": {}}, "no fields other than seed, dtype, rules, tensors, got 'tensor'"),
    "unknown field of a tensor": (
        {"tensors": {"a": {"shapes": [1]}}},
        r"tensors.'a' must have no fields other than shape",
    ),
    "unknown field of a rule": (
        {"rules": {"*": {"std": 1}}, "tensors": {}},
        r"rules.'\*' must have no fields other than init",
    ),
    "shape": ({"tensors": {"a": [1.5]}}, "tensors.'a' must be a list of integers"),
    "overflow": ({"tensors": {"a": [2**40, 2**40]}}, r"tensor 'a' must hold less than 2\*\*63 bytes"),
    "dtype": ({"dtype": "float31", "tensors": {}}, "dtype must be one of"),
    "seed": ({"seed": -1, "tensors": {}}, "seed must be an integer from 0"),
    "rule": ({"rules": {"*": "kaiming_norma"}, "tensors": {"a": [2, 2]}}, "did you mean 'kaiming_normal'"),
    "rule without quotes": (
        {"rules": {"*": "kaiming_normal(nonlinearity=relu)"}, "tensors": {"a": [2, 2]}},
        "must have only literals as arguments .*; text needs quotes: 'relu'",
    ),
    "rule of no tensor": ({"rules": {"x": "zero"}, "tensors": {"a.bias": [2]}}, "the rule 'x' must name one of"),
    "empty rule": ({"tensors": {"a": {"shape": [2], "init": ""}}}, "must be the name of an initializer"),
    "rule without fans": (
        {"rules": {"*": "kaiming_normal"}, "tensors": {"a": [2]}},
        "tensor 'a', by the rule 'kaiming",
    ),
    "no fans": ({"tensors": {"a": [2]}}, r"fewer than two axes must have a rule.*got none for 'a' of shape \(2,\)"),
    "unknown axes": (
        {"tensors": {"conv.weight": [8, 4, 3, 3]}},
        r"tensor 'conv.weight', .*\(8, 4, 3, 3\).*layout='BOI'.*layout='BIO'.*layout='OI\*'",
    ),
    "unknown axes and default rules": (
        {"rules": dict(fk.DEFAULT_RULES), "tensors": {"experts": [8, 4, 3]}},
        r"tensor 'experts', .*\(8, 4, 3\).*layout='BOI'.*layout='BIO'.*layout='OI\*'",
    ),
    "axes": ({"tensors": {"a": [1] * 33}}, "tensors.'a' must have at most 32 axes, got 33"),
    "huge number": ({"tensors": {"a": [10**9000]}}, "tensors.'a' must be a list of integers"),
    "number for a name": ({"tensors": {1: [2, 2]}}, "a name must be a str, not int 1"),
    "deep rule": ({"rules": {"*": f"normal({'-' * 5000}1)"}, "tensors": {"a": [2]}}, "must"),
    "strings for rules": (
        {"rules": ["*z"], "tensors": {}},
        "must be a table of patterns and rules, or a list of such pairs",
    ),
    "too large a file": ({"tensors": {"a": {"shape": [2**63 - 1], "dtype": "uint8"}}}, "File too large"),
    "keep": ({"rules": {"*": "keep"}, "tensors": {"a": [2]}}, "a new file has no values to keep"),
    "name": ({"tensors": {"__metadata__": [2]}}, "must not have the name __metadata__"),
    "surrogate": ({"tensors": {"\ud800": [2, 2]}}, "must be encodable as UTF-8"),
    "std": ({"tensors": {"a": {"shape": [2], "init": "normal(std=-1)"}}}, "tensor 'a', by the rule 'normal"),
}


@pytest.mark.parametrize(("recipe", "message"), INVALID_RECIPES.values(), ids=INVALID_RECIPES)
def test_invalid_recipe_raises(tmp_path: Path, recipe: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError, OSError), match=message):
        checkpoint.write(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


NOT_IN_JSON = {"number for a name", "huge number"}


@pytest.mark.parametrize("recipe", sorted(INVALID_RECIPES.keys() - NOT_IN_JSON))
def test_command_line_prints_one_line_for_an_invalid_recipe(
    tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.json").write_text(json.dumps(INVALID_RECIPES[recipe][0]))
    assert cli.main(["checkpoint", "recipe.json", "out"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(("fastkaiming checkpoint: recipe.json", f"fastkaiming checkpoint: {tmp_path}/out/"))
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]


def test_error_about_a_long_rule_is_short() -> None:
    with pytest.raises(ValueError, match="must be the name of an initializer") as raised:
        checkpoint.plan({"tensors": {"a": {"shape": [2], "init": "(" * 100_000}}})
    assert len(str(raised.value)) < 500


NOT_FILES_BESIDE = ["../a.safetensors", "/a.safetensors", "a\\b.safetensors", "a\n.safetensors", "\0.safetensors"]


@pytest.mark.parametrize("file", [*NOT_FILES_BESIDE, "\ud800.safetensors", "\x1b[m.safetensors", "a.bin", 1])
def test_index_must_name_files_in_its_directory(tmp_path: Path, file: Any) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": file}}))
    with pytest.raises(ValueError, match=r"weight_map.'a' must name a safetensors file beside it"):
        checkpoint.write(index, tmp_path / "out")
    with pytest.raises(ValueError, match=r"weight_map.'a' must name a safetensors file beside it"):
        checkpoint.verify(tmp_path)


def test_header_does_not_say_what_three_axes_mean(tmp_path: Path) -> None:
    path = safetensors_file(tmp_path / "a.safetensors", {"w": entry(shape=(2, 3, 4), offsets=(0, 96))}, bytes(96))
    with pytest.raises(ValueError, match=r"tensor 'w', .*\(2, 3, 4\).*layout='BOI'.*layout='BIO'.*layout='OI\*'"):
        checkpoint.plan(path)
    plan = checkpoint.plan(path, rules={"*": "kaiming_normal(layout='BOI')"})
    assert [tensor.distribution.std for tensor in plan.tensors if tensor.distribution] == [(2 / 4) ** 0.5]


def test_source_must_be_a_regular_file(tmp_path: Path) -> None:
    for name in ("a.json", "a.safetensors"):
        (tmp_path / name).symlink_to("/dev/zero")
        with pytest.raises(ValueError, match=f"{name}: it must be a regular file"):
            checkpoint.write(tmp_path / name, tmp_path / "out")


def test_rules_must_be_strings() -> None:
    with pytest.raises(ValueError, match="must be a string or a table"):
        checkpoint.plan({"tensors": {"a": [2, 2]}}, rules={"*": fk.zeros_})


def test_files_of_other_programs_cannot_be_verified(tmp_path: Path) -> None:
    safetensors_file(tmp_path / "a.safetensors", {"a": entry()}, bytes(8))
    with pytest.raises(ValueError, match=r"__metadata__ must contain fastkaiming\.stream_version, got none"):
        checkpoint.verify(tmp_path)
    with pytest.raises(FileNotFoundError, match="must have safetensors files"):
        checkpoint.verify(tmp_path / "..")


def test_error_names_the_recipe_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"tensors": {"a": [2**40, 2**40]}}))
    with pytest.raises(ValueError, match=r"recipe\.json: tensor 'a' must hold less than"):
        checkpoint.plan(path)


def test_first_rule_of_equal_patterns_applies() -> None:
    plan = checkpoint.plan({"tensors": {"a": [2]}}, rules=[("*", "ones"), ("*", "zeros")])
    assert [tensor.rule for tensor in plan.tensors] == ["ones"]


def test_none_as_a_string_is_a_pattern() -> None:
    with pytest.warns(UserWarning, match="no name matches 'None'"):
        plan = checkpoint.plan({"tensors": {"a.bias": [2]}, "rules": {"None": "ones"}})
    assert [tensor.rule for tensor in plan.tensors] == ["zeros"]


def test_unused_rules_are_reported_in_a_warning(tmp_path: Path) -> None:
    recipe = {"tensors": {"a.bias": [2], "a.weight": [2, 2]}}
    rules = {"*.bias": "zeros", "*": "ones", "a*": "ones", "*norm": "ones"}
    with pytest.warns(UserWarning, match=r"no name matches '\*norm', and other rules came before 'a\*'") as warned:
        plan = checkpoint.plan(recipe, rules=rules)
    assert plan.unused == ("a*", "*norm")
    assert warned[0].filename == __file__
    with pytest.warns(UserWarning, match="some rules filled no array") as warned:
        checkpoint.write(recipe, tmp_path, rules=rules)
    assert warned[0].filename == __file__


def test_empty_and_boolean_tensors_need_no_rule() -> None:
    tensors = {"none": [0], "a.flags": {"shape": [2], "dtype": "bool"}}
    assert [tensor.name for tensor in checkpoint.plan({"tensors": tensors}).tensors] == ["none", "a.flags"]


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json"])
def test_pipe_in_the_directory_raises(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name}: it must be a regular file"):
        checkpoint.write({"tensors": {"a.bias": [2]}}, tmp_path, resume=True)


CHANGED_METADATA = {
    "stream version": (
        b'"fastkaiming.stream_version":"1"',
        b'"fastkaiming.stream_version":"2"',
        "stream version must be 1",
    ),
    "no seed": (b'"fastkaiming.seed":"7"', b'"fastkaiming.seed":"x"', "seed must be an integer from 0"),
    "no rule": (b'[\\"fc.bias\\"]', b'[\\"fc.bia_\\"]', "must have a rule for every tensor, got none for 'fc.bias'"),
}


@pytest.mark.parametrize(("original", "changed", "message"), CHANGED_METADATA.values(), ids=CHANGED_METADATA)
def test_verify_rejects_invalid_metadata(tmp_path: Path, original: bytes, changed: bytes, message: str) -> None:
    checkpoint.write({"tensors": {"fc.weight": [4, 2], "fc.bias": [4]}}, tmp_path, seed=7)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    assert original in whole
    path.write_bytes(whole.replace(original, changed))
    with pytest.raises(ValueError, match=message):
        checkpoint.verify(tmp_path)


@pytest.mark.parametrize(("nbytes", "files"), [(2_500_000_000, 1), (2_500_000_001, 2)])
def test_default_file_size_is_5_gb(nbytes: int, files: int) -> None:
    tensors = {name: {"shape": [nbytes], "dtype": "int8"} for name in "ab"}
    assert len(checkpoint.plan({"tensors": tensors}).files) == files


def test_buffer_sizes_are_bounded() -> None:
    assert 64 << 20 <= 2 * _file_writer.BUFFER_BYTES <= 256 << 20
