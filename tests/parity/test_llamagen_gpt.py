"""LlamaGen's generators against the authors' code: logits, losses, gradients, greedy and sampled sequences."""

from __future__ import annotations

import pytest
import torch
from next_token import Watched, greedy, recorded, sampled, teacher_forced
from reference_case import ReferenceCase, cases

import visiontok
from visiontok.base.noise import RecordedNoise
from visiontok.generators.condition import Condition
from visiontok.generators.gpt.model import GPT
from visiontok.tokens import Tokens


def condition_of(case: ReferenceCase) -> Condition:
    if case.config["model_type"] == "c2i":
        return Condition(classes=case.inputs["cond"].long())
    return Condition(text=case.inputs["cond"], text_mask=case.inputs["emb_masks"].bool())


def training(model: GPT, case: ReferenceCase) -> dict[str, torch.Tensor]:
    tokens, condition = case.inputs["tokens"].long(), condition_of(case)
    if condition.text is not None:
        condition = Condition(text=condition.text)  # without a mask, as theirs was run
    dropped = case.inputs["label_drop_rand"] < model.config.condition.dropout
    noise = RecordedNoise(uniform=[case.inputs["label_drop_rand"]])
    loss = model.train().loss(Tokens(tokens, model.layout), condition, noise=noise)["loss"]
    model.zero_grad()
    loss.backward()
    found = {
        "train.loss": loss,
        "train.grad_tok_embeddings": model.embedding.table.weight.grad,
        "train.grad_wqkv0": model.backbone.blocks[0].attention.wqkv.weight.grad,
    }
    model.eval()
    found["train.logits"] = teacher_forced(model, tokens, condition, dropped)[0]
    if "train.loss_valid" in case.outputs:
        rows = case.inputs["valid"].bool()
        found["train.loss_valid"] = model.train().loss(
            Tokens(tokens[rows], model.layout), condition[rows], noise=RecordedNoise(uniform=[case.inputs["label_drop_rand"][rows]])
        )["loss"]
        model.eval()
    return found


@pytest.mark.parametrize("case", cases("llamagen-gpt"))
def test_logits_losses_and_samples(case: ReferenceCase):
    model = visiontok.from_reference("llamagen-gpt", case.config, case.weights)
    ours = training(model, case)
    condition = condition_of(case)
    tokens, watched = sampled(model, condition, case.inputs["exp_noise"])
    ours |= {"sampled.tokens": tokens.indices, "sampled.logits": torch.stack(watched.guided)}
    greedily = Watched(greedy(model))
    ours["greedy.tokens"] = model.generate(condition, sampler=greedily.sampler, noise=recorded(case.inputs["exp_noise"])).indices
    ours["greedy.logits"] = torch.stack(greedily.guided)
    plan = model.plan(model.layout)
    ours["freqs_cis"] = model.rope_rows(plan.coordinates[None])[0, 0]
    case.compare(ours)


@pytest.mark.parametrize("case", cases("llamagen-gpt"))
def test_save_and_load(case: ReferenceCase, tmp_path):
    model = visiontok.from_reference("llamagen-gpt", case.config, {**case.weights, "freqs_cis": torch.zeros(1)})
    visiontok.save_pretrained(model, tmp_path / "model")
    loaded = visiontok.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    generated = loaded.generate(condition_of(case), noise=recorded(case.inputs["exp_noise"]))
    assert torch.equal(generated.indices, case.outputs["sampled.tokens"])
