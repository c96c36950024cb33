"""Selftok against the authors' code: tokens exact, every stage, the token schedule, sampling, the renderer, both losses, a codebook update."""

from __future__ import annotations

import pytest
import torch
from draws import draws_of_times
from reference_case import ReferenceCase, cases
from torch import Tensor
from torch.nn import functional as F

import visiontok
from visiontok.base.noise import RecordedNoise
from visiontok.decoders.flow.sampling import FlowSampling, flow_times
from visiontok.decoders.flow.training import flow_loss
from visiontok.layers.nested_dropout import prefix_mask
from visiontok.layers.patches import patchify
from visiontok.quantizers.continuous import GaussianBottleneck
from visiontok.quantizers.entropy_terms import LogFloor, entropy
from visiontok.registry.lookup import checkpoints
from visiontok.tokenizers.image.kl_vae.model import KlVae
from visiontok.tokenizers.image.selftok.model import FlowDecoding, OneStepDecoding, Selftok
from visiontok.tokenizers.image.selftok.visible_tokens import VisibleTokens

NOT_KEPT = {"vq_train.cluster_size_wo_react": "a statistic of the authors' training code; nothing reads it"}


def load(case: ReferenceCase) -> Selftok:
    return visiontok.from_reference("selftok", case.config, case.weights)


def released_vae() -> GaussianBottleneck:
    """The bottleneck of the autoencoder that Selftok is released with."""
    _, checkpoint = checkpoints()["sd3-vae"]
    return KlVae.config_from_reference(checkpoint.reference_config, {}).bottleneck.build()


def ours(grid: Tensor) -> Tensor:
    return grid.permute(0, 2, 3, 1)


def theirs(grid: Tensor) -> Tensor:
    return grid.permute(0, 3, 1, 2)


@pytest.mark.parametrize("case", cases("selftok"))
@torch.no_grad()
def test_every_stage(case: ReferenceCase, monkeypatch: pytest.MonkeyPatch):
    model, latents = load(case), ours(case.inputs["latents"])
    found, codes = encoding(model, latents)
    if isinstance(model.config.decoding, FlowDecoding):
        found |= schedule(model, case)
        found |= one_pass(model, case, codes)
        found |= whole_decode(model, case, codes)
    else:
        found |= rendering(model, case, codes)
    found |= training(load(case), case, monkeypatch)
    found |= codebook_training(model, ours(case.inputs.get("init_noise", case.inputs["latents"])))
    case.compare(found, without_counterpart=NOT_KEPT)


def encoding(model: Selftok, latents: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    encoder = model.encoder
    patches = encoder.patch_embed(patchify(latents, encoder.patch_size)) + encoder.patch_positions
    first = encoder.blocks[0](patches, encoder.queries.expand(len(latents), -1, -1))
    streams = first
    for block in encoder.blocks[1:]:
        streams = block(*streams)
    projected = encoder(latents)
    quantized = model.quantizer(projected)
    found = {
        "enc_patches_with_posemb": patches,
        "enc_block0_x": first[0],
        "enc_block0_q": first[1],
        "enc_out_queries": streams[1],
        "pre_quant_projected": projected,
        "pre_quant_l2": F.normalize(projected, dim=-1),
        "tokens": quantized.indices,
        "codes": quantized.latents,
        "quantized_post_norm": model.decoder.trunk.code_norm(quantized.latents),
    }
    return found, quantized.latents


def schedule(model: Selftok, case: ReferenceCase) -> dict[str, Tensor]:
    visible, times = model.config.decoding.visible, case.inputs["timesteps"]
    seen = visible.at((1000 * times).int())
    return {
        "k_of_t_0_to_1000": visible.at(torch.arange(1001)) - 1,
        "k_at_timesteps": seen - 1,
        "mask_at_timesteps": prefix_mask(seen, model.config.num_tokens).to(torch.uint8),
    }


def one_pass(model: Selftok, case: ReferenceCase, codes: Tensor) -> dict[str, Tensor]:
    """A step as training and sampling take it, and its stages with every token in place, where the authors keep unseen ones as zeros."""
    decoder, trunk, times = model.decoder, model.decoder.trunk, case.inputs["timesteps"]
    noise, context = ours(case.inputs["init_noise"]), trunk.context(codes)
    seen = model.config.decoding.visible.at((1000 * times).int())
    mask = prefix_mask(seen, codes.shape[1])
    zeroed = trunk.context_embed(trunk.code_norm(codes) * mask[..., None]) + trunk.token_positions
    patches = decoder.patch_embed(patchify(noise, decoder.patch_size)) + decoder.patch_positions
    time = trunk.time_embed(1000 * times)
    image, tokens = trunk.blocks[0](patches, zeroed, time, context.modulations[0], mask=mask[:, None, None], tokens_see_image=True)
    last = []
    hook = trunk.blocks[-1].register_forward_hook(lambda _module, _inputs, output: last.append(output[0]))
    velocities = []
    for tokens_see_image in (True, False):
        trunk.tokens_see_image = tokens_see_image
        velocities.append(decoder(noise, times, context, seen))
    hook.remove()
    trunk.tokens_see_image = model.config.decoding.tokens_see_image
    return {
        "dec_x_in": patches,
        "dec_context_in": context.tokens,
        "dec_block0_x": image,
        "dec_block0_context": tokens,
        "dec_last_x": last[0],
        "velocity_context_sees_x": theirs(velocities[0]),
        "velocity_context_blind": theirs(velocities[1]),
    }


def whole_decode(model: Selftok, case: ReferenceCase, codes: Tensor) -> dict[str, Tensor]:
    steps, lengths = int(case.inputs["n_steps"]), torch.full((len(codes),), codes.shape[1])
    sampled = theirs(model.decoder.decode(codes, lengths, ours(case.inputs["init_noise"]), FlowSampling(steps=steps)))
    return {"flow.scheduled_t": flow_times(steps)[:-1], "sampled_latents": sampled, "sampled_latents_process_out": released_vae().restore(sampled)}


def training(model: Selftok, case: ReferenceCase, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The training pass on the recorded draws, without dead-code reset; the case starts at the autoencoder's latents."""
    data, decoder = ours(case.inputs["latents"]), model.decoder
    monkeypatch.setattr(model, "features", lambda signal: data)
    model.quantizer.config = model.quantizer.config.replace(dead_below=0.0)
    seen = []
    hook = decoder.register_forward_hook(lambda _module, inputs, output: seen.append((inputs, output)))
    if isinstance(model.config.decoding, OneStepDecoding):
        output = model.train().forward_padded(torch.empty(0))
        found = {"renderer_x0": theirs(output.reconstruction)}
        loss, name = F.mse_loss(output.reconstruction, data), "latents"
    else:
        flow_noise = ours(case.inputs["flow_noise"])
        times = draws_of_times(decoder.flow_times, case.inputs["timesteps"])
        noise = RecordedNoise(normal=[*times["normal"], flow_noise], uniform=[*times["uniform"], torch.ones(len(data))])
        output = model.train().forward_padded(torch.empty(0), noise=noise)
        ((_, _, _, visible), velocity) = seen[0]
        per_sample = flow_loss(velocity, data, flow_noise)
        found = {"train.k": visible - 1, "train.velocity": theirs(velocity), "train.loss_per_sample": per_sample}
        loss, name = per_sample.mean(), "flow"
    hook.remove()
    torch.testing.assert_close(output.losses[name], loss)
    return found


def rendering(model: Selftok, case: ReferenceCase, codes: Tensor) -> dict[str, Tensor]:
    rendered = theirs(model.decoder(model.decoder.trunk.context(codes)))
    one_stage = VisibleTokens(stages=(1000,), tokens_per_stage=(model.config.num_tokens,))  # stated by the authors, not read by their renderer
    return {
        "renderer_process_out": released_vae().restore(rendered),
        "k_of_t_0_to_1000": one_stage.at(torch.arange(1001)) - 1,
        "flow.scheduled_t": flow_times(int(case.inputs["n_steps"]))[:-1],
    }


def codebook_training(model: Selftok, latents: Tensor) -> dict[str, Tensor]:
    """One update without dead-code reset, as the case was made."""
    quantizer = model.quantizer.train()
    quantizer.config = quantizer.config.replace(dead_below=0.0)
    projected, before = model.encoder(latents), quantizer.codebook.detach().clone()
    quantized = quantizer(projected)
    usage, ema = quantizer.usage, quantizer.ema
    spread = usage.mixed(F.normalize(projected, dim=-1), before)
    return {
        "vq_train.cluster_size": ema.counts[None],
        "vq_train.embed_avg": ema.sums[None],
        "vq_train.embed": quantizer.codebook[None],
        "vq_train.timestep_p_over_c": usage.shares[None],
        "vq_train.commit_loss": quantized.losses["commitment"][None],
        "vq_train.codebook_entropy": entropy(spread, LogFloor(eps=1e-10)).mean()[None],
        "vq_train.group_perplexity_mean": usage.perplexities.mean()[None],
    }


@pytest.mark.parametrize("case", cases("selftok"))
def test_save_and_load(case: ReferenceCase, tmp_path):
    model, latents = load(case), ours(case.inputs["latents"])
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(loaded.quantizer.search(loaded.encoder(latents)), case.outputs["tokens"])
