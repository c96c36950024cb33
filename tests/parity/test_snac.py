"""SNAC against the authors' code: every stage, the residuals of every level, and the decoder with their draws of noise."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, cases

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.base.noise import RecordedNoise
from visiontok.core.tokenizer import DecodeOptions
from visiontok.tokenizers.audio.snac.model import Snac
from visiontok.tokenizers.audio.snac.quantizer import pooled


def recorded(case: ReferenceCase) -> RecordedNoise:
    return RecordedNoise(normal=[case.inputs[name] for name in sorted(case.inputs) if name.startswith("noise_")])


@pytest.mark.parametrize("case", cases("snac"))
def test_every_stage(case: ReferenceCase) -> None:
    model = visiontok.from_reference("snac", case.config, case.weights)
    assert isinstance(model, Snac)
    padded = model.preprocessing.pad(case.inputs["audio"])
    latents = model.encode_latents(padded)
    tokens = model.encode(case.inputs["audio"])
    ours = {"padded_audio": padded, "encoder_out": latents.transpose(1, 2)}
    rest = latents
    for number, stride in enumerate(model.config.vq_strides):
        level, codes = model.quantizer.levels[number], tokens.view(f"level{number}")
        ours |= {f"codes_{number}": codes, f"residual_{number}": rest.transpose(1, 2)}
        ours[f"z_e_{number}"] = level.projected(pooled(rest, stride)).transpose(1, 2)
        rest = rest - level.lookup(codes).repeat_interleave(stride, dim=1)
    quantized = model.lookup(model.unwrap(tokens))
    ours |= {
        "z_q": model.quantizer(latents).latents.transpose(1, 2),
        "z_q_from_codes": quantized.transpose(1, 2),
        "decoder_layer0": model.decoder[0](quantized.transpose(1, 2)),
        "audio": model.decode_tokens(tokens, DecodeOptions(noise=recorded(case))),
        "forward_audio": model.decode(tokens, noise=recorded(case)),
        "audio_zero_noise": model.decode_tokens(tokens, DecodeOptions()),
    }
    case.compare(ours)


@pytest.mark.parametrize("case", cases("snac"))
def test_save_and_load(case: ReferenceCase, tmp_path) -> None:
    model = visiontok.from_reference("snac", case.config, case.weights)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    tokens = loaded.encode(case.inputs["audio"])
    assert torch.equal(tokens.indices, model.encode(case.inputs["audio"]).indices)
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))


@pytest.mark.parametrize("case", cases("snac"))
def test_a_configuration_without_its_strides_is_refused(case: ReferenceCase) -> None:
    with pytest.raises(ConfigError, match="vq_strides"):
        visiontok.from_reference("snac", {name: value for name, value in case.config.items() if name != "vq_strides"}, case.weights)
