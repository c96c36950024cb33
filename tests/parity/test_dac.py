"""DAC against transformers' own model. The recordings are of sounds that are not padded to whole frames."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, cases

import visiontok
from visiontok.core.tokenizer import DecodeOptions, EncodeOptions
from visiontok.tokenizers.audio.dac.model import Dac


@pytest.mark.parametrize("case", cases("dac"))
def test_every_stage(case: ReferenceCase) -> None:
    model = visiontok.from_reference("dac", case.config, case.weights)
    assert isinstance(model, Dac)
    audio, size = case.inputs["audio"], case.outputs["audio"].shape[-1]
    latents = model.encode_latents(audio)
    quantized = model.quantizer(latents)
    rvq = model.quantizer.rvq
    _, _, projected, commitment, codebook = rvq(latents.transpose(1, 2))
    tokens = model.encode_prepared(audio, EncodeOptions())

    def decoded(levels: int) -> torch.Tensor:
        return model.decode_tokens(tokens.levels(levels), DecodeOptions())[:, 0, :size]

    ours = {
        "encoder_out": latents.transpose(1, 2),
        "codes": model.unwrap(tokens).transpose(1, 2),
        "quantized": quantized.latents.transpose(1, 2),
        "projected_latents": projected,
        "from_latents_quantized": rvq.from_latents(projected)[0],
        "loss": case.config["commitment_loss_weight"] * commitment + case.config["codebook_loss_weight"] * codebook,
        "audio": decoded(model.layout.num_levels),
        "audio_from_quantized": model.decode_latents(quantized.latents)[:, 0, :size],
        "forward_audio": decoded(model.layout.num_levels)[..., : case.outputs["forward_audio"].shape[-1]],
    }
    for name in [name for name in case.outputs if name.startswith("codes_nq")]:
        levels = int(name.removeprefix("codes_nq"))
        ours[name] = model.unwrap(tokens.levels(levels)).transpose(1, 2)
        ours[f"audio_nq{levels}"] = decoded(levels)
    case.compare(ours)
    torch.testing.assert_close(sum(quantized.losses.values()), case.outputs["loss"].mean(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", cases("dac"))
def test_save_and_load(case: ReferenceCase, tmp_path) -> None:
    model = visiontok.from_reference("dac", case.config, case.weights)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    tokens = loaded.encode_prepared(case.inputs["audio"], EncodeOptions())
    assert torch.equal(loaded.unwrap(tokens).transpose(1, 2), case.outputs["codes"])
