"""Configurations of models that train in a second."""

VIT = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
TITOK = {
    "image_size": 16,
    "num_latent_tokens": 4,
    "encoder": VIT,
    "decoder": VIT,
    "quantizer": {
        "type": "vq",
        "codebook_size": 16,
        "dim": 4,
        "kmeans": {"after_steps": 2},
        "ema": {"decay": 0.9},
        "dead_code_reset": {"every_steps": 3},
    },
}
GAN = {"start_step": 2, "discriminator": {"type": "blur_pool", "hidden_channels": 32, "num_stages": 1}}

GPT = {"dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8, "token_dropout": 0.0, "residual_dropout": 0.0, "ffn_dropout": 0.0}
