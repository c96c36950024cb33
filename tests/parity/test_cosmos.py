"""Cosmos' tokenizers of clips and of images against the authors' code: patches, every stage, codes, latents and reconstructions."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from reference_case import ReferenceCase, Taps, cases
from torch import Tensor

import visiontok
from visiontok.layers.carry import Carry
from visiontok.quantizers.finite_scalar import FiniteScalarQuantizer
from visiontok.tokenizers.image.cosmos_image.model import CosmosImage
from visiontok.tokenizers.video.cosmos.model import Cosmos

STAGES = {"conv_in": "conv_in", "mid.block_1": "mid.0", "mid.attn_1": "mid.1", "mid.block_2": "mid.2", "norm_out": "norm_out", "conv_out": "conv_out"}


def stages(case: ReferenceCase, model: Cosmos | CosmosImage) -> dict[str, str]:
    """Names of recorded outputs -> our modules; what follows a level is the level's own output, also where nothing is resampled."""
    names = {}
    for name in case.outputs:
        found = re.fullmatch(r"(enc|dec)\.(.+)", name)
        if found:
            net = {"enc": "encoder", "dec": "decoder"}[found[1]]
            level = re.fullmatch(r"(?:down|up)\.(\d+)\.(?:downsample|upsample)", found[2])
            names[name] = f"{net}.levels.{level[1]}" if level else f"{net}.{STAGES[found[2]]}"
    return names


@pytest.mark.parametrize("case", cases("cosmos"))
@torch.no_grad()
def test_tokenizer(case: ReferenceCase) -> None:
    model: Any = visiontok.from_reference("cosmos", case.config, case.weights)
    assert isinstance(model, Cosmos if case.inputs["pixels"].ndim == 5 else CosmosImage)
    pixels = case.inputs["pixels"]
    signal = (pixels + 1) / 2
    names = stages(case, model)
    taps = Taps(model, {**names, "encoder_out": "encoder", "pre_quant": "quant_conv"})
    latents = model.encode_latents(signal)
    ours: dict[str, Tensor] = {}
    ours["patched"] = model.encoder.to_patches(pixels, Carry()) if isinstance(model, Cosmos) else model.config.patches.of(pixels)
    torch.testing.assert_close(latents.movedim(-1, 1), taps.seen["pre_quant"])
    if isinstance(model.quantizer, FiniteScalarQuantizer):
        quantized = model.quantizer(latents)
        ours["token_indices"] = quantized.indices
        ours["quantized"] = quantized.latents.movedim(-1, 1)
        ours["fsq_bounded"] = bounded = model.quantizer.bound(latents)
        ours["fsq_levels_used"] = torch.tensor([len(values.unique()) for values in bounded.round().flatten(0, -2).T])
        ours["codes_from_indices"] = model.lookup(quantized.indices).movedim(-1, 1)
        ours["reconstruction"] = model.decode_latents(quantized.latents) * 2 - 1
        ours["reconstruction_from_indices"] = model.decode_latents(model.lookup(quantized.indices)) * 2 - 1
        assert torch.equal(model.encode(signal.clamp(0, 1)).view(), quantized.indices)
    else:
        ours["latent"] = latents.movedim(-1, 1)
        # Of the recorded latents: the decoder makes the tolerance of pixels out of the rounding of latents, the reference's own included.
        ours["reconstruction"] = model.decode_latents(case.outputs["latent"].movedim(1, -1)) * 2 - 1
    case.compare({**taps.seen, **ours})
