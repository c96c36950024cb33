"""What holds for every audio codec: exact lengths, tokens that do not depend on the batch, levels, and bitrates that are those of the bytes."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import pytest
import torch
from small_codecs import CODECS, build, sound
from torch.nn import functional as F

from visiontok.base.errors import TokenError
from visiontok.base.noise import SampleNoise
from visiontok.tokenizers.shared.codec import Codec, resampled

every_codec = pytest.mark.parametrize("name", CODECS)


def lengths(model: Codec[Any]) -> list[int]:
    hop = model.hop
    around = [hop * count + more for count in (1, 2, 7) for more in (-1, 0, 1)]
    chunks = getattr(model, "chunks", None)
    overlapping = [] if chunks is None else [chunks.stride * count + more for count in (1, 2, 3) for more in (-1, 0, 1, 5, hop)]
    return sorted({1, 2, hop // 2, *around, *overlapping})


@every_codec
def test_lengths_and_channels_come_back(name: str) -> None:
    model = build(name)
    for length in lengths(model):
        tokens = model.encode(sound(model, length)[None])
        decoded = model.decode(tokens)
        assert decoded.shape == (1, model.spec.channels, *model.output_size((length,))), length
        assert tokens.layout.segments[-1].num_positions == len(model.unwrap(tokens)[0])
        assert model.forward(sound(model, length)[None]).reconstruction.shape == decoded.shape  # type: ignore[union-attr]


@every_codec
def test_training_lowers_the_loss(name: str) -> None:
    model = build(name).train()
    signal = torch.stack([sound(model, 4 * model.hop, seed) for seed in range(4)])
    optimizer = torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-3)
    losses = []
    for step in range(12):
        output = model(signal, step=step, noise=SampleNoise((0, step), range(4)))
        assert output.reconstruction is not None
        loss = F.mse_loss(output.reconstruction, signal if output.target is None else output.target) + sum(output.losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-3:]) < sum(losses[:3]), losses


@every_codec
def test_a_sound_has_the_same_tokens_alone_and_in_a_batch(name: str) -> None:
    model = build(name)
    sounds = [sound(model, length, seed=length) for length in lengths(model)]
    together = model.encode(sounds)
    decoded = model.decode(together)
    for row, one in enumerate(sounds):
        alone = model.encode(one[None])
        assert torch.equal(together.indices[row, : alone.indices.shape[1]], alone.indices[0])
        (length,) = model.output_size(one.shape[1:])
        torch.testing.assert_close(decoded[row, :, :length], model.decode(alone)[0], rtol=1e-4, atol=1e-5)
        assert not decoded[row, :, length:].any()


@every_codec
def test_fewer_levels_are_the_first_ones_and_their_bytes_are_the_bitrate(name: str) -> None:
    model = build(name)
    seconds, rate = 5, model.layout.rate or 0
    padding = max(model.hop, model.preprocessing.multiples[0]) / rate
    tokens = model.encode(sound(model, int(seconds * rate))[None])
    possible = [count for count in range(1, model.layout.num_levels + 1) if model.layout.allows_levels(count)]
    for count in possible:
        fewer = model.encode(sound(model, int(seconds * rate))[None], num_levels=count)
        assert torch.equal(model.unwrap(fewer), model.unwrap(tokens)[..., :count])
        bits = 8 * len(fewer.pack()[0])
        assert bits / seconds / 1000 == pytest.approx(model.kilobits[count - 1], rel=3 * padding / seconds)
        assert model.decode(fewer).shape[-1:] == model.output_size((int(seconds * rate),))


@every_codec
def test_levels_within_a_bitrate(name: str) -> None:
    model = build(name)
    rates = [model.layout.positions_per_second(part.name) * math.log2(size) for part in model.layout.segments for size in part.vocab_sizes]
    for count, kilobits in enumerate((rate / 1000 for rate in accumulate(rates)), 1):
        if model.layout.allows_levels(count):
            assert model.levels_within(kilobits) == count
    with pytest.raises(TokenError, match=r"0\.001"):
        model.levels_within(0.001)


@every_codec
def test_a_bandwidth_is_a_number_of_levels(name: str) -> None:
    model = build(name)
    signal = sound(model, 3 * model.hop)[None]
    whole = model.encode(signal)
    for count, kilobits in enumerate(model.kilobits, 1):
        if not model.layout.allows_levels(count):
            continue
        tokens = model.encode(signal, bandwidth=kilobits)
        assert torch.equal(tokens.indices, model.encode(signal, num_levels=model.levels_within(kilobits)).indices)
        assert torch.equal(model.decode(whole, bandwidth=kilobits), model.decode(tokens, bandwidth=kilobits))
        assert torch.equal(model.decode(whole, num_levels=count), model.decode(whole.levels(count)))
    with pytest.raises(TokenError, match="bandwidth 9000"):
        model.encode(signal, num_levels=model.layout.num_levels, bandwidth=9000)


def test_a_decoder_that_reads_noise_is_reproducible_without_it() -> None:
    model = build("snac")
    assert model.is_stochastic
    tokens = model.encode([sound(model, length, seed=length) for length in (30, 47, 30)])
    assert torch.equal(model.decode(tokens), model.decode(tokens))
    noisy = model.decode(tokens, noise=SampleNoise(1, range(3)))
    assert not torch.allclose(noisy, model.decode(tokens))
    torch.testing.assert_close(noisy[1:2], model.decode(tokens[1:2], noise=SampleNoise(1, [1])), rtol=1e-4, atol=1e-5)


def test_coarse_codes_are_those_of_several_frames() -> None:
    model = build("snac")
    tokens = model.encode(sound(model, 80)[None])
    assert [segment.num_positions for segment in tokens.layout.segments] == [2, 4, 8]
    codes = model.unwrap(tokens)
    assert torch.equal(codes[0, :, 0], tokens.view("level0")[0].repeat_interleave(4))
    assert torch.equal(model.wrap(model.lookup(codes), codes).indices, tokens.indices)


def test_sound_at_another_rate_is_the_same_sound() -> None:
    time = torch.arange(300) / 300
    given = torch.stack([torch.sin(2 * torch.pi * 20 * time), torch.cos(2 * torch.pi * 7 * time)])[None]
    time = torch.arange(450) / 450
    expected = torch.stack([torch.sin(2 * torch.pi * 20 * time), torch.cos(2 * torch.pi * 7 * time)])[None]
    torch.testing.assert_close(resampled(given, 450), expected, rtol=0, atol=1e-5)


def test_chunks_without_their_loudness_are_refused() -> None:
    model = build("encodec, stereo in chunks")
    tokens = model.encode(sound(model, 200)[None])
    with pytest.raises(TokenError, match="scale"):
        model.decode(tokens.with_data(tokens.data, extras={}))
    short = {**tokens.extras, "scale": tokens.extras["scale"][:, :1]}
    with pytest.raises(TokenError, match="scale"):
        model.decode(tokens.with_data(tokens.data, extras=short))


def test_codes_of_mimi_follow_its_buffers() -> None:
    model = build("mimi")
    tokens = model.encode(sound(model, 200)[None])
    before = model.decode(tokens)
    changed = {name: tensor * 2 if name.endswith("embed_sum") else tensor for name, tensor in model.state_dict().items()}
    model.load_state_dict(changed)
    assert not torch.allclose(model.decode(tokens), before)
