"""Published evaluation protocols by name: why the same reconstructions get different values.

A protocol defines how an image is cropped, how a model's floats become 8-bit pixels, which extractor reads them and what they are compared with.
Values of different protocols are not comparable, whatever their metric is called.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from PIL import Image
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.names import unknown
from visiontok.evaluation.features.protocol.casts import Cast, signed_to_uint8, to_uint8
from visiontok.evaluation.features.protocol.crops import Crop, center_crop


class Protocol(Config):
    """One way of scoring images.

    Attributes:
        name: by which it is requested.
        crop: from an image of any size to a square; "none" scores images at their own sizes.
        cast: from the model's floats to 8 bits; "adm" is trunc(127.5 x + 128) of x in [-1, 1].
        extractor: name of the features' extractor, with its resize and range.
        reconstruction_reference: what reconstructions are compared with, in words; always the originals, never training statistics.
        generation_reference: what generated images are compared with, in words.
        samples: N in published figures, of the reconstructions or the generated images.
        used_by: works whose published figures follow it.
        differs: what is not bit-identical to the published pipeline.
    """

    name: str
    crop: Crop | Literal["none"]
    cast: Cast | Literal["adm"]
    extractor: str
    reconstruction_reference: str
    generation_reference: str
    samples: int | None
    used_by: str
    differs: str

    @property
    def identity(self) -> str:
        """SHA-256 of everything that changes a number; two values are comparable only if theirs are equal."""
        steps = {key: value for key, value in self.to_dict().items() if key not in ("used_by", "differs")}
        return hashlib.sha256(json.dumps(steps, sort_keys=True).encode()).hexdigest()

    def prepare(self, image: Image.Image, size: int) -> Image.Image:
        """The RGB image of `size` x `size` that is scored, and given to a tokenizer."""
        return image.convert("RGB") if self.crop == "none" else center_crop(image, size, crop=self.crop)

    def pixels(self, images: Tensor) -> Tensor:
        """A model's images in [0, 1] as the uint8 ones that are scored."""
        return signed_to_uint8(2 * images.float() - 1) if self.cast == "adm" else to_uint8(images.float(), cast=self.cast)


_ORIGINALS = "the originals of the same validation images, cut the same way"
_ADM_TRAIN = "ADM's stored statistics of the training set (VIRTUAL_imagenet256_labeled.npz)"

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            Protocol(
                name="titok",
                crop="resize-bicubic",
                cast="round",
                extractor="inception-v3-compat-float64",
                reconstruction_reference=_ORIGINALS,
                generation_reference=_ADM_TRAIN,
                samples=50_000,
                used_by="TiTok, TA-TiTok",
                differs="nothing known",
            ),
            Protocol(
                name="adm",
                crop="adm",
                cast="adm",
                extractor="inception-v3-compat",
                reconstruction_reference=_ORIGINALS,
                generation_reference=_ADM_TRAIN,
                samples=50_000,
                used_by="LlamaGen, RobustTok, XQ-GAN (reconstruction); most class-conditional generators",
                differs="the features come from the network's port to torch, not from ADM's TensorFlow graph",
            ),
            Protocol(
                name="pytorch-fid",
                crop="center",
                cast="trunc",
                extractor="inception-v3-pytorch-fid",
                reconstruction_reference=_ORIGINALS,
                generation_reference="a folder of real images",
                samples=None,
                used_by="ALIT, KARL, OmniTokenizer",
                differs="nothing known",
            ),
            Protocol(
                name="clean",
                crop="none",
                cast="round",
                extractor="inception-v3-clean",
                reconstruction_reference="the originals of the same images, as they lie in their files",
                generation_reference="a folder of real images, or clean-fid's statistics of one",
                samples=None,
                used_by="clean-fid",
                differs="nothing known",
            ),
        )
    }
)


def find_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        UnknownNameError: with close matches.
    """
    if name not in PROTOCOLS:
        raise unknown("evaluation protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
