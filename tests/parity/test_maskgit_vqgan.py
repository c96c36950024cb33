"""MaskGIT's VQGAN against the authors' code."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, Taps, cases

import visiontok


@pytest.mark.parametrize("case", cases("maskgit-vqgan"))
def test_every_stage(case: ReferenceCase):
    model = visiontok.from_reference("maskgit-vqgan", case.config, case.weights)
    names = {"tap.encoder.conv_in": "encoder.conv_in", "tap.decoder.conv_in": "decoder.conv_in"}
    names |= {f"tap.{net}.mid.{i}": f"{net}.mid.{i}" for net in ("encoder", "decoder") for i in range(len(model.encoder.mid))}
    names |= {f"tap.decoder.up.{i}": f"decoder.levels.{i}" for i in range(len(model.decoder.levels))}
    taps = Taps(model, names)
    levels = [*model.encoder.levels, model.encoder.mid]
    for number, module in enumerate(levels[1:]):  # their level ends with the pooling that ours does between levels
        module.register_forward_pre_hook(lambda _module, inputs, number=number: taps.seen.update({f"tap.encoder.down.{number}": inputs[0]}))

    image = case.inputs["image"]
    latents = model.encode_latents(image)
    quantized = model.quantizer(latents)
    tokens = model.encode(image)
    entry = model.quantizer.lookup(quantized.indices)
    decoded = model.decode(tokens)
    soft = model.quantizer.soft_codes(latents, temperature=1.5).flatten(1, 2)
    ours = {
        "encoder_output": latents.permute(0, 3, 1, 2),
        "indices": quantized.indices.flatten(1),
        "encode": tokens.indices,
        "get_code": tokens.indices,
        "z_quantized": entry.permute(0, 3, 1, 2),
        "z_quantized_straight_through": quantized.latents.permute(0, 3, 1, 2),
        "quantizer_loss": sum(quantized.losses.values()),
        "codebook_entry": entry.permute(0, 3, 1, 2),
        "reconstruction_unclamped": model.decode_latents(entry),
        "decode_clamped": decoded,
        "soft_code_temp1.5_first8tokens": soft[:, :8],
        "soft_code_temp1.5_argmax_code": soft.argmax(dim=-1),
    }
    ours |= {name: seen[:1] for name, seen in taps.seen.items()}
    case.compare(ours)


@pytest.mark.parametrize("case", cases("maskgit-vqgan"))
def test_save_and_load(case: ReferenceCase, tmp_path):
    model = visiontok.from_reference("maskgit-vqgan", case.config, case.weights)
    visiontok.save_pretrained(model, tmp_path / "model")
    loaded = visiontok.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    tokens = loaded.encode(case.inputs["image"])
    assert torch.equal(tokens.indices, case.outputs["encode"])
