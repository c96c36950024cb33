"""ELM against the authors' code.

Its binary autoencoder: bits and tokens exact, every stage, gradients. Its autoregressive generator: logits, losses and sampled sequences.
Its masked generator: logits and losses.
"""

from __future__ import annotations

import pytest
import torch
from next_token import sampled, teacher_forced
from reference_case import ReferenceCase, cases

import visiontok
from visiontok.base.noise import RecordedNoise
from visiontok.generators.elm_mlm.model import ElmMaskedGenerator
from visiontok.quantizers.bits import indices_to_bits
from visiontok.tokenizers.image.elm_bae.model import ElmBae
from visiontok.tokens import Tokens


def is_tokenizer(case: ReferenceCase) -> bool:
    return case.path.name.startswith("bae")


def load(case: ReferenceCase) -> ElmBae:
    return visiontok.from_reference("elm", case.config, case.weights)


@pytest.mark.parametrize("case", cases("elm", is_tokenizer))
def test_every_stage(case: ReferenceCase):
    model = load(case)
    quantizer, chunks, image = model.quantizer, model.config.quantizer.chunks, case.inputs["image"]

    def first(latents: torch.Tensor) -> torch.Tensor:
        return latents.permute(0, 3, 1, 2)

    def bits(indices: torch.Tensor) -> torch.Tensor:
        found = first(indices_to_bits(indices, chunks=chunks, order="msb"))
        return (found if model.config.quantizer.values == "unit" else 2 * found.int() - 1).to(case.outputs["bits_sampled"].dtype)

    latents = model.encode_latents(image)
    thresholded = quantizer(latents)
    sampled = quantizer(latents, noise=RecordedNoise(uniform=[case.inputs["u"].permute(0, 2, 3, 1)]))
    tokens = model.encode(image)
    looked_up = quantizer.lookup(tokens.view())
    assert torch.equal(tokens.indices, thresholded.indices.flatten(1))
    assert torch.equal(looked_up, thresholded.latents)
    torch.testing.assert_close(model.decode(tokens), model.decode_latents(looked_up).clamp(0, 1), rtol=0, atol=1e-6)
    case.compare(
        {
            "encoder_out": first(latents),
            "bit_probs": first(quantizer.probabilities(latents)),
            "bits_deterministic": bits(thresholded.indices),
            "bits_sampled": bits(sampled.indices),
            "sub_indices": tokens.indices.view(len(image), -1, len(chunks)),
            "quant_deterministic": first(thresholded.latents),
            "quant_sampled": first(sampled.latents),
            "recon_deterministic": model.decode_latents(looked_up),
            "recon_sampled": model.decode_latents(sampled.latents),
            "recon_from_quant": model.decode_latents(thresholded.latents),
            **gradients(model, case),
        }
    )


def gradients(model: ElmBae, case: ReferenceCase) -> dict[str, torch.Tensor]:
    h = case.outputs["encoder_out"].clone().requires_grad_(True)
    weighted = model.config.quantizer.replace(confidence_weight=1.0).build()
    weighted.load_state_dict(model.quantizer.state_dict())
    quantized = weighted.eval()(h.permute(0, 2, 3, 1))
    ((quantized.latents.permute(0, 3, 1, 2) * case.inputs["grad_out"]).sum() + quantized.losses["confidence"]).backward()
    return {
        "code_loss": quantized.losses["confidence"],
        "grad_h": h.grad,
        "grad_embed": weighted.rows.grad,
        "grad_proj": weighted.to_logits.weight.grad[:, :, None, None],
    }


@pytest.mark.parametrize("case", cases("elm", is_tokenizer))
def test_save_and_load(case: ReferenceCase, tmp_path):
    model = visiontok.from_reference("elm", case.config, {**case.weights, "disc.main.0.bias": torch.zeros(1)})
    visiontok.save_pretrained(model, tmp_path / "model")
    loaded = visiontok.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    assert torch.equal(loaded.encode(case.inputs["image"]).indices.view(case.outputs["sub_indices"].shape), case.outputs["sub_indices"])


@pytest.mark.parametrize("case", cases("elm", lambda case: case.path.name.startswith("ar-")))
@torch.no_grad()
def test_generator(case: ReferenceCase):
    model = visiontok.from_reference("elm", case.config, case.weights)
    given, classes, draw = case.inputs["tokens"].long().flatten(1), case.inputs["cond"].long(), case.inputs["label_drop_rand"]
    count = model.layout.segments[0].codebooks
    logits = torch.stack(teacher_forced(model, given, classes, draw < model.config.condition.dropout), dim=2).flatten(1, 2)
    loss = model.train().loss(Tokens(given, model.layout), classes, noise=RecordedNoise(uniform=[draw]))["loss"]
    model.eval()
    tokens, watched = sampled(model, classes, case.inputs["exp_noise"])
    case.compare(
        {
            "train.logits": logits,
            "train.loss": loss,
            "sampled": tokens.indices.unflatten(1, (-1, count)),
            "probs": torch.stack(watched.probabilities),
        }
    )


@pytest.mark.parametrize("case", cases("elm", lambda case: case.path.name.startswith("mlm-")))
@torch.no_grad()
def test_masked_generator(case: ReferenceCase):
    model = visiontok.from_reference("elm", case.config, case.weights)
    tokens, classes, mask = case.inputs["tokens"][..., 0], case.inputs["cond"], case.inputs["mask"].bool()
    assert isinstance(model, ElmMaskedGenerator)
    masked = tokens.masked_fill(mask, model.mask_id)
    case.compare(
        {
            "logits": model.logits(masked, classes),
            "loss": model.masked_loss(tokens, masked, mask, classes)["loss"],
            "masked_per_sample": mask.sum(dim=1).float().mean(),
        }
    )
