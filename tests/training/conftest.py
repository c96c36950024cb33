import pytest
import torch
from training_recipes import GAN, GPT, TITOK

import visiontok


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order, so that runs can be compared bit for bit; and several processes do not fight for the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tokenizer_recipe(tmp_path):
    """A function: a recipe with everything that has state (GAN, moving codebook, dead-code reset, average, accumulation), and changes to it."""

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
            "validation": {"num_samples": 10},
            "checkpoints": {"every": 3},
            "logging": {"every": 1, "tensorboard": False, "usage_window": 4},
            "sample_images": {"every": 0},
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
            "model": {"family": "gpt", "config": GPT | {"condition": {"dropout": 0.5}}},
            "data": {"signals": {"source": "digits:train"}},
            "tokenizer": tokenizer_folder,
            "optimizer": {"lr": 1e-2},
            "validation": {"num_samples": 10},
            "checkpoints": {"every": 3},
            "logging": {"every": 1, "tensorboard": False},
            "sample_images": {"every": 0},
        }
        return recipe | changes

    return make
