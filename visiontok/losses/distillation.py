"""Distillation of a frozen encoder of speech into the first level of a codec (SpeechTokenizer, Zhang et al. 2023, arXiv 2308.16692, section 3.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.base.network_folders import belonging_to, found_network, whole_network
from visiontok.base.optional import import_optional
from visiontok.signals.audio_conversion import resampled

_WHAT = "encoder of speech in the layout of transformers (a folder with config.json, weights and preprocessor_config.json)"

_MOST_FRAMES_APART = 2
"""By how many frames a codec, which pads the ends of a sound, may exceed a teacher, which does not."""


class SpeechTeacherConfig(Config):
    """A frozen HuBERT, WavLM or wav2vec 2.0.

    Attributes:
        folder: of the network in the layout of transformers; SpeechTokenizer's is `facebook/hubert-base-ls960`.
        layer: which hidden states are features: from 0, the input of the first layer, to the number of layers; "mean" for the mean of all.
        sha256: that the network must have, or its first digits; a wrong one is refused with the right one. Empty for any.
    """

    folder: Path
    layer: Annotated[int, Field(ge=0)] | Literal["mean"] = "mean"
    sha256: str = ""

    def build(self) -> SpeechTeacher:
        """The frozen network; reads its weights from the folder.

        Raises:
            CheckpointError: if there is none, or another one.
            ConfigError: if it has fewer layers.
            DependencyError: if transformers is not installed.
        """
        where, _ = found_network(self.folder, _WHAT, sha256=self.sha256)
        transformers = import_optional("transformers", extra="zoo")
        with belonging_to(where, _WHAT):
            prepare = transformers.AutoFeatureExtractor.from_pretrained(str(where), local_files_only=True)
            network, sample_rate, normalize = whole_network(transformers.AutoModel, where), int(prepare.sampling_rate), bool(prepare.do_normalize)
        return SpeechTeacher(network, layer=self.layer, sample_rate=sample_rate, normalize=normalize)


class DAxisConfig(Config):
    """-log sigmoid of the cosine of features and target over time, the mean over channels (the paper's "D-axis", equation 1)."""

    type: Literal["d_axis"] = "d_axis"

    def distance(self, features: Tensor, target: Tensor) -> Tensor:
        """Two (B, L, D) -> scalar."""
        return _dissimilarity(features, target, dim=1)


class TAxisConfig(Config):
    """Mean absolute difference, and -log sigmoid of the cosine over channels, the mean over frames (the authors' "t_axis").

    Attributes:
        similarity_weight: of the second.
    """

    type: Literal["t_axis"] = "t_axis"
    similarity_weight: float = Field(default=1.0, ge=0)

    def distance(self, features: Tensor, target: Tensor) -> Tensor:
        """Two (B, L, D) -> scalar."""
        return F.l1_loss(features, target) + self.similarity_weight * _dissimilarity(features, target, dim=2)


def _dissimilarity(features: Tensor, target: Tensor, *, dim: int) -> Tensor:
    return -F.logsigmoid(F.cosine_similarity(features, target, dim=dim)).mean()


class DistillationConfig(Config):
    """The loss; the defaults are SpeechTokenizer's. Sound of another rate than the teacher's is resampled for it.

    Attributes:
        teacher: whose features are the target.
        weight: of the loss.
        distance: "d_axis" or "t_axis".
        projection: name of the tokenizer's part that is trained with this loss only: what maps its first level to the teacher's features.
    """

    teacher: SpeechTeacherConfig
    weight: float = Field(default=120.0, gt=0)
    distance: Annotated[DAxisConfig | TAxisConfig, Field(discriminator="type")] = DAxisConfig()
    projection: str = "semantic_projection"


class SpeechTeacher(nn.Module):
    """Sounds -> features; frozen, always in evaluation mode.

    Args:
        network: of transformers, with `hidden_states`.
        layer: see `SpeechTeacherConfig`.
        sample_rate: in Hz.
        normalize: give every sound mean 0 and variance 1 first, as the network's own preprocessing does.
    """

    def __init__(self, network: Any, *, layer: int | Literal["mean"], sample_rate: int, normalize: bool) -> None:
        super().__init__()
        depth = network.config.num_hidden_layers
        if layer != "mean" and layer > depth:
            raise ConfigError(f"teacher.layer is {layer}; this {type(network).__name__} has hidden states 0 to {depth}")
        self.network = network.eval().requires_grad_(False)
        self.layer, self.sample_rate, self.normalize = layer, sample_rate, normalize

    def train(self, mode: bool = True) -> Self:
        """Evaluation mode stays."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, sound: Tensor, *, sample_rate: int) -> Tensor:
        """(B, C, T) -> (B, L, D) of the mean of the channels.

        Raises:
            DependencyError: for sound of another rate, without the extra `audio`.
        """
        mono = sound.float().mean(dim=1)
        if sample_rate != self.sample_rate:
            mono = torch.from_numpy(resampled(mono.cpu().numpy(), sample_rate, self.sample_rate)).to(mono)
        if self.normalize:
            variance, mean = torch.var_mean(mono, dim=1, correction=0, keepdim=True)
            mono = (mono - mean) / (variance + 1e-7).sqrt()
        states = self.network(mono, output_hidden_states=True).hidden_states
        return torch.stack(states).float().mean(dim=0) if self.layer == "mean" else states[self.layer]


class DistillationLoss(nn.Module):
    """See `DistillationConfig`.

    Args:
        config: which distance.
        teacher: frozen.
        sample_rate: of the sounds, in Hz.
    """

    def __init__(self, config: DistillationConfig, *, teacher: SpeechTeacher, sample_rate: int) -> None:
        super().__init__()
        self.config, self.teacher, self.sample_rate = config, teacher, sample_rate

    def forward(self, features: Tensor, sound: Tensor) -> Tensor:
        """Unweighted loss; scalar.

        Args:
            features: (B, L, D) that the tokenizer says. Frames that the teacher does not have, at the end, are ignored.
            sound: (B, C, T) that was encoded.

        Raises:
            ConfigError: if the teacher's features have another width or rate.
        """
        target = self.teacher(sound, sample_rate=self.sample_rate)
        frames, dim = target.shape[1:]
        if features.shape[2] != dim or abs(features.shape[1] - frames) > _MOST_FRAMES_APART:
            raise ConfigError(
                f"the teacher gives {frames} frames of {dim} features, the tokenizer {features.shape[1]} of {features.shape[2]} for the same sound: "
                "distillation needs the same frame rate and width (semantic_dim)"
            )
        frames = min(frames, features.shape[1])
        return self.config.distance.distance(features[:, :frames].float(), target[:, :frames].float())
