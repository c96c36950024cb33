"""RobustTok and its base against the authors' code: tokens exact, every stage, the training pass, gradients, perturbation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from reference_case import ReferenceCase, cases
from torch import Tensor

import visiontok
from visiontok.base.noise import RecordedNoise
from visiontok.layers.dinov2 import DinoViT, dino_weights
from visiontok.losses.semantic import SemanticLoss
from visiontok.quantizers import MultiScaleQuantizer, ProductQuantizer, Quantizer
from visiontok.quantizers.perturbation import LatentPerturbation, LatentPerturbationConfig
from visiontok.tokenizers.image.robusttok.model import RobustTok, RobustTokConfig
from visiontok.tokenizers.image.robusttok.objective import FrozenWeights, objective_from_reference
from visiontok.tokenizers.image.robusttok.reference import read_quantizer

USAGE = {
    r"train\.(usage_percent|ema_vocab_hit_SV.*)": "usage is counted by the training loop, over a window of its own, and is no state of a model",
}
VIT = {"dim": 8, "depth": 1, "num_heads": 2, "patch_size": 8}


def kind(case: ReferenceCase) -> str:
    if "_train_forward" in case.config:
        return "tokenizer"
    return "quantizer" if "kind" in case.config else "perturbation"


def of_kind(name: str) -> list[Any]:
    return cases("robusttok", lambda case: kind(case) == name)


def theirs(latents: Tensor) -> Tensor:
    """(B, H, W, C) as the authors' (B, C, H, W)."""
    return latents.permute(0, 3, 1, 2)


def load(case: ReferenceCase) -> RobustTok:
    return visiontok.from_reference("robusttok", case.config, case.weights)


def branches_of(quantizer: Quantizer) -> list[Quantizer]:
    return list(quantizer.groups) if isinstance(quantizer, ProductQuantizer) else [quantizer]


def dropout_noise(case: ReferenceCase) -> RecordedNoise:
    """The recorded numbers of kept levels as the uniform draws that stand for them; quantizers without dropout draw nothing."""
    if "quantizer_dropout" not in case.inputs:
        return RecordedNoise()
    fewest, most = case.config.get("start_drop", 1), len(case.config["v_patch_nums"])
    return RecordedNoise(uniform=[(case.inputs["quantizer_dropout"] - fewest + 0.5) / (most - fewest + 1)])


def by_scale(branch: Quantizer, indices: Tensor, name: str) -> dict[str, Tensor]:
    """The tokens of every scale and the sums after it, under the authors' names."""
    if not isinstance(branch, MultiScaleQuantizer):
        return {f"idx.{name}scale0": indices.flatten(1), f"fhat.{name}scale0": theirs(branch.lookup(indices))}
    parts = indices.split([side**2 for side in branch.config.scales], dim=1)
    sums = branch.partial_sums(indices)
    named = {f"idx.{name}scale{number}": part for number, part in enumerate(parts)}
    return named | {f"fhat.{name}scale{number}": theirs(partial) for number, partial in enumerate(sums)}


@pytest.mark.parametrize("case", of_kind("tokenizer"))
def test_every_stage(case: ReferenceCase):
    model = load(case)
    image = case.inputs["image"]  # in [-1, 1]
    quantizer, num_branches = model.quantizer, model.config.num_branches
    features = model.encoder.features(image)
    flat = model.encoder.to_latents(features).transpose(1, 2)
    latents = model.encode_latents((image + 1) / 2)
    quantized = quantizer(latents)
    tokens = model.encode(((image + 1) / 2).clamp(0, 1))
    assert torch.equal(tokens.indices, quantized.indices.flatten(1))
    side = model.config.grid_side
    decoded = model.decoder(quantized.latents)
    ours = {
        "encoder_out": features,
        "quant_conv_out": flat.unflatten(2, (side, side)) if num_branches == 1 else flat[..., None],
        "post_quant_conv_out": theirs(model.decoder.embed(quantized.latents)),
        "decoded_unclamped": decoded,
        "reconstruction": model.decode(tokens) * 2 - 1,
    }
    indices = quantized.indices if num_branches > 1 else quantized.indices[..., None]
    for number, (branch, codes) in enumerate(zip(branches_of(quantizer), indices.unbind(-1), strict=True)):
        ours |= by_scale(branch, codes, f"branch{number}.")
    num_scales = len(case.config["v_patch_nums"])
    if num_scales > 1:
        ours |= {"reconstruction.scale0": model.decode(tokens.prefix(model.layout.prefixes[0])) * 2 - 1}
        ours |= {"reconstruction.scale_mid": model.decode(tokens.prefix(model.layout.prefixes[num_scales // 2])) * 2 - 1}
    if "var_input" in case.outputs:
        ours["var_input"] = model.next_scale_inputs(tokens)
    case.compare(ours | training_pass(model, case, latents), without_counterpart=USAGE)


def training_pass(model: RobustTok, case: ReferenceCase, latents: Tensor) -> dict[str, Tensor]:
    """Only the quantizer is in training mode, as in the fixture."""
    quantizer, training = model.quantizer.train(), case.config["_train_forward"]
    quantized = quantizer(latents, noise=dropout_noise(case))
    losses = quantized.losses
    if model.config.num_branches == 1 and training["alpha"] > 0:
        perturbation = LatentPerturbation(LatentPerturbationConfig(alpha=training["alpha"], beta=training["beta"], delta=training["delta"]))
        shape = quantized.indices.shape
        ranks = (case.inputs["perturb_randint"].view(shape) + 0.5) / training["delta"]
        noise = RecordedNoise(uniform=[case.inputs["perturb_rand"].view(shape), ranks])
        quantized = perturbation(quantizer, latents, quantized, step=0, noise=noise)
    found = {
        "train.decoded": model.decoder(quantized.latents),
        "train.vq_loss": losses["codebook"],
        "train.commit_loss": losses["commitment"],
        "train.entropy_loss": losses.get("entropy", torch.zeros(())),
    }
    return found | semantic_loss(model, case, quantized.latents)


def semantic_loss(model: RobustTok, case: ReferenceCase, latents: Tensor) -> dict[str, Tensor]:
    """The semantic loss that the configuration describes, against the teacher whose weights are in the case."""
    steps_per_epoch = 3
    files = FrozenWeights(vgg=Path("absent"), dino=Path("absent"), dinov2=Path("absent"))
    config = objective_from_reference(case.config, steps_per_epoch=steps_per_epoch, files=files).semantic
    if config is None:
        return {}
    teacher = DinoViT(config.teacher.backbone, image_size=config.teacher.image_size)
    published = {name.removeprefix("semantic_model."): tensor for name, tensor in case.weights.items() if name.startswith("semantic_model.")}
    vit = config.teacher.backbone
    teacher.load_state_dict(dino_weights(published, patch_size=vit.patch_size, grid_side=config.teacher.image_size // vit.patch_size))
    loss = SemanticLoss(config, teacher=teacher)
    step = case.config["_train_forward"]["epoch"] * steps_per_epoch + 2  # anywhere within the epoch
    projection = model.get_submodule(config.projection)
    return {"train.sem_loss": config.weight * loss((case.inputs["image"] + 1) / 2, latents, projection, step=step)}


def alone(case: ReferenceCase) -> tuple[Quantizer, dict[str, str]]:
    """The quantizer of a case, and how the authors name its parameters."""
    values = read_quantizer(case.config)
    side = case.config["v_patch_nums"][-1]
    config = RobustTokConfig(image_size=32, encoder=VIT, decoder=VIT, grid_side=side, quantizer=values)
    quantizer = config.quantizer.build()
    mapped = RobustTok.weights_from_reference({f"quantize.{name}": tensor for name, tensor in case.weights.items()})
    quantizer.load_state_dict({name.removeprefix("quantizer."): tensor for name, tensor in mapped.items()})
    names = {name: name.replace("phi.convs.", "quant_resi.qresi_ls.") for name, _ in quantizer.named_parameters()}
    return quantizer, {name: "embedding.weight" if name.endswith("codebook") else theirs for name, theirs in names.items()}


@pytest.mark.parametrize("case", of_kind("quantizer"))
def test_quantizer_alone(case: ReferenceCase):
    quantizer, names = alone(case)
    z = case.inputs["z"].clone().requires_grad_(True)
    evaluated = quantizer.eval()(z.permute(0, 2, 3, 1))
    ours = by_scale(quantizer, evaluated.indices, "")
    quantizer.train()
    quantized = quantizer(z.permute(0, 2, 3, 1), noise=dropout_noise(case))
    if "var_input" in case.outputs:
        ours |= next_inputs(quantizer, evaluated.indices)
    (sum(quantized.losses.values()) + (theirs(quantized.latents) * case.inputs["grad_out"]).sum()).backward()
    ours |= {
        "train.out": theirs(quantized.latents),
        "train.vq_loss": quantized.losses["codebook"],
        "train.commit_loss": quantized.losses["commitment"],
        "train.entropy_loss": quantized.losses.get("entropy", torch.zeros(())),
        "train.grad_z": z.grad,
        **{f"train.grad.{names[name]}": parameter.grad for name, parameter in quantizer.named_parameters()},
    }
    case.compare(ours, without_counterpart=USAGE)


def next_inputs(quantizer: MultiScaleQuantizer, indices: Tensor) -> dict[str, Tensor]:
    inputs, sums = quantizer.next_scale_inputs(indices), quantizer.partial_sums(indices)
    sides = quantizer.config.scales[1:]
    squares = [part.unflatten(1, (side, side)) for part, side in zip(inputs.split([side**2 for side in sides], dim=1), sides, strict=True)]
    steps = {f"ar.next{number}": theirs(square) for number, square in enumerate([*squares, sums[-1]])}
    return {"var_input": inputs, **steps, **{f"ar.fhat{number}": theirs(partial) for number, partial in enumerate(sums)}}


@pytest.mark.parametrize("case", of_kind("perturbation"))
def test_perturbation(case: ReferenceCase):
    values = read_quantizer({**case.config, "v_patch_nums": [1]})
    config = RobustTokConfig(image_size=32, encoder=VIT, decoder=VIT, quantizer=values)
    quantizer = config.quantizer.build()
    quantizer.load_state_dict({"codebook": case.weights["embedding.weight"]})
    z = case.inputs["z"].clone().requires_grad_(True)
    latents = z.permute(0, 2, 3, 1)
    clean = quantizer(latents)
    perturbation = LatentPerturbation(LatentPerturbationConfig(**{name: case.config[name] for name in ("alpha", "beta", "delta")}))
    shape = clean.indices.shape
    ranks = (case.inputs["random_idx"].view(shape) + 0.5) / case.config["delta"]
    noise = RecordedNoise(uniform=[case.inputs["random_prob"].view(shape), ranks])
    perturbed = perturbation(quantizer, latents, clean, step=0, noise=noise)
    (theirs(perturbed.latents) * case.inputs["grad_out"]).sum().backward()
    case.compare(
        {
            "idx_clean": clean.indices.flatten(),
            "idx_perturbed": perturbed.indices.flatten(),
            "topk_idx": quantizer.neighbors(latents, case.config["delta"]).flatten(0, -2),
            "z_q_clean": theirs(clean.latents),
            "perturbed": theirs(perturbed.latents),
            "grad_z": z.grad,
        }
    )


@pytest.mark.parametrize("case", of_kind("tokenizer"))
def test_save_and_load(case: ReferenceCase, tmp_path):
    model = load(case)
    visiontok.save_pretrained(model, tmp_path / "model")
    loaded = visiontok.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    image = (case.inputs["image"] + 1) / 2
    assert torch.equal(loaded.encode_latents(image), model.encode_latents(image))
