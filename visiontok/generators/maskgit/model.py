"""`maskgit`: a bidirectional transformer that fills in masked tokens (MaskGIT, arXiv 2202.04200), as TiTok uses it (arXiv 2406.07550).

Rows of the network's own table, V being the codebook size and n the number of classes: 0 .. V - 1 codes, V the mask, V + 1 .. V + n the
classes, V + n + 1 no class. The sequence is [class | L tokens].
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.errors import ConfigError, TokenError
from visiontok.base.noise import Noise, NoiseLike, as_noise
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.generators.base import Generator, GeneratorConfig
from visiontok.generators.condition import ClassCondition, Condition, ConditionLike, NoCondition, needs_dropout
from visiontok.generators.decoding import IterativeSampler, IterativeSampling, guide
from visiontok.generators.maskgit.backbones import BertConfig, UViTConfig
from visiontok.tokens import Latents, Tokens

Share = Annotated[float, Field(ge=0, lt=1)]


class MaskGITConfig(GeneratorConfig):
    """Configuration of `MaskGIT`.

    Attributes:
        backbone: the network and its sizes.
        label_smoothing: of the cross-entropy.
        unmasked_weight: weight of the positions that were not masked, in the loss; masked ones weigh 1.
    """

    backbone: Annotated[BertConfig | UViTConfig, Field(discriminator="type")]
    label_smoothing: Share = 0.1
    unmasked_weight: Annotated[float, Field(ge=0)] = 0.1
    sampling: IterativeSampling = IterativeSampling()

    @model_validator(mode="after")
    def _check_codebook(self) -> MaskGITConfig:
        if len(self.layout.segments) > 1 or self.layout.segments[0].codebooks > 1:
            raise ValueError("maskgit ranks all tokens of a sample against each other, so it needs a layout of one segment with one codebook")
        if self.layout.ragged or self.layout.is_variable or self.layout.is_continuous:
            raise ValueError("maskgit fills in all tokens of a fixed number: the layout is ragged, variable or continuous")
        if not isinstance(self.condition, NoCondition | ClassCondition):
            raise ValueError(f"maskgit has a class token; it cannot be conditioned on {self.condition.type}")
        return self


class MaskGIT(Generator[MaskGITConfig]):
    """Class-conditional (or unconditional) masked-token transformer with iterative decoding."""

    config_class = MaskGITConfig
    reference_keys = KeyMap(
        {
            "model.embeddings.word_embeddings.weight": "backbone.embeddings.weight",
            "model.embeddings.position_embeddings.weight": "backbone.pos_embed",
            "model.embeddings.token_type_embeddings.weight": "backbone.token_type_embed",
            "model.embeddings.LayerNorm.{*}": "backbone.norm.{*}",
            "model.embeddings.position_ids": None,  # a constant that older versions stored
            "model.encoder.layer.{}.attention.self.{}.{*}": "backbone.blocks.{}.attn.{}.{*}",
            "model.encoder.layer.{}.attention.output.dense.{*}": "backbone.blocks.{}.attn.proj.{*}",
            "model.encoder.layer.{}.attention.output.LayerNorm.{*}": "backbone.blocks.{}.norm1.{*}",
            "model.encoder.layer.{}.intermediate.dense.{*}": "backbone.blocks.{}.mlp.fc1.{*}",
            "model.encoder.layer.{}.output.dense.{*}": "backbone.blocks.{}.mlp.fc2.{*}",
            "model.encoder.layer.{}.output.LayerNorm.{*}": "backbone.blocks.{}.norm2.{*}",
            "model.lm_head.{*}": "lm_head.{*}",
            "embeddings.weight": "backbone.embeddings.weight",
            "pos_embed": "backbone.pos_embed",
            "in_blocks.{*}": "backbone.in_blocks.{*}",
            "mid_block.{*}": "backbone.mid_block.{*}",
            "out_blocks.{}.skip_linear.{*}": "backbone.skip_linears.{}.{*}",
            "out_blocks.{*}": "backbone.out_blocks.{*}",
            "norm.{*}": "backbone.norm.{*}",
            "lm_head.{*}": "lm_head.{*}",
        },
        joined={
            "backbone.blocks.{}.attn.qkv.{*}": tuple(f"backbone.blocks.{{}}.attn.{part}.{{*}}" for part in ("query", "key", "value")),
        },
    )

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__(config)
        self.vocab_size = config.layout.segments[0].vocab_sizes[0]
        self.mask_id = self.vocab_size
        self.backbone = config.backbone.build(self.vocab_size + self.num_classes + 2, config.layout.length + 1)
        self.lm_head = nn.Linear(config.backbone.dim, self.vocab_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal with deviation 0.02 for matrices and tables, zero biases; norms keep their ones."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def logits(self, ids: Tensor, classes: Tensor) -> Tensor:
        """(B, L, V) float32 for every position.

        Args:
            ids: (B, L) int64 codes, or `mask_id`.
            classes: (B,) int64; `num_classes` stands for none.
        """
        sequence = torch.cat([(classes + self.vocab_size + 1)[:, None], ids], dim=1)
        return self.lm_head(self.backbone(sequence)[:, 1:]).float()

    def guided_logits(self, classes: Tensor, ids: Tensor, scale: float) -> Tensor:
        """(B, L, V): `guide` between the logits with and without the class; one pass over a doubled batch, or a plain one at scale 1."""
        if scale == 1:
            return self.logits(ids, classes)
        streams = torch.cat([classes, torch.full_like(classes, self.num_classes)])
        conditional, unconditional = self.logits(torch.cat([ids, ids]), streams).chunk(2)
        return guide(conditional, unconditional, scale)

    def mask_tokens(self, ids: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Mask a random share of every sample by the arccos schedule, at least one position; two uniform draws, (B,) and (B, L).

        Returns:
            the codes (B, L) with `mask_id` at the masked positions; (B, L) bool, True at these positions.
        """
        batch, length = ids.shape
        ratio = (torch.acos(noise.uniform(batch)) / (torch.pi / 2)).clamp(1e-6, 1)
        count = (length * ratio).round().clamp(min=1)
        mask = (noise.uniform(batch, length).argsort(dim=-1) < count[:, None]).to(ids.device)
        return ids.masked_fill(mask, self.mask_id), mask

    def loss(self, tokens: Tokens | Latents, condition: ConditionLike = None, *, step: int = 0, noise: NoiseLike = None) -> dict[str, Tensor]:
        """Weighted mean of the smoothed cross-entropy over all positions, in nats.

        The draws are those of `mask_tokens`, then, in training mode, a uniform one (B,) that hides classes.

        Returns:
            "loss", and "masked_accuracy", the share of a sample's masked positions whose most likely code is right, averaged over samples.
        """
        tokens, found = self.training_batch(tokens, condition)
        assert isinstance(tokens, Tokens)
        if not tokens.is_full:
            raise TokenError("maskgit models samples that hold every token of the layout")
        source, classes = as_noise(noise, self.device), self._classes(found, len(tokens))
        indices = tokens.indices
        masked, mask = self.mask_tokens(indices, source)
        if self.training:
            classes = classes.masked_fill(self.dropped(len(tokens), source), self.num_classes)
        logits = self.logits(masked, classes)
        nats = F.cross_entropy(logits.transpose(1, 2), indices, reduction="none", label_smoothing=self.config.label_smoothing)
        weight = torch.where(mask, 1.0, self.config.unmasked_weight).to(nats.dtype)
        right = ((logits.argmax(dim=-1) == indices) & mask).sum(dim=1) / mask.sum(dim=1)
        return {"loss": (nats * weight).sum() / (weight.sum() + 1e-8), "masked_accuracy": right.mean()}

    @torch.no_grad()
    def generate(
        self,
        condition: ConditionLike = None,
        *,
        num_samples: int | None = None,
        noise: NoiseLike = None,
        sampler: IterativeSampler | None = None,
    ) -> Tokens:
        """Sample tokens, all positions at once, in the sampler's number of steps; see `Generator.generate`."""
        found, count = self.checked_condition(condition, samples=num_samples)
        sampler = self.sampler() if sampler is None else sampler
        if found.kind == "none" or any(sampler.guidance(step, sampler.num_steps) != 1 for step in range(sampler.num_steps)):
            needs_dropout(self.config.condition)
        indices = torch.full((count, self.layout.length), self.mask_id, dtype=torch.int64, device=self.device)
        predict = partial(self.guided_logits, self._classes(found, count))
        return Tokens(sampler(predict, indices, self.mask_id, as_noise(noise, self.device)), self.layout)

    def _classes(self, condition: Condition, samples: int) -> Tensor:
        """(B,) int64; `num_classes` stands for none."""
        if condition.classes is None:
            return torch.full((samples,), self.num_classes, dtype=torch.int64, device=self.device)
        return condition.classes

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> MaskGITConfig:
        """Our configuration from the authors'; the weights are not needed.

        Raises:
            ConfigError: if a key is unknown, or a size missing or out of range.
        """
        with CONFIG_KEYS.reading(config, source="the reference configuration of a maskgit generator"):
            return _config_from_reference(config)


def sampling_from_reference(values: Mapping[str, Any]) -> IterativeSampling:
    """The arguments of the authors' `generate` as our numbers; what they leave out has our default."""
    names = {
        "num_sample_steps": "num_steps",
        "guidance_scale": "guidance",
        "guidance_decay": "guidance_schedule",
        "guidance_scale_pow": "guidance_power",
        "randomize_temperature": "temperature",
        "softmax_temperature_annealing": "annealing",
    }
    return IterativeSampling.parse({names.get(name, name): value for name, value in values.items()}, source="reference sampler")


CONFIG_KEYS = ReferenceKeys(
    read=(
        "model.vq_model.codebook_size", "dataset.preprocessing.crop_size", "losses.label_smoothing", "losses.loss_weight_unmasked_token",
        *(f"model.generator.{key}" for key in (
            "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "dropout", "attn_drop", "image_seq_len",
            "class_label_dropout", "condition_num_classes", "num_steps", "guidance_scale", "guidance_decay", "randomize_temperature",
        )),
    ),
    ignored={
        "model.vq_model.{*}": "the tokenizer, which has a configuration of its own",
        "experiment.{*}": "names, folders and intervals of the authors' runs; a recipe has its own",
        **{f"dataset.params.{key}": "files of the authors' data; a recipe names its own" for key in (
            "train_shards_path_or_url", "eval_shards_path_or_url", "num_workers_per_gpu", "dataset_with_class_label", "dataset_with_text_label",
            "pretokenization",
        )},
        **{f"dataset.preprocessing.{key}": "crops and flips of training; a recipe's `data` says them" for key in (
            "resize_shorter_edge", "random_crop", "random_flip", "res_ratio_filtering",
        )},
        "optimizer.name": "adamw in every release",
        **{f"optimizer.params.{key}": "a recipe's `optimizer` and `discriminator_optimizer` say it" for key in (
            "learning_rate", "discriminator_learning_rate", "beta1", "beta2", "weight_decay", "epsilon",
        )},
        "lr_scheduler.scheduler": "a recipe's `schedule` says it",
        **{f"lr_scheduler.params.{key}": "a recipe's `schedule` says it" for key in ("learning_rate", "warmup_steps", "end_lr")},
        **{f"training.{key}": "length, batch size and precision of training; a recipe says them" for key in (
            "gradient_accumulation_steps", "per_gpu_batch_size", "mixed_precision", "enable_tf32", "enable_wandb", "use_ema", "seed",
            "max_train_steps", "num_generated_images", "max_grad_norm", "grad_checkpointing",
        )},
    },
)  # fmt: skip
"""Of the files in the authors' repository and of the `config.json` files of their released models."""

_SAMPLER_KEYS = {
    "num_steps": "num_sample_steps",
    "guidance_scale": "guidance_scale",
    "guidance_decay": "guidance_decay",
    "randomize_temperature": "randomize_temperature",
}
"""Keys of the authors' generator configuration, and the arguments of their `generate` that they stand for."""


def _config_from_reference(config: Mapping[str, Any]) -> MaskGITConfig:
    generator, losses = config["model"]["generator"], config.get("losses", {})
    size = config.get("dataset", {}).get("preprocessing", {}).get("crop_size", 256)
    segment = {"name": "latents", "shape": [generator["image_seq_len"]], "vocab_size": config["model"]["vq_model"]["codebook_size"]}
    values = {
        "layout": {"modality": "image", "segments": [segment], "signal_shape": [size, size]},
        "condition": {"type": "classes", "num_classes": generator["condition_num_classes"], "dropout": generator["class_label_dropout"]},
        "backbone": _backbone_from_reference(generator),
        "sampling": sampling_from_reference({name: generator[key] for key, name in _SAMPLER_KEYS.items() if key in generator}),
        "label_smoothing": losses.get("label_smoothing", 0.1),
        "unmasked_weight": losses.get("loss_weight_unmasked_token", 0.1),
    }
    return MaskGITConfig.parse(values, source="reference configuration")


def _backbone_from_reference(generator: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {
        "dim": generator["hidden_size"],
        "depth": generator["num_hidden_layers"],
        "num_heads": generator["num_attention_heads"],
        "mlp_dim": generator["intermediate_size"],
    }
    if generator["model_type"] == "UViT":
        return {"type": "uvit", **sizes}  # their code never uses its dropout rates
    if generator["model_type"] == "ViT":
        return {"type": "bert", **sizes, "dropout": generator["dropout"], "attention_dropout": generator["attn_drop"]}
    raise ConfigError(f"model_type {generator['model_type']!r} is unknown; maskgit generators are 'ViT' or 'UViT'")
