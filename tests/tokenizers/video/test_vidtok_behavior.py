"""VidTok beyond the reference cases: sizes and lengths, chunks, options of the authors' configurations, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import visiontok
from visiontok.base.errors import ConfigError, TokenError
from visiontok.core.tokenizer import Tokenizer
from visiontok.layers.carry import Carry
from visiontok.tokenizers.video.vidtok.causal import CausalConv, InterpolatingUpsample
from visiontok.tokenizers.video.vidtok.model import VidTok, VidTokConfig
from visiontok.tokens import Latents, Tokens, join_chunks, split_chunks

SMALL: dict[str, Any] = {"ch": 8, "ch_mult": [1, 2, 2], "num_res_blocks": 1, "quantizer": {"type": "fsq", "levels": [5, 4, 3]}, "image_size": 16}
LINEAR = {"time": "causal-v1.1", "interpolation": "linear"}
CAUSAL: dict[str, dict[str, Any]] = {
    "v1.0": SMALL,
    "v1.0, KL": {**SMALL, "quantizer": {"type": "gaussian", "dim": 3}},
    "v1.0, two frames": {**SMALL, "tempo_ds": [1], "tempo_us": [2]},
    "v1.0, gray": {**SMALL, "front_padding": "constant"},
    "v1.0, all frames": {**SMALL, "tempo_ds": [], "tempo_us": []},
    "v1.1": {**SMALL, **LINEAR},
    "v1.1, nearest": {**SMALL, "time": "causal-v1.1"},
    "v1.1, two frames": {**SMALL, **LINEAR, "tempo_ds": [1], "tempo_us": [2]},
    "v1.1, eight frames": {**SMALL, **LINEAR, "ch_mult": [1, 2, 2, 2], "tempo_ds": [0, 1, 2], "tempo_us": [1, 2, 3]},
    "v1.1, other levels": {**SMALL, **LINEAR, "ch_mult": [1, 2, 2, 2, 2], "tempo_ds": [3, 2], "tempo_us": [1, 2]},
}

NONCAUSAL: dict[str, dict[str, Any]] = {
    "noncausal": {**SMALL, "time": "noncausal", "num_frames": 16},
    "noncausal, eight frames": {**SMALL, "time": "noncausal", "ch_mult": [1, 2, 2, 2], "tempo_ds": [0, 1, 2], "tempo_us": [1, 2, 3]},
}


def build(config: dict[str, Any]) -> VidTok:
    """With random weights, also where training begins with zeros."""
    torch.manual_seed(0)
    model = visiontok.create("vidtok", **config)
    assert isinstance(model, VidTok)
    for name, parameter in model.named_parameters():
        if "_temporal" in name and parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval()


def clip(frames: int, height: int = 16, width: int = 16, *, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize("name", [*sorted(CAUSAL), "noncausal", "noncausal, eight frames"])
@pytest.mark.parametrize(("frames", "length"), [(33, 16), (18, 3), (5, 1), (26, 9)])
def test_chunks_give_what_the_whole_gives(name: str, frames: int, length: int) -> None:
    model = build({**CAUSAL, **NONCAUSAL}[name])
    assert model.chunking.is_exact
    clips = clip(frames, batch=2)
    whole = model.encode(clips)
    tokens = join_chunks(list(model.encode_chunks(clips.split(length, dim=2))))
    assert tokens.layout == whole.layout
    if isinstance(whole, Latents):
        assert isinstance(tokens, Latents)
        torch.testing.assert_close(tokens.values, whole.values, rtol=0, atol=1e-5)
    else:
        assert torch.equal(tokens.data, whole.data)
    expected = model.decode(whole)
    assert expected.shape == clips.shape
    decoded = torch.cat(list(model.decode_chunks(split_chunks(whole, length))), dim=2)
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-5)


def test_group_norms_see_one_frame_at_a_time() -> None:
    model = build({**SMALL, "ch": 32, "norm": "group"}).double()  # over so few channels they magnify the rounding of float32
    clips, carry = clip(17).double(), Carry()
    whole = model.encode_latents(clips)
    parts = [model.encode_next(part, carry) for part in clips.split([1, 8, 8], dim=2)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-5)
    carry = Carry()
    decoded = torch.cat([model.decode_next(part, carry) for part in whole.split([1, 3, 1], dim=1)], dim=2)
    torch.testing.assert_close(decoded, model.decode_latents(whole), rtol=0, atol=1e-5)
    others = build({**SMALL, "ch": 32, "norm": "group", "time": "noncausal"})
    assert others.encode_latents(clip(16)).shape == (1, 4, 4, 4, 3)


@pytest.mark.parametrize("name", ["v1.0", "v1.1"])
def test_the_state_matters(name: str) -> None:
    model = build(CAUSAL[name])
    latents = torch.randn(1, 6, 4, 4, 3, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([model.decode_latents(latents[:, :3]), model.decode_latents(latents[:, 3:])], dim=2)
    whole = model.decode_latents(latents)[:, :, : alone.shape[2]]
    assert not torch.allclose(alone[:, :, 9:], whole[:, :, 9:], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["v1.0", "v1.1", "noncausal"])
@torch.no_grad()
def test_what_is_kept_between_chunks_does_not_grow(name: str) -> None:
    model, encoder, decoder, sizes = build({**CAUSAL, **NONCAUSAL}[name]), Carry(), Carry(), []
    for count in (96 + model.config.is_causal, 8, 16):  # networks that are not causal are late by 40 frames each
        latents = model.encode_next(clip(count, 8, 8), encoder)
        model.decode_next(model.quantizer(latents).latents, decoder)
        sizes.append((kept_bytes(model, encoder), kept_bytes(model, decoder)))
    assert sizes[0] == sizes[1] == sizes[2]


@torch.no_grad()
def test_a_causal_decoder_keeps_frames_in_the_same_memory() -> None:
    model, carry, places = build(CAUSAL["v1.0"]), Carry(), []
    convs = [conv for conv in model.decoder.modules() if isinstance(conv, CausalConv) and conv.before]
    for count in (2, 1, 3):
        model.decode_next(torch.randn(1, count, 1, 1, 3), carry)
        places.append({frame.untyped_storage().data_ptr() for conv in convs for frame in carry.get(conv)})
    assert places[0] == places[1] == places[2]
    assert len(places[0]) == len(convs)


def test_gradients_go_through_chunks() -> None:
    model = build(CAUSAL["v1.1"]).double()
    latents, carry = torch.randn(1, 5, 2, 2, 3, dtype=torch.float64, requires_grad=True), Carry()
    parts = latents.split([1, 2, 2], dim=1)
    decoded = []
    for number, part in enumerate(parts):
        carry.is_last = number == len(parts) - 1
        decoded.append(model.decode_next(part, carry))
    weights = torch.randn(1, 3, 17, 8, 8, dtype=torch.float64)
    (actual,) = torch.autograd.grad((torch.cat(decoded, dim=2) * weights).sum(), latents)
    (expected,) = torch.autograd.grad((model.decode_latents(latents) * weights).sum(), latents)
    torch.testing.assert_close(actual, expected)


def kept_bytes(model: VidTok, carry: Carry) -> int:
    """Of all tensors in what the layers keep."""
    tensors = [leaf for module in model.modules() for leaf in tree_leaves(carry.get(module)) if isinstance(leaf, Tensor)]
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


@pytest.mark.parametrize("parts", [[2, 4, 3], [5, 4], [3, 6], [2, 1, 1, 1, 4], [9]])
def test_interpolated_frames_come_when_their_neighbors_are_known(parts: list[int]) -> None:
    layer = InterpolatingUpsample(nn.Identity(), nn.Parameter(torch.zeros(1)), first=2)  # type: ignore[arg-type]
    x = torch.randn(1, 2, 9, 1, 1, generator=torch.Generator().manual_seed(0))
    carry, made, given = Carry(), list[Tensor](), 0
    for number, part in enumerate(x.split(parts, dim=2)):
        carry.is_last = number == len(parts) - 1
        made += layer.doubled(part.split(1, dim=2), carry)
        given += part.shape[2]
        assert len(made) == 2 * given - (given > 2 and not carry.is_last)
    torch.testing.assert_close(made, [*layer.doubled(x.split(1, dim=2), None)])


@pytest.mark.parametrize("name", ["v1.0", "v1.1", "v1.0, KL", "noncausal"])
@pytest.mark.parametrize("size", [(17, 16, 16), (18, 9, 22), (1, 16, 16), (4, 13, 5)])
def test_any_clip_comes_back_at_its_size(name: str, size: tuple[int, int, int]) -> None:
    model = build({**CAUSAL, "noncausal": {**SMALL, "time": "noncausal", "num_frames": 16}}[name])
    clips = clip(*size, batch=2)
    tokens = model.encode(clips)
    latents = -(-size[0] // 4) if name == "noncausal" else 1 + -(-(size[0] - 1) // 4)
    assert tokens.layout.extents == (latents, -(-size[1] // 4), -(-size[2] // 4))
    assert model.decode(tokens).shape == clips.shape
    assert model(clips).reconstruction.shape == clips.shape


def test_clips_of_several_lengths_share_a_batch() -> None:
    model = build(CAUSAL["v1.1"])
    clips = [clip(9)[0], clip(4, 12, 16)[0], clip(1)[0]]
    tokens = model.encode(clips)
    decoded = model.decode(tokens)
    assert decoded.shape == (3, 3, 9, 16, 16)
    for number, one in enumerate(clips):
        alone = model.decode(model.encode([one]))[0]
        torch.testing.assert_close(decoded[number, :, : one.shape[1], : one.shape[2]], alone, rtol=0, atol=1e-5)


def test_later_frames_change_no_earlier_tokens_of_causal_models() -> None:
    first, second = clip(17), clip(17)
    second[:, :, 9:] = 0.0
    for name, same in (("v1.0", True), ("v1.1", True), ("noncausal", False)):
        model = build({**CAUSAL, "noncausal": {**SMALL, "time": "noncausal"}}[name])
        encoded = [model.encode_latents(values[:, :, : 17 if model.config.is_causal else 16]) for values in (first, second)]
        assert torch.allclose(encoded[0][:, :2], encoded[1][:, :2], rtol=0, atol=1e-6) is same


def test_layouts_know_the_frames_of_a_clip() -> None:
    causal, whole = build(SMALL), build({**SMALL, "time": "noncausal", "num_frames": 16})
    assert (causal.layout.signal_shape, causal.layout.extents) == ((17, 16, 16), (5, 4, 4))
    assert (whole.layout.signal_shape, whole.layout.extents) == ((16, 16, 16), (4, 4, 4))
    assert causal.decode(torch.zeros(1, 3, 2, 2, dtype=torch.int64)).shape == (1, 3, 9, 8, 8)


def test_norms_over_all_frames_are_near_in_chunks() -> None:
    model = build({**SMALL, "ch": 32, "norm": "group", "time": "noncausal", "num_frames": 16})
    assert not model.chunking.is_exact
    clips = clip(33)
    whole = model.encode(clips)
    near = join_chunks(list(model.encode_chunks(clips.split(8, dim=2))))
    assert near.layout == whole.layout
    decoded = torch.cat(list(model.decode_chunks(split_chunks(whole, 8))), dim=2)
    assert decoded.shape == clips.shape
    wide = torch.cat(list(model.decode_chunks(split_chunks(whole, 8), overlap=9)), dim=2)
    torch.testing.assert_close(wide, model.decode(whole), rtol=0, atol=1e-5)


def test_encode_and_decode_take_long_clips_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clips = build(CAUSAL["v1.1"]), clip(26)
    whole = model.encode(clips)
    expected = model.decode(whole)
    monkeypatch.setattr(VidTok, "chunk_values", 4 * 16 * 16)
    monkeypatch.setattr(VidTok, "encode_latents", None)
    monkeypatch.setattr(VidTok, "decode_latents", None)
    assert torch.equal(model.encode(clips).data, whole.data)
    torch.testing.assert_close(model.decode(whole), expected, rtol=0, atol=1e-5)


def test_the_authors_chunks_cut_clips_themselves() -> None:
    model = build({**SMALL, **LINEAR, "tiling": {"frames": 8}})
    clips = clip(18)
    assert model.decode(model.encode(clips)).shape == clips.shape
    with pytest.raises(TokenError, match="tiling"):
        list(model.encode_chunks(clips.split(8, dim=2)))


def test_the_quantizer_has_its_losses_in_training_and_they_anneal() -> None:
    entropy = {"weight": 0.1, "temperature": 0.005}
    quantizer = {**SMALL["quantizer"], "commitment_weight": 0.25, "entropy": entropy}
    model = build({**SMALL, "quantizer": quantizer, "entropy_annealing": {"steps": 100, "factor": 3.0}})
    assert model(clip(5)).losses == {}
    model.train()
    first, middle, last = (model(clip(5), step=step).losses for step in (0, 50, 200))
    assert set(first) == {"commitment", "entropy"}
    torch.testing.assert_close(first["entropy"], 3 * last["entropy"])
    torch.testing.assert_close(middle["entropy"], 2 * last["entropy"])
    torch.testing.assert_close(first["commitment"], last["commitment"])


def test_residual_blocks_over_time_begin_as_identities() -> None:
    model = visiontok.create("vidtok", **SMALL)
    block, x = model.get_submodule("encoder.down_temporal.0.block.0"), torch.randn(2, 8, 5)
    assert torch.equal(block(x, None), x)


def reference(time: str, **params: Any) -> dict[str, Any]:
    module = {"causal": "model_3dcausal", "causal-v1.1": "model_3dcausal_v1_1", "noncausal": "model_3dnoncausal"}[time]
    sizes = {"double_z": False, "z_channels": 2, "in_channels": 3, "out_ch": 3, "ch": 8, "ch_mult": [1, 2, 2], "num_res_blocks": 1}
    sizes |= {"norm_type": "layernorm", "time_downsample_factor": 4, **params}
    return {
        "target": "vidtok.models.autoencoder.AutoencodingEngine",
        "params": {
            "encoder_config": {"target": f"vidtok.modules.{module}.Encoder", "params": sizes},
            "decoder_config": {"target": f"vidtok.modules.{module}.Decoder", "params": "${model.params.encoder_config.params}"},
            "regularizer_config": {"target": "vidtok.modules.regularizers.FSQRegularizer", "params": {"levels": [8, 8]}},
        },
    }


def test_the_authors_files_are_read() -> None:
    others = {"data": {"target": "x"}, "lightning": {"trainer": {"devices": "auto"}}}
    config = VidTok.config_from_reference({"model": reference("causal-v1.1", interpolation_mode="trilinear"), **others}, {})
    assert config == VidTokConfig.parse(
        {"ch": 8, "ch_mult": [1, 2, 2], "num_res_blocks": 1, **LINEAR, "quantizer": {"type": "fsq", "levels": [8, 8]}, "num_frames": 33},
        source="this test",
    )
    tiled = reference("causal-v1.1", interpolation_mode="trilinear")
    tiled["params"] |= {"use_tiling": True, "t_chunk_enc": 8}
    assert VidTok.config_from_reference(tiled, {}).tiling.frames == 8  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"z_channels": 3}, "z_channels"),
        ({"double_z": True}, "double_z"),
        ({"time_downsample_factor": 8}, "time_downsample_factor"),
        ({"norm_type": "batchnorm"}, "batchnorm"),
        ({"resamp_with_conv": False}, "resamp_with_conv"),
        ({"tanh_out": True}, "tanh_out"),
        ({"norm_type": "groupnorm"}, "32 groups"),
    ],
)
def test_other_configurations_of_theirs_are_refused(params: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        VidTok.config_from_reference(reference("causal", **params), {})


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"interpolation": "linear"}, "linear"),
        ({**LINEAR, "tiling": {"frames": 6}}, "tiling.frames 6"),
        ({"tempo_ds": [2], "tempo_us": [2]}, "tempo_ds"),
        ({"tempo_ds": [1]}, "tempo_us"),
    ],
)
def test_configurations_without_a_model_are_refused(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        visiontok.create("vidtok", **SMALL, **fields)


def test_a_few_steps_lower_the_loss() -> None:
    torch.manual_seed(0)
    model = visiontok.create("vidtok", **SMALL).train()
    assert isinstance(model, Tokenizer)
    clips = clip(1, 1, 1, batch=4).expand(-1, -1, 5, 16, 16)
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=3e-3), []
    for step in range(30):
        output = model(clips, step=step)
        loss = (output.reconstruction - clips).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_tokens_of_one_clip_after_another_are_not_those_of_one_long_clip() -> None:
    model = build(CAUSAL["v1.0"])
    tokens = [model.encode(clip(frames)) for frames in (9, 5)]
    assert all(isinstance(one, Tokens) for one in tokens)
    joined = Tokens.cat(tokens)  # type: ignore[arg-type]
    decoded = model.decode(joined)
    torch.testing.assert_close(decoded[1:, :, :5], model.decode(tokens[1]), rtol=0, atol=1e-5)
