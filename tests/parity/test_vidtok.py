"""VidTok against the authors' code: every stage, tokens, losses, reconstructions, and the chunks in which its second version takes long clips."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference_case import ReferenceCase, Taps, cases
from torch import Tensor

import visiontok
from visiontok.quantizers import FiniteScalarQuantizer, GaussianBottleneck
from visiontok.tokenizers.video.vidtok.model import VidTok
from visiontok.tokenizers.video.vidtok.tiling import TilingConfig
from visiontok.tokens import Tokens

STAGES = {"enc": "encoder", "dec": "decoder"}


def model_of(case: ReferenceCase) -> VidTok:
    model = visiontok.from_reference("vidtok", case.config, case.weights)
    assert isinstance(model, VidTok)
    return model


def unit_range(pixels: Tensor) -> Tensor:
    """Their [-1, 1] to ours."""
    return pixels / 2 + 0.5


def first(latents: Tensor) -> Tensor:
    """Channels behind the batch, as theirs are."""
    return latents.movedim(-1, 1)


def reconstructed(model: VidTok, latents: Tensor) -> Tensor:
    """What their decoder returns: in the second version with the frames before the first one, which only their whole pass drops."""
    if model.config.time == "causal-v1.1":
        return model.decoder(first(latents))
    return model.decode_latents(latents) * 2 - 1


@pytest.mark.parametrize("case", cases("vidtok"))
@torch.no_grad()
def test_every_stage(case: ReferenceCase) -> None:
    model, clip = model_of(case), unit_range(case.inputs["pixels"])
    names = [name for name in case.outputs if name.partition(".")[0] in STAGES]
    taps = Taps(model, {name: f"{STAGES[name.partition('.')[0]]}.{name.partition('.')[2]}" for name in names})
    latents = model.encode_latents(clip)
    ours: dict[str, Tensor] = {"pre_quant": first(latents)}
    quantizer = model.quantizer
    if isinstance(quantizer, FiniteScalarQuantizer):
        found = quantizer(latents)
        assert found.indices is not None
        ours |= {
            "fsq_bounded": quantizer.bound(latents),
            "quantized": first(found.latents),
            "token_indices": found.indices,
            "aux_loss": aux_loss(model, latents, step=0),
            "aux_loss_step1000": aux_loss(model, latents, step=1000),
            "reconstruction_from_indices": reconstructed(model, quantizer.lookup(found.indices)),
            "reconstruction": reconstructed(model, found.latents),
        }
    else:
        assert isinstance(quantizer, GaussianBottleneck)
        mean, logvar = quantizer.posterior(latents)
        loss = quantizer(latents).losses["kl"] / quantizer.config.kl_weight
        ours |= {"posterior_mean": first(mean), "posterior_logvar": first(logvar), "kl_loss": loss, "reconstruction": reconstructed(model, mean)}
    case.compare({**ours, **taps.seen}, without_counterpart={"tiled_.*": "of the other test"})


def aux_loss(model: VidTok, latents: Tensor, *, step: int) -> Tensor:
    """The sum of the quantizer's losses in training."""
    model.quantizer.train()
    losses = model.quantize(latents, step=step, noise=None).losses
    model.quantizer.eval()
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("case", cases("vidtok"))
@torch.no_grad()
def test_clips_through_the_contract(case: ReferenceCase) -> None:
    model, clip = model_of(case), unit_range(case.inputs["pixels"])
    if model.preprocessing.padded_size(clip.shape[2:]) != tuple(clip.shape[2:]):
        return  # padded otherwise than theirs
    tokens = model.encode(clip)
    decoded = model.decode(tokens) * 2 - 1
    assert decoded.shape == clip.shape
    expected = case.outputs["reconstruction"][:, :, -clip.shape[2] :].clamp(-1, 1)
    torch.testing.assert_close(decoded, expected, rtol=0, atol=case.tolerance)
    if isinstance(tokens, Tokens):
        assert torch.equal(tokens.view(), case.outputs["token_indices"])


def tiled(case: ReferenceCase) -> bool:
    return "tiling" in case.config


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("case", cases("vidtok", tiled))
@torch.no_grad()
def test_the_authors_chunks(case: ReferenceCase, overlap: bool) -> None:
    whole = model_of(case)
    tiling = TilingConfig(frames=case.config["tiling"]["t_chunk_enc"], overlap=overlap)
    model = VidTok(whole.config.model_copy(update={"tiling": tiling})).eval()
    model.load_state_dict(whole.state_dict())
    found: Any = model.quantizer(model.encode_latents(unit_range(case.inputs["pixels"])))
    expected = f"tiled_overlap{int(overlap)}."
    case.check(expected + "quantized", first(found.latents))
    case.check(expected + "token_indices", found.indices)
    kept = case.outputs[expected + "reconstruction"][:, :, model.config.time_factor - 1 :]
    torch.testing.assert_close(model.decode_latents(found.latents) * 2 - 1, kept, rtol=0, atol=case.tolerance)
    assert not torch.allclose(whole.decode_latents(found.latents) * 2 - 1, kept, rtol=0, atol=case.tolerance)
