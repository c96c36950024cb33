"""Photographs that the bundled checkpoint never saw, before and after."""

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
    """Held-out photographs and what a tokenizer makes of them.

    Attributes:
        model: its name.
        names: of the photographs.
        originals, reconstructions: (B, 3, S, S) uint8.
        tokens: of all of them.
        psnr: in dB, one per photograph.
    """

    model: str
    names: tuple[str, ...]
    originals: Tensor
    reconstructions: Tensor
    tokens: Tokens
    psnr: tuple[float, ...]


def reconstruct_photographs(model: str) -> Photographs:
    """Encode and decode the built-in held-out photographs, whole: resized and centre-cropped by the model's own preprocessing.

    Raises:
        ConfigError: if the model is a generator or has no ids.
    """
    tokenizer = from_pretrained(model)
    if not isinstance(tokenizer, Tokenizer):
        raise ConfigError(f"{model} is a generator; name a tokenizer")
    loader = EvalLoader(open_source("photos:heldout"), preprocessing=tokenizer.preprocessing, batch_size=1)
    names: list[str] = []
    originals, reconstructions, tokens = [], [], []
    for batch in loader:
        ids = tokenizer.encode(batch.signals.values)
        if not isinstance(ids, Tokens):
            raise ConfigError(f"{model} has continuous latents and so no ids to draw")
        names.extend(batch.keys)
        originals.append(to_uint8(batch.signals.values))
        reconstructions.append(to_uint8(tokenizer.decode(ids)))
        tokens.append(ids)
    before, after = torch.cat(originals), torch.cat(reconstructions)
    return Photographs(model, tuple(names), before, after, Tokens.cat(tokens), tuple(psnr(before, after, data_range=255).tolist()))
