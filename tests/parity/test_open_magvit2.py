"""Open-MAGVIT2's tokenizer and its generator against the authors' code."""

from __future__ import annotations

import pytest
import torch
from next_token import sampled, teacher_forced
from reference_case import ReferenceCase, cases
from torch import Tensor

import visiontok
from visiontok.tokenizers.image.open_magvit2.model import OpenMagvit2


def is_tokenizer(case: ReferenceCase) -> bool:
    return not case.path.name.startswith("gpt")


def load(case: ReferenceCase) -> OpenMagvit2:
    return visiontok.from_reference("open-magvit2", case.config, case.weights)


def theirs(latents: Tensor) -> Tensor:
    """(B, h, w, D) as the authors' (B, D, h, w)."""
    return latents.permute(0, 3, 1, 2)


@pytest.mark.parametrize("case", cases("open-magvit2", is_tokenizer))
def test_every_stage(case: ReferenceCase):
    model = load(case)
    image = (case.inputs["image"] + 1) / 2
    latents = model.encode_latents(image)
    quantized = model.quantizer(latents)
    tokens = model.encode(image)
    assert not any(quantized.losses.values())
    codes = model.quantizer.lookup(tokens.view())
    grid = theirs(codes)
    indices = tokens.view().flatten(0, 2)
    decoded = model.decode_latents(codes)
    assert torch.equal(model.decode(tokens), decoded.clamp(0, 1))
    case.compare(
        {
            "encoder_out": theirs(latents),
            "quant": theirs(quantized.latents),
            **({"indices_pre": indices[:, 0], "indices_post": indices[:, 1]} if case.config["token_factorization"] else {"indices": indices}),
            "codes_from_indices": grid,
            "adaptive_out": model.decoder.adaptive_norms[-1](model.decoder.conv_in(grid), grid),
            "reconstruction": decoded * 2 - 1,
            **trained(model, case),
        }
    )


def trained(model: OpenMagvit2, case: ReferenceCase) -> dict[str, Tensor]:
    """The quantizer in training on the authors' encoder output."""
    quantizer, config = model.config.quantizer.build().train(), model.config.quantizer
    z = case.outputs["encoder_out"].clone().requires_grad_(True)
    quantized = quantizer(z.permute(0, 2, 3, 1))
    (sum(quantized.losses.values()) + (theirs(quantized.latents) * case.inputs["grad_out"]).sum()).backward()
    return {
        "train.per_sample_entropy": quantized.stats["sample_entropy"],
        "train.codebook_entropy": quantized.stats["batch_entropy"],
        "train.entropy_loss": quantized.losses["entropy"] / config.entropy.weight,
        "train.commitment": quantized.losses["commitment"] / config.commitment_weight,
        "train.grad_z": z.grad,
    }


@pytest.mark.parametrize("case", cases("open-magvit2", is_tokenizer))
def test_save_and_load(case: ReferenceCase, tmp_path):
    model = load(case)
    visiontok.save_pretrained(model, tmp_path / "model")
    loaded = visiontok.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    image = (case.inputs["image"] + 1) / 2
    assert torch.equal(loaded.encode(image).indices, model.encode(image).indices)


@pytest.mark.parametrize("case", cases("open-magvit2", lambda case: is_tokenizer(case) and case.config["use_ema"]))
def test_the_last_weights_and_their_averages_are_told_apart(case: ReferenceCase):
    last = visiontok.from_reference("open-magvit2", {**case.config, "use_ema": False}, case.weights)
    assert torch.equal(last.encoder.conv_out.weight, case.weights["encoder.conv_out.weight"])
    assert torch.equal(load(case).encoder.conv_out.weight, case.weights["model_ema.encoderconv_outweight"])


@pytest.mark.parametrize("case", cases("open-magvit2", lambda case: not is_tokenizer(case)))
@torch.no_grad()
def test_generator(case: ReferenceCase):
    model = visiontok.from_reference("open-magvit2", case.config, case.weights)
    inputs = {name: tensor.long() if not tensor.is_floating_point() else tensor for name, tensor in case.inputs.items()}
    given = torch.stack([inputs["idx_pre"], inputs["idx_post"]], dim=-1).flatten(1)
    pre, post = teacher_forced(model, given, inputs["cls"])
    draws = [draw for pair in zip(inputs["exp_noise_pre"], inputs["exp_noise_post"], strict=True) for draw in pair]
    tokens, watched = sampled(model, inputs["sample_cls"][:, 0], draws)
    drawn = tokens.indices.unflatten(1, (-1, 2))
    case.compare(
        {
            "logits_pre": pre,
            "logits_post": post,
            "sample_pre": drawn[..., 0],
            "sample_post": drawn[..., 1],
            "probs_pre": torch.stack(watched.probabilities[::2]),
            "probs_post": torch.stack(watched.probabilities[1::2]),
        }
    )
