"""The content of checkpoints: their values, and files that are equal to those of safetensors and huggingface_hub."""

import json
import math
import os
import threading
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import HANG_SECONDS

import fastkaiming as fk
from fastkaiming import checkpoint
from fastkaiming.checkpoint import _file_writer, _headers, _verify

RECIPE: dict[str, Any] = {
    "seed": 7,
    "dtype": "bfloat16",
    "rules": {
        "*.bias": "zeros",
        "*norm*.weight": {"init": "ones", "dtype": "float32"},
        "*embed*": "normal(std=0.02)",
        "*": "kaiming_normal(nonlinearity='relu')",
    },
    "tensors": {
        "embed.weight": [100, 16],
        "0.fc.weight": [64, 16],
        "0.fc.bias": [64],
        "0.norm.weight": [16],
        "0.conv.weight": [8, 4, 3, 3],
        "scale": {"shape": [], "dtype": "float64", "init": "constant(0.5)"},
        "empty": {"shape": [0, 4], "dtype": "float16"},
        "position": {"shape": [3, 5], "dtype": "int64"},
        "head.weight": {"shape": [100, 16], "dtype": "float8_e4m3fn", "init": "uniform(-1.0, 1.0)"},
    },
}
LIKE_LLAMA = {f"model.layers.{n}.mlp.weight": [64, 48] for n in range(12)} | {"model.norm.weight": [48]}


def expected(name: str) -> np.ndarray[Any, Any]:
    """Return a tensor of the recipe, filled without the other tensors and in one call."""
    dtypes = {"norm": np.float32, "scale": np.float64, "empty": np.float16, "head": ml_dtypes.float8_e4m3fn}
    kind = next((dtype for part, dtype in dtypes.items() if part in name), ml_dtypes.bfloat16)
    spec = RECIPE["tensors"][name]
    shape = spec if isinstance(spec, list) else spec["shape"]
    if name == "position":
        return np.zeros(shape, np.int64)
    array, key = np.empty(shape, kind), fk.Generator(7).key(name)
    fillers: dict[str, Any] = {
        "bias": fk.zeros_,
        "norm": fk.ones_,
        "embed": lambda out, rng: fk.normal_(out, std=0.02, rng=rng),
    }
    fillers |= {"head": lambda out, rng: fk.uniform_(out, -1.0, 1.0, rng=rng)}
    fillers |= {"scale": lambda out, rng: fk.constant_(out, 0.5, rng=rng)}
    fill = next((each for part, each in fillers.items() if part in name), None)
    if fill is not None:
        fill(array, rng=key)
    elif array.size:
        fk.kaiming_normal_(array, nonlinearity="relu", rng=key)
    return array


def bytes_of(array: np.ndarray[Any, Any]) -> bytes:
    return array.tobytes()


def stored_arrays(directory: Path) -> dict[str, np.ndarray[Any, Any]]:
    return {each.name: each.array for each in checkpoint.stored_tensors(directory)}


@pytest.mark.parametrize("buffer", [64, 1 << 20])
@pytest.mark.parametrize("size", ["5GB", "3KB", 1])
def test_values_do_not_depend_on_buffer_or_file_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffer: int, size: int | str
) -> None:
    monkeypatch.setattr(_file_writer, "BUFFER_BYTES", buffer)
    report = checkpoint.write(RECIPE, tmp_path, max_shard_size=size)
    found = stored_arrays(tmp_path)
    assert found.keys() == RECIPE["tensors"].keys()
    for name, array in found.items():
        assert (array.shape, bytes_of(array)) == (expected(name).shape, bytes_of(expected(name))), name
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == sorted(report.files)
    assert not list(tmp_path.glob(".*"))
    assert checkpoint.verify(tmp_path).difference is None


def test_files_are_equal_to_those_of_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    numpy = pytest.importorskip("safetensors.numpy")
    recipe = {"tensors": {name: spec for name, spec in RECIPE["tensors"].items() if name not in {"head.weight"}}}
    checkpoint.write(recipe, tmp_path, dtype="float32", rules=RECIPE["rules"], seed=7)
    path = tmp_path / "model.safetensors"
    with safetensors.safe_open(path, "np") as opened:
        assert opened.metadata()["format"] == "pt"
        found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - the opened file is not a mapping
    assert {name: bytes_of(array) for name, array in found.items()} == {
        name: bytes_of(array) for name, array in stored_arrays(tmp_path).items()
    }
    reference_path = tmp_path / "reference"
    numpy.save_file(found, reference_path, {"format": "pt"})
    header, reference = _headers.read_header(path), _headers.read_header(reference_path)
    assert list(header.tensors.items()) == list(reference.tensors.items())  # in the same order, at the same offsets
    assert path.read_bytes()[header.data_start :] == reference_path.read_bytes()[reference.data_start :]


@pytest.mark.parametrize("size", ["5GB", "20KB", "13KB", "3000B", 6144, 6143, 1])
def test_shards_are_equal_to_those_of_huggingface_hub(size: int | str) -> None:
    hub = pytest.importorskip("huggingface_hub")
    if size == "3000B":
        size = 3000
    plan = checkpoint.plan({"tensors": LIKE_LLAMA}, max_shard_size=size)
    state = {name: np.empty(shape, np.float32) for name, shape in LIKE_LLAMA.items()}
    split = hub.split_state_dict_into_shards_factory(
        state,
        get_storage_size=lambda array: array.nbytes,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=size,
    )
    assert {file.name: sorted(each.name for each in file.tensors) for file in plan.files} == {
        name: sorted(tensors) for name, tensors in split.filename_to_tensors.items()
    }
    if split.is_sharded:
        assert json.loads(plan.index or b"") == {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
    else:
        assert plan.index is None


@given(st.lists(st.integers(1, 7), max_size=4), st.data())
def test_regions_cover_a_range_in_order(shape: list[int], data: st.DataObject) -> None:
    whole = np.arange(math.prod(shape)).reshape(shape)
    first = data.draw(st.integers(0, whole.size))
    stop = data.draw(st.integers(first, whole.size))
    found = [whole[region].ravel() for region in _file_writer.regions(tuple(shape), first, stop)]
    assert np.array_equal(np.concatenate([np.empty(0, int), *found]), np.arange(first, stop))
    assert len(found) <= max(1, 2 * len(shape) - 1)


def test_all_parts_together_are_equal_to_a_single_run(tmp_path: Path) -> None:
    checkpoint.write(RECIPE, tmp_path / "whole", max_shard_size="2KB")
    for number in (3, 1, 2):
        checkpoint.write(RECIPE, tmp_path / "parts", max_shard_size="2KB", part=(number, 3))
    whole, parts = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "parts")
    )
    assert whole == parts


def test_toml_json_and_mappings_give_the_same_plan(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(
        """
        seed = 3
        dtype = "bfloat16"
        [rules]
        "*norm*" = { init = "ones", dtype = "float32" }
        "*" = "kaiming_normal(nonlinearity='relu')"
        [tensors]
        "a.weight" = [8, 4]
        "norm.weight" = [4]
        "b" = { shape = [8, 4], dtype = "float16", init = "normal(std=0.02)" }
        """
    )
    rules = {"*norm*": {"init": "ones", "dtype": "float32"}, "*": "kaiming_normal(nonlinearity='relu')"}
    tensors = {
        "a.weight": [8, 4],
        "norm.weight": [4],
        "b": {"shape": [8, 4], "dtype": "float16", "init": "normal(std=0.02)"},
    }
    recipe = {"seed": 3, "dtype": "bfloat16", "rules": rules, "tensors": tensors}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    plans = [checkpoint.plan(source) for source in (tmp_path / "recipe.toml", tmp_path / "recipe.json", recipe)]
    assert plans[0].files == plans[1].files == plans[2].files
    assert {tensor.name: (tensor.dtype.name, tensor.rule) for tensor in plans[0].tensors} == {
        "a.weight": ("BF16", "kaiming_normal(nonlinearity='relu')"),
        "norm.weight": ("F32", "ones"),
        "b": ("F16", "normal(std=0.02)"),
    }


def test_safetensors_files_and_indexes_are_sources(tmp_path: Path) -> None:
    checkpoint.write(RECIPE, tmp_path / "sharded", max_shard_size="2KB")
    checkpoint.write(RECIPE, tmp_path / "single")
    for source in ("sharded", "single", "single/model.safetensors", "sharded/model.safetensors.index.json"):
        plan = checkpoint.plan(tmp_path / source, rules={"*": "zeros"})
        assert {each.name: (each.shape, each.dtype.numpy) for each in plan.tensors} == {
            name: (expected(name).shape, expected(name).dtype.name) for name in RECIPE["tensors"]
        }
    converted = checkpoint.plan(tmp_path / "single", rules={"*": "zeros"}, dtype="float16")
    assert {each.dtype.name for each in converted.tensors} == {"F16", "I64"}


# ---- verify, and progress ----


def write_llama(tmp_path: Path) -> tuple[Path, checkpoint.Report]:
    directory = tmp_path / "out"
    return directory, checkpoint.write({"tensors": LIKE_LLAMA}, directory, max_shard_size="30KB")


@pytest.mark.parametrize("chunk", [64, 1024, 4 << 20])
def test_verify_returns_the_first_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(_verify, "_CHUNK_BYTES", chunk)
    monkeypatch.setattr(_verify, "_READ_BYTES", chunk // 4)
    directory, report = write_llama(tmp_path)
    name = report.files[1]
    tensor = next(file for file in checkpoint.plan({"tensors": LIKE_LLAMA}, max_shard_size="30KB").files[1:]).tensors[1]
    with (directory / name).open("r+b") as file:
        for element in (6 * 48 + 1, 5 * 48 + 7):
            file.seek(tensor.begin + 4 * element)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
    assert checkpoint.verify(directory).difference == checkpoint.Difference(name, tensor.name, (5, 7))


def test_verify_uses_several_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, _ = write_llama(tmp_path)
    fill_buffer, met = _file_writer.fill_buffer, threading.Event()
    barrier = threading.Barrier(2, timeout=HANG_SECONDS)

    def wait_for_another_thread(*arguments: Any, **keywords: Any) -> None:
        if not met.is_set():
            barrier.wait()
            met.set()
        fill_buffer(*arguments, **keywords)

    monkeypatch.setattr(_verify, "get_num_threads", lambda: 2)
    monkeypatch.setattr(_verify, "_CHUNK_BYTES", 512)
    monkeypatch.setattr(_file_writer, "fill_buffer", wait_for_another_thread)
    assert checkpoint.verify(directory).difference is None
    assert met.is_set()


def test_verify_rejects_incomplete_checkpoints(tmp_path: Path) -> None:
    directory, report = write_llama(tmp_path)
    index = directory / "model.safetensors.index.json"
    whole = json.loads(index.read_text())

    def check_rejected(weight_map: dict[str, str], message: str) -> None:
        index.write_text(json.dumps(whole | {"weight_map": weight_map}))
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            checkpoint.verify(directory)

    names = dict(whole["weight_map"])
    check_rejected({}, "weight_map must name tensors, got none")
    check_rejected(names | {"more": report.files[0]}, "but differs in 'more'")
    check_rejected(
        {name: file for name, file in names.items() if name != "model.norm.weight"}, "differs in 'model.norm"
    )
    check_rejected(names | {"more": "more.safetensors"}, "lists more.safetensors, which does not exist")
    index.unlink()
    with pytest.raises(FileNotFoundError, match="must have an index"):
        checkpoint.verify(directory)


@pytest.mark.parametrize("is_verified", [False, True])
def test_progress_covers_all_elements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_verified: bool) -> None:
    monkeypatch.setattr(_verify, "_CHUNK_BYTES", 512)
    calls: list[tuple[int, int]] = []
    if is_verified:
        checkpoint.write({"tensors": LIKE_LLAMA}, tmp_path, max_shard_size="30KB")
    with fk.progress(lambda done, total: calls.append((done, total))):
        if is_verified:
            checkpoint.verify(tmp_path)
        else:
            checkpoint.write({"tensors": LIKE_LLAMA}, tmp_path, max_shard_size="30KB")
    assert {total for _, total in calls} == {12 * 64 * 48 + 48}
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1][0] == calls[-1][1]


@pytest.mark.parametrize(("part", "kind"), [((0, 2), ValueError), ((3, 2), ValueError), (1, TypeError)])
def test_invalid_parts_raise(tmp_path: Path, part: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="part"):
        checkpoint.write(RECIPE, tmp_path / "out", part=part)


@pytest.mark.parametrize("out_dir", ["/proc/fastkaiming", "/dev/null/out"])
def test_error_names_a_directory_that_cannot_be_created(out_dir: str) -> None:
    with pytest.raises(OSError, match=out_dir):
        checkpoint.write(RECIPE, out_dir)
