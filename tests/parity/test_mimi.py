"""Mimi against transformers' own model."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, cases

import visiontok
from visiontok.core.tokenizer import DecodeOptions
from visiontok.tokenizers.audio.mimi.model import Mimi


@pytest.mark.parametrize("case", cases("mimi"))
def test_every_stage(case: ReferenceCase) -> None:
    model = visiontok.from_reference("mimi", case.config, case.weights)
    assert isinstance(model, Mimi)
    audio = case.inputs["audio"]
    seanet = model.encoder(audio)
    tokens = model.encode(audio)
    codes, size = model.unwrap(tokens), case.outputs["audio"].shape[-1]
    quantized = model.lookup(codes)
    whole = model.encode(audio[..., : audio.shape[-1] // model.hop * model.hop])  # streaming leaves out what does not fill a frame

    def decoded(levels: int) -> torch.Tensor:
        return model.decode_tokens(tokens.levels(levels), DecodeOptions())[..., :size]

    ours = {
        "encoder_seanet": seanet,
        "encoder_transformer": model.encoder_transformer(seanet.transpose(1, 2)).last_hidden_state,
        "latents": model.encode_latents(audio).transpose(1, 2),
        "codes": codes.transpose(1, 2),
        "codes_streamed": model.unwrap(whole).transpose(1, 2),
        "encoded_length": torch.tensor([codes.shape[1]]),
        "quantized": quantized.transpose(1, 2),
        "upsampled": model.upsample(quantized.transpose(1, 2)),
        "audio": decoded(model.layout.num_levels),
        "forward_audio": decoded(model.layout.num_levels)[..., : audio.shape[-1]],
    }
    for name in [name for name in case.outputs if name.startswith("codes_nq")]:
        levels = int(name.removeprefix("codes_nq"))
        ours[name] = model.unwrap(model.encode(audio, num_levels=levels)).transpose(1, 2)
        ours[f"audio_nq{levels}"] = decoded(levels)
    case.compare(ours)


@pytest.mark.parametrize("case", cases("mimi"))
def test_save_and_load(case: ReferenceCase, tmp_path) -> None:
    model = visiontok.from_reference("mimi", case.config, case.weights)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    tokens = loaded.encode(case.inputs["audio"])
    assert torch.equal(loaded.unwrap(tokens).transpose(1, 2), case.outputs["codes"])
