"""LARP's tokenizer and generators against the authors' code: every stage, the prior; logits, losses, greedy and seeded samples."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from next_token import greedy, teacher_forced
from reference_case import ReferenceCase, Taps, cases
from torch.nn import functional as F

import visiontok
from visiontok.generators.condition import Condition
from visiontok.generators.decoding import NextTokenSampler, Temperature, TopK, TopP
from visiontok.generators.decoding.guidance import ConstantGuidance
from visiontok.tokenizers.video.larp.model import LarpTokenizer
from visiontok.tokens import Tokens

SEPARATOR = 1


OTHER_STREAM = (
    {".*_seed[0-9]+": "torch 2.6 draws other exponential numbers from the same seed than the recording did"}
    if torch.__version__.startswith("2.6.")
    else {}
)
"""Outputs that are recorded by their seed alone."""


class SeededDraws:
    """What `torch.multinomial` draws after `torch.manual_seed`."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def exponential(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype).exponential_(generator=self.generator)


def part_of(case: ReferenceCase, prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in case.weights.items() if name.startswith(prefix)}


def generator_of(case: ReferenceCase) -> tuple[Any, Condition]:
    model = visiontok.from_reference("larp", case.config["ar"], part_of(case, "ar."))
    given = case.inputs["cond"].long()
    if given.ndim == 1:
        return model, Condition(classes=given)
    return model, Condition(tokens=Tokens(given[:, :-SEPARATOR], model.layout))


@pytest.mark.parametrize("case", cases("larp"))
@torch.no_grad()
def test_tokenizer(case: ReferenceCase):
    model = visiontok.from_reference("larp", case.config["tokenizer"], part_of(case, "tokenizer."))
    assert isinstance(model, LarpTokenizer)
    assert model.prior is not None
    fresh = dict(LarpTokenizer(model.config).named_buffers())
    assert all(torch.equal(table, fresh[name]) for name, table in model.named_buffers())  # positions, bit for bit
    clips = case.inputs["pixels"]
    encoder, decoder, quantizer = model.encoder, model.decoder, model.quantizer
    patches = clips[0, 0].numel() // (decoder.patch[0] * decoder.patch[1] ** 2)
    names = {f"encoder.block{number}": f"encoder.blocks.{number}" for number in range(len(encoder.blocks))}
    taps = Taps(model, {**names, "patch_embed": "encoder.patch_embed", "last": f"decoder.blocks.{len(decoder.blocks) - 1}"})
    output = model(clips)
    tokens = model.encode(clips)
    seen, codes = taps.seen, quantizer.codes()
    ours = {name: seen[name] for name in names}
    ours["patch_embed"] = seen["patch_embed"].flatten(2).transpose(1, 2)
    ours["encoder_out"] = seen[f"encoder.block{len(encoder.blocks) - 1}"][:, patches:]
    ours["bottleneck_in"] = latents = encoder.to_latents(ours["encoder_out"])
    torch.testing.assert_close(model.encode_latents(clips), latents)
    ours["z_normalised"] = F.normalize(latents, dim=-1)
    ours["codebook_normalised"] = codes
    ours["cosine"] = (ours["z_normalised"] @ codes.T)[:, : case.outputs["cosine"].shape[1]]
    ours["probs_first_tokens"] = quantizer.probabilities(latents)[:, :4]
    ours["token_indices"] = tokens.indices
    if not OTHER_STREAM:
        ours["token_indices_stochastic_seed77"] = model.encode(clips, noise=SeededDraws(77)).indices
    ours["quantized"] = output.latents
    ours["loss_commit"] = output.losses["commitment"] / quantizer.config.commitment_weight
    ours["loss_codebook"] = output.losses["codebook"] / quantizer.config.codebook_weight
    ours["loss_q"] = output.losses["commitment"] + output.losses["codebook"]
    ours["decoder_in"] = decoder.embed(output.latents)
    ours["decoder_out"] = seen["last"][:, latents.shape[1] :]
    ours["reconstruction"] = output.reconstruction
    ours["reconstruction_from_indices"] = model.decode_latents(model.lookup(tokens.indices))
    torch.testing.assert_close(model.decode(tokens), ours["reconstruction"].clamp(0, 1))
    predicted = model.prior(output.latents)
    ours["prior_prediction"] = predicted
    ours["prior_logits"] = model.prior.logits(predicted[:, 1:], codes)[:, : case.outputs["prior_logits"].shape[1]]
    ours["prior_ce_round1"] = model.prior.loss(output.latents, tokens.indices, codes, step=0, noise=SeededDraws(0))
    case.compare(ours, without_counterpart={"ar_.*": "of the generator", **OTHER_STREAM})


@pytest.mark.parametrize("case", cases("larp", lambda case: case.config.get("ar") is not None))
@torch.no_grad()
def test_generator(case: ReferenceCase):
    model, condition = generator_of(case)
    tokens = case.outputs["token_indices"]
    ours = {
        "ar_logits": teacher_forced(model, tokens, condition)[0],
        "ar_loss": model.loss(Tokens(tokens, model.layout), condition)["loss"],
    }
    for name in case.outputs:
        if not name.startswith(("ar_greedy", "ar_sample")) or any(re.fullmatch(pattern, name) for pattern in OTHER_STREAM):
            continue
        scale = float(name.split("_cfg")[1].split("_")[0])
        filters = (Temperature(0.9), TopK(12), TopP(0.95)) if name.startswith("ar_sample") else greedy(model).filters
        sampler = NextTokenSampler(ConstantGuidance(scale), filters)
        ours[name] = model.generate(condition, sampler=sampler, noise=SeededDraws(5)).indices
    others = {name: "of the tokenizer" for name in case.outputs if not name.startswith("ar_")}
    case.compare(ours, without_counterpart={**OTHER_STREAM, **others})
