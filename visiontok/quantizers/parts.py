"""What residual, product and multi-scale quantizers are made of: quantizers that treat every latent by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from visiontok.quantizers.binary import BinaryQuantizerConfig
from visiontok.quantizers.finite_scalar import FiniteScalarQuantizerConfig
from visiontok.quantizers.index_backprop import IndexBackpropQuantizerConfig
from visiontok.quantizers.sim_vq import SimVectorQuantizerConfig
from visiontok.quantizers.vector import VectorQuantizerConfig

PointwiseConfig: TypeAlias = Annotated[
    VectorQuantizerConfig | SimVectorQuantizerConfig | IndexBackpropQuantizerConfig | BinaryQuantizerConfig | FiniteScalarQuantizerConfig,
    Field(discriminator="type"),
]
"""Latents (..., D) to indices (...), each latent by itself. A new quantizer becomes usable inside the composite ones by its entry here."""


def mean_of(terms: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each named loss or stat over parts that have the same ones."""
    return {name: torch.stack([part[name] for part in terms]).mean() for name in terms[0]}
