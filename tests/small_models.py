"""The smallest sensible configuration of every registered family, for tests that hold for all of them."""

from __future__ import annotations

from typing import Any

LAYOUT = {"modality": "image", "segments": [{"name": "latents", "shape": [8], "vocab_size": 11}], "signal_shape": [32, 32]}
_VIT = {"dim": 32, "depth": 1, "num_heads": 2, "patch_size": 8}
_NET = {"channels": 8, "channel_mult": [1, 2], "num_res_blocks": 1, "latent_channels": 8, "norm_groups": 4}
_BIT_NET = {**_NET, "latent_channels": 6}
_BAE_NET = {**_NET, "last_activation": False}
_GRID = {"image_size": 16, "encoder": _NET, "decoder": _NET}
_VQ = {"type": "vq", "codebook_size": 32, "dim": 4}
_EMA = {**_VQ, "ema": {"decay": 0.9}, "dead_code_reset": {}}
_VAE = {"image_size": 16, "channels": [8, 16], "num_res_blocks": 1, "norm_groups": 4, "bottleneck": {"dim": 3}}
_TITOK = {"image_size": 16, "num_latent_tokens": 6, "encoder": _VIT, "decoder": _VIT}
_TEXT = {"length": 5, "dim": 8, "encoder": {"type": "hashed_words"}}
_LIBRARY = {"base_channels": 32, "channel_multiplier": [1, 2], "num_res_blocks": 1, "latent_channels": 4, "embed_dim": 4}
_BLOCKS = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2, "block_out_channels": [32, 32]}
_TRUNK = {"dim": 16, "depth": 2, "num_heads": 2}
_SIGNS = {"type": "binary", "dim": 6, "codes": "sphere"}
_CLASSES = {"type": "classes", "num_classes": 3}
_MAE = {"encoder": _TRUNK, "decoder": _TRUNK, "buffer_size": 2}
_LATENTS = {**LAYOUT, "segments": [{"name": "latents", "shape": [8], "channels": 3}]}
_SEANET = {"num_filters": 2, "hidden_size": 8, "upsampling_ratios": [4, 2], "codebook_size": 16}
_MIMI_NET = {**_SEANET, "num_quantizers": 3, "codebook_dim": 4, "vector_quantization_hidden_dimension": 4, "upsample_groups": 8}
_LLAMA = {"layout": LAYOUT, "condition": _CLASSES, "dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8}
_CODES = {**LAYOUT, "segments": [{"name": "latents", "shape": [8], "vocab_size": 5, "codebooks": 3}]}
_HUBERT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8, 8, 8],
    "conv_stride": [5, 2, 2],
    "conv_kernel": [10, 3, 2],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
_MOSS_STAGE = {"type": "transformer", "in_dim": 4, "out_dim": 6, "dim": 12, "depth": 1, "num_heads": 2, "mlp_dim": 16}
_QWEN_TRANSFORMER = {"dim": 8, "depth": 1, "mlp_dim": 12, "num_heads": 4, "num_kv_heads": 2, "head_dim": 4, "window": 4}
_SCALES = [{"name": f"scale{number}", "shape": [side, side], "vocab_size": 11} for number, side in enumerate((1, 2))]

SMALL: dict[str, dict[str, Any]] = {
    "bigcodec": {
        "sample_rate": 1600,
        "encoder": {"width": 4, "strides": [2, 5], "dilations": [1, 3], "lstm_depth": 1},
        "decoder": {"width": 4, "strides": [5, 2], "dilations": [1, 3], "lstm_depth": 1},
        "quantizer": {"codebook_sizes": [32, 16], "dim": 12, "codebook_dim": 4},
    },
    "bsq-vit": {
        "image_size": 16,
        "encoder": {**_VIT, "num_heads": 4},
        "decoder": {**_VIT, "num_heads": 4},
        "head_dim": 24,
        "quantizer": _SIGNS,
    },
    "chameleon-vq": {**_LIBRARY, "latent_channels": 8, "num_embeddings": 20, "resolution": 16},
    "conv-grid": {**_GRID, "quantizer": {"type": "fsq", "levels": [4, 4, 3]}},
    "dac": {
        "sampling_rate": 1600,
        "encoder_hidden_size": 4,
        "decoder_hidden_size": 16,
        "downsampling_ratios": [2, 5],
        "n_codebooks": 3,
        "codebook_size": 16,
        "codebook_dim": 4,
    },
    "diffusers-vq": {**_BLOCKS, "num_vq_embeddings": 32, "image_size": 16},
    "distill-neucodec": {
        "input_sampling_rate": 1600,
        "output_sampling_rate": 2400,
        "semantic": {**_HUBERT, "feat_proj_layer_norm": False},
        "acoustic": {"dims": [4, 8], "depths": [1, 1], "strides": [4], "dim": 16, "window": 3},
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "quantization_dim": 80,
        "quantization_levels": [4, 4, 4],
    },
    "elm-bae": {"image_size": 16, "encoder": _BAE_NET, "decoder": _BAE_NET, "quantizer": {"dim": 8, "chunks": [3]}},
    "elm-ar": {**_LLAMA, "layout": _CODES, "pattern": "parallel", "combine": "concat"},
    "elm-mlm": {"layout": LAYOUT, "condition": _CLASSES, "backbone": {"type": "llama", "dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8}},
    "eagle": {"layout": LAYOUT, "dim": 16, "hidden_dim": 32, "num_heads": 2},
    "emu3-vq": {**_LIBRARY, "codebook_size": 32, "attn_resolutions": [], "hidden_size": 64, "image_size": 16},
    "emu3-vq-video": {**_LIBRARY, "codebook_size": 32, "attn_resolutions": [], "hidden_size": 64, "image_size": 16},
    "encodec": {**_SEANET, "sampling_rate": 800, "target_bandwidths": [0.4, 1.2], "num_lstm_layers": 1},
    "flextok": {
        "image_size": 16,
        "vae": None,
        "patch_size": 4,
        "num_registers": 8,
        "quantizer": {"levels": [4, 5]},
        "encoder": _TRUNK,
        "decoder": _TRUNK,
        "time_features": 16,
        "sampling": {"steps": 3, "guidance": None},
    },
    "focalcodec": {
        "sample_rate": 1600,
        "encoder": {
            "conv_dims": [8, 8],
            "conv_kernels": [10, 3],
            "conv_strides": [5, 2],
            "dim": 16,
            "mlp_dim": 16,
            "depth": 1,
            "num_heads": 2,
            "num_buckets": 16,
            "max_distance": 20,
            "position_kernel": 8,
            "position_groups": 2,
        },
        "compressor": {"dims": [16, 12], "factors": [2, 1], "focal_window": 4, "focal_factor": 2},
        "num_bits": 6,
        "decompressor": {"dims": [12, 16], "factors": [1, 2], "focal_window": 4, "focal_factor": 2},
        "decoder": {"dim": 16, "mlp_dim": 24, "depth": 1, "n_fft": 40, "hop": 10},
    },
    "glm-image-vq": {
        "embed_dim": 8,
        "num_embeddings": 32,
        "latent_channels": 16,
        "image_size": 16,
        "vision": {"depth": 1, "hidden_size": 16, "num_heads": 2, "image_size": 32, "patch_size": 4, "intermediate_size": 16},
    },
    "gpt": _LLAMA,
    "ibq-ar": {**_LLAMA, "is_modulated": True},
    "ibq": {**_GRID, "quantizer": {"codebook_size": 32, "dim": 6}},
    "janus-vq": {**_LIBRARY, "num_embeddings": 32, "num_patches": 8},
    "karl": {
        "image_size": 16,
        "num_latent_tokens": 8,
        "max_latent_tokens": 12,
        "training_lengths": [2, 4, 6, 8, 10, 12],
        "position_side": 4,
        "base": {"type": "patches", "patch_size": 4},
        "encoder": {"dim": 64, "depth": 1, "num_heads": 2, "patch_size": 4},
        "decoder": {"dim": 32, "depth": 1, "num_heads": 2, "patch_size": 4},
        "quantizer": {**_VQ, "dim": 6},
        "halting_dim": 16,
    },
    "kl-vae": _VAE,
    "larp": {
        "image_size": 16,
        "num_frames": 8,
        "num_latent_tokens": 6,
        "encoder": _VIT,
        "decoder": _VIT,
        "quantizer": {"type": "svq", "codebook_size": 32, "dim": 4},
        "prior": _TRUNK,
    },
    "larp-ar": {**_LLAMA, "positions": "learned"},
    "llamagen": _LLAMA,
    "llamagen-vq": {**_GRID, "quantizer": _EMA},
    "mar": {"layout": _LATENTS, "condition": _CLASSES, "backbone": _MAE, "head": {"dim": 16, "depth": 1}},
    "maskgit": {"layout": LAYOUT, "condition": _CLASSES, "backbone": {"type": "bert", "dim": 24, "depth": 2, "num_heads": 2, "mlp_dim": 32}},
    "maskgit-vqgan": {"image_size": 16, "net": _NET, "quantizer": {"codebook_size": 32, "dim": 8}},
    "mimi": {
        **_MIMI_NET,
        "sampling_rate": 1600,
        "num_hidden_layers": 1,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "sliding_window": 8,
    },
    "moss-audio-tokenizer": {
        "sample_rate": 1600,
        "context_seconds": 0.05,
        "encoder": [{"type": "patch", "size": 4}, _MOSS_STAGE, {"type": "patch", "size": 2}, {**_MOSS_STAGE, "in_dim": 12, "out_dim": 10}],
        "decoder": [
            {**_MOSS_STAGE, "in_dim": 10, "out_dim": 12},
            {"type": "patch", "size": 2},
            {**_MOSS_STAGE, "in_dim": 6, "out_dim": 4},
            {"type": "patch", "size": 4},
        ],
        "latent_dim": 10,
        "quantizer": {"type": "factorized_residual", "codebook_sizes": [16, 16, 16], "dim": 8, "codebook_dim": 4},
    },
    "mqt": {"query_side": 3, "feature_side": 4, "feature_dim": 16, "output_dim": 8, "num_heads": 2},
    "neucodec": {
        "input_sampling_rate": 1600,
        "output_sampling_rate": 2400,
        "hidden_size": 64,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "encoder_hidden_size": 4,
        "downsampling_ratios": [2, 2, 4],
        "quantization_dim": 96,
        "quantization_levels": [4, 4, 4],
        "semantic_model_config": {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "feature_projection_input_dim": 20,
            "left_max_position_embeddings": 4,
            "right_max_position_embeddings": 2,
            "conv_depthwise_kernel_size": 3,
        },
    },
    "open-magvit2-ar": {**_LLAMA, "layout": _CODES, "pattern": "parallel", "inner_head": {"depth": 1}},
    "open-magvit2": {"image_size": 16, "net": _BIT_NET, "quantizer": {"dim": 6}},
    "next-scale": {**_LLAMA, "layout": {**LAYOUT, "segments": _SCALES, "order": "by-scale"}},
    "rar": {"layout": LAYOUT, "condition": _CLASSES, **_TRUNK, "mlp_dim": 32},
    "qwen3-tts-tokenizer": {
        "encoder": {
            **_MIMI_NET,
            "num_quantizers": 4,
            "sampling_rate": 1600,
            "num_hidden_layers": 1,
            "intermediate_size": 16,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "sliding_window": 8,
        },
        "num_levels": 3,
        "decoder": {"code_dim": 8, "latent_dim": 10, "transformer": _QWEN_TRANSFORMER, "upsampling": [2], "width": 8, "strides": [4, 2]},
    },
    "robusttok": {
        "image_size": 32,
        "encoder": _VIT,
        "decoder": _VIT,
        "grid_side": 4,
        "quantizer": {
            "type": "product",
            "num_groups": 2,
            "quantizer": {"type": "multi_scale", "scales": [1, 2, 4], "quantizer": _SIGNS, "normalize": True},
        },
    },
    "selftok": {
        "image_size": 8,
        "latent_stride": 1,
        "channels": 3,
        "num_tokens": 8,
        "encoder": {"depth": 2, "dim": 16, "num_heads": 2, "query_dim": 16, "query_num_heads": 2},
        "quantizer": {"codebook_size": 32, "dim": 4, "num_positions": 8},
        "decoder": _TRUNK,
        "decoding": {"type": "flow", "visible": {"stages": [400, 1000], "tokens_per_stage": [5, 3]}, "steps": 4},
    },
    "snac": {
        "sampling_rate": 1600,
        "encoder_dim": 16,
        "encoder_rates": [2, 5],
        "decoder_dim": 64,
        "decoder_rates": [5, 2],
        "attn_window_size": 2,
        "codebook_size": 16,
        "codebook_dim": 4,
        "vq_strides": [4, 2, 1],
    },
    "speechtokenizer": {
        "sample_rate": 1600,
        "networks": {"channels": 2, "strides": [2, 5], "dim": 8, "lstm_depth": 1, "bidirectional": True, "activation": "snake"},
        "num_levels": 3,
        "quantizer": {"codebook_size": 16, "dim": 8, "ema": {}},
        "semantic_dim": 6,
    },
    "tatitok": {**_TITOK, "text": _TEXT, "quantizer": _VQ},
    "textok": {**_TITOK, "text": _TEXT, "quantizer": _VQ},
    "titok": {**_TITOK, "quantizer": _EMA},
    "tokenbridge-ar": {"layout": _CODES, "condition": _CLASSES, "backbone": _MAE, "head": _TRUNK, "code_values": {"levels": 5}},
    "tokenbridge": {"base": {"family": "kl-vae", "config": _VAE}, "quantizer": {"levels": 16}},
    "wavtokenizer": {
        "sample_rate": 1600,
        "encoder": {"channels": 2, "strides": [2, 4], "dim": 8, "lstm_depth": 1},
        "quantizer": {"codebook_size": 16, "dim": 8, "ema": {}},
        "decoder": {"dim": 64, "mlp_dim": 16, "depth": 1, "n_fft": 32},
    },
    "xar": {
        "layout": _LATENTS,
        "condition": _CLASSES,
        "cells": [2],
        "dim": 16,
        "encoder_depth": 1,
        "decoder_depth": 1,
        "num_heads": 2,
        "mlp_dim": 32,
    },
    "xcodec": {
        "sample_rate": 1600,
        "target_bandwidths": [0.6, 1.8],
        "codebook_size": 64,
        "acoustic_model_config": {
            "encoder_hidden_size": 4,
            "downsampling_ratios": [4, 5],
            "upsampling_ratios": [4, 5],
            "decoder_hidden_size": 16,
            "hidden_size": 8,
        },
        "semantic_model_config": {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "conv_dim": [8, 8, 8],
            "conv_stride": [5, 2, 2],
            "conv_kernel": [10, 3, 2],
            "num_conv_pos_embeddings": 8,
            "num_conv_pos_embedding_groups": 2,
        },
    },
    "xcodec2": {
        "sampling_rate": 1600,
        "hidden_size": 64,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "encoder_hidden_size": 4,
        "downsampling_ratios": [2, 2, 4],
        "quantization_dim": 96,
        "quantization_levels": [4, 4, 4],
        "semantic_model_config": {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "feature_projection_input_dim": 20,
            "left_max_position_embeddings": 4,
            "right_max_position_embeddings": 2,
            "conv_depthwise_kernel_size": 3,
        },
    },
}
