"""LlamaGen's tokenizer against the authors' code: tokens exact, every stage, losses and gradients."""

from __future__ import annotations

import argparse
import json

import pytest
import torch
from reference_case import ReferenceCase, Taps, cases

import visiontok


@pytest.mark.parametrize("case", cases("llamagen-vq"))
def test_every_stage(case: ReferenceCase):
    model = visiontok.from_reference("llamagen-vq", case.config, case.weights)
    names = {"encoder_out": "encoder", "quant_conv_out": "quant_conv", "post_quant_conv_out": "post_quant_conv", "decoder_mid": "decoder.mid"}
    taps = Taps(model, names)
    image = (case.inputs["image"] + 1) / 2  # theirs lie in [-1, 1]

    latents = model.encode_latents(image)
    quantized = model.quantizer(latents)
    entry = model.quantizer.lookup(quantized.indices)
    tokens = model.encode(image)
    assert torch.equal(tokens.indices.flatten(), case.outputs["indices"])
    assert torch.equal(model.decode(tokens), model.decode_latents(entry).clamp(0, 1))
    case.compare(
        {
            "indices": quantized.indices.flatten(),
            "quant": quantized.latents.permute(0, 3, 1, 2),
            "codebook_entry": entry.permute(0, 3, 1, 2),
            "reconstruction": model.decode_latents(quantized.latents) * 2 - 1,
            "reconstruction_from_codes": model.decode_latents(entry) * 2 - 1,
            **taps.seen,
            **training(model, case),
        }
    )


def training(model, case: ReferenceCase) -> dict[str, torch.Tensor]:
    z = case.outputs["quant_conv_out"].clone().requires_grad_(True)
    quantized = model.quantizer.train()(z.permute(0, 2, 3, 1))
    (sum(quantized.losses.values()) + (quantized.latents.permute(0, 3, 1, 2) * case.inputs["grad_out"]).sum()).backward()
    model.eval()
    return {
        "train.vq_loss": quantized.losses["codebook"],
        "train.commit_loss": quantized.losses["commitment"],
        "train.entropy_loss": quantized.losses.get("entropy", torch.zeros(())),
        "train.grad_z": z.grad,
        "train.grad_embedding": model.quantizer.codebook.grad,
    }


@pytest.mark.parametrize("case", cases("llamagen-vq"))
def test_save_and_load(case: ReferenceCase, tmp_path):
    model = visiontok.from_reference("llamagen-vq", case.config, {**case.weights, "quantize.codebook_used": torch.zeros(9)})
    visiontok.save_pretrained(model, tmp_path / "model")
    loaded = visiontok.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    assert torch.equal(loaded.encode((case.inputs["image"] + 1) / 2).indices.flatten(), case.outputs["indices"])


@pytest.mark.parametrize("case", cases("llamagen-vq"))
def test_a_training_checkpoint_loads(case: ReferenceCase, tmp_path):
    arguments = argparse.Namespace(lr=1e-4, codebook_size=case.config["codebook_size"], resume=None)
    torch.save({"model": case.weights, "optimizer": {"state": {}, "param_groups": []}, "steps": 3, "args": arguments}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(case.config))
    model = visiontok.from_pretrained(tmp_path, system="llamagen-vq")
    assert torch.equal(model.encode((case.inputs["image"] + 1) / 2).indices.flatten(), case.outputs["indices"])
