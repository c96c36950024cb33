"""The smallest tokenizer and generator that have everything the hub touches: a configuration, weights, a layout and a reference layout."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.base.noise import NoiseLike
from visiontok.core.keymap import KeyMap
from visiontok.core.model import Model
from visiontok.core.tokenizer import Tokenizer
from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.registry import Checkpoint, Family, PublishedFigure, SignalFacts, WeightPart
from visiontok.signals import ImagePreprocessing
from visiontok.tokens import Segment, TokenLayout


class TinyConfig(Config):
    codes: Annotated[int, Field(gt=0)] = 4
    width: int = 3
    note: str = ""


class MeanColor(Quantizer):
    """The nearest of some gray levels."""

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.codebook = nn.Parameter(torch.linspace(0, 1, codes)[:, None])

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        indices = (latents - self.codebook[:, 0]).abs().argmin(dim=-1)
        return Quantized(self.lookup(indices), indices)

    def lookup(self, indices: Tensor) -> Tensor:
        return self.codebook[indices]


class TinyTokenizer(Tokenizer[TinyConfig]):
    """One token per quarter of an image of 8 x 8 pixels: its mean color."""

    config_class = TinyConfig
    reference_keys = KeyMap({"enc.{*}": "encoder.{*}", "codebook": "quantizer.codebook", "steps": None})

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.encoder = nn.Linear(3, config.width)
        self.quantizer = MeanColor(config.codes)
        self.preprocessing = ImagePreprocessing(size=8)
        segment = Segment(name="grid", shape=(2, 2), vocab_size=config.codes, stride=(4, 4))
        self.layout = TokenLayout(modality="image", segments=(segment,), signal_shape=(8, 8))

    @classmethod
    def config_from_reference(cls, config: Any, state_dict: Any) -> TinyConfig:
        try:
            return TinyConfig.parse({"codes": config["model"]["codes"], "width": config["model"]["width"]}, source="the reference configuration")
        except KeyError as error:
            raise ConfigError(f"the reference configuration lacks {error}") from error

    def encode_latents(self, signal: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(signal.mean(dim=1, keepdim=True), 2).permute(0, 2, 3, 1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        return nn.functional.interpolate(latents.permute(0, 3, 1, 2), scale_factor=4).expand(-1, 3, -1, -1)


class TinyPrior(Model[TinyConfig]):
    """Stands for the generator that the same authors released: a table of logits."""

    config_class = TinyConfig
    reference_keys = KeyMap({"logits.{*}": "logits.{*}", "temperature": None})

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.logits = nn.Linear(config.codes, config.codes)

    @classmethod
    def config_from_reference(cls, config: Any, state_dict: Any) -> TinyConfig:
        return TinyConfig(codes=config["model"]["codes"])


REFERENCE_CONFIG = {"model": {"codes": 4, "width": "${model.codes}"}}
CHECKPOINT = Checkpoint(
    name="tiny-4",
    repo="authors/tiny-4",
    files=(WeightPart(names=("model.safetensors", "pytorch_model.bin")),),
    config_file="config.json",
    reference_config={"model": {"width": 3}},
    weights_license="mit",
    code_license="apache-2.0",
    tokens=4,
    vocab_size=4,
    signal=SignalFacts(modality="image", size=(8, 8)),
    parameters=16,
    published=(PublishedFigure(metric="rFID", value=2.5, dataset="ImageNet 256", source="README"),),
)
WRAPPED = Checkpoint(
    name="tiny-ema",
    repo="authors/tiny-many",
    files=(WeightPart(names=("weights.pt",), key="ema"),),
    reference_config={"model": {"codes": 4, "width": 3}},
    weights_license="unknown",
    code_license="unknown",
)
OTHER = Checkpoint(
    name="tiny-raw",
    repo="authors/tiny-many",
    files=(WeightPart(names=("weights.pt",)),),
    reference_config={"model": {"codes": 4, "width": 3}},
    weights_license="unknown",
    code_license="unknown",
)
FAMILY = Family(
    name="tiny",
    kind="tokenizer",
    modalities=("image",),
    class_name="TinyTokenizer",
    module="tiny_family",
    title="Tiny",
    summary="mean colors",
    verified="against nothing",
    paper="https://example.org/paper",
    code="https://example.org/code",
    systems=("tiny-reference",),
    checkpoints=(CHECKPOINT, WRAPPED, OTHER),
)


PRIOR_FAMILY = Family(
    name="tiny-prior",
    kind="generator",
    modalities=("image", "audio"),
    class_name="TinyPrior",
    module="tiny_family",
    title="Tiny prior",
    summary="logits of colors",
    verified="against nothing",
    paper="https://example.org/paper",
    code="https://example.org/code",
    systems=("tiny-reference",),
)


def prior_state_dict(codes: int = 4) -> dict[str, Tensor]:
    return {"logits.weight": torch.eye(codes), "logits.bias": torch.zeros(codes), "temperature": torch.ones(1)}


def reference_state_dict(codes: int = 4, width: int = 3) -> dict[str, Tensor]:
    return {"enc.weight": torch.ones(width, 3), "enc.bias": torch.zeros(width), "codebook": torch.linspace(0, 1, codes)[:, None]}
