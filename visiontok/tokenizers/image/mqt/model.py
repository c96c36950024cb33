"""MQT, the Matryoshka Query Transformer (Hu et al. 2024, arXiv 2405.19315): image features as 1 to 256 continuous tokens for a language model.

Not a tokenizer of pixels: it takes the features that a CLIP gave, and what it writes is read by a language model, so there is no decoder. It
stands here for its tokens, any prefix of which represents the picture. Reads top to bottom: configuration, model, and how the released
weights map to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError, SignalError, TokenError
from visiontok.core.keymap import KeyMap
from visiontok.core.quality import QualityTarget
from visiontok.core.tokenizer import Tokenizer, TokenizerOutput
from visiontok.layers.nested_dropout import NestedDropout, UniformLengths
from visiontok.quantizers.continuous import IdentityBottleneckConfig
from visiontok.signals.image_preprocessing import SignalLike
from visiontok.tokenizers.image.mqt.encoder import QueryResampler
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens


class MqtConfig(Config):
    """Sizes of an MQT.

    Attributes:
        query_side: of the square grid on which the queries have their places; its square is the longest sequence M.
        feature_side: of the square grid of features that it reads.
        feature_dim: width of a feature.
        output_dim: width of a token, that of the language model.
        num_heads: attention heads; must divide `feature_dim`.
        patch_size: pixels per feature along a side.
        nested_dropout: how many tokens a training step keeps.
    """

    query_side: int = Field(default=16, gt=0)
    feature_side: int = Field(default=24, gt=0)
    feature_dim: int = Field(default=1024, gt=0, multiple_of=4)
    output_dim: int = Field(default=4096, gt=0)
    num_heads: int = Field(default=16, gt=0)
    patch_size: int = Field(default=14, gt=0)
    nested_dropout: NestedDropout = UniformLengths(shortest=2, step=2)

    @model_validator(mode="after")
    def _check(self) -> MqtConfig:
        if self.feature_dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide dim {self.feature_dim}")
        return self


class Mqt(Tokenizer[MqtConfig]):
    """Image features -> `Latents` of any wanted length. `decode` is refused: only a language model reads them."""

    config_class = MqtConfig
    nested_dropout: NestedDropout
    reference_keys: ClassVar = KeyMap(
        {
            **{prefix + theirs: f"encoder.{ours}"
                for prefix in ("", "model.query_abstractor.")
                for theirs, ours in (
                    ("query", "queries"),
                    ("pos_embed", "positions"),
                    ("ln_q.{}", "norm_queries.{}"),
                    ("ln_k.{}", "norm_keys.{}"),
                    ("ln_v.{}", "norm_values.{}"),
                    ("attn.{*}", "attn.{*}"),
                    ("proj", "proj"),
                )
            },
            # The language model and the CLIP beside it, where a whole LLaVA is given.
            **dict.fromkeys(("model.layers.{*}", "model.embed_tokens.{}", "model.norm.{}", "model.vision_tower.{*}", "lm_head.{}")),
        }
    )  # fmt: skip

    def __init__(self, config: MqtConfig) -> None:
        super().__init__(config)
        self.encoder = QueryResampler(
            query_side=config.query_side,
            feature_side=config.feature_side,
            feature_dim=config.feature_dim,
            output_dim=config.output_dim,
            num_heads=config.num_heads,
        )
        self.quantizer = IdentityBottleneckConfig(dim=config.output_dim).build()
        self.nested_dropout = config.nested_dropout
        side = config.feature_side * config.patch_size
        self.layout = TokenLayout(
            modality="image",
            segments=(Segment(name="queries", shape=(config.query_side**2,), channels=config.output_dim),),
            signal_shape=(side, side),
            prefix_decodable=True,
        )

    def prepare(self, signal: SignalLike | Sequence[SignalLike]) -> Tensor:
        """Image features (B, n, D), row by row, on the model's device and in its dtype.

        Raises:
            SignalError: for anything else, such as a picture.
        """
        shape = (self.config.feature_side**2, self.config.feature_dim)
        if not isinstance(signal, Tensor) or signal.ndim != 3 or tuple(signal.shape[1:]) != shape or not signal.is_floating_point():
            found = f"{signal.dtype} {tuple(signal.shape)}" if isinstance(signal, Tensor) else type(signal).__name__
            raise SignalError(
                f"MQT reads image features (B, {shape[0]}, {shape[1]}) in floats, for released weights those of CLIP ViT-L/14-336 before its last "
                f"layer without the class token; got {found}"
            )
        return signal.to(device=self.device, dtype=self.dtype)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """Features (B, n, D) -> all M latents (B, M, output_dim); the first m of them are those of m queries alone."""
        return self.encoder(signal)

    def encode_prepared(self, prepared: Tensor, lengths: Tensor | None, generator: torch.Generator | None) -> Latents:
        """The first latents of every sample; only those are computed.

        Raises:
            TokenError: if the samples are wanted in different lengths.
        """
        if lengths is not None and len(lengths.unique()) > 1:
            raise TokenError(f"continuous latents of one batch have one length; got num_tokens of {lengths.tolist()}: encode them apart")
        return Latents(self.encoder(prepared, None if lengths is None else int(lengths[0])), self.layout)

    def random_prefix(self, features: Tensor) -> Tensor:
        """What a training step shows to the language model: the first m latents (B, m, output_dim), with one m for the whole batch, as published.

        m is drawn by `nested_dropout`, from torch's global state.
        """
        return self.encoder(features, int(self.nested_dropout.draw(1, self.layout.length)))

    def encode_to_target(self, prepared: Tensor, target: QualityTarget, generator: torch.Generator | None) -> NoReturn:
        """Refused: a quality needs a decoder."""
        raise TokenError(_NO_DECODER)

    def decode(self, tokens: Tokens | Latents) -> NoReturn:
        """Refused: there is no decoder."""
        raise TokenError(_NO_DECODER)

    def decode_latents(self, latents: Tensor) -> NoReturn:
        """Refused: there is no decoder."""
        raise TokenError(_NO_DECODER)

    def forward(self, signal: Tensor) -> TokenizerOutput:
        """Refused: there is nothing to reconstruct; see `random_prefix`."""
        raise TokenError(_NO_DECODER)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> MqtConfig:
        """From the arguments of the authors' module: grid_size, embed_dim, num_heads, kv_dim, and tgt_size, the side of the grid of features.

        `num_visual_tokens` is what a caller asks for, not a property of the model.
        """
        names = {"grid_size": "query_side", "embed_dim": "output_dim", "num_heads": "num_heads", "kv_dim": "feature_dim", "tgt_size": "feature_side"}
        unknown = set(config) - set(names) - {"num_visual_tokens"}
        if unknown:
            raise ConfigError(f"unknown keys in an MQT configuration: {sorted(unknown)}; known: {sorted(names)}")
        return MqtConfig.parse({ours: _side(config[theirs]) for theirs, ours in names.items() if theirs in config}, source="the MQT configuration")


_NO_DECODER = "MQT has no pixel decoder: its latents are read by a language model. Use encode(features, num_tokens=k), or random_prefix in training"


def _side(value: Any) -> Any:
    """A side, also where it is given as (side, side)."""
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
        return value[0]
    return value
