"""Every parameter that requires a gradient gets one in every training step: with several processes, one that does not stops the run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_models import SMALL as SMALL_MODELS

import visiontok
from visiontok import registry
from visiontok.base.noise import SampleNoise
from visiontok.core.tokenizer import Tokenizer
from visiontok.tokens import Segment, TokenLayout, Tokens

VIT = {"dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8}
NET = {"channels": 8, "channel_mult": [1, 2], "num_res_blocks": 1, "latent_channels": 8, "norm_groups": 4}
VQ = {"type": "vq", "codebook_size": 32, "dim": 4}
TITOK = {"image_size": 16, "num_latent_tokens": 4, "encoder": VIT, "decoder": VIT, "quantizer": VQ}
GRID = {"image_size": 16, "encoder": NET, "decoder": NET}
SCALES = {"type": "multi_scale", "scales": [1, 2, 4], "quantizer": VQ}
ROBUSTTOK = {"image_size": 32, "encoder": VIT, "decoder": VIT, "grid_side": 4, "drop_path": 0.0, "quantizer": VQ}
LIBRARY = {"base_channels": 32, "channel_multiplier": [1, 2], "num_res_blocks": 1, "latent_channels": 4, "embed_dim": 4}
BLOCKS = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2, "block_out_channels": [32, 32]}
VAE = {"image_size": 16, "channels": [8, 16], "num_res_blocks": 1, "norm_groups": 4, "bottleneck": {"dim": 3}}
TRUNK = {"dim": 16, "depth": 2, "num_heads": 2}
FLEXTOK = {
    "image_size": 16, "vae": None, "patch_size": 4, "num_registers": 8, "quantizer": {"levels": [4, 5]}, "encoder": TRUNK, "decoder": TRUNK,
    "time_features": 16,
}  # fmt: skip
KARL = {
    "image_size": 16, "num_latent_tokens": 8, "max_latent_tokens": 12, "training_lengths": [2, 4, 12], "position_side": 4,
    "base": {"type": "patches", "patch_size": 4}, "encoder": {**VIT, "dim": 64, "patch_size": 4}, "decoder": {**VIT, "patch_size": 4},
    "quantizer": VQ, "halting_dim": 16,
}  # fmt: skip
LARP = {
    "image_size": 16, "num_frames": 8, "num_latent_tokens": 6, "encoder": VIT, "decoder": VIT, "prior": {**TRUNK, "sampling_ramp_steps": 2},
    "quantizer": {"type": "svq", "codebook_size": 32, "dim": 4},
}  # fmt: skip
LEARNED = {f"learned_{table}_positions": True for table in ("patch", "query", "latent")}
KINDS = ["patches", "latent_queries", "latents", "patch_queries"]
SELFTOK = {
    "image_size": 8, "latent_stride": 1, "channels": 3, "num_tokens": 8, "decoder": TRUNK,
    "encoder": {**TRUNK, "query_dim": 16, "query_num_heads": 2}, "quantizer": {"codebook_size": 32, "dim": 4, "num_positions": 8},
    "decoding": {"type": "flow", "visible": {"stages": [400, 1000], "tokens_per_stage": [5, 3]}, "steps": 4},
}  # fmt: skip
SEANET = {"num_filters": 2, "hidden_size": 8, "upsampling_ratios": [4, 2], "codebook_size": 16}
DAC = {"encoder_hidden_size": 4, "decoder_hidden_size": 16, "downsampling_ratios": [2, 5], "n_codebooks": 3, "codebook_size": 16, "codebook_dim": 4}
MIMI = {
    **SEANET, "num_quantizers": 3, "codebook_dim": 4, "vector_quantization_hidden_dimension": 4, "upsample_groups": 8, "num_hidden_layers": 1,
    "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2,
}  # fmt: skip
XCODEC = {
    "sample_rate": 1600, "target_bandwidths": [1.8], "codebook_size": 64,
    "acoustic_model_config": {
        "encoder_hidden_size": 4, "downsampling_ratios": [4, 5], "upsampling_ratios": [4, 5], "decoder_hidden_size": 16, "hidden_size": 8,
    },
    "semantic_model_config": {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "conv_dim": [8, 8, 8], "conv_stride": [5, 2, 2],
        "conv_kernel": [10, 3, 2], "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
    },
}  # fmt: skip
XCODEC2 = {
    "sampling_rate": 1600, "hidden_size": 64, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
    "head_dim": 32, "encoder_hidden_size": 4, "downsampling_ratios": [2, 2, 4], "quantization_dim": 96, "quantization_levels": [4, 4, 4],
    "semantic_model_config": {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "feature_projection_input_dim": 20,
        "left_max_position_embeddings": 4, "right_max_position_embeddings": 2, "conv_depthwise_kernel_size": 3,
    },
}  # fmt: skip
BIGCODEC = {
    "encoder": {"width": 4, "strides": [2, 5], "dilations": [1], "lstm_depth": 1, "bidirectional": True},
    "decoder": {"width": 4, "strides": [5, 2], "dilations": [1], "lstm_depth": 0}, "quantizer": {"codebook_sizes": [32, 16], "dim": 12},
}  # fmt: skip
SNAC = {
    "encoder_dim": 16, "encoder_rates": [2, 5], "decoder_dim": 64, "decoder_rates": [5, 2], "attn_window_size": 2, "codebook_size": 16,
    "vq_strides": [4, 2, 1],
}  # fmt: skip
AVERAGES = {"codebook_size": 16, "dim": 8, "ema": {}}
SPEECHTOKENIZER = {"networks": {"channels": 2, "strides": [2, 5], "dim": 8, "bidirectional": True}, "num_levels": 3, "quantizer": AVERAGES}
WAVTOKENIZER = {
    "encoder": {"channels": 2, "strides": [2, 4], "dim": 8}, "quantizer": AVERAGES,
    "decoder": {"dim": 32, "mlp_dim": 16, "depth": 2, "n_fft": 32},
}  # fmt: skip
FOCAL = {"focal_window": 4, "focal_factor": 2, "causal": True, "window": 6}
FOCALCODEC = {
    "encoder": {
        "conv_dims": [8, 8], "conv_kernels": [10, 3], "conv_strides": [5, 2], "dim": 16, "mlp_dim": 16, "depth": 1, "num_heads": 2, "num_buckets": 16,
        "max_distance": 20, "position_kernel": 8, "position_groups": 2, "causal": True, "window": 8, "lookahead": 1,
    },
    "compressor": {**FOCAL, "dims": [16, 12], "factors": [2, 1], "layer_scale": True}, "num_bits": 6,
    "decompressor": {**FOCAL, "dims": [12, 16], "factors": [1, 2], "post_norm": True, "lookahead": 1},
    "decoder": {"head": "wavenext", "dim": 16, "mlp_dim": 24, "depth": 1, "hop": 15, "causal": True},
}  # fmt: skip
DISTILL_NEUCODEC = {
    "input_sampling_rate": 1600, "output_sampling_rate": 2400, "semantic": {**XCODEC["semantic_model_config"], "feat_proj_layer_norm": False},
    "acoustic": {"dims": [4, 8], "depths": [1, 1], "strides": [4], "dim": 16, "window": 3}, "hidden_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "quantization_dim": 80, "quantization_levels": [4, 4, 4],
}  # fmt: skip
STAGE = {"type": "transformer", "in_dim": 4, "out_dim": 6, "dim": 12, "depth": 1, "num_heads": 2, "mlp_dim": 16}
MOSS = {
    "sample_rate": 1600, "encoder": [{"type": "patch", "size": 4}, STAGE, {"type": "patch", "size": 2}, {**STAGE, "in_dim": 12, "out_dim": 10}],
    "decoder": [
        {**STAGE, "in_dim": 10, "out_dim": 12}, {"type": "patch", "size": 2}, {**STAGE, "in_dim": 6, "out_dim": 4}, {"type": "patch", "size": 4},
    ],
    "latent_dim": 10, "quantizer": {"type": "factorized_residual", "codebook_sizes": [16, 16], "dim": 8, "codebook_dim": 4},
}  # fmt: skip
QWEN = {
    "encoder": {**MIMI, "num_quantizers": 4}, "num_levels": 3,
    "decoder": {
        "code_dim": 8, "latent_dim": 10, "upsampling": [2], "width": 8, "strides": [4, 2],
        "transformer": {"dim": 8, "depth": 1, "mlp_dim": 12, "num_heads": 4, "num_kv_heads": 2, "head_dim": 4, "window": 4},
    },
}  # fmt: skip
CONV_CLIP = {
    "image_size": 16, "num_frames": 5, "networks": {"channels": [8, 16], "downsampling": [[2, 2]]}, "quantizer": {"type": "fsq", "levels": [4, 4, 3]},
}  # fmt: skip
CLIP_NET = {
    "channels": 8, "channel_mult": [1, 2, 2], "num_res_blocks": 1, "latent_channels": 6, "attention_levels": [1],
    "resampling": ["space-time", "space"],
}  # fmt: skip
COSMOS = {
    "image_size": 16, "num_frames": 5, "patches": {"size": 2}, "encoder": CLIP_NET, "decoder": CLIP_NET,
    "quantizer": {"type": "fsq", "levels": [4, 4]},
}  # fmt: skip
TEXT = {**TITOK, "text": {"length": 5, "dim": 8, "encoder": {"type": "hashed_words"}}}
OMNI = {
    "image_size": 16, "num_frames": 5, "patch_size": 4, "frames_per_token": 2, "dim": 24, "num_heads": 2, "head_dim": 8,
    "encoder_layers": ["attention", "window"], "decoder_layers": ["attention"], "temporal_depth": 1, "window_size": 2,
}  # fmt: skip
VIDTOK = {"ch": 4, "ch_mult": [1, 2, 2], "num_res_blocks": 1, "image_size": 16, "quantizer": {"type": "fsq", "levels": [5, 4]}}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bigcodec": ("bigcodec", BIGCODEC),
    "bsq-vit": ("bsq-vit", {"image_size": 16, "encoder": VIT, "decoder": VIT, "quantizer": {"dim": 6, "normalize": True, "codes": "sphere"}}),
    "chameleon-vq": ("chameleon-vq", {**LIBRARY, "num_embeddings": 32, "resolution": 16}),
    "conv-clip": ("conv-clip", CONV_CLIP),
    "conv-clip, centered": ("conv-clip", {**CONV_CLIP, "num_frames": 4, "networks": {**CONV_CLIP["networks"], "causal": False}}),
    "conv-codec": ("conv-codec", {"networks": {"channels": 2, "strides": [2, 4], "dim": 4}, "quantizer": {**VQ, "dim": 4}}),
    "conv-codec, factorized levels": (
        "conv-codec",
        {"networks": {"channels": 2, "strides": [2, 4], "dim": 4}, "quantizer": {"type": "factorized_residual", "codebook_sizes": [8, 8], "dim": 4}},
    ),
    "conv-grid": ("conv-grid", {**GRID, "quantizer": {"type": "fsq", "levels": [4, 4]}}),
    "conv-grid, sim_vq": ("conv-grid", {**GRID, "quantizer": {"type": "sim_vq", "codebook_size": 32, "dim": 4}}),
    "conv-grid, ibq": ("conv-grid", {**GRID, "quantizer": {"type": "ibq", "codebook_size": 32, "dim": 4}}),
    "conv-grid, no codebook loss": ("conv-grid", {**GRID, "quantizer": {**VQ, "codebook_weight": 0.0}}),
    "conv-grid, clustering": ("conv-grid", {**GRID, "quantizer": {**VQ, "clustering": {}}}),
    "conv-grid, k-means start": ("conv-grid", {**GRID, "quantizer": {**VQ, "kmeans": {"after_steps": 1}}}),
    "cosmos": ("cosmos", COSMOS),
    "cosmos-image": ("cosmos-image", {**GRID, "patches": {"size": 2}, "quantizer": {"type": "fsq", "levels": [4, 4]}}),
    "dac": ("dac", DAC),
    "diffusers-vq": ("diffusers-vq", {**BLOCKS, "num_vq_embeddings": 32, "image_size": 16}),
    "distill-neucodec": ("distill-neucodec", DISTILL_NEUCODEC),
    "divot": ("divot", SMALL_MODELS["divot"]),
    "elm-bae": (
        "elm-bae",
        {"image_size": 16, "encoder": {**NET, "last_activation": False}, "decoder": {**NET, "last_activation": False},
         "quantizer": {"dim": 8, "chunks": [8]}},
    ),
    "emu3-vq": ("emu3-vq", {**LIBRARY, "codebook_size": 32, "attn_resolutions": [], "hidden_size": 64, "image_size": 16}),
    "encodec": ("encodec", {**SEANET, "sampling_rate": 800, "target_bandwidths": [1.2]}),
    "flextok": ("flextok", FLEXTOK),
    "focalcodec": ("focalcodec", FOCALCODEC),
    "ibq": ("ibq", {**GRID, "quantizer": {"codebook_size": 32, "dim": 6}}),
    "janus-vq": ("janus-vq", {**LIBRARY, "num_embeddings": 32, "num_patches": 8}),
    "karl": ("karl", KARL),
    "karl, pixels": ("karl", {**KARL, "stage": "pixels"}),
    "kl-vae": ("kl-vae", VAE),
    "larp": ("larp", LARP),
    "larp, learned tables": ("larp", {**LARP, **LEARNED, "token_types": KINDS, "quantizer": VQ, "prior": None}),
    "llamagen-vq": ("llamagen-vq", {**GRID, "quantizer": VQ}),
    "maskgit-vqgan": ("maskgit-vqgan", {"image_size": 16, "net": NET, "quantizer": {"codebook_size": 32, "dim": 8}}),
    "mimi": ("mimi", MIMI),
    "moss-audio-tokenizer": ("moss-audio-tokenizer", MOSS),
    "neucodec": ("neucodec", {name: value for name, value in XCODEC2.items() if name != "sampling_rate"}),
    "omnitokenizer": ("omnitokenizer", {**OMNI, "quantizer": {**VQ, "normalize_latents": True, "ema": {}}}),
    "omnitokenizer, biases": (
        "omnitokenizer", {**OMNI, "spatial_positions": "bias", "alibi": True, "quantizer": {"type": "gaussian", "dim": 4}}
    ),
    "open-magvit2": ("open-magvit2", {"image_size": 16, "net": {**NET, "latent_channels": 6}, "quantizer": {"dim": 6}}),
    "open-magvit2-video": (
        "open-magvit2-video",
        {"image_size": 16, "num_frames": 3, "net": {**NET, "latent_channels": 6, "halves_time": [True]}, "quantizer": {"dim": 6}},
    ),
    "qwen3-tts-tokenizer": ("qwen3-tts-tokenizer", QWEN),
    "robusttok": ("robusttok", ROBUSTTOK),
    "robusttok, three scales": ("robusttok", {**ROBUSTTOK, "quantizer": SCALES}),
    "robusttok, one scale": ("robusttok", {**ROBUSTTOK, "quantizer": {**SCALES, "scales": [4]}}),
    "robusttok, scales dropped": (
        "robusttok",
        {**ROBUSTTOK, "quantizer": {"type": "product", "num_groups": 2, "quantizer": {**SCALES, "dropout": {"share": 0.9}}}},
    ),
    "robusttok, no codebook loss": ("robusttok", {**ROBUSTTOK, "quantizer": {**SCALES, "codebook_weight": 0.0}}),
    "selftok": ("selftok", SELFTOK),
    "selftok, one step": ("selftok", {**SELFTOK, "decoding": {"type": "one_step"}}),
    "snac": ("snac", SNAC),
    "speechtokenizer": ("speechtokenizer", SPEECHTOKENIZER),
    "tatitok": ("tatitok", TEXT),
    "textok": ("textok", TEXT),
    "titok": ("titok", TITOK),
    "titok, averages": ("titok", {**TITOK, "quantizer": {**VQ, "ema": {}, "dead_code_reset": {}}}),
    "titok, ordered": ("titok", {**TITOK, "nested_dropout": {"schedule": "uniform"}}),
    "titok, gaussian": ("titok", {**TITOK, "quantizer": {"type": "gaussian", "dim": 4}}),
    "vidtok": ("vidtok", {**VIDTOK, "num_frames": 5}),
    "vidtok, v1.1": ("vidtok", {**VIDTOK, "num_frames": 5, "time": "causal-v1.1", "interpolation": "linear"}),
    "vidtok, noncausal": ("vidtok", {**VIDTOK, "num_frames": 4, "time": "noncausal", "quantizer": {"type": "gaussian", "dim": 3}}),
    "wavtokenizer": ("wavtokenizer", WAVTOKENIZER),
    "xcodec": ("xcodec", XCODEC),
    "xcodec2": ("xcodec2", XCODEC2),
    "tokenbridge": ("tokenbridge", {"base": {"family": "kl-vae", "config": VAE}, "quantizer": {"levels": 16}}),
}  # fmt: skip
ONLY_PUBLISHED = {"glm-image-vq", "emu3-vq-video", "mqt", "vqtoken"}
"""They have no decoder, or need more than a second: their networks are those of transformers."""
WITHOUT_PARAMETERS = {"mel-frames"}


def unreached(model: torch.nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]


@pytest.mark.parametrize("case", FAMILIES)
def test_tokenizers(case: str) -> None:
    torch.manual_seed(0)
    family, config = FAMILIES[case]
    model = visiontok.create(family, **config).train()
    assert isinstance(model, Tokenizer)
    size = model.preprocessing.usual_size
    signals = torch.rand(4, model.preprocessing.spec.channels, *size, generator=torch.Generator().manual_seed(1))
    text = torch.rand(4, *model.text.shape) if model.text is not None else None
    for step in range(3):
        model.zero_grad()
        output = model(signals, text=text, step=step, noise=SampleNoise((0, step), range(4)))
        terms = [*output.losses.values()]
        if output.reconstruction is not None and output.reconstruction.requires_grad:
            terms.append(output.reconstruction.float().square().mean())
        sum(terms).backward()  # type: ignore[union-attr]
        assert unreached(model) == []


def test_no_family_is_left_out() -> None:
    known = {name for name, family in registry.families().items() if family.kind == "tokenizer"}
    assert {family for family, _ in FAMILIES.values()} | ONLY_PUBLISHED | WITHOUT_PARAMETERS == known


LAYOUT = TokenLayout(modality="image", signal_shape=(16, 16), segments=(Segment(name="grid", shape=(4, 4), vocab_size=8),))
SMALL = {"dim": 16, "depth": 2, "num_heads": 2}
CLASSES = {"condition": {"type": "classes", "num_classes": 3, "dropout": 0.5}}
GENERATORS: dict[str, tuple[str, dict[str, Any], TokenLayout]] = {
    "gpt": ("gpt", {**SMALL, **CLASSES, "multiple_of": 8}, LAYOUT),
    "gpt, unconditional": ("gpt", {**SMALL, "multiple_of": 8}, LAYOUT),
    "gpt, GPT-2's blocks": (
        "gpt",
        {**SMALL, "condition": {**CLASSES["condition"], "start": "before"}, "block": "gpt2", "positions": "learned"},
        LAYOUT,
    ),
    "gpt, one token": ("gpt", {**SMALL, "multiple_of": 8}, LAYOUT.model_copy(update={"segments": (Segment(name="z", shape=(1,), vocab_size=8),)})),
    "maskgit": ("maskgit", {**CLASSES, "backbone": {"type": "bert", **SMALL, "mlp_dim": 32}}, LAYOUT),
    "elm-mlm": (
        "elm-mlm",
        {**CLASSES, "backbone": {"type": "llama", **SMALL, "multiple_of": 8}, "head": {"type": "tied"}, "masking": {"type": "cosine-step"}},
        LAYOUT,
    ),
}


@pytest.mark.parametrize("case", GENERATORS)
def test_generators(case: str) -> None:
    torch.manual_seed(0)
    family, config, layout = GENERATORS[case]
    model = visiontok.create(family, layout=layout, **config).train()
    tokens = Tokens(torch.arange(4 * layout.length).view(4, -1) % 8, layout)
    classes = torch.tensor([0, 1, 2, 0]) if model.num_classes else None
    for step in range(3):
        model.zero_grad()
        model(tokens, classes, step=step, noise=SampleNoise((0, step), range(4)))["loss"].backward()
        assert unreached(model) == []
