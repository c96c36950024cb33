"""What codecs share that read the features of a frozen HuBERT or WavLM of transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from visiontok.base.config import Positive
from visiontok.tokenizers.shared.library_model import LibraryConfig, general_names

_IGNORED = frozenset((
    "activation_dropout", "apply_spec_augment", "attention_dropout", "bos_token_id", "classifier_proj_size", "ctc_loss_reduction",
    "ctc_zero_infinity", "eos_token_id", "feat_proj_dropout", "final_dropout", "hidden_dropout", "initializer_range", "layerdrop",
    "mask_feature_length", "mask_feature_min_masks", "mask_feature_prob", "mask_time_length", "mask_time_min_masks", "mask_time_prob",
    "num_feat_extract_layers", "pad_token_id", "use_weighted_layer_sum", "vocab_size", "num_codevectors_per_group", "num_codevector_groups",
    "contrastive_logits_temperature", "num_negatives", "codevector_dim", "proj_codevector_dim", "diversity_loss_weight", "tdnn_dim", "tdnn_kernel",
    "tdnn_dilation", "xvector_output_dim", "num_ctc_classes", "add_adapter", "adapter_kernel_size", "adapter_stride", "num_adapter_layers",
    "output_hidden_size", "tokenizer_class",
))  # fmt: skip
"""Of HuBERT's and WavLM's configurations: the model is frozen, so that nothing is dropped or masked, and the heads are not there."""


class SemanticConfig(LibraryConfig):
    """Fields of `HubertConfig` and `WavLMConfig`, by the library's names; `num_buckets` and `max_bucket_distance` are WavLM's."""

    model_type: Literal["hubert", "wavlm"] = "hubert"
    hidden_size: Positive = 768
    num_hidden_layers: Positive = 12
    num_attention_heads: Positive = 12
    intermediate_size: Positive = 3072
    hidden_act: str = "gelu"
    feat_proj_layer_norm: bool = True
    layer_norm_eps: float = Field(default=1e-5, gt=0)
    feat_extract_norm: Literal["group", "layer"] = "group"
    feat_extract_activation: str = "gelu"
    conv_dim: tuple[Positive, ...] = (512,) * 7
    conv_stride: tuple[Positive, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_kernel: tuple[Positive, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_bias: bool = False
    num_conv_pos_embeddings: Positive = 128
    num_conv_pos_embedding_groups: Positive = 16
    conv_pos_batch_norm: bool = False
    do_stable_layer_norm: bool = False
    num_buckets: Positive = 320
    max_bucket_distance: Positive = 800

    def library_arguments(self) -> dict[str, Any]:
        """See `LibraryConfig`; nothing is masked, which is a matter of the model's own training."""
        return {**super().library_arguments(), "mask_time_prob": 0.0, "mask_feature_prob": 0.0, "apply_spec_augment": False, "layerdrop": 0.0}

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.conv_stride)


def semantic_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The library's configuration without what does not affect the features; unknown keys stay, and are refused by name."""
    ignored = _IGNORED | general_names() - {"model_type"}
    return {name: value for name, value in config.items() if name not in ignored}
