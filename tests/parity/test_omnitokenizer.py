"""OmniTokenizer against the authors' code: every stage, tokens, latents and reconstructions, of clips and of images with the same weights."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, Taps, cases

import visiontok
from visiontok.quantizers.continuous import GaussianBottleneck
from visiontok.tokenizers.video.omnitokenizer.model import OmniTokenizer


@pytest.mark.parametrize("case", cases("omnitokenizer", lambda case: "patch_size" in case.config))
@torch.no_grad()
def test_omnitokenizer(case: ReferenceCase) -> None:
    model = visiontok.from_reference("omnitokenizer", case.config, case.weights)
    assert isinstance(model, OmniTokenizer)
    ours: dict[str, torch.Tensor] = {}
    for name in ("video", "image"):
        pixels = case.inputs[name]
        clips = (pixels if pixels.ndim == 5 else pixels[:, :, None]) + 0.5
        seen = stages(model, clips)
        output = model(clips)
        tokens = model.encode(clips)
        found = {**seen.seen, "reconstruction": output.reconstruction - 0.5}
        latents = model.encode_latents(clips)
        found["pre_quant"] = latents.movedim(-1, 1)
        if isinstance(model.quantizer, GaussianBottleneck):
            found["posterior_mean"] = tokens.view().movedim(-1, 1)
        else:
            found["token_indices"] = tokens.view()
            found["quantized"] = output.latents.movedim(-1, 1)
            found["commitment_loss"] = output.losses["commitment"]
            found["reconstruction_from_indices"] = model.decode_latents(model.lookup(tokens.view())) - 0.5
        torch.testing.assert_close(model.decode(tokens), output.reconstruction.clamp(0, 1))
        for key in ("reconstruction", "reconstruction_from_indices"):
            if key in found and pixels.ndim == 4:
                found[key] = found[key][:, :, 0]
        ours |= {f"{name}.{key}": value for key, value in found.items()}
    case.compare(ours)


def stages(model: OmniTokenizer, clips: torch.Tensor) -> Taps:
    """The outputs of parts of the networks for these clips."""
    names = {
        "patch_first": "encoder.embed_first",
        "enc_spatial": "encoder.spatial",
        **{f"enc_spatial.attn{number}": f"encoder.spatial.layers.{number}.attn" for number in range(len(model.encoder.spatial.layers))},
        "enc_temporal": "encoder.temporal",
        "dec_temporal": "decoder.temporal",
        "dec_spatial": "decoder.spatial",
        **({"patch_rest": "encoder.embed_rest"} if clips.shape[2] > 1 else {}),
    }
    taps = Taps(model, names)
    model(clips)
    return taps
