"""MAR against the authors' code: backbone, diffusion loss, schedules and whole sampled sequences."""

from __future__ import annotations

import pytest
import torch
from masked_latents import condition_rows, grid, mask_draws, storage
from reference_case import ReferenceCase, cases
from torch import Tensor

import visiontok
from visiontok.base.noise import RecordedNoise
from visiontok.generators.decoding.masked_autoregressive import MaskedLatentSampler
from visiontok.generators.heads.diffusion_schedule import respaced_cosine_schedule
from visiontok.generators.mar.model import Mar
from visiontok.generators.mar.reference import sampling_from_reference
from visiontok.tokens import Latents


def backbone(model: Mar, case: ReferenceCase) -> dict[str, Tensor]:
    patches, mask = model.to_patches(storage(case.inputs["latents"])), case.inputs["mask"].bool()
    torch.testing.assert_close(model.from_patches(patches), storage(case.inputs["latents"]), rtol=0, atol=0)
    kept, held = model.backbone.known_rows(mask)
    labels = case.inputs["labels"]
    encoded = model.backbone.encode(patches, kept, held, condition_rows(model, labels, dropped=False))
    return {
        "patchified": patches,
        "encoder_out": encoded,
        "decoder_out": model.backbone.decode(encoded, kept, held),
        "decoder_out_uncond": model.backbone(patches, mask, condition_rows(model, labels, dropped=True)),
    }


def losses(model: Mar, case: ReferenceCase, features: Tensor) -> dict[str, Tensor]:
    mask, steps, draws = case.inputs["mask"].bool(), case.inputs["diff_t"], case.inputs["diff_noise"]
    copies = model.config.head.copies
    latents = model.to_patches(storage(case.inputs["latents"]))
    rows, hidden = (part.flatten(0, 1).repeat(copies, 1) for part in (latents, features))
    noisy = model.head.schedule.noisy(rows, draws, steps)
    squared, bound = model.head.errors(hidden, rows, steps, draws)
    uniform, order = mask_draws(mask, model.config.least_masked)
    # Theirs has all copies of the batch one after the other, ours all copies of a sample.
    by_sample = (part.unflatten(0, (copies, *mask.shape)).transpose(0, 1) for part in ((steps + 0.5) / len(model.head.schedule), draws))
    times, normal = by_sample
    noise = RecordedNoise(uniform=[uniform, times], permutation=[order], normal=[normal])
    loss = model(Latents(storage(case.inputs["latents"]), model.layout), case.inputs["labels"], noise=noise)["loss"]
    return {
        "diff_x_t": noisy,
        "diff_net_out": model.head(noisy, steps, hidden),
        "diff_mse": squared,
        "diff_vb": bound,
        "diff_loss": (squared + bound)[mask.flatten().repeat(copies)].mean(),
        "forward_loss": loss,
    }


def schedules(model: Mar) -> dict[str, Tensor]:
    sampled = respaced_cosine_schedule(model.config.head.num_timesteps, model.config.sampling.diffusion_steps)
    return {
        "train_betas": model.head.schedule.betas,
        "gen_betas": sampled.betas,
        "gen_timestep_map": sampled.timesteps,
        "gen_posterior_log_variance_clipped": sampled.posterior_log_variance_clipped,
    }


def guided_head(model: Mar, case: ReferenceCase, conditional: Tensor, unconditional: Tensor) -> Tensor:
    """Both halves of a guided pass: the second, which the reference discards, has the same predicted noise and a variance of its own."""
    mask, respacing = case.inputs["mask"].bool(), str(model.config.sampling.diffusion_steps)
    hidden, without = conditional[mask][:6], unconditional[mask][:6]
    start, draws = case.inputs["head_init"], case.inputs["head_noise"].flip(0)
    scale, temperature = case.config["_head"]["cfg"], case.config["_head"]["temperature"]
    ours = model.head.denoise(
        hidden[None],
        without[None],
        start[None],
        lambda step: draws[step, :6][None],
        respacing=respacing,
        guidance=scale,
        temperature=temperature,
    ).values[0]
    schedule, x = respaced_cosine_schedule(model.config.head.num_timesteps, respacing), torch.cat([start, start])
    for step in reversed(range(len(schedule))):
        steps = torch.full((12,), step)
        (conditional, unconditional), share = (
            part if index else part.chunk(2)
            for index, part in enumerate(model.head(x[:6].repeat(2, 1), schedule.timesteps[steps], torch.cat([hidden, without])).chunk(2, dim=-1))
        )
        epsilon = (unconditional + scale * (conditional - unconditional)).repeat(2, 1)
        x_mean = schedule.posterior_mean(schedule.denoised(x, epsilon, steps), x, steps)
        x = x_mean + (step > 0) * (schedule.log_variance(share, steps) / 2).exp() * draws[step] * temperature
    return torch.cat([ours, x[6:]])


def recorded(model: Mar, sampler: MaskedLatentSampler, case: ReferenceCase, name: str, orders: Tensor) -> RecordedNoise:
    """The recorded draws of a sampled sequence: theirs hold rows for the unconditional half as well, which have no effect."""
    samples, length = orders.shape
    known, row, draws = 0, 0, []
    halves = 2 if any(scale != 1 for scale in sampler.schedule.scales(length)) else 1
    for step in sampler.schedule.steps(orders):
        count = step.positions.shape[1]
        rows = samples * count
        draws.append(case.inputs[f"{name}_init"][known : known + rows].unflatten(0, (samples, count)))
        draws += list(case.inputs[f"{name}_noise"][:-1, row : row + rows].unflatten(1, (samples, count)))
        known, row = known + rows, row + halves * rows
    return RecordedNoise(normal=draws, permutation=[orders])


@pytest.mark.parametrize("case", cases("mar"))
@torch.no_grad()
def test_backbone_losses_and_samples(case: ReferenceCase):
    model = visiontok.from_reference("mar", case.config, case.weights)
    ours = backbone(model, case)
    ours |= losses(model, case, ours["decoder_out"]) | schedules(model)
    ours["head_sample_cfg"] = guided_head(model, case, ours["decoder_out"], ours["decoder_out_uncond"])
    for name, arguments in case.config["_sampling"].items():
        sampler = sampling_from_reference(arguments, diffusion_steps=model.config.sampling.diffusion_steps).sampler()
        noise = recorded(model, sampler, case, name, case.inputs["orders"])
        ours[f"{name}_latents"] = grid(model.generate(case.inputs["labels"], sampler=sampler, noise=noise).validate().view())
    case.compare(ours)
