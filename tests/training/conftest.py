import pytest
import torch

import visiontok

VIT = {"width": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
TITOK = {
    "image_size": 16,
    "num_latent_tokens": 4,
    "encoder": VIT,
    "decoder": VIT,
    "quantizer": {"type": "vq", "codebook_size": 16, "dim": 4, "ema": {"decay": 0.9}, "revival": {"every_steps": 3}},
}
GAN = {"start_step": 2, "discriminator": {"hidden_channels": 32, "num_stages": 1}}


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order, so that runs can be compared bit for bit; and several processes do not fight for the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tokenizer_recipe(tmp_path):
    """A function: a recipe with everything that has state (GAN, moving codebook, revival, average, accumulation), and changes to it."""

    def make(**changes):
        recipe = {
            "kind": "tokenizer",
            "output": str(tmp_path / "run"),
            "steps": 8,
            "batch_size": 8,
            "accumulate": 2,
            "model": {"family": "titok", "config": TITOK},
            "data": {"source": "digits:train", "crop": "random_scale", "flip": True},
            "objective": {"name": "reconstruction", "gan": GAN},
            "optimizer": {"lr": 1e-3},
            "schedule": {"warmup": 3},
            "checkpoints": {"every": 3},
            "logging": {"every": 1, "tensorboard": False, "usage_window": 4},
            "pictures": {"every": 0},
        }
        return recipe | changes

    return make


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    """A saved tokenizer with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tokenizer") / "tiny"
    visiontok.save_pretrained(visiontok.create("titok", **TITOK), folder)
    return str(folder)


@pytest.fixture
def generator_recipe(tmp_path, tokenizer_folder):
    """A function: a recipe for a small transformer on tokens of digits, and changes to it."""

    def make(**changes):
        recipe = {
            "kind": "generator",
            "output": str(tmp_path / "run"),
            "steps": 6,
            "batch_size": 8,
            "model": {"family": "gpt", "config": {"dim": 16, "depth": 1, "heads": 2, "multiple_of": 8, "class_dropout": 0.5, **NO_DROPOUT}},
            "data": {"images": {"source": "digits:train"}},
            "tokenizer": tokenizer_folder,
            "optimizer": {"lr": 1e-2},
            "checkpoints": {"every": 3},
            "logging": {"every": 1, "tensorboard": False},
            "pictures": {"every": 0},
        }
        return recipe | changes

    return make


NO_DROPOUT = {"token_dropout": 0.0, "residual_dropout": 0.0, "ffn_dropout": 0.0}
