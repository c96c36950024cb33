"""CLIP image embeddings (Radford et al., arXiv 2103.00020), the features of CMMD (arXiv 2401.09603)."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from typing_extensions import Self

from visiontok.base.errors import CheckpointError
from visiontok.base.optional import import_optional
from visiontok.evaluation.features.base import FeatureExtractor, described, load_into
from visiontok.evaluation.features.protocol.resizes import resize_images
from visiontok.evaluation.features.weight_files import LoadedWeights, WeightFile, verified_weights

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection

CLIP_WEIGHTS = WeightFile(
    name="clip-vit-large-patch14-336.safetensors",
    size="1.7 GB",
    sha256="",
    source="the file model.safetensors of openai/clip-vit-large-patch14-336 on the Hugging Face hub",
    license="MIT",
)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HEAD_DIM = 64


class ClipVitL14At336(FeatureExtractor):
    """The projected image embedding (B, 768), not normalized, of images squashed to 336 pixels by PIL's bicubic resize."""

    name = "clip-vit-l14-336"
    width = 768
    published_names = MappingProxyType({"FD": "FD-CLIP", "RBF-MMD": "CMMD"})

    def __init__(self, weights: LoadedWeights | Path | str | None = None) -> None:
        """Build the image tower, whose sizes follow from the weights; a text tower in the file is ignored.

        Args:
            weights: loaded ones, or the path of the file; by default it is looked for in the weights' folder.

        Raises:
            CheckpointError: if the file is missing (says how to get it) or not CLIP's.
            DependencyError: if transformers is not installed.
        """
        loaded = weights if isinstance(weights, LoadedWeights) else verified_weights(CLIP_WEIGHTS, weights)
        self.network = _network(loaded)
        self._size = self.network.config.image_size
        self._mean, self._std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
        self.identity = described("clip", f"pil-bicubic-{self._size}", loaded.sha256)
        self.protocol = f"CLIP projected image embedding, PIL bicubic to {self._size}, CLIP normalization, weights {loaded.sha256[:12]}"

    def to(self, device: torch.device | str) -> Self:
        self.network.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    def extract(self, images: Tensor) -> Tensor:
        levels = resize_images(images, size=self._size).to(self._mean.device).float() / 255
        return self.network((levels - self._mean) / self._std).image_embeds


def _network(weights: LoadedWeights) -> CLIPVisionModelWithProjection:
    transformers = import_optional("transformers", extra="metrics")
    tensors = {key: value for key, value in weights.tensors.items() if key.startswith(("vision_model.", "visual_projection."))}
    tensors.pop("vision_model.embeddings.position_ids", None)  # a counter in older files
    try:
        width, _, patch, _ = tensors["vision_model.embeddings.patch_embedding.weight"].shape
        positions = len(tensors["vision_model.embeddings.position_embedding.weight"])
        config = transformers.CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=len(tensors["vision_model.encoder.layers.0.mlp.fc1.bias"]),
            projection_dim=len(tensors["visual_projection.weight"]),
            num_hidden_layers=sum(key.endswith("layer_norm1.bias") for key in tensors),
            num_attention_heads=width // HEAD_DIM,
            image_size=round((positions - 1) ** 0.5) * patch,
            patch_size=patch,
        )
    except KeyError as error:
        raise CheckpointError(f"these weights do not belong to CLIP: they have no {error}") from error
    network = transformers.CLIPVisionModelWithProjection(config).eval().requires_grad_(False)
    return load_into(network, LoadedWeights(tensors, weights.sha256), what="CLIP")
