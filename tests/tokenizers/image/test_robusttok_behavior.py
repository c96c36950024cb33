from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import visiontok
from visiontok.base.errors import ConfigError, TokenError
from visiontok.tokenizers.image.robusttok.model import RobustTok, RobustTokConfig
from visiontok.tokens import Tokens
from visiontok.training.recipe import load_recipe

VIT = {"dim": 32, "depth": 1, "num_heads": 2, "patch_size": 8}
VQ = {"type": "vq", "codebook_size": 32, "dim": 6, "normalize_latents": True, "normalize_codes": True}
SCALES = {"type": "multi_scale", "scales": [1, 2, 4], "quantizer": {**VQ, "raw_lookup": True}}
SIGNS = {"type": "multi_scale", "scales": [1, 2, 4], "quantizer": {"type": "binary", "dim": 6, "codes": "sphere"}, "normalize": True}
QUANTIZERS = {
    "vq": VQ,
    "vp2": {"type": "product", "num_groups": 2, "quantizer": VQ},
    "ms": SCALES,
    "msvr3p2": {"type": "product", "num_groups": 2, "quantizer": {**SCALES, "dropout": {"share": 0.5}}},
    "msbr3p2": {"type": "product", "num_groups": 2, "quantizer": SIGNS},
}
REGISTRY = json.loads((Path(visiontok.__file__).parent / "tokenizers/image/robusttok/checkpoints.json").read_text())


def config(quantizer: dict) -> RobustTokConfig:
    values = {"image_size": 32, "encoder": VIT, "decoder": VIT, "grid_side": 4, "quantizer": quantizer}
    parsed = RobustTokConfig.parse(values)
    assert RobustTokConfig.parse(parsed.to_dict()) == parsed
    return parsed


@pytest.fixture(params=list(QUANTIZERS))
def model(request) -> RobustTok:
    torch.manual_seed(0)
    return RobustTok(config(QUANTIZERS[request.param])).eval()


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_tokens_decode_pack_and_are_those_of_the_layout(model):
    tokens = model.encode(images())
    assert tokens.layout == model.layout
    image = model.decode(tokens)
    assert image.shape == (2, 3, 32, 32)
    assert torch.equal(model.decode(Tokens.unpack(tokens.pack(), tokens.layout)), image)
    for segment in tokens.layout.segments:
        shape = segment.shape if segment.codebooks == 1 else (*segment.shape, segment.codebooks)
        assert tokens.view(segment.name).shape == (2, *shape)


def test_every_scale_adds_to_the_image():
    torch.manual_seed(0)
    model = RobustTok(config(QUANTIZERS["msvr3p2"])).eval()
    tokens = model.encode(images())
    assert list(model.lengths_supported) == [2, 10, 42]  # two branches of 1, 1 + 4 and 1 + 4 + 16 positions
    partial = [model.decode(tokens.prefix(length)) for length in model.lengths_supported]
    assert torch.equal(partial[2], model.decode(tokens))
    assert not torch.equal(partial[0], partial[1])
    mixed = model.decode(tokens.prefix(torch.tensor([2, 10])))
    torch.testing.assert_close(mixed, torch.stack([partial[0][0], partial[1][1]]))
    assert model.next_scale_inputs(tokens).shape == (2, 2 * 2 + 4 * 4, 12)
    with pytest.raises(TokenError, match="3"):
        tokens.prefix(3)


def test_a_single_scale_has_no_next_one():
    model = RobustTok(config(VQ)).eval()
    tokens = model.encode(images())
    with pytest.raises(TokenError):
        model.next_scale_inputs(tokens)
    assert list(model.lengths_supported) == [16]


def test_training_lowers_the_loss(model):
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    batch, curve = images(4), []
    for _ in range(25):
        output = model(batch)
        loss = F.mse_loss(output.reconstruction, batch)
        (loss + sum(output.losses.values())).backward()
        optimizer.step()
        optimizer.zero_grad()
        curve.append(loss.item())
    assert sum(curve[-3:]) < 0.8 * sum(curve[:3])


def test_configurations_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="grid_side 4"):
        config({**SCALES, "scales": [1, 2, 3]})
    with pytest.raises(ConfigError, match="30"):
        RobustTokConfig.parse({"image_size": 30, "encoder": VIT, "decoder": VIT, "grid_side": 4, "quantizer": VQ})
    with pytest.raises(ConfigError, match="residual"):
        config({"type": "product", "num_groups": 2, "quantizer": {"type": "residual", "num_levels": 2, "quantizer": VQ}})


@pytest.mark.parametrize("entry", REGISTRY["checkpoints"], ids=lambda entry: entry["name"])
def test_released_sizes(entry):
    with torch.device("meta"):
        released = RobustTok(RobustTok.config_from_reference(entry["reference_config"], {}))
    assert released.layout.length == entry["tokens"]
    assert sum(parameter.numel() for parameter in released.parameters()) == entry["parameters"]


@pytest.mark.parametrize("name", ["robusttok-4096", "imagefolder-msvr10p2-4096"])
def test_the_recipes_are_those_of_the_released_sizes(name):
    entry = next(entry for entry in REGISTRY["checkpoints"] if entry["name"] == name)
    recipe = load_recipe(f"tokenizers/{name}")
    released = RobustTok.config_from_reference(entry["reference_config"], {})
    assert RobustTokConfig.parse(recipe.model.config) == released


def test_the_published_perturbation():
    """Full to epoch 40, then down to half at epoch 120; an epoch is 1,251 steps of 1,024 images."""
    perturbation = load_recipe("tokenizers/robusttok-4096").perturbation
    at = {epoch: perturbation.at(1251 * epoch) for epoch in (0, 40, 80, 120, 199)}
    assert {epoch: (now.alpha, now.delta) for epoch, now in at.items()} == {0: (1, 100), 40: (1, 100), 80: (0.75, 75), 120: (0.5, 50), 199: (0.5, 50)}
    assert at[199].beta == 0.1


def test_the_released_key_names_have_a_place():
    """Names and shapes that a released single-branch file holds, teachers and buffers included."""
    entry = next(entry for entry in REGISTRY["checkpoints"] if entry["name"] == "robusttok-4096")
    with torch.device("meta"):
        released = RobustTok(RobustTok.config_from_reference(entry["reference_config"], {}))
        block = {
            **{f"{norm}.{kind}": (768,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")},
            **{"attn.qkv.weight": (2304, 768), "attn.qkv.bias": (2304,), "attn.proj.weight": (768, 768), "attn.proj.bias": (768,)},
            **{"mlp.fc1.weight": (3072, 768), "mlp.fc1.bias": (3072,), "mlp.fc2.weight": (768, 3072), "mlp.fc2.bias": (768,)},
            **{"ls1.gamma": (768,), "ls2.gamma": (768,)},
        }
        trunk = {"cls_token": (1, 1, 768), "pos_embed": (1, 257, 768), "norm.weight": (768,), "norm.bias": (768,)}
        trunk |= {f"blocks.{number}.{name}": shape for number in range(12) for name, shape in block.items()}
        patches = {"patch_embed.proj.weight": (768, 3, 16, 16), "patch_embed.proj.bias": (768,)}
        shapes = {
            **{f"encoder.model.{name}": shape for name, shape in (trunk | patches).items()},
            **{f"decoder.model.{name}": shape for name, shape in trunk.items()},
            **{f"semantic_model.{name}": shape for name, shape in (trunk | patches).items()},
            **{"encoder.latent_tokens": (1, 256, 768), "encoder.lvl_embed.weight": (2, 768), "encoder.lvl1LC": (1, 513)},
            **{"decoder.mask_token": (1, 1, 768), "decoder.lvl_embed.weight": (2, 768), "decoder.lvl1LC": (1, 514)},
            **{"decoder.to_pixel.model.weight": (768, 768), "decoder.to_pixel.model.bias": (768,)},
            **{"quant_conv.weight": (64, 768, 1, 1), "quant_conv.bias": (64,)},
            **{"post_quant_conv.weight": (768, 64, 1, 1), "post_quant_conv.bias": (768,)},
            **{"quantize.embedding.weight": (4096, 64), "quantize.ema_vocab_hit_SV": (4096,)},
        }
        mapped = RobustTok.weights_from_reference({name: torch.empty(shape) for name, shape in shapes.items()})
    assert {name: tensor.shape for name, tensor in mapped.items()} == {name: tensor.shape for name, tensor in released.state_dict().items()}
