from __future__ import annotations

import pytest
import torch
from family_checks import fit, posterior_loss
from torch.nn import functional as F

import visiontok
from visiontok.base.errors import ConfigError, TextError, TokenError
from visiontok.quantizers import DimensionWiseQuantizerConfig
from visiontok.tokenizers.image.kl_vae.model import KlVae, KlVaeConfig
from visiontok.tokenizers.image.titok.model import TiTok, TiTokConfig
from visiontok.tokenizers.image.titok.reference import VIT_SIZES
from visiontok.tokenizers.image.tokenbridge.model import TokenBridge, TokenBridgeConfig

VAE = KlVaeConfig.parse({"image_size": 16, "channels": [8, 16], "num_res_blocks": 1, "norm_groups": 4, "bottleneck": {"dim": 3}})
VIT = {**VIT_SIZES["tiny"], "patch_size": 8}
KARL = {
    "image_size": 16,
    "num_latent_tokens": 8,
    "max_latent_tokens": 12,
    "training_lengths": [2, 4],
    "position_side": 4,
    "base": {"type": "patches", "patch_size": 4},
    "encoder": {"dim": 64, "depth": 1, "num_heads": 2, "patch_size": 4},
    "decoder": {"dim": 32, "depth": 1, "num_heads": 2, "patch_size": 4},
    "halting_dim": 16,
}
TITOK = {"image_size": 16, "num_latent_tokens": 5, "encoder": VIT, "decoder": VIT}


def base(kind: str) -> KlVae | TiTok:
    torch.manual_seed(0)
    if kind == "kl-vae":
        return KlVae(VAE).eval()
    return TiTok(TiTokConfig.parse({**TITOK, "quantizer": {"type": "gaussian", "dim": 1 if kind == "titok-1d" else 4}})).eval()


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("kind", "shape"), [("kl-vae", (8, 8, 3)), ("titok", (5, 4)), ("titok-1d", (5, 1))])
def test_any_continuous_tokenizer_gets_one_token_per_dimension(kind, shape, tmp_path):
    continuous = base(kind)
    model = TokenBridge.quantizing(continuous, DimensionWiseQuantizerConfig(levels=32, range=4.0))
    tokens = model.encode(images())
    assert tokens.indices.shape == (2, torch.Size(shape).numel())
    assert (tokens.layout.segments[0].shape, tokens.layout.segments[0].codebooks) == (shape[:-1], shape[-1])
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    assert torch.equal(loaded.encode(images()).indices, tokens.indices)
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))


@pytest.mark.parametrize("kind", ["kl-vae", "titok"])
def test_many_levels_come_near_the_continuous_reconstruction(kind):
    continuous = base(kind)
    latents = continuous.encode(images())
    whole, errors = continuous.decode(latents), []
    for levels in (4, 32, 256):
        model = TokenBridge.quantizing(continuous, DimensionWiseQuantizerConfig(levels=levels, range=2 * float(latents.values.abs().max())))
        errors.append(F.mse_loss(model.decode(model.encode(images())), whole).item())
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 1e-4


def test_noise_draws_from_the_posterior():
    model = TokenBridge.quantizing(base("kl-vae"), DimensionWiseQuantizerConfig(levels=64, range=4.0))
    first, second = (model.encode(images(), noise=torch.Generator().manual_seed(4)).indices for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, model.encode(images()).indices)


def test_dropped_latents_stay_dropped(tmp_path):
    """KARL keeps other positions of every image."""
    torch.manual_seed(0)
    quantizer = {"type": "continuous", "dim": 6}
    karl = visiontok.create("karl", **KARL, quantizer=quantizer).eval()
    seen: list[torch.Tensor] = []
    hook = karl.encoder.halting[2].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    karl.encode(images(4))
    hook.remove()
    logits = seen[-1].squeeze(-1)
    varied = logits[:, logits.std(dim=0).argmax()]
    with torch.no_grad():  # the token whose logits vary most between the images halts in some of them
        karl.encoder.halting[2].bias.sub_(varied.sort().values[1:3].mean() - torch.logit(torch.tensor(karl.config.halting_threshold)))
    model = TokenBridge.quantizing(karl, DimensionWiseQuantizerConfig(levels=256, range=4.0))
    latents, tokens = karl.encode(images(4)), model.encode(images(4))
    assert 0 < int(latents.mask.sum()) < latents.mask.numel()
    assert tokens.sample_lengths.tolist() == (6 * latents.sample_lengths).tolist()
    decoded = karl.decode(latents)
    assert float((model.decode(tokens) - decoded).square().mean()) < 1e-3
    assert torch.equal(model.decode(tokens[2:3]), model.decode(tokens)[2:3])
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert torch.equal(loaded.encode(images(4)).indices, tokens.indices)


def test_prefixes_are_those_of_whole_positions_and_without_a_decoder_nothing_decodes():
    mqt = visiontok.create("mqt", query_side=3, feature_side=4, feature_dim=16, output_dim=8, num_heads=2).eval()
    model = TokenBridge.quantizing(mqt, DimensionWiseQuantizerConfig(levels=16))
    features = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1))
    assert list(model.lengths_supported) == [8 * count for count in range(1, 10)]
    short = model.encode(features, num_tokens=16)
    assert torch.equal(short.indices, model.encode(features).prefix(16).indices)
    assert not model.can_decode
    with pytest.raises(TokenError):
        model.encode(features, num_tokens=9)


@pytest.mark.parametrize("family", ["textok", "tatitok"])
def test_the_text_is_that_of_the_base(family, tmp_path):
    torch.manual_seed(0)
    text = {"length": 3, "dim": 8, "encoder": {"type": "hashed_words"}}
    quantizer = {"type": "gaussian", "dim": 4}
    continuous = visiontok.create(family, **TITOK, text=text, quantizer=quantizer).eval().attach_text_encoder()
    latents = continuous.encode(images(), text="a cat")
    model = TokenBridge.quantizing(continuous, DimensionWiseQuantizerConfig(levels=256, range=2 * float(latents.values.abs().max())))
    tokens = model.encode(images(), text="a cat")
    decoded = model.decode(tokens, text="a cat")
    assert F.mse_loss(decoded, continuous.decode(latents, text="a cat")) < 1e-4
    assert not torch.equal(decoded, model.decode(tokens, text="a dog"))
    assert torch.equal(tokens.indices, model.encode(images(), text="a dog").indices) == (family == "tatitok")
    with pytest.raises(TextError):
        model.decode(tokens)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model")).attach_text_encoder()
    assert torch.equal(loaded.decode(loaded.encode(images(), text="a cat"), text="a cat"), decoded)
    output = loaded.train()(images(), text=torch.randn(2, 3, 8), noise=torch.Generator().manual_seed(1))
    assert output.reconstruction is not None
    assert output.reconstruction.shape == (2, 3, 16, 16)


@pytest.mark.parametrize("base", [{"family": "no-such", "config": {}}, {"family": "kl-vae", "config": {"stray": 1}}])
def test_bases_that_there_are_not(base):
    with pytest.raises(ConfigError, match=r"no-such|stray"):
        TokenBridgeConfig.parse({"base": base})


def test_discrete_tokenizers_are_refused():
    vq = TiTokConfig.parse({**TITOK, "quantizer": {"type": "vq", "codebook_size": 8, "dim": 4}})
    with pytest.raises(ConfigError, match="VectorQuantizer"):
        TokenBridge.quantizing(TiTok(vq), DimensionWiseQuantizerConfig())
    with pytest.raises(ConfigError, match="QuantizedBottleneck"):
        TokenBridge.quantizing(TokenBridge.quantizing(base("kl-vae"), DimensionWiseQuantizerConfig()), DimensionWiseQuantizerConfig())


def test_the_decoder_can_learn_to_read_coarse_latents():
    torch.manual_seed(0)
    model = TokenBridge.quantizing(base("kl-vae"), DimensionWiseQuantizerConfig(levels=4, range=4.0)).train()
    colors = torch.rand(4, 3, 1, 1).expand(-1, -1, 16, 16)
    totals = fit(model.parameters(), lambda step: posterior_loss(model, colors), steps=40, lr=1e-2)
    assert totals[-1] < totals[0] / 2


def test_a_first_level_of_another_width_than_the_stem_is_read():
    config = {"embed_dim": 2, "ch": 8, "ch_mult": [2, 1], "num_res_blocks": 1, "resolution": 16, "num_groups": 4, "encoder_attn_resolutions": []}
    model = TokenBridge(TokenBridge.config_from_reference({**config, "bits": 4}, {})).eval()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes["base.encoder.conv_in.weight"] == (8, 3, 3, 3)
    assert shapes["base.encoder.down_blocks.0.resnets.0.conv_shortcut.weight"] == (16, 8, 1, 1)
    assert model.decode(model.encode(images())).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("changes", [{"bits": -1}, {"bits": 12}, {"range": 0.0}, {"stray": 1}])
def test_reference_configurations_that_mean_something_else_are_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        TokenBridge.config_from_reference({"bits": 6, "range": 5.0, **changes}, {})


def test_configurations_round_trip():
    config = TokenBridge.config_from_reference({}, {})
    assert TokenBridgeConfig.parse(config.to_dict()) == config
