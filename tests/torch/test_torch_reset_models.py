"""``reset_module_`` gives every tensor of a model the distribution that its ordinary construction has."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
stats = pytest.importorskip("scipy.stats")
fk_torch = pytest.importorskip("fastkaiming.torch")
nn = torch.nn

TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300}
SHORT_TEXT = TEXT | {"max_position_embeddings": 64}
GROUPED = TEXT | {"num_key_value_heads": 2}
EXPERTS = GROUPED | {"num_local_experts": 4}
IMAGE = {k: TEXT[k] for k in TEXT if k != "vocab_size"} | {"image_size": 32, "patch_size": 8}
SPEECH = {k: TEXT[k] for k in TEXT if k != "vocab_size"} | {"vocab_size": 32}
BLOOM = {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 300}
GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 300, "n_positions": 64}
ENCODER_DECODER = {"d_model": 64, "vocab_size": 300} | {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in {"layers": 2, "ffn_dim": 96, "attention_heads": 4}.items()
}
MODELS: dict[str, dict[str, Any]] = {
    "AlbertForMaskedLM": SHORT_TEXT | {"embedding_size": 32},
    "BartForConditionalGeneration": ENCODER_DECODER | {"max_position_embeddings": 64},
    "BeitForImageClassification": IMAGE,
    "BertForMaskedLM": SHORT_TEXT,
    "BlipForConditionalGeneration": {
        "text_config": SHORT_TEXT | {"encoder_hidden_size": 64, "bos_token_id": 1, "sep_token_id": 2},
        "vision_config": IMAGE,
        "projection_dim": 32,
    },
    "BloomForCausalLM": BLOOM,
    "CLIPModel": {"text_config": SHORT_TEXT, "vision_config": IMAGE, "projection_dim": 32},
    "ConvNextForImageClassification": {"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2},
    "DebertaV2ForMaskedLM": SHORT_TEXT,
    "DeepseekV3ForCausalLM": TEXT
    | {"moe_intermediate_size": 32, "n_routed_experts": 4, "kv_lora_rank": 16, "q_lora_rank": 16}
    | {"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16, "n_group": 2, "topk_group": 1}
    | {"num_experts_per_tok": 2, "first_k_dense_replace": 1, "num_key_value_heads": 4},
    "DeiTForImageClassification": IMAGE,
    "Dinov2ForImageClassification": {k: IMAGE[k] for k in IMAGE if k != "intermediate_size"},
    "DistilBertForMaskedLM": {"dim": 64, "hidden_dim": 96, "n_layers": 2, "n_heads": 4, "vocab_size": 300},
    "ElectraForMaskedLM": SHORT_TEXT | {"embedding_size": 32},
    "FalconForCausalLM": TEXT,
    "GPT2LMHeadModel": GPT2,
    "GPTNeoXForCausalLM": TEXT,
    "Gemma2ForCausalLM": GROUPED | {"head_dim": 16},
    "GemmaForCausalLM": GROUPED | {"head_dim": 16},
    "GptOssForCausalLM": EXPERTS | {"head_dim": 16},
    "LlamaForCausalLM": GROUPED,
    "Mamba2ForCausalLM": BLOOM | {"num_hidden_layers": 2, "num_heads": 8, "head_dim": 16, "n_groups": 2},
    "MambaForCausalLM": {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 300},
    "MistralForCausalLM": GROUPED,
    "MixtralForCausalLM": EXPERTS,
    "ModernBertForMaskedLM": TEXT | dict.fromkeys(["pad_token_id", "bos_token_id", "cls_token_id"], 0),
    "OPTForCausalLM": {k: TEXT[k] for k in TEXT if k != "intermediate_size"}
    | {"ffn_dim": 96, "word_embed_proj_dim": 64, "max_position_embeddings": 64},
    "PerceiverForMaskedLM": {"num_latents": 16, "d_latents": 32, "d_model": 32, "num_self_attends_per_block": 2},
    "Phi3ForCausalLM": GROUPED | {"pad_token_id": 0},
    "PhiForCausalLM": TEXT,
    "Qwen2ForCausalLM": GROUPED,
    "Qwen2MoeForCausalLM": GROUPED
    | {"num_experts": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    "Qwen3ForCausalLM": GROUPED | {"head_dim": 16},
    "Qwen3MoeForCausalLM": GROUPED | {"num_experts": 4, "moe_intermediate_size": 32, "head_dim": 16},
    "ResNetForImageClassification": {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]},
    "RobertaForMaskedLM": SHORT_TEXT,
    "SegformerForImageClassification": {"hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 1, 1]},
    "SiglipModel": {"text_config": SHORT_TEXT, "vision_config": IMAGE},
    "SwinForImageClassification": {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1]}
    | {"num_heads": [2, 4], "window_size": 4},
    "T5ForConditionalGeneration": {"d_model": 64, "d_ff": 96, "num_layers": 2, "num_heads": 4, "d_kv": 16},
    "ViTForImageClassification": IMAGE,
    "Wav2Vec2ForPreTraining": SPEECH
    | {"conv_dim": [32, 32], "conv_stride": [5, 2], "conv_kernel": [10, 3]}
    | {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
    "WhisperForConditionalGeneration": ENCODER_DECODER
    | {"max_source_positions": 50, "max_target_positions": 40, "num_mel_bins": 20}
    | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
}
# Parameters that only the constructor of the model sets: no method of the model initializes them again.
SET_BY_CONSTRUCTOR = {
    "CLIPModel": ["logit_scale"],
    "BlipForConditionalGeneration": ["text_decoder.cls.predictions.bias"],
    "PerceiverForMaskedLM": ["embedding_decoder.bias"],
}


LAYERS: dict[str, Any] = {
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(32, 100, [20, 60]),
    "BatchNorm2d": lambda: nn.BatchNorm2d(32),
    "Bilinear": lambda: nn.Bilinear(16, 24, 32),
    "Conv1d": lambda: nn.Conv1d(16, 32, 5, groups=2),
    "Conv2d": lambda: nn.Conv2d(16, 32, 3),
    "Conv3d": lambda: nn.Conv3d(16, 32, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(16, 32, 3),
    "Embedding": lambda: nn.Embedding(50, 32, padding_idx=7),
    "EmbeddingBag": lambda: nn.EmbeddingBag(50, 32),
    "GRU": lambda: nn.GRU(16, 32, num_layers=2, bidirectional=True),
    "GRUCell": lambda: nn.GRUCell(16, 32),
    "GroupNorm": lambda: nn.GroupNorm(4, 32),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(32, affine=True, track_running_stats=True),
    "LSTM": lambda: nn.LSTM(16, 32, proj_size=8),
    "LayerNorm": lambda: nn.LayerNorm(32),
    "Linear": lambda: nn.Linear(64, 32),
    "MultiheadAttention": lambda: nn.MultiheadAttention(32, 4, kdim=16, vdim=24, add_bias_kv=True),
    "PReLU": lambda: nn.PReLU(8),
    "RMSNorm": lambda: nn.RMSNorm(32),
    "Transformer": lambda: nn.Transformer(32, 4, 1, 1, 64, batch_first=True),
}


def tensors(model: Any) -> dict[str, Any]:
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().double().flatten().numpy() for name, tensor in named.items()}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_torch_have_the_distribution_of_their_constructors(name: str) -> None:
    assert_same_distributions(LAYERS[name], [])


@pytest.mark.parametrize("name", MODELS)
def test_models_of_transformers_have_the_distribution_of_their_ordinary_construction(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    model_class = getattr(transformers, name)
    config = model_class.config_class(**MODELS[name])
    assert_same_distributions(lambda: model_class(config), SET_BY_CONSTRUCTOR.get(name, []))


def assert_same_distributions(make: Callable[[], Any], kept: list[str]) -> None:
    """Compare the tensors of new models with those of a model that was built on the meta device and reset."""
    torch.manual_seed(0)
    first, second = tensors(make()), tensors(make())
    with torch.device("meta"):
        model = make()
    model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.detach().fill_(torch.nan if tensor.is_floating_point() else 77)
    fk_torch.reset_module_(model, 1, keep=kept)
    found = tensors(model)
    assert found.keys() == first.keys()
    for tensor_name in first.keys() - set(kept):
        expected, values = first[tensor_name], found[tensor_name]
        if np.array_equal(expected, second[tensor_name]):  # not random
            assert np.array_equal(values, expected), tensor_name
        else:
            assert stats.ks_2samp(values, expected).pvalue > 1e-6, tensor_name
