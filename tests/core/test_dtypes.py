"""Results do not depend on torch's default dtype; models in half precision and under autocast train, encode and decode."""

from collections.abc import Iterator

import pytest
import torch

import visiontok
from visiontok.base.noise import SampleNoise

VIT = {"dim": 32, "depth": 1, "num_heads": 2, "patch_size": 8}
NET = {"channels": 8, "channel_mult": [1, 2], "num_res_blocks": 1, "latent_channels": 8, "norm_groups": 4, "attention_levels": [1]}
TITOK = {"image_size": 16, "num_latent_tokens": 4, "encoder": VIT, "decoder": VIT}
MODELS = {
    "vq": ("titok", {**TITOK, "quantizer": {"type": "vq", "codebook_size": 16, "dim": 4}}),
    "vq-ema": ("titok", {**TITOK, "quantizer": {"type": "vq", "codebook_size": 16, "dim": 4, "ema": {"decay": 0.9}, "dead_code_reset": {}}}),
    "gaussian": ("titok", {**TITOK, "quantizer": {"type": "gaussian", "dim": 4}}),
    "grid": ("llamagen-vq", {"image_size": 16, "encoder": NET, "decoder": NET, "quantizer": {"type": "vq", "codebook_size": 16, "dim": 4}}),
    "fsq": ("conv-grid", {"image_size": 16, "encoder": NET, "decoder": NET, "quantizer": {"type": "fsq", "levels": [5, 5]}}),
    "lfq": ("conv-grid", {"image_size": 16, "encoder": NET, "decoder": NET, "quantizer": {"type": "binary", "dim": 6}}),
}
every_model = pytest.mark.parametrize("name", MODELS)
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def build(name: str) -> visiontok.Tokenizer:
    family, config = MODELS[name]
    torch.manual_seed(0)
    return visiontok.create(family, **config)


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


@every_model
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_default_dtype_changes_nothing(name, dtype, restored):
    model = build(name).eval()
    tokens = model.encode(IMAGES)
    image, losses = model.decode(tokens), build(name).train()(IMAGES, noise=SampleNoise(0, range(2))).losses
    torch.set_default_dtype(dtype)
    again = build(name)
    assert again.dtype == torch.float32
    own = again.train()(IMAGES, noise=SampleNoise(0, range(2))).losses
    assert {key: loss.item() for key, loss in own.items()} == {key: loss.item() for key, loss in losses.items()}
    again = build(name).eval()
    other = again.encode(IMAGES)
    assert torch.equal(other.data, tokens.data)
    assert torch.equal(again.decode(other), image)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_generators_do_not_depend_on_the_default_dtype(dtype, restored):
    layout = build("vq").layout

    def generated() -> torch.Tensor:
        torch.manual_seed(0)
        model = visiontok.create("gpt", layout=layout, dim=16, depth=1, num_heads=2, multiple_of=8)
        torch.nn.init.normal_(model.head.table.weight)
        return model.eval().generate(num_samples=3, noise=SampleNoise(0, range(3)), sampler=model.sampler(top_p=0.9)).indices

    expected = generated()
    torch.set_default_dtype(dtype)
    assert torch.equal(generated(), expected)


@every_model
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_trains_encodes_and_decodes(name, dtype):
    model = build(name).to(dtype).train()
    for _ in range(2):
        output = model(IMAGES.to(dtype), noise=SampleNoise(0, range(2)))
        (output.reconstruction.float().square().mean() + sum(output.losses.values())).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    model.eval()
    assert model.decode(model.encode(IMAGES)).isfinite().all()


@every_model
def test_autocast_trains_encodes_and_decodes(name):
    model = build(name).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(IMAGES, noise=SampleNoise(0, range(2)))
        (output.reconstruction.float().square().mean() + sum(output.losses.values())).backward()
        decoded = model.eval().decode(model.encode(IMAGES))
    assert decoded.isfinite().all()
