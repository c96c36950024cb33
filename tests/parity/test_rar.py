"""RAR's generators against the authors' code: logits in raster and permuted orders, losses, and whole sampled sequences."""

from __future__ import annotations

import pytest
import torch
from next_token import Watched, recorded
from reference_case import ReferenceCase, Taps, cases
from torch import Tensor

import visiontok
from visiontok.base.noise import RecordedNoise
from visiontok.generators.condition import Condition
from visiontok.generators.orders import AnnealedOrder
from visiontok.generators.rar.model import Rar
from visiontok.generators.rar.reference import sampling_from_reference
from visiontok.tokens import Tokens


def rows_of_classes(model: Rar, classes: Tensor) -> Tensor:
    """The rows of the authors' table: codes, an unused one, classes, none."""
    return classes + model.vocab_size + 1


def predictions(model: Rar, case: ReferenceCase) -> dict[str, Tensor]:
    indices, condition, orders = case.inputs["input_ids"], Condition(classes=case.inputs["condition"]), case.inputs["orders"]
    none = torch.zeros(len(indices), dtype=torch.bool)
    raster = model.own_order.expand(len(indices), -1)
    blocks = {f"tap.raster.blocks.{number}": f"backbone.blocks.{number}" for number in range(len(model.backbone.blocks))}
    taps = Taps(model, blocks)
    logits = model.logits(indices, condition, none, raster)
    hidden = model.transform(
        torch.cat([model.prefix(condition, none), model.embedding(indices)], dim=1),
        model.element_positions(raster),
        model.element_conditions(model.prefix(condition, none)),
    )
    found = dict(taps.seen)
    permuted = indices.gather(1, orders)
    return found | {
        "tap.raster.adaln_before_head": hidden[:, 1:],
        "raster.logits": logits,
        "raster.labels": indices.gather(1, raster),
        "raster.correct_tokens": (logits[:, :-1].argmax(dim=-1) == indices).float().mean(),
        "permuted.labels": permuted,
        "permuted.logits": model.logits(permuted, condition, none, orders),
        "prefix5_sampling.logits": model.logits(indices[:, :5], condition, none, raster),
    }


def losses(model: Rar, case: ReferenceCase) -> dict[str, Tensor]:
    tokens, classes = Tokens(case.inputs["input_ids"], model.layout), case.inputs["condition"]
    raster = model.loss(tokens, classes)["loss"]
    always = model.config.replace(order=AnnealedOrder(anneal_start=1, anneal_end=2), dropout=0.0, attention_dropout=0.0)
    trained = Rar(always).train()
    trained.load_state_dict(model.state_dict())
    keep, first = torch.ones(len(tokens)), torch.zeros(len(tokens))
    noise = RecordedNoise(uniform=[keep, first], permutation=[case.inputs["orders"]])
    return {"raster.loss": raster, "permuted.loss": trained.loss(tokens, classes, step=0, noise=noise)["loss"]}


def sampling(model: Rar, case: ReferenceCase, name: str) -> dict[str, Tensor]:
    sampler = model.config.sampling.replace(**sampling_from_reference(case.meta["sampler"][name])).sampler()
    watched, draws = Watched(sampler), case.inputs[f"sample.{name}.exp_noise"]
    tokens = model.generate(case.inputs["condition"], sampler=watched.sampler, noise=recorded(draws))
    return {f"sample.{name}.ids": tokens.validate().indices, f"sample.{name}.probs": torch.stack(watched.probabilities)}


@pytest.mark.parametrize("case", cases("rar"))
@torch.no_grad()
def test_logits_losses_and_samples(case: ReferenceCase):
    model = visiontok.from_reference("rar", case.config, case.weights)
    classes, none = case.inputs["condition"], torch.full_like(case.inputs["condition"], model.num_classes)
    hidden = case.inputs["drop_uniform"] < 0.5
    ours = predictions(model, case) | losses(model, case)
    for name in case.meta["sampler"]:
        ours |= sampling(model, case, name)
    ours |= {
        "condition_ids": rows_of_classes(model, classes),
        "condition_ids_drop0.5": rows_of_classes(model, torch.where(hidden, none, classes)),
        "none_condition_ids": rows_of_classes(model, none),
    }
    case.compare(ours)


@pytest.mark.parametrize("case", cases("rar"))
def test_save_and_load(case: ReferenceCase, tmp_path):
    model = visiontok.from_reference("rar", case.config, case.weights)
    visiontok.save_pretrained(model, tmp_path / "model")
    loaded = visiontok.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    name = next(iter(case.meta["sampler"]))
    assert torch.equal(sampling(loaded, case, name)[f"sample.{name}.ids"], case.outputs[f"sample.{name}.ids"])
