"""BigCodec against the authors' own code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference_case import ReferenceCase, cases
from torch.nn import functional as F

import visiontok
from visiontok.core.tokenizer import EncodeOptions
from visiontok.tokenizers.audio.bigcodec.model import BigCodec


def load(case: ReferenceCase) -> BigCodec:
    model = visiontok.from_reference("bigcodec", authors(case), case.weights)
    assert isinstance(model, BigCodec)
    return model


def authors(case: ReferenceCase) -> dict[str, Any]:
    """Their configuration, without the note about the recording."""
    return {name: value for name, value in case.config.items() if name != "lengths"}


@pytest.mark.parametrize("case", cases("bigcodec"))
def test_every_stage(case: ReferenceCase) -> None:
    model = load(case)
    audio, length = case.inputs["audio"][:, None], case.config["lengths"][1]
    alone = model.encode(audio[1:, :, :length])
    padded = F.pad(audio, (0, model.hop - audio.shape[-1] % model.hop))
    latents = model.encode_latents(audio)
    quantized = model.quantizer(latents)
    tokens = model.encode_prepared(audio, EncodeOptions())
    codes, read = model.unwrap(tokens), quantized.latents.transpose(1, 2)
    ours = {
        "padded_audio": padded[:, 0],
        "encoder_layer0": model.encoder[0](padded),
        "encoder_layer1": model.encoder[:2](padded),
        "encoder_out": latents.transpose(1, 2),
        "encoder_out_unpadded": model.encoder(audio),
        "encoder_out_clip1_alone": model.encode_latents(audio[1:, :, :length]).transpose(1, 2),
        "codes": codes.movedim(-1, 0),
        "codes_clip1_alone": model.unwrap(alone).movedim(-1, 0),
        "codes_exact_multiple": model.unwrap(model.encode(audio[:1, :, : 3 * model.hop])).movedim(-1, 0),
        "z_q": read,
        "emb_from_codes": model.lookup(codes),
        "emb_from_codes_noproj": sum(level.codebook[codes[..., index]] for index, level in enumerate(model.quantizer.levels)),
        "decoder_layer0": model.decoder[0](read),
        "decoder_layer1": model.decoder[:2](read),
        "audio": model.decode_latents(model.lookup(codes)),
        "audio_clip1_alone": model.decode_latents(model.lookup(model.unwrap(alone))),
    }
    residual, losses = latents, []
    for index, level in enumerate(model.quantizer.levels):
        ours |= {f"residual_{index}": residual.transpose(1, 2), f"z_e_{index}": level.projected(residual)}
        found = level(residual)
        losses.append(sum(found.losses.values()))
        residual = residual - found.latents
    case.compare({**ours, "train_losses": torch.stack(losses)}, without_counterpart={"eval_losses": "zeros: the authors compute none in evaluation"})
    torch.testing.assert_close(sum(quantized.losses.values()), case.outputs["train_losses"].sum(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", cases("bigcodec"))
def test_save_and_load(case: ReferenceCase, tmp_path) -> None:
    model = load(case)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config == type(model.config).parse(model.config.to_dict())
    audio = case.inputs["audio"][:, None]
    tokens = loaded.encode(audio)
    assert torch.equal(loaded.unwrap(tokens).movedim(-1, 0), case.outputs["codes"])
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))
    assert loaded.decode(tokens).shape == audio.shape


@pytest.mark.parametrize("case", cases("bigcodec"))
def test_the_filters_of_the_activations_are_the_computed_ones(case: ReferenceCase) -> None:
    computed = load(case).encoder[1][0][0].filter
    filters = [tensor for name, tensor in case.weights.items() if name.endswith(".filter")]
    assert filters
    for found in filters:
        torch.testing.assert_close(found.flatten(), computed, rtol=0, atol=1e-6)
