"""KARL against the authors' code: counts and tokens exact, every stage, one training iteration with its gradients."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, Taps, cases

import visiontok
from visiontok import MeanAbsoluteError
from visiontok.base.noise import RecordedNoise
from visiontok.tokenizers.image.karl.model import QUALITIES, Karl
from visiontok.tokens import Latents


def load(case: ReferenceCase) -> Karl:
    return visiontok.from_reference("karl", case.config, case.weights)


def noise(case: ReferenceCase) -> RecordedNoise | None:
    recorded = case.inputs.get("posterior_noise")
    return None if recorded is None else RecordedNoise(normal=[recorded.permute(0, 2, 3, 1)])


@pytest.mark.parametrize("case", cases("karl"))
def test_every_stage_at_every_budget_and_quality(case: ReferenceCase):
    model = load(case)
    image = case.inputs["images"][:1]
    seen: dict[str, torch.Tensor] = {}
    model.encoder.norm_pre.register_forward_hook(lambda _module, inputs, output: seen.update(sequence=inputs[0], normed=output))
    taps = Taps(model, {"out": f"encoder.blocks.{len(model.encoder.blocks) - 1}"})

    features = model.base.features(image, noise(case))
    target = model.base.target(features)
    ours: dict[str, torch.Tensor] = {"gt": target.flatten(1) if target.ndim == 3 else target.flatten(1, 2)}
    for i, quality in enumerate(case.inputs["desired_reconstruction_quality"].tolist()):
        for budget in case.inputs["token_budgets"].tolist():
            latents, halting = model.distill(image, features, torch.tensor([quality]), num_tokens=budget)
            quantized, kept = model.quantizer(latents), model.keeps(halting)
            predicted = model.predict(quantized.latents, kept=kept)
            reconstruction = model.base.pixels(predicted)
            stages = {
                "encoder_in_head": seen["normed"][:, :20],
                "encoder_out": taps.seen["out"],
                "halt_logits": halting[..., None],
                "halt_prob": halting.sigmoid()[..., None],
                "active_mask": kept,
                "active_token_count": kept.sum(dim=1),
                "decoder_attn_mask": blocked(kept, cells=features.shape[1] * features.shape[2]),
                "pre_quant": latents,
                "quantized": quantized.latents,
                "indices": quantized.indices,
                "decoder_out": predicted.flatten(2).transpose(1, 2),
                "reconstruction": reconstruction,
                "l1": (image - reconstruction).abs().flatten(1).mean(dim=1),
            }
            ours |= {f"eps{i}.T{budget}.{name}": value for name, value in stages.items() if f"eps{i}.T{budget}.{name}" in case.outputs}

            tokens = model.encode(image, target=MeanAbsoluteError(quality), num_tokens=budget, noise=noise(case))
            if isinstance(tokens, Latents):
                torch.testing.assert_close(tokens.values[:, :budget], latents * kept[..., None], rtol=0, atol=case.tolerance)
            else:
                assert tokens.sample_lengths.tolist() == kept.sum(dim=1).tolist()
                assert torch.equal(tokens.indices[0], quantized.indices[kept])
                assert torch.equal(tokens.positions[0], torch.nonzero(kept[0]).flatten())
            torch.testing.assert_close(model.decode(tokens), reconstruction.clamp(0, 1), rtol=0, atol=case.tolerance)
    cells = features.shape[1] * features.shape[2]
    ours["img_tokens"] = seen["sequence"][:, 1 : 1 + cells] - model.encoder.grid_positions(*features.shape[1:3])
    ours |= training_iteration(case, load(case))
    case.compare(in_their_shapes(ours, case))


def blocked(kept: torch.Tensor, *, cells: int) -> torch.Tensor:
    """Their mask of what may not be seen: to and from dropped tokens, but for themselves. Ours hides those as keys; what they see is thrown away."""
    dropped = torch.nn.functional.pad(~kept, (cells, 0))
    return (dropped[:, :, None] | dropped[:, None, :]) & ~torch.eye(dropped.shape[1], dtype=torch.bool)


def in_their_shapes(ours: dict[str, torch.Tensor], case: ReferenceCase) -> dict[str, torch.Tensor]:
    """Some of theirs have more axes of length 1, masks are uint8, and numbers of their log are float64."""
    shaped = {name: value.reshape(case.outputs[name].shape) for name, value in ours.items()}
    return {name: value.to(case.outputs[name].dtype) if ".log." in name or value.dtype == torch.bool else value for name, value in shaped.items()}


def training_iteration(case: ReferenceCase, model: Karl) -> dict[str, torch.Tensor]:
    image = case.inputs["images"][1:2]
    expected = case.outputs
    passes: list[dict[str, torch.Tensor]] = []
    model.encoder.register_forward_pre_hook(lambda _module, inputs: passes.append({"bin": inputs[2]}))
    model.encoder.register_forward_hook(lambda _module, _inputs, output: passes[-1].update(latents=output[0], halting=output[1]))
    model.decoder.register_forward_hook(lambda _module, _inputs, output: passes[-1].update(predicted=output))
    model.train()
    drawn = {"num_tokens": int(expected["train.T"][0]), "quality": expected["train.pass1.eps"].flatten()}  # torch's draws differ between versions
    output = model.two_passes(image, **drawn, noise=noise(case))
    total = sum(output.losses.values())
    total.backward()

    drawn, used = passes[0]["halting"].shape[1], passes[1]["halting"].shape[1]
    ours = {
        "train.T": torch.tensor([drawn, used]),
        "train.delta": torch.tensor([max(0, used - drawn)]),
        "train.total_loss": total,
        "train.logged_min_loss_values_prob_after": model.quality_odds,
        "train.gradnorm.decoder_mask_token": model.decoder.mask_token.grad.norm(),
        "train.gradnorm.latent_tokens": model.encoder.latent_tokens.grad.norm(),
        "train.gradnorm.pre_quantizer_mlp.weight": model.encoder.to_latents.weight.grad.norm(),
        "train.gradnorm.rec_loss_embeddings": model.encoder.conditions.grad.norm(),
        "train.pass1.eps": torch.tensor(QUALITIES)[passes[0]["bin"]],
        "train.pass2.eps": output.stats["lost"],
    }
    for number, (name, each) in enumerate(zip(("estimate", "tokenize"), passes, strict=True), start=1):
        count = each["halting"].shape[1]
        losses = {key.removeprefix(f"{name}."): value for key, value in output.losses.items() if key.startswith(f"{name}.")}
        quantized = model.quantizer(each["latents"])
        quantizer_loss = losses.get("commitment", torch.zeros(())) + losses.get("codebook", torch.zeros(()))
        found = {
            "halt_logits": each["halting"][..., None],
            "eps_binned": torch.tensor(QUALITIES)[each["bin"]],
            "indices": quantized.indices,
            "quantizer_loss": quantizer_loss,
            "decoder_out_mean_std": torch.stack([each["predicted"].mean(), each["predicted"].std()]),
            f"log.quantization_loss_{count}": quantizer_loss,
            f"log.code_loss_{count}_{number - 1}": losses["code"],
            f"log.nll_loss_{count}_{number - 1}": losses.get("nll"),
            f"log.latent_token_active_loss_bce_{count}" + ("_0" if number == 1 else ""): losses["halting.needed"],
            f"log.latent_token_halt_loss_bce_{count}": losses.get("halting.unneeded"),
        }
        ours |= {f"train.pass{number}.{key}": value for key, value in found.items() if value is not None}
    assert set(ours) == {key for key in expected if key.startswith("train.")}
    return ours
