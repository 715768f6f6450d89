"""The checkpoint of a config has the tensors of save_pretrained and the distributions of the ordinary construction."""

import hashlib
import math
from pathlib import Path

import pytest
from saved_checkpoints import assert_same_as_saved, config_directory, construct, model_class_of, tensors
from transformers_models import CONVERSIONS, ENCODER_DECODER, FURTHER_MODELS, MODELS

from fastkaiming import checkpoint

conversion_mapping = pytest.importorskip("transformers.conversion_mapping")

ALL_MODELS = MODELS | FURTHER_MODELS


@pytest.mark.parametrize("name", ALL_MODELS)
def test_checkpoint_of_a_config_is_that_of_save_pretrained(name: str, tmp_path: Path) -> None:
    config = config_directory(name, ALL_MODELS[name], tmp_path / "config")
    assert_same_as_saved(config, model_class_of(name), tmp_path)


@pytest.mark.parametrize("name", CONVERSIONS)
def test_tensors_are_converted_as_save_pretrained_converts_them(name: str, tmp_path: Path) -> None:
    kinds, arguments = CONVERSIONS[name]
    config = config_directory(name, arguments, tmp_path / "config")
    found = conversion_mapping.get_model_conversion_mapping(construct(config, model_class_of(name), 0))
    steps = [*found, *(step for each in found for step in getattr(each, "operations", ()))]
    assert {*kinds} <= {type(step).__name__ for step in steps}
    assert_same_as_saved(config, model_class_of(name), tmp_path)


def rules(directory: Path) -> dict[str, str]:
    return {tensor.name: tensor.rule for tensor in checkpoint.stored_tensors(directory)}


def test_files_record_the_distributions_of_the_model(tmp_path: Path) -> None:
    """The expected values come from the constructors of GPT-2 and of BART in transformers."""
    gpt2 = config_directory("GPT2LMHeadModel", MODELS["GPT2LMHeadModel"], tmp_path / "gpt2")
    checkpoint.write(gpt2, tmp_path / "gpt2_out")
    found = rules(tmp_path / "gpt2_out")
    assert found["transformer.wte.weight"] == "normal(mean=0.0, std=0.02)"
    assert found["transformer.h.1.mlp.c_proj.weight"] == f"normal(mean=0.0, std={0.02 / math.sqrt(2 * 2)!r})"
    assert found["transformer.ln_f.weight"] == "ones"
    assert found["transformer.ln_f.bias"] == "zeros"

    bart = ENCODER_DECODER | {"pad_token_id": 7, "init_std": 0.5}
    checkpoint.write(config_directory("BartForConditionalGeneration", bart, tmp_path / "bart"), tmp_path / "bart_out")
    assert rules(tmp_path / "bart_out")["model.shared.weight"] == "zero_rows(normal(mean=0.0, std=0.5), [7])"
    embedding = tensors(tmp_path / "bart_out")["model.shared.weight"]
    assert [row for row in range(300) if not embedding[row].any()] == [7]
    assert float(embedding.std()) == pytest.approx(0.5, rel=0.05)


def test_files_record_the_digests_of_computed_values(tmp_path: Path) -> None:
    config = config_directory("MambaForCausalLM", MODELS["MambaForCausalLM"], tmp_path / "config")
    checkpoint.write(config, tmp_path / "out")
    name = "backbone.layers.1.mixer.A_log"
    expected = construct(config, model_class_of("MambaForCausalLM"), 0).state_dict()[name]
    digest = hashlib.sha256(expected.numpy().astype("<f4").tobytes()).hexdigest()
    assert rules(tmp_path / "out")[name] == f"values(sha256='{digest}')"


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "LlamaForCausalLM"])
def test_tied_tensors_are_written_once(name: str, tmp_path: Path) -> None:
    names = {}
    for is_tied in (True, False):
        arguments = ALL_MODELS[name] | {"tie_word_embeddings": is_tied}
        config = config_directory(name, arguments, tmp_path / f"config_{is_tied}")
        names[is_tied] = {*tensors(assert_same_as_saved(config, model_class_of(name), tmp_path / str(is_tied)))}
    assert names[False] - names[True] == {"lm_head.weight"}
    assert names[True] < names[False]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("name", "others"),
    [
        *(
            ("T5ForConditionalGeneration", set()),
            ("MambaForCausalLM", set()),
            ("ResNetForImageClassification", {"int64"}),
        ),
        # These keep their routers and their codebook.
        *(("DeepseekV3ForCausalLM", {"float32"}), ("Lfm2MoeForCausalLM", {"float32"})),
        ("Wav2Vec2ForPreTraining", {"float32"}),
    ],
)
def test_tensors_have_the_dtypes_of_save_pretrained(name: str, others: set[str], dtype: str, tmp_path: Path) -> None:
    config = config_directory(name, ALL_MODELS[name] | {"dtype": dtype}, tmp_path / "config")
    found = tensors(assert_same_as_saved(config, model_class_of(name), tmp_path))
    assert {str(tensor.dtype).removeprefix("torch.") for tensor in found.values()} == {dtype} | others
