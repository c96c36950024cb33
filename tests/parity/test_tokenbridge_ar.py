"""TokenBridge's generators against the authors' code: backbone, teacher-forced and sampling logits, loss, whole sampled sequences."""

from __future__ import annotations

import pytest
import torch
from masked_latents import condition_rows, grid, mask_draws, storage
from reference_case import ReferenceCase, cases
from torch import Tensor

import visiontok
from visiontok.base.noise import GeneratorNoise, RecordedNoise
from visiontok.generators.tokenbridge_ar.model import TokenBridgeGenerator
from visiontok.generators.tokenbridge_ar.reference import CHANNEL_ORDER, sampling_from_reference
from visiontok.tokens import Tokens


class RecordedOrders(GeneratorNoise):
    """Recorded permutations; everything else from torch's global state."""

    def __init__(self, orders: Tensor) -> None:
        super().__init__(None, torch.device("cpu"))
        self.orders = orders

    def permutation(self, samples: int, length: int) -> Tensor:
        return self.orders


def backbone(model: TokenBridgeGenerator, case: ReferenceCase, values: Tensor) -> dict[str, Tensor]:
    mask, labels = case.inputs["mask"].bool(), case.inputs["labels"]
    kept, held = model.backbone.known_rows(mask)
    encoded = model.backbone.encode(values, kept, held, condition_rows(model, labels, dropped=False))
    return {
        "encoder_out": encoded,
        "decoder_out": model.backbone.decode(encoded, kept, held),
        "decoder_out_uncond": model.backbone(values, mask, condition_rows(model, labels, dropped=True)),
    }


def head(model: TokenBridgeGenerator, case: ReferenceCase, features: Tensor, codes: Tensor) -> dict[str, Tensor]:
    mask = case.inputs["mask"].bool()
    uniform, order = mask_draws(mask, model.config.least_masked)
    noise = RecordedNoise(uniform=[uniform], permutation=[order])
    seen = []

    def most_likely(logits: Tensor, _unconditional: Tensor | None, _codebook: int) -> Tensor:
        seen.append(logits)
        return logits.argmax(dim=-1)

    drawn = model.head.sample(features[mask], None, model._plan, model.embed, most_likely)
    return {
        "logits": torch.stack(model.head.logits(features[mask], codes[mask][:, CHANNEL_ORDER]), dim=1),
        "loss": model(Tokens(codes.flatten(1), model.layout), case.inputs["labels"], noise=noise)["loss"],
        "head_argmax_tokens_ar_order": drawn[:, CHANNEL_ORDER],
        "head_sampling_logits": torch.stack(seen, dim=1),
    }


@pytest.mark.parametrize("case", cases("tokenbridge-ar"))
@torch.no_grad()
def test_logits_loss_and_samples(case: ReferenceCase):
    model = visiontok.from_reference("tokenbridge-ar", case.config, case.weights)
    quantizer = model.config.code_values.build()
    latents = storage(case.inputs["latents"])
    codes = quantizer(latents).indices
    ours = {
        "patchified": latents,
        "quant_indices": codes,
        "quant_values": model.embed(codes),
        "channel_order": torch.tensor(CHANNEL_ORDER),
        "inv_channel_order": torch.tensor(model.head._inverse_order),
        "tokens_ar_order": codes[..., CHANNEL_ORDER],
    }
    ours |= backbone(model, case, model.embed(codes))
    ours |= head(model, case, ours["decoder_out"], codes)
    other_stream: dict[str, str] = {}
    for name, arguments in case.config["_sampling"].items():
        # On the CPU torch.multinomial with one sample is the division by exponential draws from the global state.
        if torch.__version__.startswith("2.6.") and "torch_seed" in arguments:
            other_stream[f"{name}.*"] = "torch 2.6 draws other exponential numbers from the same seed than the recording did"
            continue
        torch.manual_seed(arguments.get("torch_seed", 0))
        sampler = sampling_from_reference({key: value for key, value in arguments.items() if key != "torch_seed"}).sampler()
        tokens = model.generate(case.inputs["labels"], sampler=sampler, noise=RecordedOrders(case.inputs["orders"])).validate()
        drawn = tokens.view()
        ours[f"{name}_tokens"], ours[f"{name}_latents"] = drawn.flatten(1, 2), grid(model.embed(drawn))
    case.compare(ours, without_counterpart=other_stream)
