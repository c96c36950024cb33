"""transformers' own configuration and tensor names of X-Codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.core.keymap import KeyMap
from visiontok.tokenizers.shared.library_model import general_settings

_PARTS = ("acoustic_encoder", "acoustic_decoder", "encoder_semantic", "semantic_model", "fc", "fc2")

KEY_MAP = KeyMap(
    {
        "semantic_model.masked_spec_embed": None,  # of the training of the semantic model
        "decoder_semantic.{*}": None,  # of the library's training loss, like fc1
        "fc1.{*}": None,
        **{f"{part}.{{*}}": f"{part}.{{*}}" for part in _PARTS},
        "quantizer.{*}": "quantizer.rvq.{*}",
    }
)

IGNORED = {"initializer_range": "of random weights", "codebook_dim": "the width of both encoders together"}
"""Keys that do not affect the tokens -> the reason."""


_ACOUSTIC_IGNORED = frozenset((
    "n_codebooks", "codebook_size", "codebook_dim", "quantizer_dropout", "commitment_loss_weight", "codebook_loss_weight", "sampling_rate",
    "hop_length",
))  # fmt: skip
"""Of DAC's configuration: X-Codec has codebooks, a rate and losses of its own, and the hop follows from the strides."""

_SEMANTIC_IGNORED = frozenset((
    "activation_dropout", "apply_spec_augment", "attention_dropout", "bos_token_id", "classifier_proj_size", "ctc_loss_reduction",
    "ctc_zero_infinity", "eos_token_id", "feat_proj_dropout", "final_dropout", "hidden_dropout", "initializer_range", "layerdrop",
    "mask_feature_length", "mask_feature_min_masks", "mask_feature_prob", "mask_time_length", "mask_time_min_masks", "mask_time_prob",
    "num_feat_extract_layers", "pad_token_id", "use_weighted_layer_sum", "vocab_size", "num_codevectors_per_group", "num_codevector_groups",
    "contrastive_logits_temperature", "num_negatives", "codevector_dim", "proj_codevector_dim", "diversity_loss_weight", "tdnn_dim", "tdnn_kernel",
    "tdnn_dilation", "xvector_output_dim", "num_ctc_classes", "add_adapter", "adapter_kernel_size", "adapter_stride", "num_adapter_layers",
    "output_hidden_size", "tokenizer_class",
))  # fmt: skip
"""Of HuBERT's and WavLM's configurations: the model is frozen, so that nothing is dropped or masked, and the heads are not there."""


def fields_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without what does not affect the tokens in those of its two parts; unknown keys stay, and are refused by name."""
    general = {name.removesuffix(".{*}") for name in general_settings()}
    acoustic, semantic = (dict(config.get(f"{part}_model_config") or {}) for part in ("acoustic", "semantic"))
    return {
        **config,
        "acoustic_model_config": {name: value for name, value in acoustic.items() if name not in _ACOUSTIC_IGNORED | general},
        "semantic_model_config": {name: value for name, value in semantic.items() if name not in _SEMANTIC_IGNORED | general - {"model_type"}},
    }
