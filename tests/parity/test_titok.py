"""TiTok and TA-TiTok against the authors' code: tokens exact, every stage, losses and gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from reference_case import ReferenceCase, Taps, cases
from safetensors.torch import load_file
from torch import Tensor

import visiontok
from visiontok.base.noise import RecordedNoise
from visiontok.decoders.vit import PixelHead
from visiontok.losses.adversarial import generator_hinge
from visiontok.losses.objectives import TeacherCodesConfig
from visiontok.quantizers import ClusteringConfig, GaussianBottleneckConfig, VectorQuantizerConfig
from visiontok.tokenizers.image.tatitok.model import TaTiTok
from visiontok.tokenizers.image.titok.model import TiTok
from visiontok.tokenizers.image.titok.reference import objective_from_reference

Decode = Callable[[Tensor], Tensor]


def kind(case: ReferenceCase) -> str:
    if "loss_class" in case.config:
        return "loss"
    return "model" if "model" in case.config else "quantizer"


def of_kind(name: str) -> list[Any]:
    systems = ("titok",) if name == "loss" else ("titok", "tatitok")
    return [parameter for system in systems for parameter in cases(system, lambda case: kind(case) == name)]


def load(case: ReferenceCase) -> TiTok | TaTiTok:
    return visiontok.from_reference(case.path.parent.name, {**case.config, "overrides": case.meta.get("overrides", {})}, case.weights)


def text_of(case: ReferenceCase) -> dict[str, Tensor]:
    """What the decoder reads beside the latents."""
    return {"text": case.inputs["text_guidance"]} if "text_guidance" in case.inputs else {}


def decoding(model: TiTok | TaTiTok, case: ReferenceCase) -> Decode:
    return partial(model.decode_latents, **text_of(case)) if isinstance(model, TaTiTok) else model.decode_latents


def theirs(latents: Tensor) -> Tensor:
    """(B, N, C) as the authors' (B, C, 1, N)."""
    return latents.transpose(1, 2)[:, :, None]


def tap_names(model: TiTok | TaTiTok) -> dict[str, str]:
    names = {"tap.encoder.patch_embed": "encoder.patch_embed", "tap.decoder.decoder_embed": "decoder.embed"}
    for net in ("encoder", "decoder"):
        names |= {f"tap.{net}.ln_pre": f"{net}.norm_pre", f"tap.{net}.ln_post": f"{net}.norm_post"}
        names |= {f"tap.{net}.transformer.{i}": f"{net}.blocks.{i}" for i in range(len(getattr(model, net).blocks))}
    if isinstance(model, TaTiTok):
        names["tap.decoder.text_guidance_proj"] = "decoder.text.proj"
    return names


def quantize(model: TiTok | TaTiTok, case: ReferenceCase, latents: Tensor):
    if "noise" in case.inputs:
        return model.quantizer(latents, noise=RecordedNoise(normal=[case.inputs["noise"][:, :, 0].transpose(1, 2)]))
    return model.quantizer(latents)


@pytest.mark.parametrize("case", of_kind("model"))
def test_every_stage(case: ReferenceCase):
    model = load(case)
    taps = Taps(model, tap_names(model))
    is_continuous = isinstance(model.config.quantizer, GaussianBottleneckConfig)
    has_pixel_decoder = isinstance(model, TiTok) and model.pixel_decoder is not None
    if isinstance(model.head, PixelHead):
        model.head.conv.register_forward_pre_hook(lambda _module, inputs: taps.seen.update({"tap.decoder.ffn": inputs[0]}))

    decode = decoding(model, case)
    latents = model.encode_latents(case.inputs["image"])
    quantized = quantize(model, case, latents)
    predicted = model.head(model.decoder(quantized.latents, **text_of(case)))
    ours = {"z": theirs(latents), "z_quantized": theirs(quantized.latents), "decoder_output": predicted}
    if is_continuous:
        ours |= posterior(model, case, latents, decode)
    else:
        ours |= codes(model, case, quantized, decode)
    if has_pixel_decoder:
        ours |= {"pixel_soft_latents": model.soft_pixel_latents(predicted), "reconstruction": decode(quantized.latents)}
    if "target_codes" in case.inputs:
        ours |= first_stage(predicted, case, quantized.losses)
    if "grad.loss" in case.outputs:
        ours |= gradients(model, case, decode)
        decode(ours["posterior.mode"][:, :, 0].transpose(1, 2) if is_continuous else model.quantizer.lookup(quantized.indices))
    ours |= {name: seen.transpose(0, 1) if ".transformer." in name else seen for name, seen in taps.seen.items()}
    case.compare(ours)


def posterior(model: TiTok | TaTiTok, case: ReferenceCase, latents: Tensor, decode: Decode) -> dict[str, Tensor]:
    mean, logvar = model.quantizer.posterior(latents)
    sample = quantize(model, case, latents).latents
    mode = model.quantizer(latents).latents
    assert torch.equal(model.encode(case.inputs["image"]).values, mode)
    return {
        "posterior.mean": theirs(mean),
        "posterior.logvar": theirs(logvar),
        "posterior.std": theirs(torch.exp(logvar / 2)),
        "posterior.var": theirs(logvar.exp()),
        "posterior.mode": theirs(mode),
        "posterior.sample": theirs(sample),
        "posterior.kl": model.quantizer.kl_per_token(latents),
        "decode_tokens": decode(sample),
        "decode_tokens_of_mode": decode(mode),
    }


def codes(model: TiTok | TaTiTok, case: ReferenceCase, quantized, decode: Decode) -> dict[str, Tensor]:
    tokens = model.encode(case.inputs["image"])
    assert torch.equal(tokens.indices, quantized.indices)
    looked_up = model.quantizer.lookup(quantized.indices)
    decoded = decode(looked_up)
    if decoded.shape == case.inputs["image"].shape:
        assert torch.equal(model.decode(tokens, **text_of(case)), decoded.clamp(0, 1))
    losses = {**quantized.losses, "quantizer": sum(quantized.losses.values())}
    # The authors switch the losses of a model with a pixel decoder off, since its encoder is frozen.
    scale = 0.0 if isinstance(model, TiTok) and model.pixel_decoder is not None else 1.0
    return {
        "min_encoding_indices": quantized.indices[:, None],
        "latents_decoded_from_indices": theirs(looked_up),
        "decode_tokens": decoded,
        **{f"quantize.{name}_loss": loss for name, loss in losses.items()},
        **{f"encode.{name}_loss": loss * scale for name, loss in losses.items()},
    }


def first_stage(logits: Tensor, case: ReferenceCase, quantizer_losses: dict[str, Tensor]) -> dict[str, Tensor]:
    objective = TeacherCodesConfig(teacher="maskgit-vqgan-f16-256").build()
    terms = objective.generator_terms(logits, case.inputs["target_codes"].view(logits[:, 0].shape), quantizer_losses, step=0)
    return {
        "stage1.reconstruction_loss": terms["teacher_codes"],
        "stage1.total_loss": sum(terms.values()),
        "stage1.argmax_codes": logits.argmax(dim=1),
    }


def gradients(model: TiTok | TaTiTok, case: ReferenceCase, decode: Decode) -> dict[str, Tensor]:
    image = case.inputs["image"]
    quantized = quantize(model, case, model.encode_latents(image))
    loss = torch.nn.functional.mse_loss(image, decode(quantized.latents)) + sum(quantized.losses.values())
    model.zero_grad()
    loss.backward()
    found = {
        "grad.loss": loss,
        "grad.latent_tokens": model.encoder.latent_tokens.grad,
        "grad.encoder.conv_out.weight": model.encoder.to_latents.weight.grad[:, :, None, None],
        "grad.decoder.decoder_embed.weight": model.decoder.embed.weight.grad,
    }
    if not isinstance(model.config.quantizer, GaussianBottleneckConfig):
        found["grad.quantize.embedding.weight"] = model.quantizer.codebook.grad
    return found


@pytest.mark.parametrize("case", of_kind("quantizer"))
def test_quantizer_alone(case: ReferenceCase):
    normalize = case.config["use_l2_norm"]
    quantizer = VectorQuantizerConfig(
        codebook_size=case.config["codebook_size"],
        dim=case.config["token_size"],
        normalize_latents=normalize,
        normalize_codes=normalize,
        commitment_weight=case.config["commitment_cost"],
        clustering=ClusteringConfig() if case.config["clustering_vq"] else None,
    ).build()
    usage = {"clustering.usage": case.weights["embed_prob"]} if case.config["clustering_vq"] else {}
    quantizer.load_state_dict({"codebook": case.weights["embedding.weight"], **usage})
    ours, excluded = {}, {}
    steps = sorted(int(name.split(".")[1]) for name in case.inputs if name.startswith("z."))
    for step in steps:
        quantizer.zero_grad()
        z = case.inputs[f"z.{step}"].clone().requires_grad_(True)
        quantized = quantizer(z[:, :, 0].transpose(1, 2))
        (sum(quantized.losses.values()) + (theirs(quantized.latents) * case.inputs["cotangent"]).sum()).backward()
        ours |= {
            f"{step}.z_quantized": theirs(quantized.latents),
            f"{step}.indices": quantized.indices[:, None],
            f"{step}.commitment_loss": quantized.losses["commitment"],
            f"{step}.codebook_loss": quantized.losses["codebook"],
            f"{step}.quantizer_loss": sum(quantized.losses.values()),
            f"{step}.grad_z": z.grad,
            f"{step}.grad_embedding": quantizer.codebook.grad.clone(),
        }
        if case.config["clustering_vq"]:
            ours |= {
                f"{step}.embedding_after": quantizer.codebook.detach().clone(),
                f"{step}.embed_prob_after": quantizer.clustering.usage.clone(),
            }
    evaluated = quantizer.eval()(case.inputs["z.0"][:, :, 0].transpose(1, 2))
    ours |= {"eval.indices": evaluated.indices[:, None], "eval.z_quantized": theirs(evaluated.latents)}
    if normalize:
        excluded["soft_entry"] = "the authors mix the codes as they are stored, `soft_lookup` those of the unit sphere that tokens stand for"
    else:
        ours["soft_entry"] = quantizer.soft_lookup(case.inputs["soft"])
    case.compare(ours, without_counterpart=excluded)


def objective_of(case: ReferenceCase):
    config = objective_from_reference(case.config)
    objective = config.build()
    objective.perceptual = Stub(case.inputs["perceptual_value"].mean())
    weights = {name.removeprefix("discriminator."): value for name, value in case.weights.items() if name.startswith("discriminator.")}
    objective.adversaries["gan"].discriminator.load_state_dict(weights)
    if objective.adversaries["gan"].lecam is not None:
        objective.adversaries["gan"].lecam.real_mean.copy_(case.weights["ema_real_logits_mean"])
        objective.adversaries["gan"].lecam.fake_mean.copy_(case.weights["ema_fake_logits_mean"])
    return objective


class Stub(torch.nn.Module):
    """The perceptual networks are replaced by a recorded value, as in the fixture."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        return self.value


@pytest.mark.parametrize("case", of_kind("loss"))
def test_losses(case: ReferenceCase):
    objective = objective_of(case)
    losses, image = case.config["losses"], case.inputs["image"]
    start = losses["discriminator_start"]
    ours = {}
    if case.config["model"]["vq_model"]["quantize_mode"] == "vae":
        bottleneck = GaussianBottleneckConfig(dim=case.inputs["posterior_parameters"].shape[1] // 2, kl_weight=losses.get("kl_weight", 1e-6)).build()
        parameters = case.inputs["posterior_parameters"][:, :, 0].transpose(1, 2)
        quantizer_losses = bottleneck(parameters).losses
        ours["posterior.kl"] = bottleneck.kl_per_token(parameters)
    else:
        quantizer_losses = {"quantizer": case.inputs["quantizer_loss"]}
    for name, step in (("before_start", start - 1), ("at_start", start)):
        reconstruction = case.inputs["reconstruction"].clone().requires_grad_(True)
        terms = objective.generator_terms(reconstruction, image, quantizer_losses, step=step)
        sum(terms.values()).backward()
        entries = {
            "total_loss": sum(terms.values()),
            "reconstruction_loss": terms["reconstruction"],
            "perceptual_loss": terms["perceptual"],
            "weighted_gan_loss": terms.get("gan", torch.zeros(())),
            "gan_loss": generator_hinge(objective.adversaries["gan"].discriminator(reconstruction)) if "gan" in terms else torch.zeros(()),
            "grad_reconstruction": reconstruction.grad,
        }
        if "kl" in terms:
            entries["kl_loss"] = terms["kl"]
        else:
            entries["quantizer_loss"] = terms["quantizer"]
        ours |= {f"generator.{name}.{entry}": value for entry, value in entries.items()}
        assert objective.discriminator_terms(reconstruction, image, step=start - 1) == {}
    for step in (0, 1):
        objective.adversaries["gan"].discriminator.zero_grad()
        terms = objective.discriminator_terms(case.inputs["reconstruction"], image, step=start + step)
        total = sum(terms.values())
        total.backward()
        ours |= {
            f"discriminator.step{step}.loss": total,
            f"discriminator.step{step}.lecam_loss": terms.get("lecam", torch.zeros(())),
            f"discriminator.step{step}.logits_real": objective.adversaries["gan"].discriminator(image).mean(),
            f"discriminator.step{step}.logits_fake": objective.adversaries["gan"].discriminator(case.inputs["reconstruction"]).mean(),
            f"discriminator.step{step}.grad_to_logits.2.weight": objective.adversaries["gan"].discriminator.to_logits[2].weight.grad.clone(),
        }
        if objective.adversaries["gan"].lecam is not None:
            ours[f"discriminator.step{step}.ema_real_logits_mean_after"] = objective.adversaries["gan"].lecam.real_mean.clone()
            ours[f"discriminator.step{step}.ema_fake_logits_mean_after"] = objective.adversaries["gan"].lecam.fake_mean.clone()
    blocks = {f"tap.discriminator.blocks.{i}(image)": f"blocks.{i}" for i in range(len(objective.adversaries["gan"].discriminator.blocks))}
    taps = Taps(objective.adversaries["gan"].discriminator, {**blocks, "tap.discriminator.pool(image)": "pool"})
    ours |= {"discriminator.logits_real": objective.adversaries["gan"].discriminator(image)}
    ours |= {name: value[:1, :8] for name, value in taps.seen.items()}
    ours |= {"discriminator.logits_fake": objective.adversaries["gan"].discriminator(case.inputs["reconstruction"])}
    case.compare(ours)


@pytest.mark.parametrize("case", of_kind("model"))
def test_save_and_load(case: ReferenceCase, tmp_path):
    model = load(case)
    visiontok.save_pretrained(model, tmp_path / "model")
    loaded = visiontok.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert set(saved) == set(model.state_dict())
    image = case.inputs["image"]
    assert torch.equal(loaded.encode_latents(image), model.encode_latents(image))
