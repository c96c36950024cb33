"""Binary spherical quantization against both public implementations: the quantizer alone, and the authors' whole tokenizer."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

import pytest
import torch
from reference_case import ReferenceCase, Taps, cases
from torch import Tensor
from torch.nn import functional as F

import visiontok
from visiontok.quantizers import BinaryQuantizer, BinaryQuantizerConfig
from visiontok.quantizers.entropy_terms import mean_probabilities


def of_kind(*, whole: bool) -> list[Any]:
    return cases("bsq", lambda case: ("vitconfig" in case.config) is whole)


@pytest.mark.parametrize("case", of_kind(whole=True))
def test_every_stage(case: ReferenceCase):
    model = visiontok.from_reference("bsq", case.config, case.weights)
    taps = Taps(model, {"encoder_out": "encoder.norm_post", "decoder_in": "decoder.embed"})
    image = case.inputs["image"]
    latents = model.encode_latents((image + 1) / 2)
    quantized = model.quantizer(latents)
    entry = model.quantizer.lookup(quantized.indices)
    decoded = model.decode_latents(quantized.latents)
    tokens = model.encode((image + 1) / 2)
    group, dim = case.config.get("embed_group_size", 9), model.quantizer.config.dim
    grouped = model.quantizer.config.replace(chunks=[group] * (dim // group)).build()
    group_indices = grouped(latents).indices.flatten(1, 2)
    ours = {
        "z": (F.normalize(latents, dim=-1) if case.config["l2_norm"] else latents).flatten(1, 2),
        "quant": quantized.latents.flatten(1, 2),
        "group_indices": group_indices.view_as(case.outputs["group_indices"]),
        "codebook_entry": entry.flatten(1, 2),
        "group_codebook_entry": grouped.lookup(group_indices),
        "decoded_unclamped": decoded * 2 - 1,
        "reconstruction": model.decode(tokens) * 2 - 1,
        **taps.seen,
        **on_the_sphere(model.quantizer, case),
    }
    if len(model.quantizer.config.index_bits) == 1:
        ours["indices"] = tokens.indices
    case.compare(ours, without_counterpart={} if "indices" in ours else {"indices": "the authors add powers of two in float32, which has 24 bits"})


def on_the_sphere(quantizer: BinaryQuantizer, case: ReferenceCase) -> dict[str, Tensor]:
    """Losses and gradient by the authors' unit latents, which the quantizer does not have to normalize again."""
    config = quantizer.config.replace(normalize=False)
    z = case.outputs["z"].clone().requires_grad_(True)
    quantized = config.build().eval()(z)
    loss = sum(quantized.losses.values())
    (loss + (quantized.latents * case.inputs["grad_out"]).sum()).backward()
    probabilities = mean_probabilities(quantizer.sign_logits(case.outputs["z"]), group_size=config.entropy.group_size)
    return {"quant_loss": loss, "batch_entropy": quantized.stats["batch_entropy"], "avg_prob": probabilities, "grad_z": z.grad}


@pytest.mark.parametrize("case", of_kind(whole=True))
def test_save_and_load(case: ReferenceCase, tmp_path):
    model = visiontok.from_reference("bsq", case.config, case.weights)
    visiontok.save_pretrained(model, tmp_path / "model")
    loaded = visiontok.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    image = (case.inputs["image"] + 1) / 2
    assert torch.equal(loaded.encode(image).indices, model.encode(image).indices)


@pytest.mark.parametrize("case", of_kind(whole=True))
def test_a_training_checkpoint_loads(case: ReferenceCase, tmp_path):
    averages = {f"module.{name}": tensor for name, tensor in case.weights.items()}
    arguments = argparse.Namespace(lr=1e-4, resume=None)
    torch.save({"epoch": 3, "state_dict": case.weights, "ema_state_dict": averages, "args": arguments}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(case.config))
    loaded = visiontok.from_pretrained(tmp_path, system="bsq")
    averaged = visiontok.from_reference("bsq", case.config, averages)
    for model in (loaded, averaged):
        codes = model.quantizer.lookup(model.encode((case.inputs["image"] + 1) / 2).view())
        case.check("quant", codes.flatten(1, 2))


def lucidrains(case: ReferenceCase) -> BinaryQuantizer:
    """The quantizer of vector-quantize-pytorch's `LFQ(spherical=True)`, with its weights."""
    config = case.config
    bits, floor = round(math.log2(config["codebook_size"])), {"kind": "max", "eps": 1e-5}
    quantizer = BinaryQuantizerConfig(
        dim=config["dim"],
        num_bits=bits if config["dim"] != bits else None,
        normalize=config["spherical"],
        codes="sphere" if config["spherical"] else "cube",
        scale=config["codebook_scale"],
        bit_order="msb",
        commitment_weight=config["commitment_loss_weight"],
        entropy={
            "weight": config["entropy_loss_weight"],
            "batch_weight": config["diversity_gamma"],
            "inv_temperature": config["_inv_temperature"],
            "sample_log": floor,
            "batch_log": floor,
        },
    ).build()
    quantizer.load_state_dict({name: tensor for name, tensor in case.weights.items() if name != "mask"})
    return quantizer


@pytest.mark.parametrize("case", of_kind(whole=False))
def test_quantizer_alone(case: ReferenceCase):
    quantizer = lucidrains(case)
    config = quantizer.config

    def channels_last(tensor: Tensor) -> Tensor:
        return tensor.movedim(1, -1) if tensor.ndim > 3 else tensor

    def as_theirs(tensor: Tensor) -> Tensor:
        return tensor.movedim(-1, 1) if case.inputs["x"].ndim > 3 else tensor

    x = case.inputs["x"].clone().requires_grad_(True)
    trained = quantizer.train()(channels_last(x))
    (sum(trained.losses.values()) + (as_theirs(trained.latents) * case.inputs["grad_out"]).sum()).backward()
    evaluated = quantizer.eval()(channels_last(case.inputs["x"]))
    assert not any(evaluated.losses.values())
    codebook = config.replace(dim=config.bits, num_bits=None).build().codes()  # theirs lists the codes before the projection
    weight = config.commitment_weight
    ours = {
        "indices": evaluated.indices,
        "quantized": as_theirs(evaluated.latents),
        "codes_from_indices": as_theirs(quantizer.lookup(evaluated.indices)),
        "codebook": codebook,
        "train.quantized": as_theirs(trained.latents),
        "train.aux_loss": sum(trained.losses.values()),
        "train.per_sample_entropy": trained.stats["sample_entropy"],
        "train.batch_entropy": trained.stats["batch_entropy"],
        "train.commitment": trained.losses["commitment"] / weight if weight else torch.zeros(()),
        "train.grad_x": x.grad,
        **{f"train.grad.{name}": parameter.grad for name, parameter in quantizer.named_parameters()},
    }
    case.compare(ours)
