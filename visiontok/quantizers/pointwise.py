"""Quantizers that treat every latent by itself: what residual, product and multi-scale quantizers are made of."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from visiontok.quantizers.binary import BinaryQuantizerConfig
from visiontok.quantizers.finite_scalar import FiniteScalarConfig
from visiontok.quantizers.index_backprop import IndexBackpropConfig
from visiontok.quantizers.sim_vq import SimVqConfig
from visiontok.quantizers.vector import VectorQuantizerConfig

PointwiseConfig: TypeAlias = Annotated[
    VectorQuantizerConfig | SimVqConfig | IndexBackpropConfig | BinaryQuantizerConfig | FiniteScalarConfig, Field(discriminator="type")
]
"""Latents (..., D) to ids (...), each latent by itself. A new quantizer becomes usable inside the composite ones by its entry here."""
