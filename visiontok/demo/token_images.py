"""What the single tokens of an image encode, by replacing one at a time."""

from __future__ import annotations

from typing import Any

import torch

from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation.results.report import ImageGrid, ImageRow, to_image_arrays
from visiontok.tokens import Tokens


def single_token_swaps(tokenizer: Tokenizer[Any], tokens: Tokens) -> ImageGrid:
    """Every sample decoded with one token at a time taken from the next sample.

    Args:
        tokenizer: decodes them.
        tokens: (B, L) of a few images.
    """
    positions = torch.arange(tokens.layout.length, dtype=torch.int64)
    captions = ["–", *(str(position) for position in positions.tolist())]
    rows = []
    for own, donor in zip(tokens.indices, tokens.indices.roll(-1, dims=0), strict=True):
        swapped = own.repeat(len(own) + 1, 1)
        swapped[positions + 1, positions] = donor
        rows.append(ImageRow("", to_image_arrays(tokenizer.decode(Tokens(swapped, tokens.layout))), captions))
    return ImageGrid(
        "Replacing single tokens",
        rows,
        width=40,
        note="The reconstruction (–), then the same with the token at the position below replaced by that of the digit in the next row.",
    )
