"""What the single tokens of a picture stand for, by changing one at a time."""

from __future__ import annotations

from typing import Any

import torch

from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation.results.report import PictureRow, Pictures, to_pictures
from visiontok.tokens import Tokens


def what_single_tokens_change(tokenizer: Tokenizer[Any], tokens: Tokens) -> Pictures:
    """Every picture with one token at a time taken from the next picture.

    Args:
        tokenizer: that decodes them.
        tokens: of a few pictures.
    """
    places = torch.arange(tokens.layout.length)
    captions = ["all", *(str(place) for place in places.tolist())]
    rows = []
    for ids, donor in zip(tokens.indices, tokens.indices.roll(-1, dims=0), strict=True):
        swapped = ids.repeat(len(ids) + 1, 1)
        swapped[places + 1, places] = donor
        rows.append(PictureRow("", to_pictures(tokenizer.decode(Tokens(swapped, tokens.layout))), captions))
    return Pictures(
        "What single tokens change",
        rows,
        width=40,
        note="First the reconstruction; then the same with one token, whose place stands below, taken from the digit of the next line.",
    )
