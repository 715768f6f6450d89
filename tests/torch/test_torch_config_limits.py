"""Configs that are refused, configs of two models in one directory, and the memory that a plan takes."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import HANG_SECONDS, ROOT
from transformers_models import GROUPED, MODELS

from fastkaiming import checkpoint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5")


def config_file(directory: Path, name: str = "LlamaForCausalLM", **changes: Any) -> Path:
    """Write a config with some changes, and return its path."""
    config = getattr(transformers, name).config_class(**MODELS[name])
    config.architectures = [name]
    config.save_pretrained(directory)
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config must not be set, because the weights"),
        ({"architectures": ["LlamaPreTrainedModel"]}, "architectures must name a model with tensors"),
        ({"architectures": ["GPT2Model"]}, "architectures must name a model for LlamaConfig, got 'GPT2Model'"),
    ],
)
def test_config_without_a_checkpoint_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"config\.json: transformers cannot build its model: {message}"):
        checkpoint.plan(config_file(tmp_path, **changes))


def test_architecture_that_transformers_does_not_have_warns(tmp_path: Path) -> None:
    path = config_file(tmp_path, architectures=["LLaMAForCausalLM"])
    with pytest.warns(UserWarning, match="architectures names 'LLaMAForCausalLM', which transformers does not have"):
        names = {tensor.name for tensor in checkpoint.plan(path).tensors}
    assert "lm_head.weight" in names


def test_values_do_not_depend_on_the_implementation_of_attention(tmp_path: Path) -> None:
    expected = checkpoint.plan(config_file(tmp_path / "a"), seed=3)
    found = checkpoint.plan(config_file(tmp_path / "b", attn_implementation="flash_attention_2"), seed=3)
    assert [*found.tensors] == [*expected.tensors]


def test_settings_of_torch_do_not_change_the_plan(tmp_path: Path) -> None:
    path = config_file(tmp_path, dtype=None)
    expected = [*checkpoint.plan(path).tensors]
    assert {tensor.dtype.name for tensor in expected} == {"F32"}
    with torch.device("meta"):
        assert [*checkpoint.plan(path).tensors] == expected
    torch.set_default_dtype(torch.float64)
    try:
        assert [*checkpoint.plan(path).tensors] == expected
    finally:
        torch.set_default_dtype(torch.float32)


def loaded_config(source: Path, directory: Path, **options: Any) -> dict[str, Any]:
    checkpoint.write(source, directory, **options)
    found: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return found


def test_config_of_the_checkpoint_has_the_requested_dtype(tmp_path: Path) -> None:
    """Otherwise, transformers would convert the weights when it loads them."""
    path = config_file(tmp_path, "CLIPModel", dtype="float16")
    found = loaded_config(path, tmp_path / "out", dtype="bfloat16")
    dtypes = [found["dtype"], *(found[part].get("dtype", "bfloat16") for part in ("text_config", "vision_config"))]
    assert dtypes == ["bfloat16"] * 3
    model = transformers.CLIPModel.from_pretrained(tmp_path / "out", dtype="auto")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("names", [None, ["GPT2LMHeadModel"]])
def test_config_of_the_checkpoint_names_the_class(tmp_path: Path, names: Any) -> None:
    """Converters to other formats choose by it how they read the weights."""
    path = config_file(tmp_path, "GPT2LMHeadModel", architectures=names)
    assert loaded_config(path, tmp_path / "out")["architectures"] == ["GPT2LMHeadModel"]
    is_copied = (tmp_path / "out" / "config.json").read_bytes() == path.read_bytes()
    assert is_copied == (names is not None)


def test_config_of_a_part_of_a_model_names_the_class_of_the_part(tmp_path: Path) -> None:
    config = transformers.Qwen2VLTextConfig(**GROUPED, architectures=["Qwen2VLForConditionalGeneration"])
    config.save_pretrained(tmp_path)
    assert loaded_config(tmp_path, tmp_path / "out")["architectures"] == ["Qwen2VLTextModel"]


def test_parts_of_two_configs_are_not_mixed(tmp_path: Path) -> None:
    """The weights have the same names and shapes, but one config.json cannot belong to both models."""
    first, second = (config_file(tmp_path / name, rms_norm_eps=eps) for name, eps in (("a", 1e-5), ("b", 1e-6)))
    checkpoint.write(first, tmp_path / "out", part=(1, 2), max_shard_size="50KB")
    with pytest.raises(FileExistsError, match=r"belongs to another checkpoint or is damaged: .*the config differs"):
        checkpoint.write(second, tmp_path / "out", part=(2, 2), max_shard_size="50KB")


def test_default_size_of_a_file_is_that_of_save_pretrained(tmp_path: Path) -> None:
    """The model has 12 GB, which is more than the default for other sources."""
    sizes = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 12, "vocab_size": 128000}
    config = transformers.LlamaConfig(**(GROUPED | sizes), architectures=["LlamaForCausalLM"], dtype="float32")
    config.save_pretrained(tmp_path)
    assert [file.name for file in checkpoint.plan(tmp_path).files] == ["model.safetensors"]
    assert len(checkpoint.plan(tmp_path, max_shard_size="5GB").files) == 4


def test_plan_does_not_keep_the_model(tmp_path: Path) -> None:
    planned = checkpoint.plan(config_file(tmp_path, "MambaForCausalLM"))
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is transformers.MambaForCausalLM]
    assert any(tensor.values is not None for tensor in planned.tensors)


PEAK = """
import resource, sys
from fastkaiming import checkpoint
from fastkaiming.checkpoint import _transformers
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nbytes = sum(file.nbytes for file in checkpoint.plan(sys.argv[1]).files)
print(nbytes, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
LARGE: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": {"num_hidden_layers": 4, "vocab_size": 128000, "pad_token_id": 0},
    "MixtralForCausalLM": {"num_hidden_layers": 1, "num_local_experts": 8},
    "Llama4ForCausalLM": {"num_hidden_layers": 1, "num_local_experts": 8, "intermediate_size_mlp": 1024},
    "MBartForConditionalGeneration": {"d_model": 4096, "vocab_size": 250000},
}


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs between systems")
@pytest.mark.parametrize("name", LARGE)
def test_plan_takes_little_memory(name: str, tmp_path: Path) -> None:
    """Each model has more than 2 GB, of which a plan takes less than 150 MB."""
    sizes = {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8}
    if name.startswith("MBart"):
        sizes = {}
    model_class = getattr(transformers, name)
    config = model_class.config_class(**sizes, **LARGE[name], architectures=[name])
    config.save_pretrained(tmp_path)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PEAK, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=True,
    )
    nbytes, peak = map(int, result.stdout.split())
    assert nbytes > 2e9
    assert peak < 150e6
