"""X-Codec against transformers' own model."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, cases

import visiontok
from visiontok.core.tokenizer import DecodeOptions, EncodeOptions
from visiontok.tokenizers.audio.xcodec.model import Xcodec


@pytest.mark.parametrize("case", cases("xcodec"))
def test_every_stage(case: ReferenceCase) -> None:
    model = visiontok.from_reference("xcodec", case.config, case.weights)
    assert isinstance(model, Xcodec)
    audio = case.inputs["audio"]
    latents = model.encode_latents(audio)
    tokens = model.encode_prepared(audio, EncodeOptions())
    ours = {
        "semantic_features": model.semantic_features(audio),
        "latents": latents.transpose(1, 2),
        "quantized": model.lookup(model.unwrap(tokens)).transpose(1, 2),
    }
    for name in [name for name in case.outputs if name.startswith("codes_bw")]:
        fewer = tokens.levels(model.levels_within(float(name.removeprefix("codes_bw").replace("p", "."))))
        ours[name] = model.unwrap(fewer).transpose(1, 2)
        ours[name.replace("codes", "audio")] = model.decode_tokens(fewer, DecodeOptions())
    ours["forward_audio"] = model.decode_tokens(tokens, DecodeOptions())[..., : audio.shape[-1]]
    case.compare(ours)


@pytest.mark.parametrize("case", cases("xcodec"))
def test_save_and_load(case: ReferenceCase, tmp_path) -> None:
    model = visiontok.from_reference("xcodec", case.config, case.weights)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    tokens = loaded.encode(case.inputs["audio"])
    assert torch.equal(tokens.indices, model.encode(case.inputs["audio"]).indices)
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))
