"""X-Codec2 against transformers' own model. The recordings have features of their own, which are not those of the sound."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, cases

import visiontok
from visiontok.tokenizers.audio.xcodec2.model import Xcodec2


@pytest.mark.parametrize("case", cases("xcodec2"))
def test_every_stage(case: ReferenceCase) -> None:
    model = visiontok.from_reference("xcodec2", case.config, case.weights)
    assert isinstance(model, Xcodec2)
    audio, features = case.inputs["audio"], case.inputs["input_features"]
    hidden = model.hidden_states(features)
    latents = model.join(audio, hidden)
    quantized = model.quantizer(latents)
    tokens = model.wrap(latents, quantized.indices)
    decoded = model.decode_latents(model.lookup(model.unwrap(tokens)))
    valid = case.inputs["padding_mask"].sum(dim=-1, keepdim=True) // model.hop
    case.compare(
        {
            "semantic": model.semantic_adapter(hidden.transpose(1, 2)),
            "acoustic": model.acoustic_encoder(audio),
            "pre_quant": latents,
            "fsq_in": model.quantizer.fsq.project_in(latents),
            "codes": model.unwrap(tokens).transpose(1, 2),
            "audio_codes_mask": (torch.arange(latents.shape[1]) < valid).to(case.outputs["audio_codes_mask"].dtype),
            "latents": quantized.latents.transpose(1, 2),
            "latents_from_codes": model.lookup(model.unwrap(tokens)),
            "audio": decoded,
            "forward_audio": decoded[..., : audio.shape[-1]],
        }
    )


@pytest.mark.parametrize("case", cases("xcodec2"))
def test_save_and_load(case: ReferenceCase, tmp_path) -> None:
    model = visiontok.from_reference("xcodec2", case.config, case.weights)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    tokens = loaded.encode(case.inputs["audio"])
    assert torch.equal(tokens.indices, model.encode(case.inputs["audio"]).indices)
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))
