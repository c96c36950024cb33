"""ELM's autoregressive generators (arXiv 2410.16257): a `gpt` that writes the tokens of a position independently, in one step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from visiontok.generators.elm.reference import CONFIG_KEYS, KEY_MAP, read_config
from visiontok.generators.gpt.model import GPT, GPTConfig


class ElmGenerator(GPT):
    """ELM's assembly of `GPT`: a projection of the concatenated embeddings of a position, and one output per codebook."""

    reference_keys = KEY_MAP

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> GPTConfig:
        with CONFIG_KEYS.reading(config, source="the reference configuration of an ELM generator"):
            return GPTConfig.parse(read_config(config), source="reference configuration")

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The codebooks' tables, which the authors keep apart, in one."""
        renamed = super().weights_from_reference(state_dict)
        for table in ("embedding.table", "head.table"):
            parts = sorted((name for name in renamed if name.startswith(f"{table}.codebooks")), key=lambda name: int(name.rsplit(".", 1)[1]))
            if parts:
                renamed[f"{table}.weight"] = torch.cat([renamed.pop(name) for name in parts])
        return renamed
