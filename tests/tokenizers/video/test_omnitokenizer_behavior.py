from __future__ import annotations

import json
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from family_checks import assert_round_trips, trained_generator
from PIL import Image
from small_models import SMALL
from torch import Tensor
from torch.nn import functional as F

import visiontok
from visiontok.base.errors import ConfigError, SignalError, TokenError
from visiontok.base.noise import SampleNoise
from visiontok.base.resources import configs_folder
from visiontok.hub.reading import read_weights
from visiontok.registry import checkpoints
from visiontok.tokenizers.video.omnitokenizer.attention import AlibiBias, ContinuousPositionBias, alibi_slopes
from visiontok.tokenizers.video.omnitokenizer.model import OmniTokenizer, OmniTokenizerConfig
from visiontok.training import parse_recipe, train
from visiontok.training.recipe import load_recipe

REFERENCE = Path(__file__).parents[2] / "reference" / "omnitokenizer" / "vae_rel_linear"
CONTINUOUS = {"type": "gaussian", "dim": 4}


def model(**changes: object) -> OmniTokenizer:
    torch.manual_seed(0)
    return OmniTokenizer(OmniTokenizerConfig.parse({**SMALL["omnitokenizer"], **changes})).eval()


def clips(count: int = 2, *size: int) -> Tensor:
    return torch.rand(count, 3, *(size or (5, 16, 16)), generator=torch.Generator().manual_seed(1))


def reference_config(**changes: object) -> dict[str, Any]:
    return {**json.loads((REFERENCE / "config.json").read_text()), **changes}


@pytest.mark.parametrize("size", [(5, 16, 16), (1, 16, 16), (9, 8, 8), (6, 13, 15), (2, 24, 24)])
@pytest.mark.parametrize("changes", [{}, {"quantizer": CONTINUOUS}, {"pools_time": True, "pools_space": True}])
def test_clips_come_back_at_their_size(size: tuple[int, int, int], changes: dict[str, object]) -> None:
    tokenizer, signal = model(**changes), clips(2, *size)
    tokenizer.window = math.inf
    tokens = tokenizer.encode(signal)
    frames, side = 1 + -(-(size[0] - 1) // 2), -(-max(size[1:]) // 8) * 2
    assert tokens.layout.extents == (frames, side, side)
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == signal.shape
    assert 0 <= float(decoded.min()) <= float(decoded.max()) <= 1


def test_an_image_is_a_clip_of_one_frame_and_shares_a_call_with_clips() -> None:
    tokenizer = model()
    signals = [clips(1)[0, :, 0], clips(1)[0], clips(1, 3, 8, 8)[0]]
    tokens = tokenizer.encode(signals)
    decoded = tokenizer.decode(tokens)
    for row, signal in enumerate(signals):
        clip = signal[None] if signal.ndim == 4 else signal[None, :, None]
        alone = tokenizer.encode(clip)
        assert torch.equal(tokens[row : row + 1].data, alone.data)
        frames, side = clip.shape[2:4]
        torch.testing.assert_close(decoded[row : row + 1, :, :frames, :side, :side], tokenizer.decode(alone), atol=1e-5, rtol=1e-5)


def test_frames_that_are_not_square_are_refused_with_sizes_that_would_do() -> None:
    with pytest.raises(SignalError, match=r"24 x 16 pixels.*16 x 16 or 24 x 24"):
        model().encode(clips(1, 5, 24, 16))
    with pytest.raises(SignalError, match=r"17 x 16 pixels.*16 x 16 or 24 x 24"):
        model()(clips(1, 5, 17, 16))
    with pytest.raises(TokenError, match="2 x 4"):
        model().decode(torch.zeros(1, 3, 2, 4, dtype=torch.int64))


def test_files_become_square(tmp_path: Path) -> None:
    tokenizer = model()
    frames = torch.randint(0, 256, (3, 20, 36, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    Image.fromarray(frames[0]).save(tmp_path / "image.png")
    assert tokenizer.encode(tmp_path / "image.png").layout.extents == (1, 4, 4)
    assert tokenizer.encode(frames).layout.extents == (2, 4, 4)
    assert tokenizer.decode(tokenizer.encode(frames)).shape == (1, 3, 3, 16, 16)
    assert "16 x 16" in tokenizer.preprocessing.in_words


def test_tokens_of_a_sample_do_not_depend_on_its_batch() -> None:
    tokenizer = model()
    whole = tokenizer.encode(clips(3)).data
    for row in range(3):
        assert torch.equal(tokenizer.encode(clips(3)[row : row + 1]).data, whole[row : row + 1])


def test_continuous_latents_are_drawn_where_noise_is_given() -> None:
    tokenizer = model(quantizer=CONTINUOUS)
    assert tokenizer.is_stochastic
    means = tokenizer.encode(clips()).values
    drawn = tokenizer.encode(clips(), noise=SampleNoise(0, range(2))).values
    assert means.shape == drawn.shape == (2, 3 * 4 * 4, 4)
    assert not torch.equal(means, drawn)
    assert torch.equal(tokenizer.encode(clips()[1:], noise=SampleNoise(0, [1])).values, drawn[1:])


def test_pooled_tokens_are_means_of_finer_ones() -> None:
    """The encoder with pooling is that of patches of half the size, whose outputs are averaged: the first frame's over space only."""
    pooled = model(pools_time=True, pools_space=True, patch_size=8, frames_per_token=4, window_size=2)
    fine = model(patch_size=4, frames_per_token=2, window_size=2)
    fine.encoder.load_state_dict(pooled.encoder.state_dict())
    whole = fine.encoder(clips())
    first, rest = (F.avg_pool3d(part.movedim(-1, 1), size).movedim(1, -1) for part, size in ((whole[:, :1], (1, 2, 2)), (whole[:, 1:], 2)))
    torch.testing.assert_close(pooled.encoder(clips()), torch.cat([first, rest], dim=1))
    latents = torch.randn(1, 2, 2, 2, 24)
    fine.decoder.load_state_dict(pooled.decoder.state_dict())
    repeated = latents.repeat_interleave(2, 2).repeat_interleave(2, 3)
    repeated = torch.cat([repeated[:, :1], repeated[:, 1:].repeat_interleave(2, 1)], dim=1)
    torch.testing.assert_close(pooled.decoder(latents), fine.decoder(repeated))


def test_attention_over_time_reads_the_past_only() -> None:
    attention = model(temporal_depth=1).encoder.temporal.layers[0].attn
    x = torch.randn(2, 5, 24)
    changed = x.clone()
    changed[:, 3] += 1
    before, after = attention(x, (5,)), attention(changed, (5,))
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert not torch.allclose(after[:, 3:], before[:, 3:])


def test_position_biases_are_those_of_their_formulas() -> None:
    """No recorded case has them: attention over frames adds an MLP of logarithmic offsets, attention over time a linear penalty per head."""
    tokenizer = model(spatial_positions="bias", alibi=True)
    spatial, temporal = tokenizer.encoder.spatial.layers[0].attn, tokenizer.encoder.temporal.layers[0].attn
    assert isinstance(spatial.bias, ContinuousPositionBias)
    assert isinstance(temporal.bias, AlibiBias)
    x = torch.randn(1, 6, 24)
    for attention, grid, causal in ((spatial, (2, 3), False), (temporal, (6,), True)):
        query = attention.query(F.layer_norm(x, (24,))).view(6, 2, 8)
        key, value = attention.key_value(x).view(6, 2, 2, 8).unbind(1)
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        expected = torch.zeros(6, 2, 8)
        for head in range(2):
            for i in range(6):
                scores = []
                for j in range(6):
                    score = 8 * float(query[i, head] @ key[j, head])
                    if causal:
                        scores.append(score - (i - j) * 2 ** (-4 * (head + 1)) if j <= i else -math.inf)
                    else:
                        offset = torch.tensor([i // 3 - j // 3, i % 3 - j % 3], dtype=torch.float32)
                        scores.append(score + float(spatial.bias.mlp(offset.sign() * (offset.abs() + 1).log())[head]))
                expected[i, head] = torch.tensor(scores).softmax(0) @ value[:, head]
        torch.testing.assert_close(attention(x, grid)[0], attention.proj(expected.flatten(1)))


def test_slopes_of_head_counts_that_are_no_power_of_two_lie_between() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-k for k in range(1, 9)]
    torch.testing.assert_close(alibi_slopes(6), torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3]))


def test_weights_from_before_sdpa_keep_their_biases() -> None:
    config = reference_config(use_vae=False)
    case = {name: tensor for name, tensor in weights_of_reference().items() if name != "pre_vq_conv.1.weight" and name != "pre_vq_conv.1.bias"}
    case |= {"pre_vq_conv.1.weight": torch.randn(8, 24), "pre_vq_conv.1.bias": torch.zeros(8)}
    plain, biased = (visiontok.from_reference("omnitokenizer", {**config, "sdpa": sdpa}, case) for sdpa in (True, False))
    assert (plain.config.spatial_positions, plain.config.alibi) == ("none", False)
    assert (biased.config.spatial_positions, biased.config.alibi) == ("bias", True)
    name = "encoder.enc_spatial_transformer.layers.0.1.spatial_rel_pos_bias.net.2.weight"
    assert torch.equal(biased.encoder.spatial.layers[0].attn.bias.mlp[4].weight, case[name])
    assert not torch.allclose(plain.encode_latents(clips()), biased.encode_latents(clips()))


def weights_of_reference() -> dict[str, Tensor]:
    return dict(read_weights(REFERENCE / "weights.safetensors").tensors)


def test_lightning_checkpoints_are_read_without_running_code(tmp_path: Path) -> None:
    state = weights_of_reference() | {
        "image_discriminator.model0.0.weight": torch.zeros(2),
        "video_discriminator.model0.0.weight": torch.zeros(2),
        "perceptual_model.lin0.model.1.weight": torch.zeros(2),
    }
    saved = {"epoch": 3, "global_step": 9, "state_dict": state, "hyper_parameters": {"args": Namespace(**reference_config())}}
    torch.save(saved, tmp_path / "omni.ckpt")
    loaded = visiontok.from_reference("omnitokenizer", reference_config(), read_weights(tmp_path / "omni.ckpt").tensors)
    direct = visiontok.from_reference("omnitokenizer", reference_config(), weights_of_reference())
    assert torch.equal(loaded.encode(clips()).values, direct.encode(clips()).values)


def test_codes_follow_the_averages_of_their_latents() -> None:
    quantizer = model().quantizer.train()
    before, latents = quantizer.codebook.clone(), torch.randn(64, 4)
    indices = quantizer(latents).indices
    unit = F.normalize(latents, dim=-1)
    used = int(indices.bincount(minlength=32).argmax())
    rows = unit[indices == used]
    ema = quantizer.ema
    torch.testing.assert_close(ema.counts[used], torch.tensor(0.99 + 0.01 * len(rows)))
    torch.testing.assert_close(ema.sums[used], 0.99 * before[used] + 0.01 * rows.sum(0))
    assert not torch.equal(quantizer.codebook, before)


@pytest.mark.parametrize("quantizer", [SMALL["omnitokenizer"]["quantizer"], CONTINUOUS])
def test_training_lowers_the_error(quantizer: object) -> None:
    tokenizer = model(quantizer=quantizer).train()
    colors = torch.rand(8, 3, 1, 1, 1, generator=torch.Generator().manual_seed(2)).expand(-1, -1, 5, 16, 16)
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=3e-3)
    errors = []
    for step in range(40):
        output = tokenizer(colors if step % 2 else colors[:, :, :1], step=step, noise=SampleNoise((0, step), range(8)))
        error = (output.reconstruction - (colors if step % 2 else colors[:, :, :1])).abs().mean()
        optimizer.zero_grad()
        (error + torch.stack([*output.losses.values()]).sum()).backward()
        optimizer.step()
        errors.append(error.item())
    assert min(errors[-6:]) < errors[0] / 2


def test_a_recipe_trains_it_and_its_tokens_train_a_generator(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for number, clip in enumerate(torch.rand(8, 3, 7, 18, 16, generator=torch.Generator().manual_seed(3))):
        np.save(tmp_path / "clips" / f"{number}.npy", clip.numpy())
    signals = {"source": {"name": "arrays", "path": str(tmp_path / "clips"), "modality": "video"}, "size": [5, 16, 16]}
    run = {"steps": 2, "batch_size": 4, "data": signals, "model": {"family": "omnitokenizer", "config": SMALL["omnitokenizer"]}}
    train(parse_recipe({**run, "kind": "tokenizer", "output": str(tmp_path / "run"), "sample_images": {"every": 2, "count": 2}}))
    trained = visiontok.from_pretrained(tmp_path / "run")
    assert bool(trained.quantizer.ema.started)
    small = {"positions": "learned", "dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8}
    generator = trained_generator(tmp_path / "gpt", tmp_path / "run", signals, {"family": "gpt", "config": small})
    written = generator.generate(num_samples=2)
    assert trained.decode(written).shape == (2, 3, 5, 16, 16)


def test_files_and_configuration_come_back(tmp_path: Path) -> None:
    assert_round_trips(model(spatial_positions="bias", alibi=True, causal_peg=False, pools_time=True), clips(), tmp_path)


def test_bfloat16_is_close() -> None:
    tokenizer, half = model(quantizer=CONTINUOUS), model(quantizer=CONTINUOUS).to(torch.bfloat16)
    latents = tokenizer.encode(clips())
    assert (half.encode(clips()).values.float() - latents.values).abs().max() < 0.1
    assert (half.decode(latents).float() - tokenizer.decode(latents)).abs().max() < 0.1


def test_the_released_size_is_the_published_one() -> None:
    """53.7 million with the position biases and context norms that their code holds and never uses: one bias for every temporal layer."""
    with torch.device("meta"):
        released = visiontok.create("omnitokenizer-imagenet-k600")
    dim, layers = released.config.dim, 2 * released.config.temporal_depth
    unused = layers * (3 * dim + dim * (dim + 1) + 8 * (dim + 1))
    codebook = released.quantizer.codebook.numel()
    assert (released.num_parameters - codebook + unused) / 1e6 == pytest.approx(53.7, abs=0.05)
    assert released.layout.extents == (5, 32, 32)
    assert released.layout.signal_shape == (17, 256, 256)
    image = visiontok.registry.checkpoints()["omnitokenizer-imagenet-only"][1].reference_config
    assert OmniTokenizer.config_from_reference(image, {}).spatial_positions == "bias"


def test_the_recipe_trains_the_released_size() -> None:
    config = load_recipe(configs_folder() / "tokenizers" / "video" / "omnitokenizer-256.yaml").model.config
    released = OmniTokenizer.config_from_reference(checkpoints()["omnitokenizer-imagenet-k600"][1].reference_config, {})
    assert OmniTokenizerConfig.parse(config).replace(quantizer={"kmeans": None}) == released


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("patch_embed", "cnn"),
        ("enc_block", "ta"),
        ("enc_block", "t"),
        ("dec_block", "tn"),
        ("gen_upscale", 2),
        ("use_external_codebook", True),
        ("image_channels", 1),
        ("no_such_key", 1),
    ],
)
def test_configurations_of_no_release_are_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        OmniTokenizer.config_from_reference(reference_config(**{key: value}), {})


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 20},
        {"num_frames": 4},
        {"num_heads": 5},
        {"head_dim": 6},
        {"alibi": True, "causal_attention": False},
        {"pools_time": True, "frames_per_token": 1, "num_frames": 5},
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        model(**changes)
