"""Configs without a class or with the class of a larger model, their files, their rules, their repair and refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
from saved_checkpoints import assert_same_as_saved, config_directory, headers, model_class_of, tensors
from transformers_models import CONVERSIONS, FURTHER_MODELS, GROUPED, HEADS, IMAGE, MODELS

import fastkaiming as fk
from fastkaiming import checkpoint
from fastkaiming.cli import main

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
_transformers = pytest.importorskip("fastkaiming.checkpoint._transformers")
COMPUTED = _transformers.COMPUTED
recorded_construction = _transformers.recorded_construction

INDEX = "model.safetensors.index.json"
# The code of these models computes values; those of HUBERT and of INKLING in part from random numbers.
MAMBA, HUBERT, INKLING = "MambaForCausalLM", "HubertForCTC", "Inkling2LoopForCausalLM"
RANDOM_VALUES = {
    HUBERT: "hubert.encoder.pos_conv_embed.conv.parametrizations.weight.original0",
    INKLING: "model.llm.unembed.weight",
}
ARGUMENTS = MODELS | FURTHER_MODELS | {name: arguments for name, (_, arguments) in CONVERSIONS.items()}
SHARD_BYTES = 60_000


def write(config: Path, out: Path, seed: int = 1, **options: Any) -> checkpoint.Report:
    return checkpoint.write(config, out, seed=seed, max_shard_size=SHARD_BYTES, **options)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def config_of(name: str, directory: Path) -> Path:
    return config_directory(name, ARGUMENTS[name], directory)


# ---- the class of the model ----


@pytest.mark.parametrize(
    ("config_name", "arguments", "architecture", "built"),
    [
        ("LlamaConfig", GROUPED, None, "LlamaForCausalLM"),
        ("ViTConfig", IMAGE, None, "ViTModel"),
        ("Gemma3TextConfig", HEADS, "Gemma3ForConditionalGeneration", "Gemma3ForCausalLM"),
        ("Qwen2VLTextConfig", GROUPED, "Qwen2VLForConditionalGeneration", "Qwen2VLTextModel"),
    ],
)
def test_config_is_built_as_transformers_builds_it(
    config_name: str, arguments: dict[str, Any], architecture: str | None, built: str, tmp_path: Path
) -> None:
    """A config that names no class, or that of a larger model, has the class of an automatic model."""
    config = getattr(transformers, config_name)(**arguments)
    config.architectures = architecture and [architecture]
    config.save_pretrained(tmp_path / "config")
    is_causal = type(config) in transformers.AutoModelForCausalLM._model_mapping
    automatic = transformers.AutoModelForCausalLM if is_causal else transformers.AutoModel
    assert type(automatic.from_config(config)) is model_class_of(built)
    assert_same_as_saved(tmp_path / "config", model_class_of(built), tmp_path)


# ---- the files beside the weights ----


def test_config_can_have_any_file_name(tmp_path: Path) -> None:
    config = config_of("T5ForConditionalGeneration", tmp_path / "config") / "config.json"
    renamed = config.rename(tmp_path / "my_t5.json")
    write(renamed, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir() if path.suffix == ".json"}
    assert names == {"config.json", "generation_config.json", INDEX}
    assert (tmp_path / "out" / "config.json").read_bytes() == renamed.read_bytes()
    model_class_of("T5ForConditionalGeneration").from_pretrained(tmp_path / "out")


def test_generation_config_is_copied_or_written_as_by_save_pretrained(tmp_path: Path) -> None:
    config = config_of("GPT2LMHeadModel", tmp_path / "config")
    out = assert_same_as_saved(config, model_class_of("GPT2LMHeadModel"), tmp_path)
    name = "generation_config.json"
    assert (out / name).read_bytes() == (tmp_path / "first" / name).read_bytes()

    (config / name).write_text('{"top_k": 7}')
    write(config, tmp_path / "copied")
    assert (tmp_path / "copied" / name).read_text() == '{"top_k": 7}'
    with pytest.raises(FileExistsError, match="the config differs"):
        write(config, out, resume=True)


# ---- rules ----


def test_rules_replace_only_the_initialization_of_the_tensors_that_they_match(tmp_path: Path) -> None:
    config = config_of(MAMBA, tmp_path / "config")
    write(config, tmp_path / "plain")
    rules = {"*.A_log": "zeros", "*.in_proj.weight": "kaiming_normal(layout='OI')"}
    write(config, tmp_path / "ruled", rules=rules)
    plain, ruled = tensors(tmp_path / "plain"), tensors(tmp_path / "ruled")
    differing = {name for name in plain if not torch.equal(plain[name], ruled[name])}
    expected = {name for name in plain if name.endswith((".A_log", ".in_proj.weight"))}
    assert differing == expected != set()
    stored = {tensor.name: tensor.rule for tensor in checkpoint.stored_tensors(tmp_path / "ruled")}
    assert {stored[name] for name in expected} == {*rules.values()}
    assert not any(ruled[name].any() for name in expected if name.endswith(".A_log"))
    assert checkpoint.verify(tmp_path / "ruled").difference is None


def test_rules_of_the_command_line_replace_the_initialization(tmp_path: Path) -> None:
    config = config_of("LlamaForCausalLM", tmp_path / "config")
    rule = "*=kaiming_normal(layout='OI')"
    assert main(["checkpoint", str(config), str(tmp_path / "out"), "--rule", "*norm*=ones", "--rule", rule]) == 0
    stored = {tensor.name: tensor.rule for tensor in checkpoint.stored_tensors(tmp_path / "out")}
    assert {rule for name, rule in stored.items() if "norm" in name} == {"ones"}
    assert {rule for name, rule in stored.items() if "norm" not in name} == {"kaiming_normal(layout='OI')"}


def test_files_record_where_the_initialization_comes_from(tmp_path: Path) -> None:
    write(config_of("LlamaForCausalLM", tmp_path / "config"), tmp_path / "out")
    for path in (tmp_path / "out").glob("*.safetensors"):
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        assert header["__metadata__"]["fastkaiming.initialization"] == "model"


# ---- reproducibility ----


@pytest.mark.parametrize("name", ["LlamaForCausalLM", MAMBA, HUBERT, INKLING])
def test_bytes_depend_only_on_the_seed(name: str, tmp_path: Path) -> None:
    """The state of torch's generator does not matter, and is not changed."""
    config = config_of(name, tmp_path / "config")
    for number, out in enumerate(["first", "second"]):
        torch.manual_seed(number)
        state = torch.get_rng_state()
        write(config, tmp_path / out)
        assert torch.equal(torch.get_rng_state(), state)
    for part in (2, 1):
        write(config, tmp_path / "parts", part=(part, 2))
    expected = contents(tmp_path / "first")
    assert contents(tmp_path / "second") == expected
    assert contents(tmp_path / "parts") == expected


@pytest.mark.parametrize("name", ["LlamaForCausalLM", MAMBA, HUBERT, INKLING])
def test_another_seed_gives_other_random_values(name: str, tmp_path: Path) -> None:
    config = config_of(name, tmp_path / "config")
    for seed in (1, 2):
        write(config, tmp_path / str(seed), seed)
    first, second = tensors(tmp_path / "1"), tensors(tmp_path / "2")
    assert headers(tmp_path / "1") == headers(tmp_path / "2")
    stored = checkpoint.stored_tensors(tmp_path / "1")
    random = {tensor.name for tensor in stored if "normal" in tensor.rule or tensor.name == RANDOM_VALUES.get(name)}
    differing = {each for each in first if not torch.equal(first[each], second[each])}
    assert differing >= random != set()
    assert RANDOM_VALUES.get(name) in {*random, None}


# ---- computed values ----


def test_values_of_a_parameter_are_computed_after_its_construction() -> None:
    """The parameter then requires gradients, and torch rejects in-place operations on it."""
    with recorded_construction(1) as construction:
        weight = torch.nn.init.zeros_(torch.nn.Parameter(torch.empty(3, 4)))
        torch.nn.init.ones_(weight[:, 1])
    assert construction.initialization_of(weight) == COMPUTED
    construction.perform_fills(weight)
    assert weight.tolist() == [[0.0, 1.0, 0.0, 0.0]] * 3


def test_sources_of_a_tensor_do_not_depend_on_memory_that_was_released() -> None:
    given = {name: torch.empty(4, 4, device="meta") for name in ("first", "second")}
    mode = _transformers._SourceMode(given)
    for _ in range(100):
        with mode:
            released = given["second"].clone()
            del released  # the storage of the list of rows can be at the same address
            selected = given["first"][[0, 2]]
        assert mode.describe(selected).sources == ("first",)


def computed_tensor(directory: Path) -> checkpoint.StoredTensor:
    """Return the first tensor with a digest in its rule."""
    return next(each for each in checkpoint.stored_tensors(directory) if each.rule.startswith("values("))


@pytest.mark.parametrize("name", [MAMBA, INKLING])
def test_missing_file_with_computed_values_is_written_again(name: str, tmp_path: Path) -> None:
    config, out = config_of(name, tmp_path / "config"), tmp_path / "out"
    report = write(config, out)
    expected = contents(out)
    missing = json.loads((out / INDEX).read_text())["weight_map"][computed_tensor(out).name]
    (out / missing).unlink()
    assert {*write(config, out, resume=True).kept} == {*report.files} - {missing}
    assert contents(out) == expected


@pytest.mark.parametrize("name", [MAMBA, INKLING])
def test_changed_byte_of_computed_values_is_found_and_repaired(name: str, tmp_path: Path) -> None:
    config, out = config_of(name, tmp_path / "config"), tmp_path / "out"
    write(config, out)
    expected, tensor = contents(out), computed_tensor(out)
    file = json.loads((out / INDEX).read_text())["weight_map"][tensor.name]
    data = bytearray((out / file).read_bytes())
    header_bytes = 8 + int.from_bytes(data[:8], "little")
    begin, end = json.loads(data[8:header_bytes])[tensor.name]["data_offsets"]
    data[header_bytes + (begin + end) // 2] ^= 1
    (out / file).write_bytes(data)
    difference = checkpoint.verify(out).difference
    assert difference == checkpoint.Difference(file, tensor.name, None)
    assert file not in write(config, out, resume=True).kept
    assert contents(out) == expected
    assert checkpoint.verify(out).difference is None


# ---- refusals ----


def test_refusal_has_the_whole_reason_in_one_line(tmp_path: Path) -> None:
    config = json.loads((config_of("LlamaForCausalLM", tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": 30}))
    with pytest.raises(ValueError, match="transformers cannot build its model") as refused:
        checkpoint.plan(tmp_path)
    lines: list[str] = []
    try:
        transformers.AutoConfig.from_pretrained(tmp_path)
    except Exception as error:
        lines = str(error).splitlines()
    assert len(lines) > 1
    assert "\n" not in str(refused.value)
    assert all(" ".join(line.split()) in str(refused.value) for line in lines)


def test_config_whose_tensors_have_no_initialization_needs_a_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("LlamaForCausalLM", tmp_path / "config")
    monkeypatch.setattr(transformers.LlamaForCausalLM, "_init_weights", lambda *_: None)
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda _: None)
    with pytest.raises(
        ValueError, match=r"tensors must have a rule, because no code of the model initializes them, got none"
    ):
        write(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write(config, tmp_path / "out", rules={"*proj.weight": "normal(std=0.02)", "lm_head.weight": "zeros"})


@pytest.mark.parametrize(
    ("is_unchanged", "is_moved", "is_rule"), [(True, True, True), (False, True, False), (False, False, False)]
)
def test_converted_tensor_with_rows_of_zeros_is_computed(is_unchanged: bool, is_moved: bool, is_rule: bool) -> None:
    """A rule names rows of the tensor of the model, which a conversion may move to other places."""
    padded = _transformers.Initialization(fk.Normal(0.0, 0.02), (3,))
    model = object.__new__(_transformers._SavedModel)
    model._initializations = {"embedding": padded}
    saved = _transformers._Saved((8, 4), torch.float32, ("embedding",), is_unchanged, is_moved, 1)
    assert model._initialization(saved) == (padded if is_rule else COMPUTED)
