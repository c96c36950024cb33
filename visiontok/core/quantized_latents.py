"""Continuous latents as tokens, one token per dimension of every latent: the layout, quantization and dequantization."""

from __future__ import annotations

import torch
from torch import Tensor

from visiontok.base.errors import TokenError
from visiontok.quantizers.dimension_wise import DimensionWiseQuantizer
from visiontok.tokens import Latents, TokenLayout, Tokens
from visiontok.tokens.batch import PAD


def quantized_layout(layout: TokenLayout, levels: int) -> TokenLayout:
    """A continuous layout whose D channels have become codebooks of `levels` codes each; a token is stored after those of earlier positions.

    Prefixes are those of whole positions; where the number of positions depends on the signal, they cannot be listed, and only all tokens decode.
    """
    dims = _dims(layout)
    if dims == 1:
        return layout.replace(segments=[{**segment.to_dict(), "channels": None, "vocab_size": levels} for segment in layout.segments])
    segments = [{**segment.to_dict(), "channels": None, "vocab_size": levels, "codebooks": dims} for segment in layout.segments]
    prefixes, order = layout.prefixes, layout.order
    if prefixes != "none" and layout.is_variable:
        prefixes = "none"
    elif prefixes != "none":
        prefixes = tuple(dims * count for count in (range(1, layout.length + 1) if prefixes == "any" else prefixes))
    if isinstance(order, tuple):
        order = tuple(dims * position + dim for position in order for dim in range(dims))
    return layout.replace(segments=segments, prefixes=prefixes, order=order)


def to_tokens(latents: Latents, quantizer: DimensionWiseQuantizer) -> Tokens:
    """Quantize every dimension of every latent that a sample holds."""
    dims, samples = _dims(latents.layout), len(latents)
    indices = quantizer(latents.values, mask=latents.mask).indices
    assert indices is not None
    positions = None
    if latents.positions is not None:
        spread = latents.positions[..., None] * dims + torch.arange(dims, dtype=torch.int64, device=latents.positions.device)
        positions = spread.masked_fill(~latents.mask[..., None], PAD).view(samples, -1)
    return Tokens(
        indices.masked_fill(~latents.mask[..., None], PAD).view(samples, -1),
        quantized_layout(latents.layout, quantizer.config.levels),
        lengths=None if latents.lengths is None else latents.lengths * dims,
        positions=positions,
        extents=latents.extents,
        extras=latents.extras,
    )


def to_latents(tokens: Tokens, layout: TokenLayout, quantizer: DimensionWiseQuantizer) -> Latents:
    """The values behind tokens that `to_tokens` could have made of latents of the kind of `layout`.

    Raises:
        TokenError: if a sample holds only some dimensions of a latent.
    """
    dims, samples = _dims(layout), len(tokens)
    values = quantizer.lookup(tokens.indices.masked_fill(~tokens.mask, 0)).masked_fill(~tokens.mask, 0.0)
    lengths, positions = tokens.lengths, tokens.positions
    if values.shape[1] % dims or (lengths is not None and bool((lengths % dims).any())):
        raise TokenError(f"a sample holds only some of the {dims} dimensions of a latent; lengths must be multiples of {dims}")
    if positions is not None:
        positions = _whole_positions(positions.view(samples, -1, dims), dims)
    return Latents(
        values.view(samples, -1, dims),
        layout.at(tokens.layout.extents) if layout.is_variable else layout,
        lengths=None if lengths is None else lengths // dims,
        positions=positions,
        extents=tokens.extents,
        extras=tokens.extras,
    )


def _whole_positions(positions: Tensor, dims: int) -> Tensor:
    """Storage positions of tokens (B, L, D) -> those of latents (B, L)."""
    first, padding = positions[..., :1], positions[..., 0] == PAD
    expected = first + torch.arange(dims, dtype=torch.int64, device=positions.device)
    wrong = ((positions != expected).any(dim=-1) | (first[..., 0] % dims != 0)) & ~padding
    if bool(wrong.any()):
        raise TokenError(f"sample {int(torch.nonzero(wrong)[0, 0])} holds only some of the {dims} dimensions of a latent")
    return torch.where(padding, PAD, positions[..., 0] // dims)


def _dims(layout: TokenLayout) -> int:
    dims = layout.segments[0].channels
    if dims is None:
        raise TokenError("this layout holds tokens already: only continuous latents are quantized")
    return dims
