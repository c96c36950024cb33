"""The authors' training files: every key is read or known to be without effect, and what they train for is what the recipes say."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from visiontok.base.errors import ConfigError
from visiontok.registry import families
from visiontok.tokenizers.image.bsq_vit.model import BsqVit
from visiontok.tokenizers.image.ibq import reference as ibq
from visiontok.tokenizers.image.ibq.model import Ibq
from visiontok.tokenizers.image.llamagen_vq import reference as llamagen
from visiontok.tokenizers.image.open_magvit2 import reference as open_magvit2
from visiontok.tokenizers.image.open_magvit2.model import OpenMagvit2
from visiontok.tokenizers.image.robusttok.objective import FrozenWeights, objective_from_reference, perturbation_from_reference
from visiontok.tokenizers.image.titok import reference as titok
from visiontok.training import load_recipe

VGG = Path("weights/vgg16-397923af.pth")
FILES = FrozenWeights(vgg=VGG, dino=Path("weights/dino_deitsmall16_pretrain.pth"), dinov2=Path("weights/dinov2_vitb14_pretrain.pth"))
CONVNEXT = Path("weights/convnext_small-0c510722.pth")

ROBUSTTOK = {
    "data_path": "train", "val_data_path": "val", "save_best": True, "image_size": 256, "vq_model": "VQ-16", "enc_type": "dinov2",
    "dec_type": "dinov2", "semantic_guide": "dinov2", "global_batch_size": 1024, "epochs": 200, "lr_scheduler": "cosine", "lr": 3e-5,
    "codebook_embed_dim": 64, "codebook_size": 4096, "abs_pos_embed": True, "product_quant": 1, "ema": True, "codebook_drop": 0.0,
    "encoder_model": "vit_base_patch14_dinov2.lvd142m", "decoder_model": "vit_base_patch14_dinov2.lvd142m", "num_latent_tokens": 256,
    "v_patch_nums": [16], "half_sem": False, "guide_type_1": "class", "start_drop": 3, "ckpt_every": 10000, "sem_loss_weight": 0.1,
    "enc_tuning_method": "full", "lecam_loss_weight": 0.001, "weight_decay": 0.0, "disc_weight_decay": 0.0005, "disc_epoch_start": 56,
    "disc_type": "dinodisc", "aug_fade_steps": 0, "disc_adaptive_weight": True, "anneal_start": 40, "anneal_end": 120, "alpha": 1.0, "beta": 0.1,
    "delta": 100, "cloud_save_path": "runs",
}  # fmt: skip

IMAGEFOLDER = {
    **{key: value for key, value in ROBUSTTOK.items() if key not in ("alpha", "beta", "delta", "anneal_start", "anneal_end", "guide_type_1")},
    "codebook_embed_dim": 32, "product_quant": 2, "codebook_drop": 0.1, "num_latent_tokens": 121, "half_sem": True,
    "v_patch_nums": [1, 1, 2, 3, 3, 4, 5, 6, 8, 11],
}  # fmt: skip

LIGHTNING = {
    "seed_everything": True,
    "trainer": {"precision": "16-mixed", "callbacks": [{"class_path": "ModelCheckpoint"}], "logger": {"class_path": "TensorBoardLogger"}},
    "data": {"init_args": {"batch_size": 4, "train": {"params": {"config": {"size": 256, "subset": None}}}}},
    "ckpt_path": None,
}
IBQ = {
    **LIGHTNING,
    "model": {
        "class_path": "src.IBQ.models.ibqgan.IBQ",
        "init_args": {
            "ddconfig": {
                "double_z": False, "z_channels": 256, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 1, 2, 2, 4],
                "num_res_blocks": 4, "attn_resolutions": [16], "dropout": 0.0,
            },
            "lossconfig": {
                "target": "VQLPIPSWithDiscriminator",
                "params": {
                    "disc_conditional": False, "disc_in_channels": 3, "disc_start": 0, "disc_weight": 0.4, "quant_loss_weight": 1.0,
                    "entropy_loss_weight": 0.05, "gen_loss_weight": 0.1, "lecam_loss_weight": 0.05,
                },
            },
            "n_embed": 16384, "embed_dim": 256, "learning_rate": 1e-4, "l2_normalize": False, "use_entropy_loss": True,
            "sample_minimization_weight": 1.0, "batch_maximization_weight": 1.0, "entropy_temperature": 0.01, "beta": 0.25, "use_ema": True,
            "resume_lr": None, "lr_drop_epoch": [250, 300],
        },
    },
}  # fmt: skip
OPEN_MAGVIT2 = {
    **LIGHTNING,
    "model": {
        "class_path": "src.Open_MAGVIT2.models.lfqgan.VQModel",
        "init_args": {
            "ddconfig": {
                "double_z": False, "z_channels": 18, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 1, 2, 2, 4],
                "num_res_blocks": 4,
            },
            "lossconfig": {
                "target": "VQLPIPSWithDiscriminator",
                "params": {
                    "disc_conditional": False, "disc_in_channels": 3, "disc_start": 0, "disc_weight": 0.8, "gen_loss_weight": 0.1,
                    "lecam_loss_weight": 0.05, "codebook_weight": 0.1, "commit_weight": 0.25, "codebook_enlarge_ratio": 0,
                    "codebook_enlarge_steps": 2000,
                },
            },
            "n_embed": 262144, "embed_dim": 18, "learning_rate": 1e-4, "sample_minimization_weight": 1.0, "batch_maximization_weight": 1.0,
            "scheduler_type": "None", "use_ema": True, "resume_lr": None, "lr_drop_epoch": [200, 250],
        },
    },
}  # fmt: skip
TITOK = {
    "experiment": {"project": "titok", "max_train_examples": 1281167, "init_weight": "stage1.bin"},
    "model": {
        "vq_model": {
            "codebook_size": 4096, "token_size": 12, "use_l2_norm": True, "commitment_cost": 0.0, "vit_enc_model_size": "base",
            "vit_dec_model_size": "base", "vit_enc_patch_size": 16, "vit_dec_patch_size": 16, "num_latent_tokens": 64, "finetune_decoder": True,
            "pretrained_tokenizer_weight": "maskgit-vqgan-imagenet-f16-256.bin",
        }
    },
    "losses": {
        "discriminator_start": 20000, "quantizer_weight": 0.0, "discriminator_factor": 1.0, "discriminator_weight": 0.01,
        "perceptual_loss": "convnext_s", "perceptual_weight": 0.1, "reconstruction_loss": "l2", "reconstruction_weight": 1.0,
        "lecam_regularization_weight": 0.001,
    },
    "dataset": {"params": {"num_workers_per_gpu": 12}, "preprocessing": {"resize_shorter_edge": 256, "crop_size": 256, "random_crop": True}},
    "optimizer": {"name": "adamw", "params": {"learning_rate": 1e-4, "discriminator_learning_rate": 1e-4, "beta2": 0.999}},
    "lr_scheduler": {"scheduler": "cosine", "params": {"warmup_steps": 5000, "end_lr": 1e-5}},
    "training": {"mixed_precision": "fp16", "use_ema": True, "max_grad_norm": 1.0},
}  # fmt: skip


def with_key(config: dict, path: list[str]) -> dict:
    changed = copy.deepcopy(config)
    inner = changed
    for part in path:
        inner = inner[part]
    inner["unheard_of"] = 1
    return changed


def nested(config: dict, path: tuple[str, ...] = ()) -> list[list[str]]:
    """Paths of the configuration itself and of every mapping in it."""
    below = [inner for key, value in config.items() if isinstance(value, dict) and value for inner in nested(value, (*path, key))]
    return [list(path), *below]


WHOLE_LANGUAGE_MODELS = {"glm-image-vq"}
"""Their `config.json` describes a whole model of transformers, most of which belongs to no tokenizer."""

READABLE = {
    name: entry.reference_config
    for name, family in families().items()
    for entry in family.checkpoints[:1]
    if entry.reference_config and family.modalities == ("image",) and name not in WHOLE_LANGUAGE_MODELS
}


@pytest.mark.parametrize("name", READABLE)
def test_every_family_names_an_unknown_key_wherever_it_stands(name):
    model_class, config = families()[name].model_class(), READABLE[name]
    model_class.config_from_reference(config, {})
    for path in nested(config):
        with pytest.raises(ConfigError, match="unheard_of"):
            model_class.config_from_reference(with_key(config, path), {})


@pytest.mark.parametrize(("name", "config"), [("robusttok-4096", ROBUSTTOK), ("imagefolder-msvr10p2-4096", IMAGEFOLDER)])
def test_robusttoks_files_train_for_what_the_recipes_say(name, config):
    recipe = load_recipe(f"tokenizers/{name}")
    assert objective_from_reference(config, steps_per_epoch=1251, files=FILES) == recipe.objective
    assert perturbation_from_reference(config, steps_per_epoch=1251) == recipe.perturbation


@pytest.mark.parametrize(("module", "name", "config"), [(ibq, "ibq-16384", IBQ), (open_magvit2, "open-magvit2-256", OPEN_MAGVIT2)])
def test_seed_vokens_files_train_for_what_the_recipes_say(module, name, config):
    assert module.objective_from_reference(config, vgg=VGG) == load_recipe(f"tokenizers/{name}").objective


def test_llamagens_arguments_train_for_what_the_recipe_says():
    arguments = {"codebook_size": 16384, "codebook_embed_dim": 8, "disc_weight": 0.5, "disc_start": 20000, "lr": 1e-4, "global_batch_size": 128}
    assert llamagen.objective_from_reference(arguments, vgg=VGG) == load_recipe("tokenizers/llamagen-vq-ds16").objective
    adaptive = llamagen.objective_from_reference({**arguments, "disc_adaptive_weight": True}, vgg=VGG).gan.adaptive
    assert adaptive.last_layer == "decoder.conv_out.weight"
    for change in ({"disc_type": "stylegan"}, {"unheard_of": 1}):
        with pytest.raises(ConfigError, match=next(iter(change))):
            llamagen.objective_from_reference({**arguments, **change}, vgg=VGG)


def test_titoks_files_train_for_what_the_recipes_say():
    objective = titok.objective_from_reference(TITOK, perceptual_weights={"convnext_s": CONVNEXT})
    assert objective == load_recipe("tokenizers/titok-b64-stage2").objective


def test_the_weights_of_the_quantizer_come_from_the_losses():
    changed = copy.deepcopy(IBQ)
    changed["model"]["init_args"]["lossconfig"]["params"]["entropy_loss_weight"] = 0.3
    assert Ibq.config_from_reference(changed, {}).quantizer.entropy.weight == 0.3
    changed = copy.deepcopy(OPEN_MAGVIT2)
    changed["model"]["init_args"]["lossconfig"]["params"] |= {"codebook_weight": 0.2, "commit_weight": 0.5}
    quantizer = OpenMagvit2.config_from_reference(changed, {}).quantizer
    assert (quantizer.entropy.weight, quantizer.commitment_weight) == (0.2, 0.5)


def test_a_missing_weight_of_the_generators_loss_means_the_adaptive_one():
    changed = copy.deepcopy(IBQ)
    del changed["model"]["init_args"]["lossconfig"]["params"]["gen_loss_weight"]
    gan = ibq.objective_from_reference(changed, vgg=VGG).gan
    assert (gan.weight, gan.adaptive.last_layer) == (0.4, "decoder.conv_out.weight")


@pytest.mark.parametrize(("key", "value"), [("disc_loss", "wasserstein"), ("disc_conditional", True), ("disc_in_channels", 4)])
def test_losses_that_are_not_built_are_errors(key, value):
    changed = copy.deepcopy(IBQ)
    changed["model"]["init_args"]["lossconfig"]["params"][key] = value
    with pytest.raises(ConfigError, match=key):
        ibq.objective_from_reference(changed, vgg=VGG)


@pytest.mark.parametrize(
    ("key", "value"), [("disc_type", "stylegan"), ("gen_loss", "non-saturating"), ("semantic_guide", "clip"), ("dependency_loss_weight", 0.1)]
)
def test_robusttok_losses_that_are_not_built_are_errors(key, value):
    with pytest.raises(ConfigError, match=str(value)):
        objective_from_reference({**ROBUSTTOK, key: value}, steps_per_epoch=1251, files=FILES)


@pytest.mark.parametrize(
    ("read", "config"),
    [
        (lambda config: Ibq.config_from_reference(config, {}), IBQ),
        (lambda config: OpenMagvit2.config_from_reference(config, {}), OPEN_MAGVIT2),
        (lambda config: titok.objective_from_reference(config), TITOK),
        (lambda config: objective_from_reference(config, steps_per_epoch=1251, files=FILES), ROBUSTTOK),
    ],
    ids=["ibq", "open-magvit2", "titok", "robusttok"],
)
def test_whole_files_are_read_and_unknown_keys_of_the_losses_named(read, config):
    read(config)
    losses = {"losses": ["losses"], "model": ["model", "init_args", "lossconfig", "params"]}
    path = next((place for key, place in losses.items() if key in config), [])
    with pytest.raises(ConfigError, match="unheard_of"):
        read(with_key(config, path))


def test_a_whole_file_of_bsq_is_read_and_unknown_keys_named():
    vit = {"image_size": 128, "patch_size": 8, "width": 768, "layers": 12, "heads": 12, "mlp_ratio": 4, "drop_rate": 0}
    config = {
        "model": {"target": "VITBSQModel", "params": {"embed_dim": 18, "embed_group_size": 9, "l2_norm": True, "vitconfig": vit}},
        "loss": {"target": "VQLPIPSWithDiscriminator", "params": {"disc_type": "stylegan", "codebook_weight": 0.1}},
        "data": {"zero_mean": True, "batch_size": 32},
        "optimizer": {"base_lr": 4e-7},
    }
    assert BsqVit.config_from_reference(config, {}).pixel_range == (-1, 1)
    for path in ([], ["model"], ["model", "params"]):
        with pytest.raises(ConfigError, match="unheard_of"):
            BsqVit.config_from_reference(with_key(config, path), {})
