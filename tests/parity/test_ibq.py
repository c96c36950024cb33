"""IBQ against the authors' code. Its tokenizer: tokens exact, losses and gradients, last and averaged weights.

Its generator: logits and sampled sequences.
"""

from __future__ import annotations

import pytest
import torch
from next_token import sampled, teacher_forced
from reference_case import ReferenceCase, Taps, cases

import visiontok
from visiontok.tokenizers.image.ibq.model import ENTROPY_WEIGHT


def is_tokenizer(case: ReferenceCase) -> bool:
    return not case.path.name.startswith("gpt")


@pytest.mark.parametrize("case", cases("ibq", is_tokenizer))
def test_every_stage(case: ReferenceCase):
    model = visiontok.from_reference("ibq", case.config, case.weights)
    taps = Taps(model, {"encoder_out": "encoder", "quant_conv_out": "quant_conv", "post_quant_conv_out": "post_quant_conv"})
    image = (case.inputs["image"] + 1) / 2  # theirs lie in [-1, 1]

    latents = model.encode_latents(image)
    quantized = model.quantizer(latents)
    tokens = model.encode(image)
    decoded = model.decode_latents(quantized.latents)
    assert torch.equal(tokens.indices.flatten(), case.outputs["indices"])
    assert torch.equal(model.quantizer.lookup(quantized.indices), quantized.latents)
    torch.testing.assert_close(model.decode(tokens), decoded.clamp(0, 1), rtol=0, atol=1e-5)
    ours = {
        "indices": quantized.indices.flatten(),
        "quant": quantized.latents.permute(0, 3, 1, 2),
        "codebook_entry": model.quantizer.lookup(quantized.indices).permute(0, 3, 1, 2),
        "reconstruction": decoded * 2 - 1,
    }
    case.compare(ours | taps.seen | losses(model, case))


def losses(model, case: ReferenceCase) -> dict[str, torch.Tensor]:
    z = case.outputs["quant_conv_out"].clone().requires_grad_(True)
    quantized = model.quantizer.train()(z.permute(0, 2, 3, 1))
    (sum(quantized.losses.values()) + (quantized.latents.permute(0, 3, 1, 2) * case.inputs["grad_out"]).sum()).backward()
    model.eval()
    found = {
        "quant_loss": sum(quantized.losses[name] for name in ("index", "commitment", "codebook")),
        "grad_z": z.grad,
        "grad_embedding": model.quantizer.codebook.grad,
    }
    if "entropy" in quantized.losses:
        found |= {
            "entropy_loss": quantized.losses["entropy"] / ENTROPY_WEIGHT,
            "sample_entropy": quantized.stats["sample_entropy"],
            "avg_entropy": quantized.stats["batch_entropy"],
        }
    return found


@pytest.mark.parametrize("case", cases("ibq", is_tokenizer))
def test_save_and_load(case: ReferenceCase, tmp_path):
    model = visiontok.from_reference("ibq", case.config, {**case.weights, "loss.discriminator.main.0.bias": torch.zeros(1)})
    visiontok.save_pretrained(model, tmp_path / "model")
    loaded = visiontok.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    assert torch.equal(loaded.encode((case.inputs["image"] + 1) / 2).indices.flatten(), case.outputs["indices"])


@pytest.mark.parametrize("case", cases("ibq", lambda case: is_tokenizer(case) and not case.config["use_ema"]))
def test_averages_are_loaded_when_the_configuration_says_so(case: ReferenceCase):
    averages = {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in case.weights.items()}
    last = {name: torch.zeros_like(tensor) for name, tensor in case.weights.items()}
    averaged = visiontok.from_reference("ibq", {**case.config, "use_ema": True}, {**last, **averages, "model_ema.decay": torch.tensor(0.999)})
    expected = visiontok.from_reference("ibq", case.config, case.weights).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in averaged.state_dict().items())


@pytest.mark.parametrize("case", cases("ibq", lambda case: not is_tokenizer(case)))
@torch.no_grad()
def test_generator(case: ReferenceCase):
    model = visiontok.from_reference("ibq", case.config, case.weights)
    tokens, watched = sampled(model, case.inputs["sample_cls"][:, 0].long(), case.inputs["exp_noise"])
    case.compare(
        {
            "logits": teacher_forced(model, case.inputs["tokens"].long(), case.inputs["cls"].long())[0],
            "sampled": tokens.indices,
            "probs": torch.stack(watched.probabilities),
        }
    )
