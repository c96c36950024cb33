"""Open-MAGVIT2 for clips: single frames are those of its tokenizer of images, whose weights it takes; sizes, names, what reads which frames."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from family_checks import assert_bfloat16_is_close, assert_round_trips
from torch import Tensor
from torch.nn import functional as F

import visiontok
from visiontok.base.errors import ConfigError, SignalError
from visiontok.base.resources import configs_folder
from visiontok.registry import checkpoints
from visiontok.tokenizers.image.open_magvit2.model import OpenMagvit2
from visiontok.tokenizers.video.open_magvit2_video.model import OpenMagvit2Video
from visiontok.tokenizers.video.open_magvit2_video.networks import DepthToBlocks
from visiontok.training.recipe import load_recipe

NET: dict[str, Any] = {"channels": 8, "channel_mult": [1, 2, 2], "num_res_blocks": 1, "latent_channels": 6, "norm_groups": 4}
CONFIG: dict[str, Any] = {
    "image_size": 16,
    "num_frames": 5,
    "net": {**NET, "halves_time": [False, True]},
    "quantizer": {"dim": 6, "entropy": {"weight": 0.01}},
}
THEIRS: dict[str, Any] = {
    "ddconfig": {"ch": 32, "ch_mult": [1, 2, 2], "num_res_blocks": 1, "z_channels": 6, "resolution": 16},
    "n_embed": 64,
    "embed_dim": 6,
    "use_ema": False,
}


def build(**changes: Any) -> OpenMagvit2Video:
    torch.manual_seed(0)
    model = visiontok.create("open-magvit2-video", **{**CONFIG, **changes}).eval()
    assert isinstance(model, OpenMagvit2Video)
    return model


def clips(frames: int, size: tuple[int, int] = (16, 16), count: int = 2) -> Tensor:
    return torch.rand(count, 3, frames, *size, generator=torch.Generator().manual_seed(frames))


def inflated(image: Tensor, like: Tensor) -> Tensor:
    """A kernel of images as the last frame of a causal one, as MAGVIT-2 begins; both frames of a doubled one are then the image's."""
    if image.ndim < 4:
        return image.repeat(len(like) // len(image), *(1,) * (image.ndim - 1))
    weight = torch.zeros_like(like)
    weight[:, :, -1] = image.repeat(len(like) // len(image), 1, 1, 1)
    return weight


@pytest.fixture(scope="module")
def pair() -> tuple[OpenMagvit2, OpenMagvit2Video]:
    """A tokenizer of images, and one of clips that begins with its weights."""
    clip_model = build()
    image_model = visiontok.create("open-magvit2", image_size=16, net=NET, quantizer=CONFIG["quantizer"]).eval()
    assert isinstance(image_model, OpenMagvit2)
    renamed = {}
    for name, tensor in image_model.state_dict().items():
        ours = re.sub(r"decoder\.adaptive_norms\.(\d+)\.", r"decoder.levels.\1.norm.", name).replace("downsample.conv.", "downsample.")
        renamed[ours] = tensor
    expected = clip_model.state_dict()
    assert set(renamed) == set(expected)
    clip_model.load_state_dict({name: inflated(tensor, expected[name]) for name, tensor in renamed.items()})
    return image_model, clip_model


def test_a_single_frame_is_what_the_tokenizer_of_images_makes(pair: tuple[OpenMagvit2, OpenMagvit2Video]) -> None:
    image_model, clip_model = pair
    frame = clips(1, (16, 24))
    latents = clip_model.encode_latents(frame)
    torch.testing.assert_close(latents[:, 0], image_model.encode_latents(frame[:, :, 0]), rtol=0, atol=1e-5)
    tokens, expected = clip_model.encode(frame), image_model.encode(frame[:, :, 0])
    assert torch.equal(tokens.data, expected.data)
    torch.testing.assert_close(clip_model.decode(tokens)[:, :, 0], image_model.decode(expected), rtol=0, atol=1e-5)


def test_equal_frames_have_equal_tokens_with_inflated_weights(pair: tuple[OpenMagvit2, OpenMagvit2Video]) -> None:
    image_model, clip_model = pair
    frame = clips(1)
    tokens = clip_model.encode(frame.expand(-1, -1, 5, -1, -1))
    expected = image_model.encode(frame[:, :, 0])
    assert torch.equal(tokens.view(), expected.view()[:, None].expand(-1, 3, -1, -1))


@pytest.mark.parametrize(("frames", "extent"), [(1, 1), (2, 2), (3, 2), (5, 3), (6, 4), (17, 9)])
@pytest.mark.parametrize("size", [(16, 16), (13, 22)])
def test_any_number_of_frames_and_any_size_comes_back_exactly(frames: int, extent: int, size: tuple[int, int]) -> None:
    model, clip = build(), clips(frames, size)
    model.window = math.inf
    tokens = model.encode(clip)
    assert tokens.layout.segments[0].shape == (extent, -(-size[0] // 4), -(-size[1] // 4))
    assert model.decode(tokens).shape == clip.shape


def test_one_position_has_no_variance() -> None:
    model = build()
    with pytest.raises(SignalError, match="one latent position"):
        model.decode(model.encode(clips(1, (4, 4))))


def test_convolutions_are_causal_and_norms_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clip = build(), clips(9)
    assert not torch.allclose(model.encode_latents(clip)[:, :3], model.encode_latents(clip[:, :, :5]), rtol=0, atol=1e-3)
    monkeypatch.setattr(F, "group_norm", lambda x, *args, **options: x)
    torch.testing.assert_close(model.encode_latents(clip)[:, :3], model.encode_latents(clip[:, :, :5]), rtol=0, atol=1e-5)


def test_channels_become_frames_rows_and_columns() -> None:
    layer, x = DepthToBlocks(2, (2, 2, 2)), torch.randn(1, 2, 2, 3, 3)
    wide, out = layer.conv(x), layer(x)
    assert out.shape == (1, 2, 3, 6, 6)
    for frame, (position, half) in enumerate([(0, 0), (1, 0), (1, 1)]):  # the first frame was doubled, and is one again
        for row in (0, 1):
            for column in (0, 1):
                channel = ((half * 2 + row) * 2 + column) * 2
                assert torch.equal(out[0, :, frame, row::2, column::2], wide[0, channel : channel + 2, position])
    assert DepthToBlocks(2, (1, 2, 2))(x).shape == (1, 2, 2, 6, 6)


def test_training_lowers_the_loss() -> None:
    model = build().train()
    batch = F.interpolate(clips(5, (2, 2)), scale_factor=(1.0, 8.0, 8.0))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for step in range(20):
        output = model(batch, step=step)
        assert output.reconstruction is not None
        loss = (output.reconstruction - batch).square().mean() + 0.1 * sum(output.losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_configuration_and_weights_make_round_trips(tmp_path: Any) -> None:
    assert_round_trips(build(), clips(6), tmp_path)


def test_bfloat16_encodes_and_decodes() -> None:
    assert_bfloat16_is_close(build(), build(), clips(5))


def published(model: OpenMagvit2Video) -> dict[str, Tensor]:
    """The weights under the authors' names."""
    names = {
        r"(encoder|decoder)\.levels\.(\d+)\.norm\.scale": r"\1.adaptive.\2.gamma",
        r"(encoder|decoder)\.levels\.(\d+)\.norm\.shift": r"\1.adaptive.\2.beta",
        r"encoder\.levels\.(\d+)\.downsample": r"encoder.down.\1.downsample.conv_1",
        r"decoder\.levels\.(\d+)\.upsample\.conv": r"decoder.up.\1.upsample.conv1.conv_1",
        r"encoder\.levels\.(\d+)\.blocks\.": r"encoder.down.\1.block.",
        r"decoder\.levels\.(\d+)\.blocks\.": r"decoder.up.\1.block.",
        r"\.mid\.": ".mid_block.",
        r"\.shortcut": ".nin_shortcut.conv_1",
        r"\.(conv1|conv2|conv_in|conv_out)(?=\.(weight|bias)$)": r".\1.conv_1",
    }
    found = {}
    for name, tensor in model.state_dict().items():
        for pattern, replacement in names.items():
            if "conv_1" not in name:
                name = re.sub(pattern, replacement, name)
        found[name] = tensor
    return found


def test_the_authors_weights_are_told_apart_from_those_of_images() -> None:
    torch.manual_seed(0)
    model = OpenMagvit2Video(OpenMagvit2Video.config_from_reference(THEIRS, {})).eval()
    assert model.config.net.halves_time == (False, True)
    weights = published(model)
    assert "encoder.down.1.block.0.nin_shortcut.conv_1.weight" in weights
    assert "decoder.up.2.upsample.conv1.conv_1.bias" in weights
    loaded = visiontok.from_reference("open-magvit2", THEIRS, weights)
    assert isinstance(loaded, OpenMagvit2Video)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_moving_averages_are_loaded_unless_the_configuration_says_otherwise() -> None:
    torch.manual_seed(0)
    model = OpenMagvit2Video(OpenMagvit2Video.config_from_reference(THEIRS, {})).eval()
    last = published(model)
    averages = {f"model_ema.{name.replace('.', '')}": tensor + 1 for name, tensor in last.items()}
    checkpoint = {**last, **averages, "model_ema.decay": torch.tensor(0.999), "loss.discriminator.weight": torch.zeros(1)}
    name = "encoder.conv_in.weight"
    for config, more in ((THEIRS, 0), ({**THEIRS, "use_ema": True}, 1), ({key: value for key, value in THEIRS.items() if key != "use_ema"}, 1)):
        loaded = OpenMagvit2Video.from_reference(config, checkpoint)
        assert torch.equal(loaded.state_dict()[name], model.state_dict()[name] + more)


def test_the_registered_checkpoint_and_the_recipe_have_the_released_size() -> None:
    family, entry = checkpoints()["open-magvit2-video-128"]
    released = family.model_class().config_from_reference(entry.reference_config, {})
    recipe = load_recipe(configs_folder() / "tokenizers" / "video" / "open-magvit2-video.yaml").model.config
    assert family.model_class().config_class.parse(recipe) == released
    with torch.device("meta"):
        model = family.model_class()(released)
    assert (model.num_parameters, model.layout.length, set(model.layout.vocab_sizes)) == (entry.parameters, entry.tokens, {entry.vocab_size})
    assert model.layout.signal_shape == (17, 128, 128)
    assert model.state_dict()["encoder.levels.1.downsample.weight"].shape == (256, 256, 3, 3, 3)
    assert model.decoder.levels[1].upsample.block == (1, 2, 2)
    assert model.decoder.levels[3].upsample.block == (2, 2, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 4}, "num_frames 4"),
        ({"image_size": 18}, "image_size 18"),
        ({"quantizer": {"dim": 7}}, "quantizer of 7"),
        ({"net": {**NET, "halves_time": [True]}}, "halves_time"),
        ({"net": {**NET, "halves_time": [True, True], "norm_groups": 3}}, "norm_groups 3"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**changes)
