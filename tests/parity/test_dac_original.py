"""DAC against Descript's own code, by its names. The recordings are of sounds that are padded to whole frames."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, cases

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.core.tokenizer import DecodeOptions
from visiontok.tokenizers.audio.dac.model import Dac


@pytest.mark.parametrize("case", cases("dac-original"))
def test_every_stage(case: ReferenceCase) -> None:
    model = visiontok.from_reference("dac-original", case.config, case.weights)
    assert isinstance(model, Dac)
    padded, size = model.preprocessing.pad(case.inputs["audio"]), case.outputs["audio"].shape[-1]
    latents = model.encode_latents(padded)
    quantized = model.quantizer(latents)
    _, _, projected, _, _ = model.quantizer.rvq(latents.transpose(1, 2))
    tokens = model.encode(case.inputs["audio"])

    def decoded(levels: int) -> torch.Tensor:
        return model.decode_tokens(tokens.levels(levels), DecodeOptions())[..., :size]

    whole = decoded(model.layout.num_levels)
    ours = {
        "padded_audio": padded,
        "encoder_out": latents.transpose(1, 2),
        "codes": model.unwrap(tokens).transpose(1, 2),
        "z": quantized.latents.transpose(1, 2),
        "latents": projected,
        "from_latents_z": model.quantizer.rvq.from_latents(projected)[0],
        "commitment_loss": quantized.losses["commitment"] / 0.25,
        "codebook_loss": quantized.losses["codebook"],
        "audio": model.decode_latents(quantized.latents)[..., :size],
        "audio_from_codes": whole,
        "forward_audio": model.decode(tokens),
    }
    for name in [name for name in case.outputs if name.startswith("codes_nq")]:
        levels = int(name.removeprefix("codes_nq"))
        ours[name] = model.unwrap(model.encode(case.inputs["audio"], num_levels=levels)).transpose(1, 2)
        ours[f"audio_nq{levels}"] = decoded(levels)
    case.compare(ours)


@pytest.mark.parametrize("case", cases("dac-original"))
def test_save_and_load(case: ReferenceCase, tmp_path) -> None:
    model = visiontok.from_reference("dac-original", case.config, case.weights)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    assert torch.equal(loaded.unwrap(loaded.encode(case.inputs["audio"])).transpose(1, 2), case.outputs["codes"])


@pytest.mark.parametrize("case", cases("dac-original"))
def test_a_decoder_that_does_not_mirror_the_encoder_is_refused(case: ReferenceCase) -> None:
    rates = [*case.config["decoder_rates"][1:], case.config["decoder_rates"][0]]
    with pytest.raises(ConfigError, match="decoder_rates"):
        visiontok.from_reference("dac-original", {**case.config, "decoder_rates": rates}, case.weights)
