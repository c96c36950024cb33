from __future__ import annotations

from pathlib import Path

import pytest

from visiontok.base.errors import ConfigError
from visiontok.tokenizers.image.titok.model import TiTok
from visiontok.tokenizers.image.titok.reference import objective_from_reference

MODEL = {
    "model": {
        "vq_model": {
            "quantize_mode": "vae", "token_size": 8, "vit_enc_model_size": "tiny", "vit_dec_model_size": "tiny", "vit_enc_patch_size": 8,
            "vit_dec_patch_size": 8, "num_latent_tokens": 4, "is_legacy": False, "finetune_decoder": False,
        }
    },
    "dataset": {"preprocessing": {"crop_size": 16, "random_flip": True}, "params": {"num_workers_per_gpu": 12}},
    "losses": {
        "discriminator_start": 7, "discriminator_factor": 0.5, "discriminator_weight": 0.1, "quantizer_weight": 2.0, "kl_weight": 3e-5,
        "perceptual_loss": "lpips-convnext_s-1.0-0.1", "perceptual_weight": 1.1, "reconstruction_loss": "l1", "reconstruction_weight": 1.0,
        "lecam_regularization_weight": 0.01, "lecam_ema_decay": 0.9,
    },
    "optimizer": {"name": "adamw", "params": {"learning_rate": 1e-4}},
    "training": {"max_grad_norm": 1.0},
}  # fmt: skip


def with_key(dotted: str) -> dict:
    *path, name = dotted.split(".")
    config = {key: dict(value) for key, value in MODEL.items()}
    inner = config
    for part in path:
        inner[part] = dict(inner.get(part, {}))
        inner = inner[part]
    inner[name] = 1
    return config


def test_every_key_of_the_losses_is_read():
    objective = objective_from_reference(MODEL, perceptual_weights={"lpips": Path("vgg.pth"), "convnext_s": Path("next.pth")})
    assert objective.reconstruction == "l1"
    assert objective.quantizer_weight == 1.0  # the authors weigh the KL divergence by kl_weight alone
    assert [(term.name, term.weight) for term in objective.perceptual] == [("lpips", 1.0), ("convnext_s", 0.1)]
    gan = objective.gan
    assert gan.discriminator_weight == 0.5
    assert (gan.weight, gan.start_step, gan.lecam_weight, gan.lecam_decay) == (0.05, 7, 0.01, 0.9)
    assert TiTok.config_from_reference(MODEL, {}).quantizer.kl_weight == 3e-5


def test_a_perceptual_network_without_a_file_is_an_error():
    with pytest.raises(ConfigError, match="convnext_s"):
        objective_from_reference(MODEL, perceptual_weights={"lpips": Path("vgg.pth")})


@pytest.mark.parametrize("key", ["losses.lecam_decay", "model.vq_model.codebok_size", "dataset.crop_size", "optimiser"])
def test_unknown_keys_are_errors_of_model_and_objective(key):
    for read in (objective_from_reference, lambda config: TiTok.config_from_reference(config, {})):
        with pytest.raises(ConfigError, match=key):
            read(with_key(key))
