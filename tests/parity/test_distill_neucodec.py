"""DistillNeuCodec against the authors' own class."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference_case import ReferenceCase, cases
from torch.nn import functional as F

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.tokenizers.audio.distill_neucodec.model import DistillNeuCodec


def is_distilled(case: ReferenceCase) -> bool:
    return "distill" in case.config


def load(case: ReferenceCase) -> DistillNeuCodec:
    model = visiontok.from_reference("distill-neucodec", case.config, case.weights)
    assert isinstance(model, DistillNeuCodec)
    return model


@pytest.mark.parametrize("case", cases("neucodec", is_distilled))
def test_every_stage(case: ReferenceCase) -> None:
    model, audio = load(case), case.inputs["audio"]
    padded = F.pad(audio, (0, model.hop - audio.shape[-1] % model.hop))
    encoder = model.acoustic_encoder
    first = encoder.conv[0](padded)
    conv = encoder.conv(padded)
    fine = encoder.fine(conv.transpose(1, 2))
    local = encoder(padded)
    hidden = model.semantic_features(padded)
    latents = model.encode_latents(audio)
    codes = model.unwrap(model.encode(audio))
    case.compare(
        {
            "padded_audio": padded,
            "first_block": first,
            "stage0": encoder.conv[1](first),
            "conv_encoder": conv,
            "down_trans_attn": fine,
            "down_trans": encoder.down(fine.transpose(1, 2)).transpose(1, 2),
            "local_out": local,
            "acoustic": model.fc_acoustic(local).transpose(1, 2),
            "semantic_hidden": hidden,
            "semantic": model.semantic_adapter(hidden.transpose(1, 2)),
            "pre_quant": latents,
            "fsq_in": model.quantizer.fsq.project_in(latents),
            "codes": codes.transpose(1, 2),
            "audio": model.decode_latents(model.lookup(codes)),
        }
    )


@pytest.mark.parametrize("case", cases("neucodec", is_distilled))
def test_save_and_load(case: ReferenceCase, tmp_path: Any) -> None:
    model = load(case)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config == type(model.config).parse(model.config.to_dict())
    audio = case.inputs["audio"]
    tokens = loaded.encode(audio)
    assert torch.equal(loaded.unwrap(tokens).transpose(1, 2), case.outputs["codes"])
    decoded = loaded.decode(tokens)
    assert torch.equal(decoded, model.decode(tokens))
    assert decoded.shape == (1, 1, audio.shape[-1] * 3 // 2)
    assert loaded.spec.rate == 24000


@pytest.mark.parametrize("case", cases("neucodec", is_distilled))
def test_a_hop_that_does_not_fit_the_rates_is_refused(case: ReferenceCase) -> None:
    with pytest.raises(ConfigError, match="481"):
        visiontok.from_reference("distill-neucodec", {**case.config, "hop_length": 481}, case.weights)
