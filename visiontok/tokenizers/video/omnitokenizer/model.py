"""OmniTokenizer (Wang et al. 2024, arXiv 2406.09399): one transformer for images and for clips, which are images and more frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.base.errors import TokenError
from visiontok.quantizers.continuous import GaussianBottleneckConfig
from visiontok.quantizers.vector import VectorQuantizerConfig
from visiontok.signals import ImagePreprocessing, VideoPreprocessing
from visiontok.tokenizers.shared.causal_clips import clip_layout
from visiontok.tokenizers.shared.windowed_clips import WindowedClips
from visiontok.tokenizers.video.omnitokenizer.attention import AlibiBias, ContinuousPositionBias, GridAttention, WindowAttention
from visiontok.tokenizers.video.omnitokenizer.networks import Decoder, Encoder, GatedMlp, Layer, LayerKind, PositionConv, Transformer
from visiontok.tokenizers.video.omnitokenizer.reference import KEY_MAP, SOURCE, convert_weights, read_config

Share = Annotated[float, Field(ge=0, lt=1)]


class OmniTokenizerConfig(Config):
    """Sizes; the defaults are those of the releases for images and clips.

    Attributes:
        image_size: side that files are resized and cropped to; tensors of any square size are taken.
        num_frames: of a clip for probing, 1 + a multiple of `frames_per_token`.
        patch_size: pixels per token along a side.
        frames_per_token: frames per token along time, behind the first frame, which has tokens of its own.
        dim: model dimension D.
        num_heads, head_dim: of every attention; within windows heads have D / num_heads.
        mlp_ratio: two thirds of it times D is the hidden dim of the feed-forward parts.
        encoder_layers, decoder_layers: of the transformers over frames: attention to the whole frame, or within windows.
        temporal_depth: layers of the transformers over time.
        window_size: side of a window in tokens (in patches, with `pools_space`).
        spatial_positions: "rope" turns queries and keys over frames, "bias" adds a learned function of the offset to their scores; "none" leaves
            positions to the convolutions.
        causal_attention: whether attention over time sees the past only.
        alibi: whether causal attention over time has ALiBi's penalties.
        causal_peg: whether the convolutions that tell positions read no later time.
        pools_time, pools_space: encode patches of half the frames or half the sides, and average two (four) vectors for a token.
        attention_dropout, dropout: of attention probabilities and within feed-forward parts, in training.
        quantizer: codes, or a Gaussian posterior for continuous latents.
    """

    image_size: Positive = 256
    num_frames: Positive = 17
    patch_size: Positive = 8
    frames_per_token: Positive = 4
    dim: Positive = 512
    num_heads: Positive = 8
    head_dim: Positive = 64
    mlp_ratio: float = Field(default=4.0, gt=0)
    encoder_layers: tuple[LayerKind, ...] = ("attention", "attention", "window", "window")
    decoder_layers: tuple[LayerKind, ...] = ("attention", "attention", "attention", "attention")
    temporal_depth: int = Field(default=4, ge=0)
    window_size: Positive = 8
    spatial_positions: Literal["rope", "bias", "none"] = "rope"
    causal_attention: bool = True
    alibi: bool = False
    causal_peg: bool = True
    pools_time: bool = False
    pools_space: bool = False
    attention_dropout: Share = 0.0
    dropout: Share = 0.0
    quantizer: Annotated[VectorQuantizerConfig | GaussianBottleneckConfig, Field(discriminator="type")]

    @model_validator(mode="after")
    def _check(self) -> OmniTokenizerConfig:
        if self.image_size % self.side_multiple or (self.num_frames - 1) % self.frames_per_token:
            raise ValueError(
                f"{self.num_frames} frames of {self.image_size} pixels are not 1 + a multiple of {self.frames_per_token} frames whose sides are "
                f"multiples of {self.side_multiple} pixels"
            )
        if "window" in (*self.encoder_layers, *self.decoder_layers) and self.dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide dim {self.dim}, which windows need")
        if self.spatial_positions == "rope" and self.head_dim % 4:
            raise ValueError(f"rope over frames needs a head_dim that is a multiple of 4, got {self.head_dim}")
        if self.alibi and not self.causal_attention:
            raise ValueError("alibi is part of causal attention here: use it with causal_attention")
        if (self.pools_time and self.frames_per_token % 2) or (self.pools_space and self.patch_size % 2):
            raise ValueError(f"patches of {self.patch_size} pixels and {self.frames_per_token} frames cannot be halved for pooling")
        return self

    @property
    def pool(self) -> tuple[int, int]:
        """Steps of time, and of height and width, that are averaged."""
        return (1 + self.pools_time, 1 + self.pools_space)

    @property
    def side_multiple(self) -> int:
        """Sides of frames are multiples of so many pixels: whole tokens, and whole windows."""
        has_windows = "window" in (*self.encoder_layers, *self.decoder_layers)
        return math.lcm(self.patch_size, self.patch_size // self.pool[1] * self.window_size) if has_windows else self.patch_size


class OmniTokenizer(WindowedClips[OmniTokenizerConfig]):
    """Transformer encoder and decoder with vector quantization, or continuous with a Gaussian posterior. Clips are (B, 3, 1 + T, H, W) in [0, 1].

    Frames are square. An image is a clip of one frame. The convolutions along time read other positions for every length, so that the tokens of a
    clip are not those of its beginning and its end: longer clips than those of training are taken as several.
    """

    config_class = OmniTokenizerConfig
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: OmniTokenizerConfig) -> None:
        super().__init__(config)
        time, space = config.pool
        patches: dict[str, Any] = {
            "dim": config.dim,
            "patch_size": config.patch_size // space,
            "frames_per_patch": config.frames_per_token // time,
            "pool": config.pool,
        }
        quantizer = config.quantizer
        if isinstance(quantizer, VectorQuantizerConfig):
            width, kind = quantizer.dim, {"vocab_size": quantizer.codebook_size}
        else:
            width, kind = 2 * quantizer.dim, {"channels": quantizer.dim}
        self.encoder = Encoder(**patches, spatial=_over_frames(config, config.encoder_layers), temporal=_over_time(config))
        self.to_latents = nn.Linear(config.dim, width)
        self.quantizer = quantizer.build()
        self.from_latents = nn.Linear(quantizer.dim, config.dim)
        self.decoder = Decoder(**patches, temporal=_over_time(config), spatial=_over_frames(config, config.decoder_layers))
        self.preprocessing = VideoPreprocessing(
            frames=ImagePreprocessing(size=config.image_size, tensors_keep_size=True, multiple_of=config.side_multiple),
            num_frames=config.num_frames,
            frames_multiple_of=config.frames_per_token,
            first_frame_alone=True,
            square=True,
        )
        self.layout = clip_layout((config.frames_per_token, config.patch_size, config.patch_size), self.preprocessing, **kind)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, 1 + T, H, H) in [0, 1] -> (B, 1 + t, h, h, D), or with a Gaussian posterior its parameters (B, 1 + t, h, h, 2 D)."""
        latents: Tensor = self.to_latents(self.encoder(signal - 0.5))
        return latents

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, 1 + t, h, h, D) -> (B, 3, 1 + T, H, H), not clamped.

        Raises:
            TokenError: if the grid is not square.
        """
        height, width = latents.shape[2:4]
        if height != width:
            raise TokenError(f"this model writes square frames; tokens of {height} x {width} positions per frame are no tokens of one")
        return self.decoder(self.from_latents(latents)) + 0.5

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> OmniTokenizerConfig:
        """From the arguments that the authors' checkpoints hold as hyperparameters."""
        return OmniTokenizerConfig.parse(read_config(config), source=SOURCE)

    @classmethod
    def weights_for(cls, config: Config, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Model`; tensors that have no effect under this configuration are not read."""
        assert isinstance(config, OmniTokenizerConfig)
        has_codebook = isinstance(config.quantizer, VectorQuantizerConfig)
        return convert_weights(state_dict, has_codebook=has_codebook, has_bias=config.spatial_positions == "bias")


def _over_frames(config: OmniTokenizerConfig, kinds: Sequence[LayerKind]) -> Transformer:
    """The transformer over the positions of a frame."""

    def attention() -> GridAttention:
        bias = ContinuousPositionBias(config.dim, config.num_heads) if config.spatial_positions == "bias" else None
        return _attention(config, is_rotary=config.spatial_positions == "rope", bias=bias, is_causal=False)

    def window() -> Layer:
        attn = WindowAttention(config.dim, config.num_heads, window_size=config.window_size, dropout=config.attention_dropout)
        return Layer(peg=None, attn=attn, mlp=_mlp(config))

    return Transformer(config.dim, [window() if kind == "window" else _layer(config, attention()) for kind in kinds])


def _over_time(config: OmniTokenizerConfig) -> Transformer:
    """The transformer over the times of a position."""
    bias = AlibiBias(config.num_heads) if config.alibi else None
    layers = [_layer(config, _attention(config, is_rotary=False, bias=bias, is_causal=config.causal_attention)) for _ in range(config.temporal_depth)]
    return Transformer(config.dim, layers)


def _attention(config: OmniTokenizerConfig, *, is_rotary: bool, bias: nn.Module | None, is_causal: bool) -> GridAttention:
    return GridAttention(
        config.dim,
        config.num_heads,
        head_dim=config.head_dim,
        is_rotary=is_rotary,
        bias=bias,
        is_causal=is_causal,
        dropout=config.attention_dropout,
    )


def _layer(config: OmniTokenizerConfig, attn: GridAttention) -> Layer:
    return Layer(peg=PositionConv(config.dim, is_causal=config.causal_peg), attn=attn, mlp=_mlp(config))


def _mlp(config: OmniTokenizerConfig) -> GatedMlp:
    return GatedMlp(config.dim, int(config.mlp_ratio * (2 / 3) * config.dim), dropout=config.dropout)
