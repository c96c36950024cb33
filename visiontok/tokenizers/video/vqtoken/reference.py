"""VQToken's settings and the names of its tensors, as in the authors' code and in the released LLaVA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys

CONFIG_KEYS = ReferenceKeys(
    read=(
        "adaptive", "K", "max_K", "num_frames", "grid", "hidden_size", "num_heads", "num_layers", "query_dim", "dim_feedforward", "tol",
        "max_iteration", "vision_config.{*}", "use_vq_attention", "image_newline",
    ),
    ignored={"context_dim": "always hidden_size", "kmeans_seed": "seed of draws, which are given to encode"},
)  # fmt: skip

_ATTENTION = {
    "to_q_proj.{}": "attention.query.{}",
    "transformer_decoder.{*}": "attention.decoder.{*}",
}
_TOWER = "model.vision_tower.vision_tower.vision_model."

KEY_MAP = KeyMap(
    {
        **{f"{prefix}{theirs}": ours for prefix in ("", "model.cross_attention.") for theirs, ours in _ATTENTION.items()},
        **{f"{_TOWER}{theirs}.{{*}}": f"encoder.{ours}.{{*}}" for theirs, ours in (("embeddings", "embeddings"), ("encoder", "layers"))},
        **{f"{_TOWER}{part}.{{*}}": None for part in ("post_layernorm", "head")},
        "model.mm_projector.{}.{}": "encoder.projector.{}.{}",
        "model.image_newline": "newline",
        # The language model.
        **dict.fromkeys(("model.layers.{*}", "model.embed_tokens.{}", "model.norm.{}", "lm_head.{}")),
    }
)


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `VqTokenConfig`.

    Args:
        config: `adaptive` ("", "elbow" or "silhouette"), `K` or `max_K`, `num_frames`, `grid`, `hidden_size`, sizes of the attention, `tol`,
            `max_iteration`; and three that stand for what the authors' code fixes in itself: `vision_config`, that of transformers, without which
            features are read, `use_vq_attention` (true) and `image_newline` (false).

    Raises:
        ConfigError: if it has unknown keys, lacks one, or contradicts itself.
    """
    source = "the VQToken reference configuration"
    with CONFIG_KEYS.reading(config, source=source):
        kind, grid = config["adaptive"] or "fixed", tuple(config["grid"])
        if "query_dim" in config and config["query_dim"] != grid[0] * grid[1]:
            raise ConfigError(f"{source}: query_dim {config['query_dim']} must be the {grid[0]} x {grid[1]} positions of a frame")
        number = {"count": config["K"]} if kind == "fixed" else {"most": config["max_K"]}
        stop = {ours: config[theirs] for theirs, ours in (("tol", "tolerance"), ("max_iteration", "max_iterations")) if theirs in config}
        sizes = (("num_heads", "num_heads"), ("num_layers", "depth"), ("dim_feedforward", "mlp_dim"))
        attention = {ours: config[theirs] for theirs, ours in sizes if theirs in config}
        return {
            "vision": config.get("vision_config"),
            "grid": grid,
            "num_frames": config["num_frames"],
            "dim": config["hidden_size"],
            "clusters": {"type": kind, **number, **stop},
            "attention": attention if config.get("use_vq_attention", True) else None,
            "newline": config.get("image_newline", False),
        }
