"""MQT's configuration and the names of its tensors, as in the authors' repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys

_NAMES = {"grid_size": "query_side", "embed_dim": "output_dim", "num_heads": "num_heads", "kv_dim": "feature_dim", "tgt_size": "feature_side"}

CONFIG_KEYS = ReferenceKeys(read=tuple(_NAMES), ignored={"num_visual_tokens": "an argument of a call, not a property of the model"})

KEY_MAP = KeyMap(
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


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `MqtConfig` from the arguments of the authors' module; `tgt_size` is the side of the grid of features.

    Raises:
        ConfigError: if it has unknown keys.
    """
    CONFIG_KEYS.check(config, source="the MQT reference configuration")
    return {ours: _side(config[theirs]) for theirs, ours in _NAMES.items() if theirs in config}


def _side(value: Any) -> Any:
    """A side, also where it is given as (side, side)."""
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
        return value[0]
    return value
