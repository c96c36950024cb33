"""The binary autoencoder of ELM (Liu et al. 2024, arXiv 2410.16257): a VQGAN's nets around 16 to 24 bits per position.

Reads top to bottom: configuration, model, and how the released weights map to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import Self

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.model import load_weights
from visiontok.core.tokenizer import Tokenizer
from visiontok.decoders.conv import ConvDecoder
from visiontok.encoders.conv import ConvEncoder
from visiontok.layers.conv import AttentionBlock, ResBlock, TamingNetConfig
from visiontok.quantizers.bernoulli import BernoulliQuantizerConfig
from visiontok.signals.image_preprocessing import ImagePreprocessing
from visiontok.tokenizers.shared.grid import grid_layout
from visiontok.tokenizers.shared.taming import JOINED, as_linear, attention_levels, attention_patterns
from visiontok.tokens import TokenLayout


class ElmBaeConfig(Config):
    """Sizes of the model; the defaults are the released ones with two ids of 10 bits per position.

    Attributes:
        image_size: side that files are resized and cropped to; tensors of any multiple of the stride are taken as they are.
        encoder, decoder: the two nets; their `latent_channels` equal the quantizer's `dim`.
        quantizer: the bits; every chunk of them is one id.
    """

    image_size: int = Field(default=256, gt=0)
    encoder: TamingNetConfig = TamingNetConfig(attention_levels=(4,), last_activation=False)
    decoder: TamingNetConfig = TamingNetConfig(attention_levels=(4,), last_activation=False, norm_latents=True)
    quantizer: BernoulliQuantizerConfig = BernoulliQuantizerConfig(dim=256, chunks=(10, 10))

    @model_validator(mode="after")
    def _check(self) -> ElmBaeConfig:
        widths = (self.encoder.latent_channels, self.quantizer.dim, self.decoder.latent_channels)
        if len(set(widths)) > 1:
            raise ValueError(f"latent_channels of the encoder, dim of the quantizer and latent_channels of the decoder must be equal, not {widths}")
        if self.encoder.stride != self.decoder.stride:
            raise ValueError(f"the encoder's stride {self.encoder.stride} is not the decoder's {self.decoder.stride}: give both as many levels")
        if self.image_size % self.encoder.stride:
            raise ValueError(f"an image of {self.image_size} pixels is no multiple of the stride {self.encoder.stride}")
        return self


class ElmBae(Tokenizer[ElmBaeConfig]):
    """Convolutional encoder, bits, convolutional decoder. Images in [0, 1] inside too.

    `encode` thresholds the bits and is reproducible; with a generator it draws them, as the authors do wherever they encode.
    """

    config_class = ElmBaeConfig

    def __init__(self, config: ElmBaeConfig) -> None:
        super().__init__(config)
        self.encoder = ConvEncoder(config.encoder)
        self.quantizer = config.quantizer.build()
        self.decoder = ConvDecoder(config.decoder)
        stride = config.encoder.stride
        self.preprocessing = ImagePreprocessing(size=config.image_size, tensors_keep_size=True, multiple_of=stride)
        self.layout = self.layout_for((config.image_size // stride,) * 2)

    def layout_for(self, shape: tuple[int, ...]) -> TokenLayout:
        """A grid for an image of `shape` times the stride, with one id per chunk of bits at every position."""
        sizes = tuple(2**bits for bits in self.config.quantizer.chunks)
        return grid_layout(shape, stride=self.config.encoder.stride, vocab_size=sizes)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, H / stride, W / stride, D)."""
        return self.encoder(signal).permute(0, 2, 3, 1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, 3, h * stride, w * stride)."""
        return self.decoder(latents.permute(0, 3, 1, 2))

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Self:
        """Like `Model.from_reference`; the authors number their blocks through, so that their names depend on the sizes."""
        model = cls(cls.config_from_reference(config, state_dict))
        weights = as_linear(keys_of(model)(state_dict))
        if "quantizer.to_logits.weight" in weights:  # a 1x1 convolution there
            weights["quantizer.to_logits.weight"] = weights["quantizer.to_logits.weight"].flatten(1)
        load_weights(model, weights, source="the reference checkpoint")
        return model.eval()

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> ElmBaeConfig:
        """From the authors' hyperparameters; `token_each` (or `_token_each`, 1) says how many ids the bits of a position make."""
        known = {
            "n_channels", "quantizer", "beta", "use_tanh", "deterministic", "gen_mul", "nf", "res_blocks", "codebook_size", "emb_dim", "ch_mult",
            "img_size", "attn_resolutions", "norm_first", "token_each", "_token_each",
        }  # fmt: skip
        if set(config) - known:
            raise ConfigError(f"unknown keys in the configuration of ELM's autoencoder: {sorted(set(config) - known)}; known: {sorted(known)}")
        try:
            bits, dim, size = config["codebook_size"], config["emb_dim"], config["img_size"]
            channel_mult, blocks = tuple(config["ch_mult"]), config["res_blocks"]
            net = {"channels": config["nf"], "channel_mult": channel_mult, "latent_channels": dim, "last_activation": False}
            down, up = attention_levels(levels=len(channel_mult), resolution=size, attended=config["attn_resolutions"])
        except KeyError as error:
            raise ConfigError(f"the configuration of ELM's autoencoder lacks {error}") from error
        ids = config.get("token_each", config.get("_token_each", 1))
        if config.get("n_channels", 3) != 3 or config.get("quantizer", "binary") != "binary" or bits % ids:
            raise ConfigError(f"ELM's autoencoder has 3 colour channels, a binary quantizer and ids of equally many bits, not {bits} in {ids}")
        decoder_blocks = int(blocks * config.get("gen_mul", 1.0))
        values = {
            "image_size": size,
            "encoder": {**net, "num_res_blocks": blocks, "attention_levels": down},
            "decoder": {**net, "num_res_blocks": decoder_blocks, "attention_levels": up, "norm_latents": config.get("norm_first", True)},
            "quantizer": {
                "dim": dim,
                "chunks": (bits // ids,) * ids,
                "values": "signed" if config.get("use_tanh", False) else "unit",
                "draws": not config.get("deterministic", False),
            },
        }
        return ElmBaeConfig.parse(values, source="the configuration of ELM's autoencoder")


def keys_of(model: ElmBae) -> KeyMap:
    """The authors' names for this model: a flat list of blocks per net, in the order in which they run."""
    patterns: dict[str, str | None] = {
        "ae.quantize.proj.0.{}": "quantizer.to_logits.{}",
        "ae.quantize.embed.weight": "quantizer.rows",
        "ae.generator.logsigma.{*}": None,  # never used
        "disc.{*}": None,
        "perceptual.{*}": None,
    }
    for theirs, ours, places in (("encoder", "encoder", _encoder_places(model)), ("generator", "decoder", _decoder_places(model))):
        for number, place in enumerate(places):
            module, block, name = model.get_submodule(f"{ours}.{place}"), f"ae.{theirs}.blocks.{number}", f"{ours}.{place}"
            if isinstance(module, ResBlock):  # the file has a shortcut in every block; it is used only where the width changes
                patterns[f"{block}.conv_out.{{}}"] = None if module.shortcut is None else f"{name}.shortcut.{{}}"
            if isinstance(module, AttentionBlock):
                patterns |= attention_patterns(block, name)
            patterns[f"{block}.{{*}}"] = f"{name}.{{*}}"
    return KeyMap(patterns, JOINED)


def _encoder_places(model: ElmBae) -> list[str]:
    places = ["conv_in"]
    for level in range(len(model.encoder.levels)):
        places += _level_places(model.config.encoder, level)
        places += [f"levels.{level}.downsample"] if level < len(model.encoder.levels) - 1 else []
    return [*places, "mid.0", "mid.1", "mid.2", "norm_out", "conv_out"]


def _decoder_places(model: ElmBae) -> list[str]:
    places = ["norm_in"] if model.config.decoder.norm_latents else []
    places += ["conv_in", "mid.0", "mid.1", "mid.2"]
    for level in reversed(range(len(model.decoder.levels))):
        places += _level_places(model.config.decoder, level)
        places += [f"levels.{level}.upsample"] if level > 0 else []
    return [*places, "norm_out", "conv_out"]


def _level_places(net: TamingNetConfig, level: int) -> list[str]:
    parts = ("blocks", "attention") if level in net.attention_levels else ("blocks",)
    return [f"levels.{level}.{part}.{number}" for number in range(net.num_res_blocks) for part in parts]
