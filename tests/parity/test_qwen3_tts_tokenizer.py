"""Qwen3-TTS-Tokenizer against the authors' own code, whose encoder is the Mimi of transformers 4.57: without a window of attention."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from reference_case import ReferenceCase, Taps, cases
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

import visiontok
from visiontok.base.errors import ConfigError, TokenError
from visiontok.tokenizers.audio.qwen3_tts_tokenizer.model import Qwen3TtsTokenizer

STAGES = {"pre_conv": "decoder.embed", "pre_transformer": "decoder.transformer", "decoder_0": "decoder.waveform.0", "decoder_1": "decoder.waveform.1"}
CHUNK, CONTEXT = 300, 25
"""Frames of a piece of the published decoding, and those before it that it is given."""


def load(case: ReferenceCase, *, windowed: bool) -> Qwen3TtsTokenizer:
    """With Mimi's window, as newer versions of transformers apply it, or with one that covers every sound of the recordings."""
    config = deepcopy(case.config)
    if not windowed:
        config["encoder_config"]["sliding_window"] = 100000
    model = visiontok.from_reference("qwen3-tts-tokenizer", config, case.weights)
    assert isinstance(model, Qwen3TtsTokenizer)
    return model


def in_pieces(model: Qwen3TtsTokenizer, codes: Tensor, chunk: int, context: int) -> Tensor:
    """(B, T, K) -> (B, 1, T * hop) as the authors decode."""
    latents, parts = model.lookup(codes), []
    for start in range(0, codes.shape[1], chunk):
        before = min(context, start)
        parts.append(model.decode_latents(latents[:, start - before : start + chunk])[..., before * model.hop :])
    return torch.cat(parts, dim=-1)


@pytest.mark.parametrize("case", cases("qwen3-tts-tokenizer"))
def test_every_stage(case: ReferenceCase) -> None:
    model, lengths = load(case, windowed=False), case.config["_lengths"]
    valid = torch.arange(case.inputs["audio"].shape[-1]) < torch.tensor(lengths)[:, None]
    audio = (case.inputs["audio"] * valid)[:, None]
    seanet = model.encoder(audio)
    latents = model.encode_latents(audio).transpose(1, 2)
    codes = model.quantizer.search_frames(latents)
    clips = [row[:, : -(-length // model.hop)].T for row, length in zip(codes, lengths, strict=True)]
    padded = pad_sequence(clips, batch_first=True, padding_value=-1)
    names = STAGES | {f"upsampled_{number}": f"decoder.upsample.{number}" for number in range(len(model.decoder.upsample))}
    stages = Taps(model, {theirs: ours for theirs, ours in names.items() if theirs in case.outputs})
    quantized = model.lookup(padded.clamp_min(0))
    whole = model.decode_latents(quantized)
    seen = dict(stages.seen)
    alone = model.unwrap(model.encode(audio[1:, :, : lengths[1]]))
    ours = {
        **seen,
        "input_values": audio[:, 0],
        "padding_mask": valid.long(),
        "seanet": seanet,
        "transformer": model.encoder_transformer(seanet.transpose(1, 2)).last_hidden_state.transpose(1, 2),
        "latents": latents,
        "codes_all_levels": model.quantizer.encoder.search_frames(latents),
        "codes_padded": padded,
        **{f"codes_{number}": clip for number, clip in enumerate(clips)},
        "codes_1_alone": alone[0],
        "quantized": quantized.transpose(1, 2),
        "audio_full": whole.clamp(-1, 1),
        "audio_chunked": in_pieces(model, padded.clamp_min(0), *case.config["_chunk"]).clamp(-1, 1),
        **{f"audio_{number}": in_pieces(model, clip[None], CHUNK, CONTEXT)[0, 0].clamp(-1, 1) for number, clip in enumerate(clips)},
        "audio_1_alone": in_pieces(model, alone, CHUNK, CONTEXT)[0, 0].clamp(-1, 1),
    }
    if "codes_all_levels_windowed" in case.outputs:
        released = load(case, windowed=True)
        ours["codes_all_levels_windowed"] = released.quantizer.encoder.search_frames(released.encode_latents(audio).transpose(1, 2))
    case.compare({name: value for name, value in ours.items() if name in case.outputs})


@pytest.mark.parametrize("case", cases("qwen3-tts-tokenizer"))
def test_save_and_load(case: ReferenceCase, tmp_path: Any) -> None:
    model = load(case, windowed=False)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config == type(model.config).parse(model.config.to_dict())
    audio = case.inputs["audio"][:, None, : case.config["_lengths"][1]]
    tokens = loaded.encode(audio)
    assert torch.equal(loaded.unwrap(tokens)[1], case.outputs["codes_1_alone"])
    decoded = loaded.decode(tokens)
    assert torch.equal(decoded, model.decode(tokens))
    torch.testing.assert_close(decoded[1, 0], case.outputs["audio_1_alone"][: audio.shape[-1]], rtol=0, atol=case.tolerance)


@pytest.mark.parametrize("case", cases("qwen3-tts-tokenizer"))
def test_all_levels_are_needed(case: ReferenceCase) -> None:
    model = load(case, windowed=True)
    tokens = model.encode(case.inputs["audio"][:1, None, :500])
    with pytest.raises(TokenError, match="levels"):
        tokens.levels(model.layout.num_levels - 1)


@pytest.mark.parametrize("case", cases("qwen3-tts-tokenizer"))
def test_a_configuration_that_contradicts_itself_is_refused(case: ReferenceCase) -> None:
    for name, value in {"encode_downsample_rate": 7, "output_sample_rate": 48000, "encoder_valid_num_quantizers": 3}.items():
        with pytest.raises(ConfigError, match=str(value)):
            visiontok.from_reference("qwen3-tts-tokenizer", {**case.config, name: value}, case.weights)
