"""What vector-quantized autoencoders of transformers and diffusers share.

The networks are the library's own objects, taken apart into encoder, 1x1 convolutions and decoder; the codebook moves into our vector
quantizer, so that everything that is done with codebooks here can be done with theirs.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from visiontok.core.keymap import KeyMap
from visiontok.core.model import ConfigT
from visiontok.quantizers.vector import VectorQuantizer, VectorQuantizerConfig
from visiontok.tokenizers.shared.library_model import LibraryTokenizer

KEY_MAP = KeyMap(
    {
        "quantize.embedding.weight": "quantizer.codebook",
        "encoder.{*}": "encoder.{*}",
        "decoder.{*}": "decoder.{*}",
        "quant_conv.{*}": "quant_conv.{*}",
        "post_quant_conv.{*}": "post_quant_conv.{*}",
    }
)


class LibraryVq(LibraryTokenizer[ConfigT]):
    """Base of a vector-quantized autoencoder of another library, perhaps out of a whole multimodal model."""

    within: ClassVar[str] = "vqmodel"
    reference_keys: ClassVar = KEY_MAP

    quantizer: VectorQuantizer

    def __init__(self, config: ConfigT, *, network: nn.Module, normalize: bool = False) -> None:
        """Take a network of the library apart. Models that only encode keep a `post_quant_conv` for their files; it is frozen.

        Args:
            config: of the tokenizer.
            network: with `quantize`, `quant_conv`, `post_quant_conv` and, where there are, `encoder` and `decoder`.
            normalize: whether latents and codes are put on the unit sphere.
        """
        super().__init__(config)
        codebook: Tensor = network.quantize.embedding.weight  # type: ignore[union-attr, assignment]
        vq = VectorQuantizerConfig(
            codebook_size=codebook.shape[0],
            dim=codebook.shape[1],
            normalize_latents=normalize,
            normalize_codes=normalize,
            commitment_weight=1.0,
            codebook_weight=0.25,  # the libraries' beta sits on the codebook term
        )
        for part in ("encoder", "quant_conv", "post_quant_conv", "decoder"):
            if hasattr(network, part):
                setattr(self, part, getattr(network, part).requires_grad_(self.can_decode or not part.startswith("post")))
        self.quantizer = vq.build()
        with torch.no_grad():
            self.quantizer.codebook.copy_(codebook)

    @property
    @abstractmethod
    def stride(self) -> int:
        """Pixels per token along a side."""
