"""MOSS-Audio-Tokenizer against the authors' own code, which masks the last frame of a sound unless it fills it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference_case import ReferenceCase, cases
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.layers.carry import Carry
from visiontok.tokenizers.audio.moss_audio_tokenizer.model import MossAudioTokenizer
from visiontok.tokens import Tokens, join_chunks

STREAMED = "their stream forgets more of the past than the window, within every chunk but its last frame"


def load(case: ReferenceCase) -> MossAudioTokenizer:
    model = visiontok.from_reference("moss-audio-tokenizer", case.config, case.weights)
    assert isinstance(model, MossAudioTokenizer)
    return model


def whole_frames(sound: Tensor, hop: int) -> Tensor:
    return F.pad(sound, (0, -sound.shape[-1] % hop))


def masked(model: MossAudioTokenizer, codes: Tensor, valid: Tensor) -> Tensor:
    """Codes (B, T, K) with those of a residual of zeros, at every level, where the authors mask."""
    zeros = torch.zeros(1, model.quantizer.input_dim or 0)
    empty = torch.stack([level.search(zeros)[0] for level in model.quantizer.quantizers()])
    return torch.where(valid[..., None], codes, empty)


@pytest.mark.parametrize("case", cases("moss-audio-tokenizer"))
def test_every_stage(case: ReferenceCase) -> None:
    model, lengths, count = load(case), torch.tensor(case.config["_lengths"]), case.config["_num_quantizers"]
    hop, audio = model.hop, case.inputs["audio"]
    sounds = whole_frames(audio * (torch.arange(audio.shape[-1]) < lengths[:, None]), hop)[:, None]
    floors = lengths // hop
    ours: dict[str, Tensor] = {}

    def through(stages: torch.nn.Sequential, x: Tensor, name: str) -> None:
        for number, stage in enumerate(stages):
            x = stage(x)
            ours[f"{name}_{number}"] = x.transpose(1, 2)

    def decoded(codes: Tensor) -> Tensor:
        return model.decode_latents(model.lookup(codes))

    def streamed(codes: tuple[Tensor, ...]) -> Tensor:
        carry = Carry()
        return torch.cat([model.decode_next(model.lookup(part), carry) for part in codes], dim=-1)

    def alone(number: int) -> Tensor:
        own = int(lengths[number])
        whole = model.unwrap(model.encode(whole_frames(audio[number : number + 1, None, :own], hop)))
        return masked(model, whole, torch.arange(whole.shape[1])[None] < own // hop)

    through(model.encoder, sounds.transpose(1, 2), "encoder")
    valid = torch.arange(sounds.shape[-1] // hop) < floors[:, None]
    quantized = model.quantizer(model.encode_latents(sounds))
    assert quantized.indices is not None
    codes = masked(model, quantized.indices, valid)
    read = model.lookup(codes)
    through(model.decoder, model.project_out(read), "decoder")
    cut = pad_sequence([row[:own] for row, own in zip(codes, floors.tolist(), strict=True)], batch_first=True)
    ours |= {
        "codes": codes.movedim(-1, 0),
        "codes_lengths": floors,
        "codes_prefix": codes[..., :count].movedim(-1, 0),
        "codes_0_alone": alone(0).movedim(-1, 0),
        "codes_1_alone": alone(1).movedim(-1, 0),
        "codes_lengths_1_alone": floors[1:],
        "z_q": model.project_out(quantized.latents * valid[..., None]).transpose(1, 2),
        "z_q_from_codes": model.project_out(read).transpose(1, 2),
        "audio": decoded(codes),
        "audio_prefix": decoded(codes[..., :count]),
        "audio_0_alone": decoded(alone(0)),
        "forward_audio_lengths": floors * hop,
        "batch_decode_audio": decoded(cut),
        "batch_decode_lengths": floors * hop,
    }
    absent = {}
    if lengths[0] / case.config["sampling_rate"] <= case.config["causal_transformer_context_duration"]:
        size, carry = case.config["_chunk_frames"], Carry()
        chunks = audio[:1, None, : int(floors[0]) * hop].split(size * hop, dim=-1)
        tokens = join_chunks(list(model.encode_chunks(chunks)))
        assert isinstance(tokens, Tokens)
        ours |= {
            "hidden_0_streamed": torch.cat([model.encoder(chunk.transpose(1, 2), carry) for chunk in chunks], dim=1).transpose(1, 2),
            "codes_0_streamed": model.unwrap(tokens).movedim(-1, 0),
            "codes_lengths_0_streamed": floors[:1],
            "audio_0_streamed": streamed(alone(0).split(size, dim=1)),
        }
    else:
        absent = {".*_streamed": STREAMED}
    case.compare(ours, without_counterpart=absent)


@pytest.mark.parametrize("case", cases("moss-audio-tokenizer"))
def test_save_and_load(case: ReferenceCase, tmp_path: Any) -> None:
    model = load(case)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config == type(model.config).parse(model.config.to_dict())
    length = case.config["_lengths"][1]
    audio = case.inputs["audio"][1:, None, :length]
    tokens = loaded.encode(audio)
    frames = length // model.hop
    assert torch.equal(loaded.unwrap(tokens)[:, :frames].movedim(-1, 0), case.outputs["codes_1_alone"][:, :, :frames])
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))
    assert loaded.decode(tokens).shape == audio.shape


@pytest.mark.parametrize("case", cases("moss-audio-tokenizer"))
def test_a_prefix_of_the_levels_decodes(case: ReferenceCase) -> None:
    model, count = load(case), case.config["_num_quantizers"]
    audio = case.inputs["audio"][:1, None, : case.config["_lengths"][0]]
    tokens = model.encode(audio, num_levels=count)
    assert torch.equal(tokens.indices, model.encode(audio).levels(count).indices)
    assert model.decode(tokens).shape == audio.shape


@pytest.mark.parametrize("case", cases("moss-audio-tokenizer"))
def test_configurations_that_cannot_be_are_refused(case: ReferenceCase) -> None:
    stages = case.config["encoder_kwargs"]
    changes: dict[str, Any] = {
        "downsample_rate": 7,
        "quantizer_type": "rfsq",
        "encoder_kwargs": [*stages[:-1], {**stages[-1], "input_dimension": 26}],
    }
    for name, value in changes.items():
        with pytest.raises(ConfigError, match=r"7|rfsq|26"):
            visiontok.from_reference("moss-audio-tokenizer", {**case.config, name: value}, case.weights)
