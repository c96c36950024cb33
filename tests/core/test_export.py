"""`torch.export` of encoding, decoding and the training pass, whose outputs are pytrees."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import visiontok
from visiontok.quantizers import Quantized, VectorQuantizer
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens

VIT = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
NET = {"channels": 8, "channel_mult": [1, 2], "num_res_blocks": 1, "latent_channels": 8, "norm_groups": 4}
TITOK = {"image_size": 16, "num_latent_tokens": 4, "encoder": VIT, "decoder": VIT}
MODELS = {
    "vq": ("titok", {**TITOK, "quantizer": {"type": "vq", "codebook_size": 16, "dim": 4}}),
    "gaussian": ("titok", {**TITOK, "quantizer": {"type": "gaussian", "dim": 4}}),
    "grid": ("llamagen-vq", {"image_size": 16, "encoder": NET, "decoder": NET, "quantizer": {"type": "vq", "codebook_size": 16, "dim": 4}}),
    "lfq": ("conv-grid", {"image_size": 16, "encoder": NET, "decoder": NET, "quantizer": {"type": "binary", "dim": 6}}),
}
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
OTHERS = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
LAYOUT = TokenLayout(modality="image", segments=(Segment(name="s", shape=(4,), vocab_size=16),), signal_shape=(16, 16))


class Encode(nn.Module):
    def __init__(self, tokenizer: visiontok.Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, images: Tensor) -> Tensor:
        return self.tokenizer.encode(images).data


class Decode(Encode):
    def forward(self, indices: Tensor) -> Tensor:
        return self.tokenizer.decode(indices)


@pytest.mark.parametrize("name", MODELS)
def test_exported_programs_compute_what_the_model_does(name):
    """Traced with some images, run with others."""
    family, config = MODELS[name]
    torch.manual_seed(0)
    model = visiontok.create(family, **config).eval()
    expected, tokens = model(OTHERS), model.encode(OTHERS)
    trained = torch.export.export(model, (IMAGES,), strict=False).module()(OTHERS)
    assert isinstance(trained, visiontok.TokenizerOutput)
    torch.testing.assert_close(trained.reconstruction, expected.reconstruction)
    torch.testing.assert_close(trained.losses, expected.losses)
    assert trained.tokens.layout == expected.tokens.layout
    torch.testing.assert_close(trained.tokens.data, expected.tokens.data)
    encoded = torch.export.export(Encode(model), (IMAGES,), strict=False).module()(OTHERS)
    torch.testing.assert_close(encoded, tokens.data)
    decoded = torch.export.export(Decode(model), (model.encode(IMAGES).view(),), strict=False).module()(tokens.view())
    torch.testing.assert_close(decoded, model.decode(tokens.view()))


@pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="torch.export.save of torch 2.6 cannot store the boolean arguments of operators")
def test_programs_are_saved_with_their_layouts():
    family, config = MODELS["vq"]
    model = visiontok.create(family, **config).eval()
    file = io.BytesIO()
    torch.export.save(torch.export.export(model, (IMAGES,), strict=False), file)
    file.seek(0)
    found = torch.export.load(file).module()(IMAGES)
    assert found.tokens.layout == model.layout
    assert torch.equal(found.tokens.indices, model.encode(IMAGES).indices)


@pytest.mark.parametrize(
    "value",
    [
        Tokens(torch.zeros(2, 4, dtype=torch.int64), LAYOUT, extras={"size": torch.ones(2, 2)}),
        Latents(torch.zeros(2, 4, 3), LAYOUT.replace(segments=[{"name": "s", "shape": (4,), "channels": 3}])),
        VectorQuantizer(codebook_size=16, dim=4).eval()(torch.zeros(2, 4)),
    ],
    ids=["tokens", "latents", "quantized"],
)
def test_trees_come_apart_and_together(value):
    children, structure = pytree.tree_flatten(value)
    assert all(isinstance(child, Tensor) for child in children)
    again = pytree.tree_unflatten(children, pytree.treespec_loads(pytree.treespec_dumps(structure)))
    assert type(again) is type(value)
    doubled = pytree.tree_map(lambda tensor: tensor + tensor, value)
    if isinstance(value, Quantized):
        assert doubled.passed_through is value.passed_through
        assert doubled.losses.keys() == value.losses.keys()
    else:
        assert doubled.layout == again.layout == value.layout
        assert doubled.extras.keys() == value.extras.keys()
    assert pytree.tree_map(lambda tensor: tensor.shape, value) is not None  # not tensors any more, so nothing checks them
