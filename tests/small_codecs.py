"""Small audio codecs with random weights, and sounds for them."""

from __future__ import annotations

from typing import Any

import torch
from small_models import SMALL
from torch import Tensor

import visiontok
from visiontok import registry
from visiontok.tokenizers.shared.codec import Codec

CHUNKED = {
    **SMALL["encodec"], "num_filters": 4, "audio_channels": 2, "normalize": True, "norm_type": "time_group_norm", "use_causal_conv": False,
    "chunk_length_s": 0.1, "overlap": 0.2,
}  # fmt: skip
_FOCAL = SMALL["focalcodec"]
CAUSAL = {
    **_FOCAL,
    "encoder": {**_FOCAL["encoder"], "causal": True, "window": 12, "lookahead": 3},
    "compressor": {**_FOCAL["compressor"], "causal": True, "window": 9},
    "decompressor": {**_FOCAL["decompressor"], "causal": True, "window": 9, "last_window": 5, "lookahead": 3},
    "decoder": {**_FOCAL["decoder"], "head": "wavenext", "hop": 15, "causal": True},
}
CODECS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        name: (name, SMALL[name])
        for name, family in registry.families().items()
        if family.kind == "tokenizer" and "audio" in family.modalities and issubclass(family.model_class(), Codec)
    },
    "encodec, stereo": ("encodec", {**SMALL["encodec"], "audio_channels": 2}),
    "encodec, stereo in chunks": ("encodec", CHUNKED),
    "focalcodec, causal": ("focalcodec", CAUSAL),
    "mimi, stereo": ("mimi", {**SMALL["mimi"], "audio_channels": 2}),
}


def build(name: str) -> Codec[Any]:
    """With random weights, and codes of which different latents take different ones."""
    family, config = CODECS[name]
    torch.manual_seed(0)
    model = visiontok.create(family, **config).eval()
    assert isinstance(model, Codec)
    with torch.no_grad():
        latents = model.encode_latents(model.preprocessing.pad(sound(model, 64 * model.hop)[None])).flatten(0, 1)
    for key, buffer in model.named_buffers():
        if key.endswith(("codebook.embed", "codebook.embed_sum")):
            buffer.normal_(generator=torch.Generator().manual_seed(len(key)))
            if buffer.shape[1:] == latents.shape[1:]:  # codes as far apart as the latents, at the first level around their mean
                buffer.mul_(latents.std(dim=0)).add_(latents.mean(dim=0) if ".0." in key else 0.0)
    return model


def sound(model: Codec[Any], length: int, seed: int = 0) -> Tensor:
    """(C, T) of noise."""
    return torch.rand(model.preprocessing.spec.channels, length, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8
