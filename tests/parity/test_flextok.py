"""FlexTok against the authors' code: tokens exact, every stage, guidance, the training loss."""

from __future__ import annotations

import pytest
import torch
from draws import draws_of_lengths, draws_of_times
from reference_case import ReferenceCase, Taps, cases
from torch import Tensor

import visiontok
from visiontok.base.noise import RecordedNoise
from visiontok.decoders.flow.guidance import AdaptiveProjected, ClassifierFree
from visiontok.decoders.flow.sampling import FlowSampling
from visiontok.decoders.flow.training import flow_loss
from visiontok.tokenizers.image.flextok.decoder import FlowCondition
from visiontok.tokenizers.image.flextok.model import FlexTok
from visiontok.tokenizers.shared.flow_tokenizer import FlowOptions


def load(case: ReferenceCase) -> FlexTok:
    return visiontok.from_reference("flextok", case.config, case.weights)


def ours(grid: Tensor) -> Tensor:
    return grid.permute(0, 2, 3, 1)


def theirs(grid: Tensor) -> Tensor:
    return grid.permute(0, 3, 1, 2)


def spelled_out(condition: FlowCondition, lengths: Tensor, total: int) -> Tensor:
    """(B, N, D): every register beyond the prefix by itself."""
    rows = [
        torch.cat([registers[:length], registers[-1:].expand(total - length, -1)])
        for registers, length in zip(condition.registers, lengths.tolist(), strict=True)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("case", cases("flextok"))
@torch.no_grad()
def test_every_stage(case: ReferenceCase):
    model, given = load(case), case.inputs
    posterior_noise = RecordedNoise(normal=[ours(given["posterior_noise"])]) if model.config.sample_posterior else None
    features = model.features(given["images"] / 2 + 0.5, noise=posterior_noise)
    taps = Taps(model, {"encoder": f"encoder.blocks.{len(model.encoder.blocks) - 1}", "patches": "encoder.patch_embed"})
    latents = model.encoder(features)
    quantized = model.quantizer(latents)
    side = model.config.grid[0] // model.config.patch_size
    found = {
        "vae_moments": theirs(model.vae.encode_latents(given["images"] / 2 + 0.5)),
        "vae_latents": theirs(features),
        "enc_patches_with_posemb": (taps.seen["patches"] + model.encoder.patch_positions).unflatten(1, (side, side)),
        "enc_mask_image0": model.encoder.mask.to(torch.uint8),
        "enc_transformer_out": taps.seen["encoder"],
        "pre_quant_latents": latents,
        "quantized": quantized.latents,
        "tokens": quantized.indices,
        "vae_roundtrip_rgb": model.images(features) * 2 - 1,
    }
    if posterior_noise is None:
        assert torch.equal(model.encode(given["images"] / 2 + 0.5).indices, quantized.indices)
    found |= one_pass(model, case, quantized.latents)
    found |= whole_decode(model, case, quantized.latents)
    found |= training(model, case, features)
    case.compare(found, without_counterpart={"fsq_distance_to_rounding_boundary_min": "the margin of the case's rounding, not a stage"})


def one_pass(model: FlexTok, case: ReferenceCase, codes: Tensor) -> dict[str, Tensor]:
    given, total = case.inputs, model.config.num_registers
    every = torch.full((len(codes),), total)
    conditions = {
        "full": model.decoder.condition(codes, every),
        "truncated": model.decoder.condition(codes, given["keep_k"]),
        "uncond": model.decoder.condition(codes, every, dropped=torch.ones(len(codes), dtype=torch.bool)),
    }
    depth = len(model.decoder.blocks)
    taps = Taps(model, {"full.dec_transformer_out": f"decoder.blocks.{depth - 1}", "full.dec_repa_layer": "decoder.blocks.1",
                        "full.time_embedding": "decoder.time_embed"})  # fmt: skip
    found = {}
    for name, condition in conditions.items():
        found[f"{name}.velocity"] = theirs(model.decoder(ours(given["init_noise"]), given["timesteps"], condition))
        if name == "full":
            found |= dict(taps.seen)
    found["full.dec_registers_with_posemb"] = found["full.dec_registers_after_masking"] = conditions["full"].registers
    found["truncated.dec_registers_after_masking"] = spelled_out(conditions["truncated"], given["keep_k"], total)
    return found


def whole_decode(model: FlexTok, case: ReferenceCase, codes: Tensor) -> dict[str, Tensor]:
    given = case.inputs
    steps, scale, every = int(given["n_steps"]), float(given["guidance_scale"]), torch.full((len(codes),), model.config.num_registers)
    rules = {
        "full_nocfg": (None, every),
        "full_cfg": (ClassifierFree(scale=scale), every),
        "full_apg": (AdaptiveProjected(scale=scale), every),
        "trunc_apg": (AdaptiveProjected(scale=scale), given["keep_k"]),
    }
    found = {}
    for name, (rule, lengths) in rules.items():
        sampling = FlowSampling(steps=steps, guidance=rule)
        denoised = model.decoder.decode(codes, lengths, ours(given["init_noise"]), sampling)
        found[f"{name}.latents"] = theirs(denoised)
        if f"{name}.rgb" in case.outputs:
            found[f"{name}.rgb"] = model.images(denoised) * 2 - 1
        tokens = visiontok.Tokens(case.outputs["tokens"], model.layout).prefix(lengths)
        image = model.decode_with(tokens, FlowOptions(sampling=sampling, noise=RecordedNoise(normal=[ours(given["init_noise"])])))
        torch.testing.assert_close(image, model.images(denoised).clamp(0, 1), rtol=0, atol=case.tolerance)
    return found


def training(model: FlexTok, case: ReferenceCase, features: Tensor) -> dict[str, Tensor]:
    """The training pass on the recorded draws: the mixture that the decoder sees, what it predicts, the loss."""
    given, decoder, total = case.inputs, model.decoder, model.config.num_registers
    normal = [ours(given[name]) for name in ("posterior_noise", "flow_noise") if name in given]
    times = draws_of_times(decoder.flow_times, given["sigmas"])
    kept, with_codes = draws_of_lengths(decoder.nested_dropout, given["keep_k"], total), torch.ones(len(features))
    noise = RecordedNoise(normal=[*normal[:-1], *times["normal"], normal[-1]], uniform=[*times["uniform"], kept, with_codes])
    seen = []
    hook = decoder.register_forward_hook(lambda _module, inputs, output: seen.append((inputs[0], output)))
    output = model.train()(given["images"] / 2 + 0.5, noise=noise)
    hook.remove()
    model.eval()
    ((noisy, velocity),) = seen
    loss = flow_loss(velocity, features, normal[-1])
    torch.testing.assert_close(output.losses["flow"], loss.mean())
    return {"rf.noised": theirs(noisy), "rf.velocity": theirs(velocity), "rf.loss_per_sample": loss}


@pytest.mark.parametrize("case", cases("flextok"))
def test_save_and_load(case: ReferenceCase, tmp_path):
    model = load(case)
    visiontok.save_pretrained(model, tmp_path / "model")
    loaded = visiontok.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    tokens = loaded.encode(case.inputs["images"] / 2 + 0.5)
    assert torch.equal(tokens.indices, model.encode(case.inputs["images"] / 2 + 0.5).indices)
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))
