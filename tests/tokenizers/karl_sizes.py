"""A KARL that encodes in a millisecond."""

VIT = {"dim": 64, "depth": 1, "num_heads": 2, "patch_size": 4}
KARL = {
    "image_size": 16,
    "num_latent_tokens": 8,
    "max_latent_tokens": 12,
    "training_lengths": [2, 4, 6, 8, 10, 12],
    "position_side": 4,
    "base": {"type": "patches", "patch_size": 4},
    "encoder": VIT,
    "decoder": {**VIT, "dim": 32},
    "quantizer": {"type": "vq", "codebook_size": 32, "dim": 6, "normalize_latents": True, "normalize_codes": True},
    "halting_dim": 16,
}
