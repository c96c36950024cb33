"""`conv-clip`: lengths, sizes, images, what its networks read, and clips in chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.layers.carry import Carry
from visiontok.tokenizers.video.conv_clip.model import ConvClip
from visiontok.tokens import Tokens, join_chunks, split_chunks

NETS: dict[str, Any] = {"channels": [8, 12, 16], "downsampling": [[2, 2], [2, 1]], "patch_size": 2}
CONFIG: dict[str, Any] = {"image_size": 16, "num_frames": 9, "networks": NETS, "quantizer": {"type": "fsq", "levels": [5, 5, 5]}}
CENTERED: dict[str, Any] = {**CONFIG, "num_frames": 8, "networks": {**NETS, "causal": False}}


def build(config: dict[str, Any] = CONFIG) -> ConvClip:
    torch.manual_seed(0)
    model = visiontok.create("conv-clip", **config).eval()
    assert isinstance(model, ConvClip)
    with torch.no_grad():
        model.encoder.to_latents.weight *= 4  # so that many codes occur
    return model


def clips(frames: int, size: tuple[int, int] = (16, 16)) -> torch.Tensor:
    return torch.rand(2, 3, frames, *size, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize(
    ("config", "frames", "extents"),
    [(CONFIG, 1, 1), (CONFIG, 2, 2), (CONFIG, 9, 3), (CONFIG, 10, 4), (CONFIG, 17, 5), (CENTERED, 1, 1), (CENTERED, 8, 2), (CENTERED, 9, 3)],
)
@pytest.mark.parametrize("size", [(16, 16), (13, 22)])
def test_any_number_of_frames_and_any_size_comes_back_exactly(config: dict[str, Any], frames: int, extents: int, size: tuple[int, int]) -> None:
    model, clip = build(config), clips(frames, size)
    tokens = model.encode(clip)
    assert tokens.layout.segments[0].shape == (extents, -(-size[0] // 4), -(-size[1] // 4))
    assert model.decode(tokens).shape == clip.shape


def test_the_layout_covers_the_clips_that_it_is_trained_on() -> None:
    assert build().layout.signal_shape == (9, 16, 16)
    assert build().layout.segments[0].shape == (3, 4, 4)
    assert build().layout.at([1, 4, 4]).signal_shape == (1, 16, 16)
    assert build(CENTERED).layout.signal_shape == (8, 16, 16)
    assert build({**CONFIG, "frame_rate": 8}).layout.bits_per_second == pytest.approx(build().layout.bits * 8 / 9)


def test_long_clips_come_in_chunks_where_these_are_exact() -> None:
    assert build().chunk_length((900, 256, 256)) == 16
    assert build().chunk_length((17, 256, 256)) is None
    assert build(CENTERED).chunk_length((900, 256, 256)) is None


def test_what_a_causal_model_makes_of_the_first_frames_does_not_depend_on_the_others() -> None:
    model, clip = build(), clips(17)
    whole = model.encode(clip)
    for frames in (1, 5, 13):
        first = model.encode(clip[:, :, :frames])
        assert torch.equal(first.view(), whole.view()[:, : first.view().shape[1]])
        torch.testing.assert_close(model.decode(first), model.decode(whole)[:, :, :frames], rtol=0, atol=1e-5)
    image = model.encode(clip[:, :, :1])
    assert torch.equal(image.view()[:, 0], whole.view()[:, 0]), "an image is a clip of one frame"


def test_a_centered_model_reads_later_frames() -> None:
    model, clip = build(CENTERED), clips(16)
    assert not torch.equal(model.encode(clip).view()[:, :2], model.encode(clip[:, :, :8]).view())


@pytest.mark.parametrize("config", [CONFIG, CENTERED])
@pytest.mark.parametrize("border", ["zeros", "replicate"])
def test_without_zeros_beyond_the_borders_latents_move_with_a_thing_over_even_ground(config: dict[str, Any], border: str) -> None:
    model = build({**config, "networks": {**config["networks"], "border": border}})
    frames = config["num_frames"]
    here, there = (torch.full((1, 3, frames, 64, 64), 0.3) for _ in range(2))
    thing = torch.rand(1, 3, frames, 12, 12, generator=torch.Generator().manual_seed(0))
    here[..., 24:36, 24:36], there[..., 28:40, 20:32] = thing, thing
    with torch.no_grad():
        a, b = (model.encoder(clip * 2 - 1, Carry()) for clip in (here, there))
    moved = a.roll((1, -1), (-2, -1))
    assert torch.allclose(moved, b, atol=1e-4) == (border == "replicate")


def test_with_kernels_of_one_frame_every_frame_is_encoded_and_decoded_as_an_image() -> None:
    by_frame = {**CONFIG, "networks": {**NETS, "downsampling": [[1, 2], [1, 1]], "time_kernel": 1}}
    model, clip = build(by_frame), clips(5)
    tokens = model.encode(clip)
    assert tokens.layout.segments[0].shape == (5, 4, 4)
    images = [model.encode(frame) for frame in clip.split(1, dim=2)]
    assert torch.equal(tokens.view(), torch.cat([image.view() for image in images], dim=1))
    decoded = torch.cat([model.decode(image) for image in images], dim=2)
    torch.testing.assert_close(model.decode(tokens), decoded, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("frames", "length"), [(17, 4), (18, 5), (33, 16), (3, 1), (1, 9), (40, 3)])
def test_chunks_of_a_causal_model_give_what_the_whole_gives(frames: int, length: int) -> None:
    model, clip = build(), clips(frames, (15, 18))
    assert model.chunking.is_exact
    whole = model.encode(clip)
    tokens = join_chunks(list(model.encode_chunks(clip.split(length, dim=2))))
    assert isinstance(tokens, Tokens)
    assert tokens.layout == whole.layout
    assert torch.equal(tokens.indices, whole.indices)
    decoded = torch.cat(list(model.decode_chunks(split_chunks(whole, length))), dim=2)
    torch.testing.assert_close(decoded, model.decode(whole), rtol=0, atol=1e-5)


def test_chunks_of_a_centered_model_give_it_where_they_overlap_enough() -> None:
    model, clip = build(CENTERED), clips(31)
    assert not model.chunking.is_exact
    whole = model.encode(clip)
    tokens = join_chunks(list(model.encode_chunks(clip.split(8, dim=2), overlap=8)))
    assert torch.equal(tokens.data, whole.data)
    decoded = torch.cat(list(model.decode_chunks(split_chunks(whole, 8), overlap=8)), dim=2)
    torch.testing.assert_close(decoded, model.decode(whole), rtol=0, atol=1e-5)


@pytest.mark.parametrize("quantizer", [{"type": "vq", "codebook_size": 32, "dim": 4}, {"type": "binary", "dim": 6}])
def test_other_quantizers_fit(quantizer: dict[str, Any]) -> None:
    model = build({**CONFIG, "quantizer": quantizer}).train()
    output = model(clips(5))
    assert output.reconstruction is not None
    assert output.reconstruction.shape == (2, 3, 5, 16, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 8}, r"num_frames 8 must be 1 \+ a multiple of 4"),
        ({"num_frames": 9, "networks": {**NETS, "causal": False}}, "num_frames 9 must be a multiple of 4"),
        ({"image_size": 18}, "18 pixels are no multiple of the stride 4"),
        ({"networks": {**NETS, "channels": [8, 8]}}, "one pair fewer"),
        ({"networks": {**NETS, "time_kernel": 1}}, "joins frames"),
    ],
)
def test_contradictory_sizes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({**CONFIG, **changes})
