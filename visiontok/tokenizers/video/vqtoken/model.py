"""VQToken (Zhang & Fu 2025, arXiv 2503.16980): the features of a clip as a few codes of its own, for a language model. It only encodes.

K-means over the features of all frames gives a codebook for this clip alone; the tokens say which code stands at each place ("token hash map"). What
a language model reads is the codebook, or what an attention makes of codebook and map. There is no decoder to pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from visiontok.base.config import Config, Positive
from visiontok.base.errors import SignalError
from visiontok.base.finite import check_finite
from visiontok.base.noise import NoiseLike, SampleNoise, as_noise, selected
from visiontok.core.tokenizer import EncodeOptions, Tokenizer, TokenizerOutput
from visiontok.signals import FeaturePreprocessing, ImagePreprocessing, VideoPreprocessing
from visiontok.tokenizers.video.vqtoken.attention import PaperVqAttention, PublishedVqAttention, VqAttentionConfig
from visiontok.tokenizers.video.vqtoken.clustering import (
    AdaptiveClusters,
    Choice,
    FixedClusters,
    cluster,
    cluster_means,
    elbow,
    published_elbow,
    published_silhouette,
    silhouette,
)
from visiontok.tokenizers.video.vqtoken.reference import KEY_MAP, read_config
from visiontok.tokenizers.video.vqtoken.vision import FrameEncoder, SiglipConfig
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens

CODEBOOK, NUM_CODES = "codebook", "num_codes"
"""The names among the extras of a clip's codes (B, K, D), zero beyond its own, and of their number (B,) int64."""


@dataclass(frozen=True)
class Mode:
    """Where the paper and the authors' code differ.

    Attributes:
        averaged: what of the features (n, D) a code is the mean of.
        choices: of the number of codes, by the type of `AdaptiveClusters`.
        attention: the form of VQ-attention.
    """

    averaged: Callable[[Tensor], Tensor]
    choices: Mapping[str, Choice]
    attention: type[PublishedVqAttention] | type[PaperVqAttention]


def _normalized(rows: Tensor) -> Tensor:
    return F.normalize(rows, dim=-1)


def _unchanged(rows: Tensor) -> Tensor:
    return rows


MODES = {
    "reference": Mode(_normalized, {"elbow": published_elbow, "silhouette": published_silhouette}, PublishedVqAttention),
    "paper": Mode(_unchanged, {"elbow": elbow, "silhouette": silhouette}, PaperVqAttention),
}


class VqTokenConfig(Config):
    """Sizes; the defaults are those of the released model and of the code that runs it.

    Attributes:
        mode: as in the authors' code, or as in the paper; see `MODES`.
        vision: the network that reads frames; None for a tokenizer that takes its output (B, D, T * N).
        grid: features of a frame, rows and columns; N is their product.
        num_frames: of a clip; with the paper's VQ-attention, of every clip.
        dim: D of a feature, that of the language model.
        clusters: how many codes a clip has.
        attention: VQ-attention over map and codebook; None where the codebook alone is read.
        newline: whether a learned row follows what is read.
    """

    mode: Literal["reference", "paper"] = "reference"
    vision: SiglipConfig | None = SiglipConfig()
    grid: tuple[Positive, Positive] = (27, 27)
    num_frames: Positive = 32
    dim: Positive = 896
    clusters: Annotated[FixedClusters | AdaptiveClusters, Field(discriminator="type")] = AdaptiveClusters()
    attention: VqAttentionConfig | None = None
    newline: bool = False

    @model_validator(mode="after")
    def _check(self) -> VqTokenConfig:
        if self.vision is not None and self.grid != (self.vision.side, self.vision.side):
            raise ValueError(f"grid {self.grid} must be that of the vision network, {self.vision.side} x {self.vision.side}")
        if self.attention is not None and self.dim % self.attention.num_heads:
            raise ValueError(f"num_heads {self.attention.num_heads} does not divide dim {self.dim}")
        return self

    @property
    def num_positions(self) -> int:
        """N."""
        return self.grid[0] * self.grid[1]


class VqToken(Tokenizer[VqTokenConfig]):
    """Clips (B, 3, T, H, W) in [0, 1] -> a map of labels (B, T, h, w), and the clip's codebook and number of codes among the extras.

    K-means starts at random where noise is given, else from draws that are the same for every clip.
    """

    config_class = VqTokenConfig
    can_decode = False
    decoder_extras = (CODEBOOK, NUM_CODES)
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: VqTokenConfig) -> None:
        super().__init__(config)
        self.encoder = None if config.vision is None else FrameEncoder(config.vision, dim=config.dim)
        sizes = {"num_positions": config.num_positions, "num_frames": config.num_frames, "most_codes": config.clusters.most}
        self.attention = None if config.attention is None else MODES[config.mode].attention(config.attention, dim=config.dim, **sizes)
        self.newline = nn.Parameter(torch.randn(config.dim) * config.dim**-0.5) if config.newline else None
        is_fixed = isinstance(self.attention, PaperVqAttention)
        codes = {"vocab_size": config.clusters.most, "free_axes": () if is_fixed else (0,)}
        if config.vision is None:
            vectors, positions = config.num_frames * config.num_positions, config.num_positions
            self.preprocessing = FeaturePreprocessing(channels=config.dim, length=vectors if is_fixed else None, multiple_of=positions)
            segment = Segment(name="map", shape=(vectors,), stride=(1,), **codes)
            self.layout = TokenLayout(modality="features", segments=(segment,), signal_shape=(vectors,))
        else:
            size, patch = config.vision.image_size, config.vision.patch_size
            frames = ImagePreprocessing(size=size, fit="stretch")
            self.preprocessing = VideoPreprocessing(frames=frames, num_frames=config.num_frames, fixed_length=is_fixed)
            segment = Segment(name="map", shape=(config.num_frames, *config.grid), stride=(1, patch, patch), **codes)
            self.layout = TokenLayout(modality="video", segments=(segment,), signal_shape=(config.num_frames, size, size))

    @property
    def is_stochastic(self) -> bool:
        return True

    def features(self, signal: Tensor) -> Tensor:
        """Clips of one size, or features (B, D, T * N) where there is no vision network -> (B, T, N, D).

        Raises:
            SignalError: if frames have another size than the vision network takes, or features are not those of whole frames.
        """
        vision = self.config.vision
        if self.encoder is not None and vision is not None:
            size = (vision.image_size, vision.image_size)
            if signal.shape[3:] != size:
                raise SignalError(f"frames of {tuple(signal.shape[3:])} pixels; this network takes {size}: resize them with tokenizer.prepare(...)")
            projected: Tensor = self.encoder(signal.transpose(1, 2).flatten(0, 1))
            return projected.unflatten(0, (len(signal), -1))
        count = self.config.num_positions
        if signal.shape[2] % count:
            raise SignalError(f"{signal.shape[2]} features are no whole frames of {count}")
        return signal.transpose(1, 2).unflatten(1, (-1, count))

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Tokens:
        features = self.features(signal)
        check_finite(features, stage="the features of encode")
        return self.quantize_features(features, noise=SampleNoise(0, [0] * len(signal)) if options.noise is None else options.noise)

    def quantize_features(self, features: Tensor, *, noise: NoiseLike = None) -> Tokens:
        """Features (B, T, N, D) -> the tokens of the clips. Gradients flow into the codebooks.

        Args:
            features: of clips of one length.
            noise: of the starts of k-means, clip after clip; None for torch's global state.
        """
        config, mode, labels, codebooks = self.config, MODES[self.config.mode], [], []
        with torch.autocast(features.device.type, enabled=False):
            for number, clip in enumerate(features.float().flatten(1, 2)):
                draws = as_noise(selected(noise, torch.tensor([number])), clip.device)
                found = cluster(_normalized(clip.detach()), config.clusters, choices=mode.choices, noise=draws)
                codes, _ = cluster_means(mode.averaged(clip), found.labels, len(found.centers))
                labels.append(found.labels)
                codebooks.append(codes.to(features.dtype))
        counts = torch.tensor([len(codes) for codes in codebooks], device=features.device)
        extras = {CODEBOOK: pad_sequence(codebooks, batch_first=True), NUM_CODES: counts}
        frames = features.shape[1]
        extents = (frames * config.num_positions,) if config.vision is None else (frames, *config.grid)
        return Tokens(torch.stack(labels), self.layout.at(extents), extras=extras)

    def visual_tokens(self, tokens: Tokens) -> Latents:
        """What a language model reads for each clip: latents (B, m, D) with their numbers m as lengths. Gradients flow.

        Raises:
            TokenError: if the tokens are another tokenizer's.
        """
        checked = self.checked(tokens)
        counts = checked.extras[NUM_CODES].tolist()
        read = [codes[:count].to(self.dtype) for codes, count in zip(checked.extras[CODEBOOK], counts, strict=True)]
        if self.attention is not None:
            rows = (labels[:length] for labels, length in zip(checked.data, checked.sample_lengths.tolist(), strict=True))
            maps = (labels.unflatten(0, (-1, self.config.num_positions)) for labels in rows)
            read = [self.attention(*pair) for pair in zip(maps, read, strict=True)]
        if self.newline is not None:
            read = [torch.cat([rows, self.newline[None]]) for rows in read]
        lengths = torch.tensor([len(rows) for rows in read], device=checked.device)
        segment = Segment(name="visual", shape=(int(lengths.max()),), channels=self.config.dim, free_axes=(0,))
        layout = TokenLayout(modality="features", segments=(segment,), signal_shape=segment.shape, ragged=True)
        return Latents(pad_sequence(read, batch_first=True), layout, lengths=lengths)

    def tokens_read(self, tokens: Tokens | Latents) -> Tensor:
        """(B,) int64: rows of `visual_tokens` without the one behind them."""
        counts = tokens.extras[NUM_CODES]
        if self.attention is None:
            return counts
        frames = torch.div(tokens.sample_lengths, self.config.num_positions, rounding_mode="floor")
        return self.attention.length(frames, counts)

    def embeddings(self, tokens: Tokens) -> Tensor:
        """(B, L, D): the clip's own code at every position."""
        codebook = tokens.extras[CODEBOOK]
        return codebook.gather(1, tokens.indices[..., None].expand(-1, -1, codebook.shape[2]))

    def forward_padded(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: NoiseLike = None) -> TokenizerOutput:
        """The latents are those of `visual_tokens`, zero beyond a clip's own; there are no losses but those of a language model that reads them."""
        in_order = noise if self.training or noise is not None else SampleNoise(0, [0] * len(signal))
        tokens = self.quantize_features(self.features(signal), noise=in_order)
        return TokenizerOutput(None, tokens, self.visual_tokens(tokens).values)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> VqTokenConfig:
        """From the settings of the authors' code; see `read_config`."""
        return VqTokenConfig.parse(read_config(config), source="the VQToken reference configuration")

    @classmethod
    def weights_for(cls, config: Config, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Model`; without VQ-attention its tensors, which the released file holds, are not read."""
        assert isinstance(config, VqTokenConfig)
        unread = () if config.attention is not None else ("attention.",)
        return {name: tensor for name, tensor in cls.weights_from_reference(state_dict).items() if not name.startswith(unread)}
