"""TokenBridge against the authors' code: autoencoder, table, tokens."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, Taps, cases
from torch import Tensor

import visiontok
from visiontok.base.noise import RecordedNoise


def theirs(latents: Tensor) -> Tensor:
    """(B, h, w, C) as the authors' (B, C, h, w)."""
    return latents.permute(0, 3, 1, 2)


@pytest.mark.parametrize("case", cases("tokenbridge"))
def test_every_stage(case: ReferenceCase):
    model = visiontok.from_reference("tokenbridge", case.config, case.weights)
    bottleneck, table = model.base.quantizer, model.quantizer.quantizer
    taps = Taps(model, {"encoder_out": "base.encoder"})
    moments = model.encode_latents((case.inputs["image"] + 1) / 2)
    noise = case.inputs["posterior_eps"].permute(0, 2, 3, 1)
    mean, logvar = bottleneck.posterior(moments)
    quantized = model.quantizer(moments, noise=RecordedNoise(normal=[noise]))
    probe = table(case.inputs["probe"])
    case.compare(
        {
            **taps.seen,
            "moments": theirs(moments),
            "mean": theirs(mean),
            "std": theirs(torch.exp(logvar / 2)),
            "latent_scaled": theirs(bottleneck(moments, noise=RecordedNoise(normal=[noise])).latents),
            "indices": theirs(quantized.indices),
            "tokens_blc": quantized.indices.flatten(1, 2),
            "dequant": theirs(quantized.latents),
            "reconstruction": model.decode_latents(quantized.latents) * 2 - 1,
            "recon_mode_continuous": model.base.decode_unscaled(mean) * 2 - 1,
            "probe_indices": probe.indices,
            "probe_dequant": probe.latents,
            "table": table.table,
        }
    )


@pytest.mark.parametrize("case", cases("tokenbridge"))
def test_the_public_way_gives_the_tokens_of_the_mode(case: ReferenceCase, tmp_path):
    model = visiontok.from_reference("tokenbridge", case.config, case.weights)
    image = (case.inputs["image"].clamp(-1, 1) + 1) / 2
    tokens = model.encode(image)
    assert torch.equal(tokens.view(), model.quantizer(model.encode_latents(image)).indices)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    assert torch.equal(loaded.encode(image).indices, tokens.indices)
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))
