"""transformers' own configuration and tensor names of X-Codec2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.core.keymap import KeyMap
from visiontok.tokenizers.shared.library_model import general_settings

_PARTS = ("semantic_encoder", "semantic_adapter", "acoustic_encoder", "fc_encoder", "acoustic_decoder")

KEY_MAP = KeyMap(
    {
        "semantic_encoder.masked_spec_embed": None,  # of the training of the semantic model
        **{f"{part}.{{*}}": f"{part}.{{*}}" for part in _PARTS},
        "quantizer.{*}": "quantizer.fsq.{*}",
    }
)

IGNORED = {
    "activation_dropout": "nothing is dropped",
    "attention_dropout": "nothing is dropped",
    "rope_parameters.{*}": "positions run over the heads, so that they cancel",
    "rope_parameters": "positions run over the heads, so that they cancel",
    "max_position_embeddings": "positions run over the heads, so that they cancel",
    "pad_token_id": "a setting of language models",
    "tie_word_embeddings": "a setting of language models",
}
"""Keys that do not affect the tokens -> the reason."""

_SEMANTIC_IGNORED = frozenset((
    "vocab_size", "hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "final_dropout", "layerdrop", "initializer_range",
    "apply_spec_augment", "mask_time_prob", "mask_time_length", "mask_time_min_masks", "mask_feature_prob", "mask_feature_length",
    "mask_feature_min_masks", "ctc_loss_reduction", "ctc_zero_infinity", "use_weighted_layer_sum", "classifier_proj_size", "tdnn_dim", "tdnn_kernel",
    "tdnn_dilation", "xvector_output_dim", "pad_token_id", "bos_token_id", "eos_token_id", "adapter_kernel_size", "adapter_stride",
    "num_adapter_layers", "adapter_act", "use_intermediate_ffn_before_adapter", "output_hidden_size", "conformer_conv_dropout",
))  # fmt: skip
"""Of w2v-BERT's configuration: the model is frozen, so that nothing is dropped or masked, and the heads are not there."""


def fields_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without what does not affect the tokens in that of the semantic model; unknown keys stay, and are refused by name."""
    ignored = _SEMANTIC_IGNORED | {name.removesuffix(".{*}") for name in general_settings()}
    semantic = dict(config.get("semantic_model_config") or {})
    return {**config, "semantic_model_config": {name: value for name, value in semantic.items() if name not in ignored}}
