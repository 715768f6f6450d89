"""The arguments of small configs, by the model class of transformers that they are for."""

from typing import Any

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
    "T5ForConditionalGeneration": {
        "d_model": 64,
        "d_ff": 96,
        "num_layers": 2,
        "num_heads": 4,
        "d_kv": 16,
        "vocab_size": 300,
    },
    "ViTForImageClassification": IMAGE,
    "Wav2Vec2ForPreTraining": SPEECH
    | {"conv_dim": [32, 32], "conv_stride": [5, 2], "conv_kernel": [10, 3]}
    | {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
    "WhisperForConditionalGeneration": ENCODER_DECODER
    | {"max_source_positions": 50, "max_target_positions": 40, "num_mel_bins": 20}
    | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
}

# ---- models that only the tests of checkpoints use ----

HEADS = GROUPED | {"head_dim": 16}
WIDE_EXPERTS = HEADS | {"moe_intermediate_size": 32, "num_experts_per_tok": 2}
LATENT_EXPERTS = TEXT | {
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
}
CONVOLUTIONS = {
    "conv_dim": [32, 32],
    "conv_stride": [5, 2],
    "conv_kernel": [10, 3],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
STAGES = {"embedding_size": 16, "hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1]}
DEEP_IMAGE = {"depth": 2, "hidden_size": 64, "num_heads": 4, "patch_size": 8}
FURTHER_MODELS: dict[str, dict[str, Any]] = {
    # several modalities
    "AltCLIPModel": {
        "text_config": SHORT_TEXT | {"project_dim": 32},
        "vision_config": IMAGE | {"projection_dim": 32},
        "projection_dim": 32,
    },
    "Emu3ForConditionalGeneration": {
        "text_config": GROUPED | {"pad_token_id": 0},
        "vq_config": {"base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "attn_resolutions": []}
        | {"embed_dim": 16, "z_channels": 16, "latent_channels": 16, "codebook_size": 16},
        "vocabulary_map": {f"<|visual token {i:06d}|>": i for i in range(10, 26)} | {"<|extra_200|>": 9, "<image>": 1},
    },
    "Gemma3ForConditionalGeneration": {
        "text_config": HEADS | {"model_type": "gemma3_text"},
        "vision_config": IMAGE | {"model_type": "siglip_vision_model"},
    },
    "LlavaForConditionalGeneration": {
        "text_config": GROUPED | {"model_type": "llama"},
        "vision_config": IMAGE | {"model_type": "clip_vision_model"},
    },
    "PaliGemmaForConditionalGeneration": {
        "text_config": HEADS | {"model_type": "gemma"},
        "vision_config": IMAGE | {"model_type": "siglip_vision_model"},
        "projection_dim": 64,
    },
    "Qwen2AudioForConditionalGeneration": {
        "text_config": GROUPED | {"model_type": "qwen2"},
        "audio_config": {"num_mel_bins": 16, "encoder_layers": 2, "encoder_attention_heads": 4}
        | {"encoder_ffn_dim": 64, "d_model": 64, "max_source_positions": 64},
    },
    "Qwen2VLForConditionalGeneration": {
        "text_config": GROUPED | {"bos_token_id": 3, "eos_token_id": 3},
        "vision_config": DEEP_IMAGE | {"embed_dim": 64},
    },
    "Qwen2_5_VLForConditionalGeneration": {
        "text_config": GROUPED | {"bos_token_id": 3, "eos_token_id": 3},
        "vision_config": DEEP_IMAGE | {"intermediate_size": 64, "out_hidden_size": 64},
    },
    # sounds, images and videos
    "DetrForObjectDetection": {"d_model": 64, "num_queries": 16, "use_timm_backbone": False, "backbone": None}
    | {f"{side}_layers": 1 for side in ("encoder", "decoder")}
    | {f"{side}_attention_heads": 4 for side in ("encoder", "decoder")}
    | {f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")}
    | {"backbone_config": STAGES | {"model_type": "resnet", "out_features": ["stage4"]}},
    "HubertForCTC": SPEECH | CONVOLUTIONS,
    "LevitForImageClassification": {"hidden_sizes": [32, 48, 64], "key_dim": [8, 8, 8], "depths": [1, 1, 1]}
    | {"num_attention_heads": [2, 2, 2], "image_size": 64},
    "SpeechT5ForSpeechToSpeech": CONVOLUTIONS
    | {"hidden_size": 64, "vocab_size": 300, "num_mel_bins": 16, "speech_decoder_prenet_units": 32}
    | {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    | {f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
    "VideoMAEForVideoClassification": IMAGE | {"num_frames": 4},
    # state spaces and recurrence
    "BambaForCausalLM": GROUPED
    | {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 16, "attn_layer_indices": [1]},
    "FalconMambaForCausalLM": {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 300},
    "JambaForCausalLM": GROUPED
    | {"num_hidden_layers": 4, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8}
    | {"expert_layer_period": 2, "expert_layer_offset": 1, "use_mamba_kernels": False},
    "RwkvForCausalLM": {"hidden_size": 64, "attention_hidden_size": 64, "intermediate_size": 96}
    | {"num_hidden_layers": 2, "vocab_size": 300},
    "Zamba2ForCausalLM": TEXT
    | {"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"]}
    | {"n_mamba_heads": 8, "mamba_ngroups": 1},
    "xLSTMForCausalLM": {"hidden_size": 64, "num_blocks": 2, "num_heads": 4, "vocab_size": 300},
    # encoders with decoders
    "MarianMTModel": ENCODER_DECODER | {"max_position_embeddings": 64, "pad_token_id": 0, "decoder_start_token_id": 1},
    "T5GemmaForConditionalGeneration": {
        side: HEADS | {"model_type": "t5_gemma_module", "cross_attention_hidden_size": 64}
        for side in ("encoder", "decoder")
    },
    # experts
    "DbrxForCausalLM": {"d_model": 64, "n_heads": 4, "n_layers": 2, "vocab_size": 300, "max_seq_len": 64}
    | {"ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2}}
    | {"attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0}},
    "GraniteMoeForCausalLM": EXPERTS,
    "JetMoeForCausalLM": EXPERTS | {"kv_channels": 16},
    "Lfm2MoeForCausalLM": GROUPED
    | {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1, "num_experts": 4, "moe_intermediate_size": 32},
}
# Models for each kind of conversion between the tensors of a model and those of its checkpoint.
CONVERSIONS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "NomicBertForMaskedLM": (["Chunk"], SHORT_TEXT | {"head_dim": 16}),
    "OlmoHybridForCausalLM": (["Concatenate"], GROUPED | {"pad_token_id": 3, "eos_token_id": 3}),
    "Ernie4_5_VLMoeForConditionalGeneration": (
        ["ErnieFuseAndSplitTextVisionExperts"],
        {
            "text_config": HEADS
            | {"moe_k": 2, "moe_num_experts": 4, "moe_intermediate_size": [32, 32], "max_position_embeddings": 64}
            | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 4]}},
            "vision_config": DEEP_IMAGE | {"intermediate_size": 64},
        },
    ),
    "Kimi_K25ForConditionalGeneration": (
        ["GroupWeightRename"],
        {
            "text_config": LATENT_EXPERTS
            | {"model_type": "deepseek_v3", "q_lora_rank": 16, "n_group": 1, "topk_group": 1, "head_dim": 16},
            "vision_config": {k: IMAGE[k] for k in IMAGE if k != "image_size"},
        },
    ),
    "Inkling2LoopForCausalLM": (
        ["Inkling2UnpadVocab", "Inkling2LoopMergeMessageQueries", "Inkling2IndexOffsetWeightRename"],
        WIDE_EXPERTS | {"n_routed_experts": 4, "eos_token_id": 3, "unpadded_vocab_size": 290},
    ),
    "InklingForConditionalGeneration": (
        ["Interleave"],
        {
            "text_config": WIDE_EXPERTS | {"n_routed_experts": 4, "max_position_embeddings": 64},
            "audio_config": {"text_hidden_size": 64},
            "vision_config": {"text_hidden_size": 64, "patch_size": 8, "hidden_size": 64, "n_layers": 2},
        },
    ),
    "DoryForCausalLM": (
        ["LayerPairCollapse"],
        HEADS | {"num_hidden_layers": 3, "n_input_layers": 1, "n_recurrent_layers": 1, "n_output_layers": 1},
    ),
    "DeepseekV4ForCausalLM": (["MergeModulelist"], WIDE_EXPERTS | {"n_routed_experts": 4, "q_lora_rank": 16}),
    "MistralLarge4ForConditionalGeneration": (
        ["PermuteForRope"],
        {
            "text_config": LATENT_EXPERTS | {"model_type": "mistral_large4_text", "index_n_heads": 4, "head_dim": 16},
            "vision_config": IMAGE | {"model_type": "pixtral", "head_dim": 16},
        },
    ),
    "CLIPVisionModel": (["PrefixChange"], IMAGE),
    "LaraMiniForCausalLM": (
        ["Split"],
        WIDE_EXPERTS | {"shared_expert_intermediate_size": 32, "num_experts": 4, "eos_token_id": 3},
    ),
    "Qwen3VLMoeForConditionalGeneration": (
        ["Transpose"],
        {
            "text_config": WIDE_EXPERTS | {"num_local_experts": 4},
            "vision_config": DEEP_IMAGE
            | {"intermediate_size": 64, "out_hidden_size": 64, "deepstack_visual_indexes": [1]},
        },
    ),
}
