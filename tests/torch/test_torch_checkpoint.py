"""Checkpoints of torch modules and of transformers models: names, tied weights, buffers, loading by transformers."""

import json
from pathlib import Path
from typing import Any

import pytest

from fastkaiming import checkpoint

torch = pytest.importorskip("torch")
init_module_ = pytest.importorskip("fastkaiming.torch").init_module_


class Small(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(50, 16)
        self.conv = torch.nn.ConvTranspose1d(8, 6, 3, groups=2)
        self.bn = torch.nn.BatchNorm1d(16)
        self.ln_1 = torch.nn.LayerNorm(16)
        self.rnn = torch.nn.GRU(16, 8)
        self.head = torch.nn.Linear(16, 50, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scratch", torch.zeros(3), persistent=False)


def loaded(directory: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for path in directory.glob("*.safetensors"):
        found |= load_file(path)
    return found


def test_checkpoint_of_a_meta_module_equals_init_module(tmp_path: Path) -> None:
    with torch.device("meta"):
        checkpoint.write(Small(), tmp_path, seed=5)
    module = Small()
    init_module_(module, rng=5)
    state = module.state_dict()
    found = loaded(tmp_path)
    assert set(state) - set(found) == {"head.weight"}  # tied
    assert {name: value.dtype for name, value in found.items()} == {name: state[name].dtype for name in found}
    for name, value in found.items():
        assert torch.equal(value, state[name]), name
    assert found["bn.running_var"].tolist() == [1.0] * 16
    assert found["bn.num_batches_tracked"].item() == 0


def test_dtypes_of_a_module_can_be_chosen(tmp_path: Path) -> None:
    checkpoint.write(Small(), tmp_path, dtype=torch.bfloat16, rules={"bn.*": {"init": "ones", "dtype": "float32"}})
    found = loaded(tmp_path)
    assert found["embed.weight"].dtype is torch.bfloat16
    assert found["bn.weight"].dtype is torch.float32
    assert found["bn.num_batches_tracked"].dtype is torch.int64


@pytest.mark.parametrize("kind", ["Llama", "GPT2"])
def test_transformers_loads_the_checkpoint_of_a_config(tmp_path: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {
        "Llama": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 100,
            "tie_word_embeddings": False,
        },
        "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100, "n_positions": 64},
    }
    config = getattr(transformers, f"{kind}Config")(**sizes[kind], architectures=[f"{kind}LMHeadModel"])
    if kind == "Llama":
        config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(tmp_path / "config")
    report = checkpoint.write(tmp_path / "config", tmp_path / "out", dtype="bfloat16", max_shard_size="20KB")
    assert len(report.files) > 1
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    found = loaded(tmp_path / "out")
    state = model.state_dict()
    for name, value in found.items():
        assert torch.equal(state[name], value), name
    assert set(state) - set(found) == (set() if kind == "Llama" else {"lm_head.weight"})
    assert checkpoint.verify(tmp_path / "out").difference is None
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"config\.json: it must be the same as .*config/config\.json"):
        checkpoint.write(tmp_path / "config", tmp_path / "out", dtype="bfloat16", max_shard_size="20KB", resume=True)


def test_config_of_an_unknown_model_type_raises_value_error(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(ValueError, match=r"config\.json: transformers cannot build its model"):
        checkpoint.write(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    "wrong", [{"n_head": 0}, {"n_embd": -32}, {"n_embd": "x"}, {"dtype": "foo"}, {"architectures": ["LlamaModel"]}]
)
def test_config_with_a_bad_value_raises_value_error(tmp_path: Path, wrong: dict[str, Any]) -> None:
    pytest.importorskip("transformers")
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 4, "vocab_size": 100, "n_positions": 64}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"} | sizes | wrong))
    with pytest.raises(ValueError, match=r"config\.json: transformers cannot build its model: .+"):
        checkpoint.plan(tmp_path)


def test_config_cannot_name_a_callable_other_than_a_model_class(tmp_path: Path) -> None:
    """A config from an untrusted source can name anything in transformers; only a model class is called."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_embd=32, n_layer=1, n_head=4, vocab_size=100, n_positions=64)
    config.architectures = ["set_seed"]
    config.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="architectures names 'set_seed', which transformers does not have"):
        names = {tensor.name for tensor in checkpoint.plan(tmp_path).tensors}
    assert "transformer.h.0.attn.c_attn.weight" in names


def test_config_cannot_run_code(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "strange.py").write_text("raise SystemExit('this was run')")
    (tmp_path / "config.json").write_text('{"model_type": "strange", "auto_map": {"AutoConfig": "strange.Strange"}}')
    with pytest.raises(ValueError, match=r"config\.json: transformers cannot build its model"):
        checkpoint.plan(tmp_path)
