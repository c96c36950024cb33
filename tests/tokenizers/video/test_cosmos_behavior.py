"""Cosmos: sizes and lengths, chunks, images as clips, the released configurations, and what the authors' configurations can say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from family_checks import assert_round_trips
from torch import Tensor

import visiontok
from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.layers.carry import Carry
from visiontok.registry import checkpoints
from visiontok.tokenizers.image.cosmos_image.model import CosmosImage
from visiontok.tokenizers.video.cosmos.model import Cosmos
from visiontok.tokenizers.video.cosmos.networks import TimeAttention
from visiontok.tokens import Latents, Tokens, join_chunks, split_chunks

REFERENCE = Path(__file__).parents[2] / "reference" / "cosmos"
NET: dict[str, Any] = {"channels": 8, "channel_mult": [1, 2, 2], "num_res_blocks": 1, "latent_channels": 8, "resampling": ["space-time", "space"]}
SMALL: dict[str, Any] = {
    "num_frames": 9,
    "patches": {"size": 2},
    "encoder": {**NET, "attention_levels": [1]},
    "decoder": NET,
    "quantizer": {"type": "fsq", "levels": [7, 5, 5]},
}
IMAGE_NET: dict[str, Any] = {"channels": 8, "channel_mult": [1, 2], "num_res_blocks": 1, "latent_channels": 8, "norm_groups": 4}
CONTINUOUS = {**SMALL, "quantizer": {"type": "continuous", "dim": 3}}
GAUSSIAN = {**SMALL, "quantizer": {"type": "gaussian", "dim": 3}}
RELEASED = sorted(name for name in checkpoints() if name.startswith("cosmos-"))


def build(config: dict[str, Any] = SMALL) -> Cosmos:
    torch.manual_seed(0)
    model = visiontok.create("cosmos", **config).eval()
    assert isinstance(model, Cosmos)
    return model


def clips(frames: int, size: tuple[int, int] = (16, 24), count: int = 1) -> Tensor:
    return torch.rand(count, 3, frames, *size, generator=torch.Generator().manual_seed(frames))


def theirs(case: str, **changes: Any) -> dict[str, Any]:
    return {**json.loads((REFERENCE / case / "config.json").read_text()), **changes}


@pytest.mark.parametrize(("frames", "extent"), [(1, 1), (2, 2), (5, 2), (6, 3), (17, 5), (18, 6)])
@pytest.mark.parametrize("size", [(16, 24), (13, 23)])
def test_any_number_of_frames_and_any_size_comes_back_exactly(frames: int, extent: int, size: tuple[int, int]) -> None:
    model, clip = build(), clips(frames, size)
    tokens = model.encode(clip)
    assert tokens.layout.segments[0].shape == (extent, 2, 3)
    assert model.decode(tokens).shape == clip.shape


def test_clips_of_different_lengths_and_images_share_a_batch() -> None:
    model, items = build(), [clips(9)[0], clips(4)[0], clips(1)[0]]
    tokens = model.encode(items)
    for number, item in enumerate(items):
        alone = model.encode(item[None])
        ((_, own),) = tokens[number : number + 1].groups()
        assert torch.equal(own.data, alone.data)
        torch.testing.assert_close(model.decode(tokens)[number, :, : item.shape[1]], model.decode(alone)[0], rtol=0, atol=1e-5)


def test_the_first_frames_do_not_depend_on_the_others() -> None:
    model, clip = build(CONTINUOUS), clips(17)
    whole = model.encode(clip)
    for frames in (1, 5, 13):
        first = model.encode(clip[:, :, :frames])
        assert isinstance(first, Latents)
        torch.testing.assert_close(first.view(), whole.view()[:, : first.view().shape[1]], rtol=0, atol=1e-5)
        torch.testing.assert_close(model.decode(first), model.decode(whole)[:, :, :frames], rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", [SMALL, CONTINUOUS], ids=["discrete", "continuous"])
@pytest.mark.parametrize(("frames", "length"), [(33, 3), (34, 7), (40, 16), (5, 100)])
def test_chunks_give_what_the_whole_gives(config: dict[str, Any], frames: int, length: int) -> None:
    model, clip = build(config), clips(frames, (13, 23), count=2)
    assert model.chunking.is_exact
    whole = model.encode(clip)
    parts = join_chunks(list(model.encode_chunks(clip.split(length, dim=2))))
    assert parts.layout == whole.layout
    if isinstance(whole, Tokens):
        assert torch.equal(parts.data, whole.data)
    else:
        torch.testing.assert_close(parts.data, whole.data, rtol=0, atol=1e-5)
    decoded = torch.cat(list(model.decode_chunks(split_chunks(whole, length))), dim=2)
    torch.testing.assert_close(decoded, model.decode(whole), rtol=0, atol=1e-5)


@torch.no_grad()
def test_attention_along_time_sees_all_earlier_frames_and_no_later_one() -> None:
    torch.manual_seed(0)
    layer, x = TimeAttention(8), torch.randn(2, 8, 40, 3, 2)
    whole = layer(x, Carry())
    first, last = x.clone(), x.clone()
    first[:, :, 0] *= -1
    last[:, :, -1] *= -1
    assert not torch.allclose(layer(first, Carry())[:, :, -1], whole[:, :, -1])
    assert torch.equal(layer(last, Carry())[:, :, :-1], whole[:, :, :-1])
    carry = Carry()
    parts = [layer(part, carry) for part in x.split(7, dim=2)]
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, rtol=0, atol=1e-5)


def test_long_clips_come_in_chunks_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clip = build(), clips(41)
    tokens = model.encode(clip)
    decoded, taken = model.decode(tokens), []
    encode, decode = model.encode_causal, model.decode_causal
    monkeypatch.setattr(model, "encode_causal", lambda signal, carry: taken.append(signal.shape[2]) or encode(signal, carry))
    monkeypatch.setattr(model, "decode_causal", lambda latents, carry: taken.append(4 * latents.shape[1]) or decode(latents, carry))
    monkeypatch.setattr(Cosmos, "chunk_values", 8 * 16 * 24)
    assert torch.equal(model.encode(clip).data, tokens.data)
    torch.testing.assert_close(model.decode(tokens), decoded, rtol=0, atol=1e-5)
    assert max(taken) <= 8
    assert model.chunk_length((41, 16, 24)) == 8
    assert model.chunk_length((41, 1600, 2400)) == 4
    assert model.chunk_length((9, 16, 24)) is None


def test_a_posterior_gives_its_mode_or_draws() -> None:
    model, clip = build(GAUSSIAN), clips(9)
    mode = model.encode(clip)
    assert isinstance(mode, Latents)
    assert mode.view().shape == (1, 3, 2, 3, 3)
    torch.testing.assert_close(mode.view(), model.encode_latents(clip)[..., :3])
    drawn = model.encode(clip, noise=torch.Generator().manual_seed(0))
    assert not torch.allclose(drawn.data, mode.data)


def test_training_tells_colors_apart() -> None:
    net = {**NET, "channels": 16, "channel_mult": [1, 1], "resampling": ["space-time"]}
    model = build({**SMALL, "encoder": net, "decoder": net}).train()
    colors = torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.8, 0.3], [0.2, 0.3, 0.9]])
    batch = colors[:, :, None, None, None].expand(-1, -1, 5, 8, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for step in range(45):
        output = model(batch, step=step)
        assert output.reconstruction is not None
        loss = (output.reconstruction - batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * float((batch - batch.mean(dim=0)).square().mean()) < losses[0]


@pytest.mark.parametrize("family", ["cosmos", "cosmos-image"])
def test_bfloat16_encodes_and_decodes(family: str) -> None:
    torch.manual_seed(0)
    images = {"encoder": IMAGE_NET, "decoder": IMAGE_NET, "patches": {"size": 2}, "quantizer": {"type": "fsq", "levels": [7, 5, 5]}}
    model = visiontok.create(family, **(SMALL if family == "cosmos" else images)).eval()
    signal = clips(5) if family == "cosmos" else clips(1)[:, :, 0]
    tokens = model.encode(signal)
    decoded = model.decode(tokens)
    half = model.to(torch.bfloat16)
    assert half.encode(signal).data.shape == tokens.data.shape
    assert (half.decode(tokens).float() - decoded).abs().max() < 0.1


def test_configuration_and_weights_make_round_trips(tmp_path: Path) -> None:
    assert_round_trips(build(), clips(6), tmp_path)


@pytest.mark.parametrize("name", RELEASED)
def test_released_configurations_have_the_strides_of_their_names(name: str) -> None:
    family, entry = checkpoints()[name]
    with torch.device("meta"):
        model = family.model_class()(family.model_class().config_from_reference(entry.reference_config, {}))
    kind, *strides = re.search(r"([cd][iv])(\d+)x(\d+)(?:x\d+)?", name).groups()  # type: ignore[union-attr]
    time, space = (int(stride) for stride in strides)
    is_video = kind.endswith("v")
    assert isinstance(model, Cosmos if is_video else CosmosImage)
    (grid,) = model.layout.segments
    assert grid.stride == ((time, space, space) if is_video else (space, space))
    assert (grid.channels, model.layout.is_continuous) == ((16, True) if kind.startswith("c") else (None, False))
    assert entry.vocab_size == (None if model.layout.is_continuous else model.vocab_size)
    assert entry.parameters == model.num_parameters
    assert entry.repo.lower().endswith(name.split("-", 2)[2])


def shapes(**levels: list[int]) -> dict[str, Tensor]:
    """Tensors that tell how wide the levels of a network are."""
    names = {"encoder": "encoder.down", "decoder": "decoder.up"}
    return {
        f"{names[net]}.{level}.block.0.conv1.0.conv3d.weight": torch.empty(width, 1, 1, 3, 3, device="meta")
        for net, widths in levels.items()
        for level, width in enumerate(widths)
    }


@pytest.mark.parametrize(
    ("weights", "encoder", "decoder"),
    [
        ({}, (2, 4, 4), (2, 4)),
        (shapes(encoder=[8, 16, 16], decoder=[8, 16, 16]), (2, 4, 4), (2, 4, 4)),
        (shapes(encoder=[8, 16], decoder=[8, 16]), (2, 4), (2, 4)),
        (shapes(encoder=[8, 16, 16], decoder=[8, 16]), (2, 4, 4), (2, 4)),
    ],
)
def test_the_levels_of_a_continuous_4x8x8_are_those_of_its_file(
    weights: dict[str, Tensor], encoder: tuple[int, ...], decoder: tuple[int, ...]
) -> None:
    config = Cosmos.config_from_reference(theirs("cv_4x8x8"), weights)
    assert (config.encoder.channel_mult, config.decoder.channel_mult) == (encoder, decoder)
    assert config.stride == (4, 8, 8)
    assert config.decoder.resampling == ("space",) if len(decoder) == 2 else ("none", "space")


def test_other_models_have_the_levels_of_their_configuration() -> None:
    wrong = shapes(encoder=[8, 16], decoder=[8, 16])
    assert Cosmos.config_from_reference(theirs("dv_4x8x8"), wrong).decoder.channel_mult == (1, 2, 2)


@pytest.mark.parametrize(
    ("compression", "legacy", "encoder", "decoder"),
    [
        ((4, 8), False, ("space", "none"), ("none", "space")),
        ((8, 8), False, ("space-time", "none"), ("space-time", "none")),
        ((8, 8), True, ("space-time", "none"), ("none", "space-time")),
        ((8, 16), False, ("space-time", "space"), ("space-time", "space")),
        ((8, 16), True, ("space-time", "space"), ("space", "space-time")),
        ((4, 4), False, ("none", "none"), ("none", "none")),
    ],
)
def test_what_changes_between_which_levels(compression: tuple[int, int], legacy: bool, encoder: tuple[str, ...], decoder: tuple[str, ...]) -> None:
    time, space = compression
    config = Cosmos.config_from_reference(theirs("dv_8x8x8", temporal_compression=time, spatial_compression=space, legacy_mode=legacy), {})
    assert (config.encoder.resampling, config.decoder.resampling) == (encoder, decoder)
    assert config.stride == (time, space, space)


def test_patches_may_be_pixels_as_they_are() -> None:
    config = Cosmos.config_from_reference(theirs("dv_8x8x8", patch_method="rearrange"), {})
    model, clip = Cosmos(config).eval(), clips(9, (16, 16))
    patches = model.encoder.patches.of(torch.cat([clip[:, :, :1].expand(-1, -1, 3, -1, -1), clip], dim=2))
    assert patches.shape == (1, 192, 3, 4, 4)
    assert torch.equal(patches[0, :, 1, 2, 3], clip[0, :, 1:5, 8:12, 12:16].flatten())  # channel, frame, row, column
    assert model.decode(model.encode(clip)).shape == clip.shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "BASE"}, "encoder .* 'BASE'"),
        ({"quantizer": "RESFSQ"}, "'RESFSQ'"),
        ({"levels": [8, 8]}, "embedding_dim 6"),
        ({"out_channels": 4}, "out_channels .* 4"),
        ({"temporal_compression": 64}, "temporal_compression .* 64"),
        ({"spatial_compression": 12}, "spatial_compression .* 12"),
        ({"spatial_compression": 2}, "spatial_compression .* 2"),
        ({"temporal_compression": 16, "spatial_compression": 16}, r"\(4, 4\).*\(2, 2\)"),
        ({"patch_size": 3}, "patch"),
        ({"patch_method": "dct"}, "dct"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_configurations_that_no_release_has_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Cosmos.config_from_reference(theirs("dv_8x8x8", **changes), {})


def test_continuous_formulations() -> None:
    for changes, kind in (({}, "continuous"), ({"formulation": "VAE", "z_factor": 2}, "gaussian")):
        config = Cosmos.config_from_reference(theirs("cv_4x8x8", **changes), {})
        assert (config.quantizer.type, config.quantizer.dim) == (kind, 8)
        assert config.encoder.latent_channels == 8 * changes.get("z_factor", 1)
    with pytest.raises(ConfigError, match=r"\('VAE', 1\)"):
        Cosmos.config_from_reference(theirs("cv_4x8x8", formulation="VAE"), {})


def test_a_tensor_that_resampling_needs_is_missed_and_one_beyond_it_is_not() -> None:
    from safetensors.torch import load_file

    weights = load_file(REFERENCE / "dv_4x8x8" / "weights.safetensors")
    unused = {name for name in weights if re.search(r"down\.1\.downsample|up\.1\.upsample|down\.0\.downsample\.conv2|up\.2\.upsample\.conv1", name)}
    assert len(unused) == 2 * (3 + 3 + 1 + 1)
    clip = clips(5, (32, 32))
    without = visiontok.from_reference("cosmos", theirs("dv_4x8x8"), {name: tensor for name, tensor in weights.items() if name not in unused})
    whole = visiontok.from_reference("cosmos", theirs("dv_4x8x8"), weights)
    assert torch.equal(without.encode(clip).data, whole.encode(clip).data)
    del weights["decoder.up.2.upsample.conv2.conv3d.weight"]
    with pytest.raises(CheckpointError, match=r"decoder\.levels\.2\.resample\.space\.weight"):
        visiontok.from_reference("cosmos", theirs("dv_4x8x8"), weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 8}, "num_frames 8"),
        ({"image_size": 12}, "image_size 12"),
        ({"patches": {"size": 3}}, "patches of 3"),
        ({"decoder": {**NET, "resampling": ["space", "space"]}}, r"\(2, 4\).*\(1, 4\)"),
        ({"encoder": {**NET, "resampling": ["space"]}}, "resampling"),
        ({"encoder": {**NET, "attention_levels": [3]}}, "attention_levels"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({**SMALL, **changes})
