"""The convolutional blocks."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from visiontok.base.errors import ConfigError, SignalError
from visiontok.decoders.conv import AdaptiveGroupNorm, ConvDecoder
from visiontok.encoders.conv import ConvEncoder
from visiontok.layers.conv import AttentionBlock, ConvNetConfig, TamingNetConfig
from visiontok.layers.resampling import DOWNSAMPLE, UPSAMPLE, NearestUpsample

SMALL = {"channels": 32, "channel_mult": (1, 2), "num_res_blocks": 1, "latent_channels": 4}


def test_the_number_of_norm_groups_reaches_every_block() -> None:
    few, many = (ConvDecoder(ConvNetConfig.parse({**SMALL, "norm_groups": groups})) for groups in (4, 32))
    many.load_state_dict(few.state_dict())
    groups = {module.num_groups for module in few.modules() if isinstance(module, torch.nn.GroupNorm)}
    latents = torch.randn(1, 4, 4, 4)
    assert groups == {4}
    assert not torch.allclose(few(latents), many(latents))


def test_groups_that_do_not_divide_a_width_are_refused() -> None:
    with pytest.raises(ConfigError, match="norm_groups 24"):
        ConvNetConfig.parse({**SMALL, "norm_groups": 24})


def test_the_first_vqgans_options_are_defaults_of_their_own() -> None:
    net = TamingNetConfig.parse({**SMALL, "attention_levels": [1]})
    assert (net.shortcut, net.bias, net.mid, net.downsample, net.latent_kernel) == ("input", True, "attention", "padded_conv", 3)
    assert ConvNetConfig.parse(net.to_dict()).to_dict() == net.to_dict()


def test_attention_follows_every_block_of_the_levels_that_are_named() -> None:
    net = TamingNetConfig.parse({**SMALL, "num_res_blocks": 2, "attention_levels": [1]})
    for model in (ConvEncoder(net), ConvDecoder(net)):
        assert [len(level.attention) for level in model.levels] == [0, 2]
    with pytest.raises(ConfigError, match=r"names level 2; .* makes levels 0 to 1"):
        ConvNetConfig.parse({**SMALL, "attention_levels": [2]})


def test_attention_sees_all_positions_and_adds_to_its_input() -> None:
    block = AttentionBlock(32, norm_groups=8)
    x = torch.randn(2, 32, 3, 5)
    normed = block.norm(x).flatten(2)
    query, key, value = (block.attn.qkv.weight @ normed + block.attn.qkv.bias[:, None]).chunk(3, dim=1)
    weights = (query.transpose(1, 2) @ key * 32**-0.5).softmax(dim=-1)
    attended = block.attn.proj.weight @ (value @ weights.transpose(1, 2)) + block.attn.proj.bias[:, None]
    torch.testing.assert_close(block(x), x + attended.view_as(x))


def test_downsampling_looks_where_it_says() -> None:
    """Which of the four pixels of a 2x2 square a kernel with a single one at its center picks."""
    x = torch.arange(16.0).view(1, 1, 4, 4)
    picked = {}
    for name in ("conv", "padded_conv"):
        layer = DOWNSAMPLE[name](1)
        with torch.no_grad():
            layer.conv.weight.copy_(torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]]))
            layer.conv.bias.zero_()
            picked[name] = layer(x)[0, 0].tolist()
    assert picked == {"conv": [[0, 2], [8, 10]], "padded_conv": [[5, 7], [13, 15]]}
    assert DOWNSAMPLE["mean"](1)(x)[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_depth_to_space_lays_blocks_of_channels_out_as_pixels() -> None:
    layer = UPSAMPLE["depth_to_space"](2)
    with torch.no_grad():
        layer.conv.weight.zero_()
        layer.conv.bias.copy_(torch.arange(8.0))
        image = layer(torch.zeros(1, 2, 1, 2))
    assert image[0, 0].tolist() == [[0, 2, 0, 2], [4, 6, 4, 6]]
    assert image[0, 1].tolist() == [[1, 3, 1, 3], [5, 7, 5, 7]]


def test_the_adaptive_norm_reads_mean_and_unbiased_deviation_of_the_latents() -> None:
    norm = AdaptiveGroupNorm(8, 3, norm_groups=4)
    x, latents = torch.randn(2, 8, 4, 4), torch.randn(2, 3, 2, 2)
    flat = latents.flatten(2)
    deviation = ((flat - flat.mean(dim=2, keepdim=True)).square().sum(dim=2) / 3 + 1e-6).sqrt()
    scale, shift = norm.scale(deviation)[:, :, None, None], norm.shift(flat.mean(dim=2))[:, :, None, None]
    normed = torch.nn.GroupNorm(4, 8, eps=1e-6, affine=False)(x)
    torch.testing.assert_close(norm(x, latents), scale * normed + shift)
    with pytest.raises(SignalError, match="one latent position"):
        norm(x, latents[..., :1, :1])


OPTIONS = {
    "maskgit": ConvNetConfig.parse(SMALL),
    "taming": TamingNetConfig.parse({**SMALL, "attention_levels": [1]}),
    "magvit2": ConvNetConfig.parse({**SMALL, "shortcut": "input", "downsample": "conv", "upsample": "depth_to_space", "adaptive_norm": True}),
    "elm": TamingNetConfig.parse({**SMALL, "latent_channels": 32, "last_activation": False, "norm_latents": True}),
}


@pytest.mark.parametrize("net", OPTIONS.values(), ids=OPTIONS)
def test_every_weight_of_every_variant_takes_part(net: ConvNetConfig) -> None:
    encoder, decoder = ConvEncoder(net), ConvDecoder(net)
    ones = torch.ones(1, 3, 8, 12)
    recorded = decoder(encoder(ones))
    assert recorded.shape == (1, 3, 8, 12)
    assert recorded.is_contiguous(memory_format=decoder.memory_format)
    recorded.square().sum().backward()
    assert all(parameter.grad is not None for model in (encoder, decoder) for parameter in model.parameters())
    with torch.no_grad():  # activations then overwrite temporaries
        torch.testing.assert_close(decoder(encoder(ones)), recorded)


@torch.no_grad()
def test_far_shifts_of_adaptive_norms_leave_the_next_norm_exact() -> None:
    torch.manual_seed(0)
    decoder = ConvDecoder(OPTIONS["magvit2"])
    for norm in decoder.adaptive_norms:
        norm.shift.bias.fill_(30.0)
    latents = torch.randn(1, SMALL["latent_channels"], 4, 4)
    found = decoder(latents)
    torch.testing.assert_close(found, decoder.double()(latents.double()).float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (1, 4, 2, 1)])
def test_a_nearest_upsample_is_a_convolution_of_the_doubled_map(shape: tuple[int, ...], memory_format: torch.memory_format):
    torch.manual_seed(0)
    upsample = NearestUpsample(4).double().to(memory_format=memory_format)
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    doubled = functional.interpolate(x, scale_factor=2.0, mode="nearest")
    expected = upsample.conv(doubled)
    grads = torch.autograd.grad(expected.square().sum(), [x, *upsample.parameters()])
    result = upsample(x)
    torch.testing.assert_close(result, expected)
    assert result.is_contiguous(memory_format=memory_format)
    for grad, expected in zip(torch.autograd.grad(result.square().sum(), [x, *upsample.parameters()]), grads, strict=True):
        torch.testing.assert_close(grad, expected)
