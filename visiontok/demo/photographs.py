"""Held-out photographs and their reconstructions by the bundled checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import EvalLoader, open_source
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.metrics.fidelity import psnr
from visiontok.hub import from_pretrained
from visiontok.tokens import Tokens


@dataclass(frozen=True, eq=False)
class Photographs:
    """Held-out photographs, their tokens and reconstructions.

    Attributes:
        model: name of the tokenizer.
        names: one per photograph.
        originals, reconstructions: (B, 3, S, S) uint8.
        tokens: (B, L).
        psnr: in dB, one per photograph.
    """

    model: str
    names: tuple[str, ...]
    originals: Tensor
    reconstructions: Tensor
    tokens: Tokens
    psnr: tuple[float, ...]


def reconstruct_photographs(model: str) -> Photographs:
    """Encode and decode the built-in held-out photographs, resized and center-cropped by the tokenizer's preprocessing.

    Raises:
        ConfigError: if the model is a generator or has continuous latents.
    """
    tokenizer = from_pretrained(model)
    if not isinstance(tokenizer, Tokenizer):
        raise ConfigError(f"photo_model: {model} is no tokenizer; name one")
    loader = EvalLoader(open_source("photos:heldout"), preprocessing=tokenizer.preprocessing, batch_size=1)
    names: list[str] = []
    originals, reconstructions, tokens = [], [], []
    for batch in loader:
        encoded = tokenizer.encode(batch.signals.values)
        if not isinstance(encoded, Tokens):
            raise ConfigError(f"photo_model: {model} has continuous latents; name a tokenizer with a codebook")
        names.extend(batch.keys)
        originals.append(to_uint8(batch.signals.values))
        reconstructions.append(to_uint8(tokenizer.decode(encoded)))
        tokens.append(encoded)
    before, after = torch.cat(originals), torch.cat(reconstructions)
    return Photographs(model, tuple(names), before, after, Tokens.cat(tokens), tuple(psnr(before, after, data_range=255).tolist()))
