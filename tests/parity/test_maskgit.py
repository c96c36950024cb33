"""MaskGIT-style generators against the authors' code: logits, masking, training loss and whole sampled sequences."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from reference_case import ReferenceCase, Taps, cases
from torch import Tensor

import visiontok
from visiontok.generators.backbones import Bert
from visiontok.generators.decoding import RecordedNoise, TiTokSampling
from visiontok.generators.maskgit.model import MaskGIT
from visiontok.generators.maskgit.reference import sampling_from_reference
from visiontok.tokens import Tokens


def tap_names(model: MaskGIT) -> dict[str, str]:
    if isinstance(model.backbone, Bert):
        layers = {f"tap.model.encoder.layer.{i}": f"backbone.blocks.{i}" for i in range(len(model.backbone.blocks))}
        return {"tap.model.embeddings": "backbone.dropout", **layers}
    blocks = [f"{part}.{i}" for part in ("in_blocks", "out_blocks") for i in range(len(model.backbone.in_blocks))]
    return {f"tap.{name}": f"backbone.{name}" for name in (*blocks, "mid_block", "norm")}


def predictions(model: MaskGIT, case: ReferenceCase) -> dict[str, Tensor]:
    tokens, classes = case.inputs["input_ids"], case.inputs["condition"]
    taps = Taps(model, tap_names(model))
    found = {"logits_cond": model.logits(tokens, classes)}
    found |= taps.seen
    none = torch.full_like(classes, model.num_classes)
    some = torch.where(case.inputs["drop_uniform"] < 0.5, none, classes)
    return found | {"logits_uncond": model.logits(tokens, none), "logits_partial_drop_p0.5": model.logits(tokens, some)}


def uniform(*draws: Tensor) -> RecordedNoise:
    return RecordedNoise(uniform=draws)


def training(model: MaskGIT, case: ReferenceCase) -> dict[str, Tensor]:
    target, classes = case.inputs["target_ids"], case.inputs["condition"]
    draws = case.inputs["mask.timesteps"], case.inputs["mask.rand"]
    masked, mask = model.mask_tokens(target, uniform(*draws))
    losses = model(Tokens(target, model.layout), classes, noise=uniform(*draws))
    return {
        "masked_tokens": masked,
        "masks": mask.long(),
        "train.logits": model.logits(masked, classes),
        "train.loss": losses["loss"],
        "train.correct_tokens": losses["masked_accuracy"],
    }


def sampling(model: MaskGIT, case: ReferenceCase, name: str, numbers: TiTokSampling) -> dict[str, Tensor]:
    classes = case.inputs["condition"]
    draws = [draw for step in zip(case.inputs[f"sample.{name}.token_noise"], case.inputs[f"sample.{name}.conf_noise"], strict=True) for draw in step]
    sampler = numbers.sampler()
    start = torch.full((len(classes), model.layout.length), model.mask_id)
    grids = [start, *sampler.steps(partial(model.guided_logits, classes), start, model.mask_id, uniform(*draws))]
    generated = model.generate(classes, sampler=sampler, noise=uniform(*draws))
    assert torch.equal(generated.validate().indices, grids[-1])
    return {
        f"sample.{name}.ids": generated.indices,
        f"sample.{name}.ids_before_step": torch.stack(grids[:-1]),
        f"sample.{name}.cond_logits_last_step": model.logits(grids[-2], classes),
    }


@pytest.mark.parametrize("case", cases("maskgit"))
@torch.no_grad()
def test_logits_loss_and_samples(case: ReferenceCase):
    model = visiontok.from_reference("maskgit", case.config, case.weights)
    ours = predictions(model, case) | training(model, case)
    for name, arguments in case.meta["sampler"].items():
        ours |= sampling(model, case, name, sampling_from_reference(arguments))
    case.compare(ours)
