"""Long sounds in chunks: codecs that are causal, or read no further than they say, give what they give of the whole; the others nearly."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_codecs import CODECS, build, sound
from torch import Tensor

from visiontok.base.errors import ConfigError, SignalError, TokenError
from visiontok.tokenizers.shared.codec import Codec
from visiontok.tokens import Tokens, join_chunks, split_chunks

EXACT = {
    "encodec", "encodec, stereo", "mimi", "mimi, stereo", "focalcodec, causal", "qwen3-tts-tokenizer", "moss-audio-tokenizer", "dac", "snac",
}  # fmt: skip
OWN_CHUNKS = {"encodec, stereo in chunks"}
NEAR = set(CODECS) - EXACT - OWN_CHUNKS


def joined(model: Codec, signal: Tensor, length: int, **options: int) -> Tokens:
    tokens = join_chunks(list(model.encode_chunks(signal.split(length, dim=-1), **options)))
    assert isinstance(tokens, Tokens)
    return tokens


@pytest.mark.parametrize("name", sorted(EXACT))
@pytest.mark.parametrize(("units", "more", "length"), [(50, 0, 7.0), (41, 3, 2.3), (12, -1, 0.4), (1, -1, 9.0), (9, 0, 100.0)])
def test_chunks_give_what_the_whole_gives(name: str, units: int, more: int, length: float) -> None:
    model = build(name)
    assert model.chunking.is_exact
    unit = model.chunking.unit
    signal = torch.stack([sound(model, units * unit + more, seed) for seed in range(2)])
    whole = model.encode(signal)
    tokens = joined(model, signal, max(1, int(length * unit)))
    assert tokens.layout == whole.layout
    assert torch.equal(tokens.indices, whole.indices)
    assert torch.equal(tokens.extras["signal_size"], whole.extras["signal_size"])
    expected = model.decode(whole)
    decoded = torch.cat(list(model.decode_chunks(split_chunks(whole, int(length * unit)))), dim=-1)
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(EXACT))
def test_the_state_matters(name: str) -> None:
    model = build(name)
    signal = sound(model, 40 * model.chunking.unit)[None]
    alone = [model.encode(part) for part in signal.split(10 * model.chunking.unit, dim=-1)]
    assert not torch.equal(join_chunks(alone).data, model.encode(signal).data)


@pytest.mark.parametrize("name", sorted(NEAR))
def test_chunks_with_overlap_have_the_lengths_of_the_whole(name: str) -> None:
    model = build(name)
    unit = model.chunking.unit
    assert not model.chunking.is_exact
    for length in (30 * unit, 29 * unit + 3, 29 * unit - 1):
        signal = sound(model, length)[None]
        whole = model.encode(signal)
        near = joined(model, signal, 7 * unit, overlap=5)
        assert near.layout == whole.layout
        assert torch.equal(joined(model, signal, 7 * unit, overlap=30).indices, whole.indices)
        decoded = torch.cat(list(model.decode_chunks(split_chunks(whole, 7 * unit), overlap=5)), dim=-1)
        expected = model.decode(whole)
        assert decoded.shape == expected.shape
        everything = torch.cat(list(model.decode_chunks(split_chunks(whole, 7 * unit), overlap=31)), dim=-1)
        torch.testing.assert_close(everything, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["focalcodec", "speechtokenizer", "wavtokenizer", "xcodec"])
def test_codecs_that_read_the_whole_sound_differ_in_chunks(name: str) -> None:
    model = build(name)
    unit = model.chunking.unit
    signal = sound(model, 60 * unit)[None]
    whole = model.encode(signal)
    decoded = torch.cat(list(model.decode_chunks(split_chunks(whole, 7 * unit), overlap=1)), dim=-1)
    same = torch.equal(joined(model, signal, 7 * unit, overlap=1).indices, whole.indices)
    assert not (same and torch.allclose(decoded, model.decode(whole), rtol=0, atol=1e-7))


def seconds_seen(model: Codec, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the networks of the model are given from now on, piece by piece."""
    seen: list[float] = []
    for method in ("encode_latents", "encode_next", "decode_latents", "decode_next"):
        encodes, method_itself = method.startswith("encode"), getattr(model, method)
        per_second = (model.preprocessing.spec.rate or 0.0) if encodes else model.frames_per_second

        def noted(
            values: Tensor, *rest: object, own: Any = method_itself, per_second: float = per_second, axis: int = -1 if encodes else 1
        ) -> Tensor:
            seen.append(values.shape[axis] / per_second)
            return own(values, *rest)

        monkeypatch.setattr(model, method, noted)
    return seen


@pytest.mark.parametrize("name", ["bigcodec", "wavtokenizer"])
def test_codecs_that_read_the_whole_sound_take_long_ones_in_windows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(name)
    rate = round(model.preprocessing.spec.rate or 0)
    longest, longer = sound(model, 6 * rate), sound(model, 9 * rate + 3, seed=1)
    model.window = math.inf
    expected = {length: model.encode(longest[None, :, :length]).indices for length in (6 * rate - 1, 6 * rate)}
    whole = model.encode(longer[None])
    model.window = 2.0
    seen = seconds_seen(model, monkeypatch)
    for length, indices in expected.items():
        tokens = model.encode(longest[None, :, :length])
        assert torch.equal(tokens.indices, indices)
        assert model.decode(tokens).shape[-1] == model.output_size((length,))[0]
    assert [*map(round, seen)] == [6] * 4
    seen.clear()
    with pytest.warns(UserWarning, match=r"more than 6 s .* at most 2 s"):
        tokens = model.encode([longest, longer])
    decoded = model.decode(tokens)
    assert decoded.shape[-1] == model.output_size((9 * rate + 3,))[0]
    assert all(1.7 < seconds < 4.1 for seconds in seen if round(seconds) != 6)
    assert tokens.extras["signal_size"].tolist() == [[6 * rate], [9 * rate + 3]]
    alone = model.encode(longer[None])
    assert torch.equal(alone.indices, model.encode(torch.stack([longer, longer])).indices[1:])
    assert torch.equal(alone.indices[0], tokens.indices[1, : alone.layout.length])
    assert torch.equal(model.decode(alone)[0], decoded[1])
    assert alone.layout == whole.layout
    model.window = math.inf
    seen.clear()
    assert torch.equal(model.encode(longer[None]).indices, whole.indices)
    assert [*map(round, seen)] == [9]


def test_windows_that_cannot_be_are_refused() -> None:
    near, own = build("wavtokenizer"), build("encodec, stereo in chunks")
    for seconds in (0.0, -1.0, math.nan, 0.9 * near.hop / (near.layout.rate or 1)):
        with pytest.raises(ConfigError, match=f"{seconds:g} s"):
            near.window = seconds
    assert [model.windows_matter for model in (near, build("dac"), own)] == [True, False, False]
    with pytest.raises(TokenError, match="chunks of its own"):
        own.window = 5.0


@pytest.mark.parametrize("name", ["encodec", "focalcodec, causal", "moss-audio-tokenizer", "dac", "snac"])
def test_encode_and_decode_never_see_more_than_some_chunks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(name)
    rate, seen = round(model.preprocessing.spec.rate or 0), seconds_seen(model, monkeypatch)
    signal = torch.stack([sound(model, 31 * rate, seed) for seed in range(2)])
    tokens = model.encode([signal[0], signal[1, :, :-1]])
    assert tokens.extras["signal_size"].tolist() == [[31 * rate], [31 * rate - 1]]
    assert model.decode(tokens).shape == (2, 1, *model.output_size((31 * rate,)))
    assert 5 < max(seen) < 15
    assert torch.equal(tokens.indices[:1], joined(model, signal[:1], 7 * rate).indices)


def test_noise_of_a_long_sound_is_drawn_for_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("snac")
    signal = torch.stack([sound(model, 60 * model.chunking.unit + 3, seed) for seed in range(2)])
    tokens, generator = model.encode(signal), torch.Generator()
    expected = model.decode(tokens, noise=generator.manual_seed(1))
    model.window = 15 * model.chunking.unit / (model.layout.rate or 1)
    seen: list[int] = []
    decode = model.decode_with_noise
    monkeypatch.setattr(model, "decode_with_noise", lambda latents, noise: seen.append(latents.shape[1]) or decode(latents, noise))
    decoded = model.decode(tokens, noise=generator.manual_seed(1))
    assert max(seen) < 40 * model.chunking.positions
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-5)
    assert (decoded - model.decode(tokens)).abs().max() > 1e-3


def test_levels_are_cut_in_chunks() -> None:
    for name in ("mimi", "snac"):
        model = build(name)
        signal = sound(model, 20 * model.chunking.unit)[None]
        fewer = joined(model, signal, 100, num_levels=2)
        assert torch.equal(fewer.indices, model.encode(signal, num_levels=2).indices)
        decoded = torch.cat(list(model.decode_chunks(split_chunks(fewer, 100))), dim=-1)
        torch.testing.assert_close(decoded, model.decode(fewer), rtol=0, atol=1e-5)


def test_what_does_not_come_in_chunks_is_refused() -> None:
    mimi, near, own = build("mimi"), build("wavtokenizer"), build("encodec, stereo in chunks")
    signal = sound(mimi, 100)[None]
    with pytest.raises(SignalError, match="no chunk"):
        list(mimi.encode_chunks([]))
    with pytest.raises(SignalError, match=r"chunk 1 .*\[3, 4\]"):
        list(mimi.encode_chunks([signal, [signal[0, :, :3], signal[0, :, :4]]]))  # type: ignore[list-item]
    with pytest.raises(TokenError, match="overlap of 3"):
        list(mimi.encode_chunks([signal], overlap=3))
    with pytest.raises(TokenError, match="overlap of 0"):
        list(near.encode_chunks([signal], overlap=0))
    with pytest.raises(TokenError, match="chunks of its own"):
        list(own.encode_chunks([sound(own, 100)[None]]))
    with pytest.raises(TokenError, match="scale"):
        split_chunks(own.encode(sound(own, 300)[None]), 100)
    with pytest.raises(TokenError, match="9"):
        list(mimi.encode_chunks([signal], num_levels=9))
    different = mimi.encode([sound(mimi, 100), sound(mimi, 101)])
    with pytest.raises(TokenError, match=r"100.*101"):
        list(mimi.decode_chunks([different]))
